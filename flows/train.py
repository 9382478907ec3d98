"""Training's flow: one task a stage; checkpoints and resuming are the model's own.

Started by torchrun, every process trains; the first one alone keeps the run record, holds the lock
and tells of progress.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from cambrian_data.catalog import write_catalog
from cambrian_data.records import Progress, silent
from cambrian_data.runs import RunRecord, recorded, run_name
from cambrian_data.shards import read_index
from cambrian_data.workspace import Workspace
from flows.running import run_call, run_flow
from flows.train_inputs import STAGES, TrainInputs, find_inputs, find_shards, rank

__all__ = ["STAGES", "find_shards", "run_train"]


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
        shards: a mixture's name, a folder or an address; by default the workspace's only ones.
        start_from: a checkpoint; finetune takes the recipe's newest pretrain checkpoint.
        runtime: cpu, cuda, mps or xla.
        resume: True goes on and refuses another run's folder, False starts anew, None goes on
            where the folder holds this very run.
    Returns:
        The checkpoint and the losses that the stage reached; nothing on other ranks than 0.
    Raises:
        UserError: a stage, recipe, shards, checkpoint or runtime that is not there.
    """
    inputs = find_inputs(
        workspace,
        stage=stage,
        recipe=recipe,
        settings=settings,
        shards=shards,
        start_from=start_from,
    )
    is_main = rank() == 0
    call = _training(workspace, inputs, runtime, resume, seed, progress if is_main else silent)
    if not is_main:
        call()
        return {}
    with workspace.lock(
        f"train-{inputs.recipe.name}-{stage}", lambda note: progress(note, 0, None)
    ):
        return _recorded(workspace, inputs, call, runtime, seed)


def _recorded(
    workspace: Workspace, inputs: TrainInputs, call: Callable[[], Any], runtime: str, seed: int
) -> dict[str, Any]:
    """Run the flow and keep its record."""
    loaded, stage = inputs.recipe, inputs.stage
    start = _place(workspace, inputs.start)
    run = run_name(
        f"train-{loaded.name}-{stage}",
        loaded.content(),
        stage,
        read_index(inputs.shards),
        start,
        seed,
    )
    part = loaded.config.stage(stage)
    told = {
        "shards": inputs.shown_shards,
        "from": start,
        "runtime": runtime,
        "rates": part.rates(),
        "rate_rule": part.rate_rule,
    }
    record = RunRecord(workspace, run, kind="train", recipe=loaded, seed=seed, inputs=told)
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
    workspace: Workspace,
    inputs: TrainInputs,
    runtime: str,
    resume: bool | None,
    seed: int,
    progress: Progress,
) -> Callable[[], Any]:
    """Return the call that trains; made first, so that a wrong runtime costs nothing."""
    from cambrian_model.runtime import runtime_of
    from cambrian_model.train import train

    config = inputs.recipe.config
    chosen = runtime_of(runtime, threads=config.cpu_threads)

    def call() -> Any:
        try:
            return train(
                config,
                inputs.stage,
                inputs.shards,
                inputs.out,
                init_from=inputs.start,
                resume=resume,
                runtime=chosen,
                seed=seed,
                progress=progress,
                cache=workspace.root / "checkpoints" / ".samples",
            )
        finally:
            chosen.close()

    return call


@flow(name="train", validate_parameters=False, persist_result=False)
def train_flow(stage: str, call: Callable[[], Any]) -> Any:
    """Run one stage as one task."""
    return run_call(stage, call)


def _result(workspace: Workspace, stage: str, trained: Any) -> dict[str, Any]:
    return {
        "stage": stage,
        "checkpoint": _place(workspace, Path(trained.checkpoint)),
        "model": _place(workspace, Path(trained.model)),
        "steps": trained.steps,
        "samples": trained.samples,
        "skipped": trained.skipped,
        "lost": trained.lost,
        "first_tenth_loss": trained.first_tenth_loss,
        "last_tenth_loss": trained.last_tenth_loss,
        "own_pictures_loss": trained.own_pictures_loss,
        "shuffled_pictures_loss": trained.shuffled_pictures_loss,
    }
