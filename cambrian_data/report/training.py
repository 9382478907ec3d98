"""What training on the mixture's shards came to: results and loss curves of both stages."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cambrian_data.report.inputs import read_json
from cambrian_data.report.origins import trained_on
from cambrian_data.runs import read_runs
from cambrian_data.workspace import Workspace

STAGES = ("pretrain", "finetune")
MAX_POINTS = 240
"""Points of a curve; of more steps, each point is the mean of as many as it takes."""


def training(workspace: Workspace, mixture: str) -> list[dict[str, Any]]:
    """Return the trainings on a mixture, each with its stages.

    A folder of checkpoints counts unless its newest run record names other shards.
    """
    records = [run for run in read_runs(workspace) if run["kind"] == "train"]
    found = []
    for name in workspace.names("checkpoints"):
        stages = [
            _stage(workspace, name, stage)
            for stage in STAGES
            if _trained_here(records, f"checkpoints/{name}/{stage}/", mixture)
        ]
        if any(stages):
            found.append({"name": name, "stages": [stage for stage in stages if stage]})
    return found


def _trained_here(records: list[dict[str, Any]], prefix: str, mixture: str) -> bool:
    mine = [run for run in records if str(run["outputs"].get("checkpoint", "")).startswith(prefix)]
    return not mine or trained_on(mine[-1]) == mixture


def _stage(workspace: Workspace, name: str, stage: str) -> dict[str, Any] | None:
    folder = workspace.checkpoints(name, stage)
    losses = read_losses(folder / "log.jsonl")
    result = read_json(folder / "result.json")
    if not losses and result is None:
        return None
    return {
        "stage": stage,
        "is_finished": result is not None,
        "result": result or {},
        "curve": curve(losses),
    }


def read_losses(path: Path) -> list[tuple[int, float]]:
    """Return (step, loss) of every whole line of a log; none where there is no log."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    losses = []
    for line in lines:
        try:
            entry = json.loads(line)
            step, loss = int(entry["step"]), float(entry["loss"])
        except (ValueError, KeyError, TypeError):
            continue  # a line that is cut in two while the training still runs
        if math.isfinite(loss):
            losses.append((step, loss))
    return losses


def curve(losses: list[tuple[int, float]]) -> list[list[float]]:
    """Return at most `MAX_POINTS` [step, mean loss], from equal runs of steps."""
    width = max(1, math.ceil(len(losses) / MAX_POINTS))
    points: list[list[float]] = []
    for start in range(0, len(losses), width):
        part = losses[start : start + width]
        points.append([part[-1][0], round(sum(loss for _, loss in part) / len(part), 6)])
    return points
