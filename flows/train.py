"""Training's flow: one task a stage; checkpoints and resuming are the model's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from prefect import flow

from cambrian_data.catalog import write_catalog
from cambrian_data.optional import require
from cambrian_data.recipes import Recipe, load_recipe
from cambrian_data.records import Progress, UserError, silent
from cambrian_data.runs import RunRecord, recorded, run_name
from cambrian_data.shards import read_index
from cambrian_data.workspace import Workspace
from cambrian_model.recipe import Stage, TrainRecipe
from flows.running import run_call, run_flow

STAGES = ("pretrain", "finetune")


def run_train(
    workspace: Workspace,
    *,
    stage: str,
    recipe: str = "tiny",
    settings: Sequence[str] = (),
    shards: str | None = None,
    start_from: Path | None = None,
    runtime: str = "cpu",
    resume: bool | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train one stage from shards.

    Args:
        stage: pretrain or finetune.
        recipe: a recipe's name or path.
        settings: `section.field=value` assignments.
        shards: a mixture's name or a folder; by default the workspace's only ones.
        start_from: a checkpoint; finetune takes the recipe's newest pretrain checkpoint.
        runtime: cpu, cuda or mps.
        resume: True goes on and refuses another run's folder, False starts anew, None goes on
            where the folder holds this very run.
    Returns:
        The checkpoint and the losses that the stage reached.
    Raises:
        UserError: a stage, recipe, shards, checkpoint or runtime that is not there.
    """
    loaded, folder, out, start = _inputs(workspace, stage, recipe, settings, shards, start_from)
    name = f"train-{loaded.name}-{stage}"
    run = run_name(
        name, loaded.content(), stage, read_index(folder), _place(workspace, start), seed
    )
    inputs = {"shards": str(folder), "from": _place(workspace, start), "runtime": runtime}
    call = _training(loaded.config, stage, folder, out, start, runtime, resume, seed, progress)
    with workspace.lock(name, lambda note: progress(note, 0, None)):
        record = RunRecord(workspace, run, kind="train", recipe=loaded, seed=seed, inputs=inputs)
        with recorded(record):
            trained = run_flow(train_flow, stage, call)
            result = _result(workspace, stage, trained)
            record.stage(
                stage,
                rows_in=trained.samples + sum(trained.skipped.values()),
                rows_out=trained.samples,
                seconds=trained.seconds,
                drops=trained.skipped,
            )
            record.finish("done", outputs=result)
            write_catalog(workspace)
    return result


def _place(workspace: Workspace, path: Path | None) -> str:
    """Return where a checkpoint lies, relative to the workspace where it lies there."""
    if path is None:
        return ""
    return workspace.relative(path) if path.is_relative_to(workspace.root) else str(path)


def _training(
    config: TrainRecipe,
    stage: str,
    shards: Path,
    out: Path,
    start: Path | None,
    runtime: str,
    resume: bool | None,
    seed: int,
    progress: Progress,
) -> Callable[[], Any]:
    """Return the call that trains; made first, so that a wrong runtime costs nothing."""
    from cambrian_model.runtime import runtime_of
    from cambrian_model.train import train

    return partial(
        train,
        config,
        cast(Stage, stage),
        shards,
        out,
        init_from=start,
        resume=resume,
        runtime=runtime_of(runtime, threads=config.cpu_threads),
        seed=seed,
        progress=progress,
    )


@flow(name="train", validate_parameters=False, persist_result=False)
def train_flow(stage: str, call: Callable[[], Any]) -> Any:
    """Run one stage as one task."""
    return run_call(stage, call)


def plan_train(workspace: Workspace, **arguments: Any) -> dict[str, Any]:
    """Return what a stage would do: what `--dry-run` shows."""
    names = ("stage", "recipe", "settings", "shards", "start_from")
    loaded, folder, out, start = _inputs(workspace, *(arguments[name] for name in names))
    index = read_index(folder)
    part = loaded.config.stage(arguments["stage"])
    steps = part.steps or -(-int((part.epochs or 0) * index["samples"]) // part.batch_size)
    return {
        "recipe": loaded.name,
        "stage": arguments["stage"],
        "shards": str(folder),
        "samples": index["samples"],
        "steps": steps,
        "batch_size": part.batch_size,
        "lr": part.lr,
        "from": str(start) if start else "random weights",
        "checkpoints": str(out),
    }


def _inputs(
    workspace: Workspace,
    stage: str,
    recipe: str,
    settings: Sequence[str],
    shards: str | None,
    start_from: Path | None,
) -> tuple[Recipe[TrainRecipe], Path, Path, Path | None]:
    """Return the recipe, the folders of shards and checkpoints, and where to start from."""
    if stage not in STAGES:
        raise UserError(f"--stage {stage!r}: known are {', '.join(STAGES)}")
    require("torch", "transformers", "tokenizers", "safetensors", extra="train")
    loaded = load_recipe(recipe, "train", TrainRecipe, settings)
    if start_from is not None and not start_from.is_dir():
        raise UserError(f"--from {str(start_from)!r}: there is no such folder")
    start = start_from
    if start is None and stage == "finetune":
        start = workspace.checkpoints(loaded.name, "pretrain")
    return loaded, find_shards(workspace, shards), workspace.checkpoints(loaded.name, stage), start


def find_shards(workspace: Workspace, shards: str | None) -> Path:
    """Return a folder of shards given by name, by path or, where there is only one, not at all.

    Raises:
        UserError: there is none, or it is not clear which one is meant.
    """
    known = workspace.names("shards")
    if shards is None:
        if len(known) != 1:
            have = (
                f"several: {', '.join(known)}; name one with --shards"
                if known
                else "none; make some with `cambrian data curate --recipe tiny`"
            )
            raise UserError(f"which shards to train on? {workspace.root} has {have}")
        return workspace.shards(known[0])
    if shards in known:
        return workspace.shards(shards)
    if Path(shards).is_dir():
        return Path(shards)
    raise UserError(
        f"--shards {shards!r}: no folder and none of the workspace's shards "
        f"({', '.join(known) or 'there are none'})"
    )


def _result(workspace: Workspace, stage: str, trained: Any) -> dict[str, Any]:
    checkpoint = Path(trained.checkpoint)
    inside = checkpoint.is_relative_to(workspace.root)
    return {
        "stage": stage,
        "checkpoint": workspace.relative(checkpoint) if inside else str(checkpoint),
        "steps": trained.steps,
        "samples": trained.samples,
        "skipped": trained.skipped,
        "first_tenth_loss": trained.first_tenth_loss,
        "last_tenth_loss": trained.last_tenth_loss,
        "own_pictures_loss": trained.own_pictures_loss,
        "shuffled_pictures_loss": trained.shuffled_pictures_loss,
    }
