"""What is in a workspace: runs, data sets, mixtures, shards, checkpoints, spend, disk."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from cambrian_data.build import MANIFEST
from cambrian_data.catalog import query
from cambrian_data.runs import read_runs
from cambrian_data.workspace import Workspace, is_alive, read_sealed

_SHOWN = ("run", "kind", "status", "started_at", "finished_at", "seconds", "attempts", "error")


def workspace_status(workspace: Workspace) -> dict[str, Any]:
    """Return runs, and the folders of each area with their samples and state."""
    return {
        "path": str(workspace.root),
        "runs": [_run(run) for run in read_runs(workspace)],
        "pool": [_folder(workspace.pool(name)) for name in workspace.names("pool")],
        "mixtures": [_folder(workspace.mixture(name)) for name in workspace.names("mixtures")],
        "shards": [_folder(workspace.shards(name)) for name in workspace.names("shards")],
        "checkpoints": [
            _checkpoints(path) for path in sorted(workspace.root.glob("checkpoints/*/*/"))
        ],
        "spend": _spend(workspace),
        "unfinished": workspace.names("staging"),
        "bytes": sum(path.lstat().st_size for path in workspace.root.rglob("*") if path.is_file()),
    }


def _spend(workspace: Workspace) -> list[dict[str, Any]]:
    """Return calls, tokens and cost by model; a call that several runs used counts once."""
    return query(
        workspace,
        "SELECT model, count(*) AS calls, sum(prompt_tokens)::BIGINT AS prompt_tokens, "
        "sum(completion_tokens)::BIGINT AS completion_tokens, sum(cost_usd) AS cost_usd "
        "FROM (FROM llm_calls QUALIFY row_number() OVER (PARTITION BY key ORDER BY run) = 1) "
        "GROUP BY model ORDER BY model",
    ).to_pylist()


def _run(run: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of a run; one whose process is gone did not end."""
    shown = {name: run.get(name) for name in _SHOWN}
    host, pid = run.get("process") or (None, 0)
    if run["status"] == "running" and host == socket.gethostname() and not is_alive(pid):
        shown |= {"status": "killed", "error": "its process is gone; the same command goes on"}
    return shown


def _folder(folder: Path) -> dict[str, Any]:
    manifest = read_sealed(folder / MANIFEST)
    if manifest is None:
        return {"name": folder.name, "samples": None, "state": "unfinished or damaged"}
    return {"name": folder.name, "samples": manifest["about"].get("samples"), "state": "done"}


def _checkpoints(folder: Path) -> dict[str, Any]:
    steps = sorted(path.name for path in folder.glob("step-*"))
    return {
        "name": f"{folder.parent.name}/{folder.name}",
        "samples": None,
        "state": f"done, {steps[-1]}"
        if (folder / "result.json").is_file() and steps
        else f"unfinished, {steps[-1] if steps else 'no checkpoint'}",
    }
