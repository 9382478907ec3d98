"""Two-stage training: shards + recipe -> checkpoints, a log and a result.

Stage 1 (pretrain) trains the connector alone, stage 2 (finetune) the language model too. A run that
was killed goes on from its newest whole checkpoint and ends with the same bytes; a finished run is
not run again. After stage 2 the loss with the samples' own pictures is set beside the loss with
other samples' pictures: a model that looks at its pictures does worse with the wrong ones.

One loop for any runtime and any number of ranks: the loss of a step is the sum over the trained
tokens of its global batch divided by their number, however that batch is cut.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cambrian_data.records import Progress, silent
from cambrian_model.adapters import has_adapters, merge_adapters
from cambrian_model.checkpoint import CheckpointWriter, latest_checkpoint
from cambrian_model.loading.loader import StepBatch
from cambrian_model.metrics import Logs, LossTenths, check_logs, open_logs
from cambrian_model.optimizer import rate_share, rates_now, set_rate
from cambrian_model.recipe import Stage, TrainRecipe
from cambrian_model.runtime import Runtime
from cambrian_model.training.evaluation import compare_pictures
from cambrian_model.training.run import Run, set_up
from cambrian_model.training.run_folder import (
    TrainError,
    TrainResult,
    claim_folder,
    finished_result,
    is_same_run,
    run_identity,
    start_folder,
    store_result,
)
from cambrian_model.training.step_log import StepLog, counts_of

__all__ = ["TrainError", "TrainResult", "train"]

MERGED_NAME = "merged"


def train(
    config: TrainRecipe,
    stage: Stage,
    shards: Path | str,
    out: Path,
    *,
    init_from: Path | None = None,
    resume: bool | None = None,
    runtime: Runtime,
    progress: Progress = silent,
    seed: int = 0,
    cache: Path | None = None,
) -> TrainResult:
    """Train one stage; every rank calls it.

    Args:
        shards: folder or address of shards as `cambrian_data.shards` reads them.
        out: folder of this stage's checkpoints, log and result, the same one for all ranks.
        init_from: checkpoint, or folder of checkpoints, to start from; stage 2 needs one unless
            the recipe names `connector_weights`.
        resume: True goes on from the newest whole checkpoint in `out` and refuses another run's
            folder; False starts anew, unless the very same run is already finished there; None
            goes on where the folder holds this very run and starts anew elsewhere.
        cache: folder for the sample index and copies of remote shards, unless the recipe names
            one; beside `out` if not given.
    Raises:
        TrainError: no checkpoint to start from, another run in `out`, a loss that is not finite.
        BadSamplesError: more unusable samples than the recipe allows.
    """
    begun = time.monotonic()
    check_logs(config.stage(stage).logs)
    start = start_folder(config, stage, init_from)
    identity = run_identity(config, stage, shards, start, seed)
    resume, finished = runtime.gather(_state_of(out, identity, resume))[0]
    if finished is not None:
        return finished
    runtime.prepare(seed)
    place = Path(config.data.cache).expanduser() if config.data.cache else cache
    run = set_up(
        config,
        stage,
        shards=shards,
        out=out,
        start=start,
        runtime=runtime,
        seed=seed,
        cache=place or out.parent / "sample-index",
        progress=progress,
    )
    try:
        if runtime.is_main:
            claim_folder(out, identity, resume)  # only now: a mistake above must not cost a run
        runtime.barrier()
        if resume:
            _restore(run)
        checkpoint = _loop(run, progress, identity)
        result = _finish(run, checkpoint, progress, seed)
    finally:
        run.close()
    return replace(result, seconds=time.monotonic() - begun)


def _state_of(out: Path, identity: str, resume: bool | None) -> tuple[bool, TrainResult | None]:
    """Return whether to resume, and the result of this very run if it is finished."""
    chosen = is_same_run(out, identity) if resume is None else resume
    return chosen, finished_result(out, identity, chosen)


# ---------------------------------------------------------------------------------- the loop


def _loop(run: Run, progress: Progress, identity: str) -> Path:
    """Train to the last step; returns the last checkpoint."""
    writer = CheckpointWriter(
        run.out,
        keep_last=run.config.keep_last,
        runtime=run.runtime,
        asynchronous=run.config.async_save,
    )
    log = StepLog(run, _open_logs(run, identity))
    log.rewind()
    while run.step < run.steps:
        _step(run, log)
        is_last = run.step == run.steps
        saves = is_last or run.step % run.config.save_every == 0
        if saves or run.step % run.config.log_every == 0:
            log.flush()  # before saving: a step that went wrong must not be saved
        if saves:
            writer.save(run.step, _snapshot(run))
        writer.check()
        progress(run.stage, run.step, run.steps, loss=log.loss)
    log.close()
    last = writer.wait() or _newest(run)  # None: killed between the last checkpoint and the result
    assert last is not None
    return last


def _step(run: Run, log: StepLog) -> None:
    """Do one optimizer step."""
    runtime, part = run.runtime, run.config
    set_rate(run.optimizer, rate_share(run.step, run.steps, part.warmup_ratio, part.schedule))
    step = run.loader.next_step()
    run.optimizer.zero_grad(set_to_none=True)
    loss, counts = _gradients(run, step)
    norm = runtime.clip(run.learning, part.max_grad_norm)
    run.optimizer.step()
    runtime.step_boundary()
    run.step += 1
    log.add(
        step=run.step,
        loss=loss,
        norm=norm,
        rates=rates_now(run.optimizer),
        sample_ids=step.sample_ids,
        skipped=step.skipped,
        counts=counts,
    )


def _gradients(run: Run, step: StepBatch) -> tuple[Tensor, Mapping[str, float]]:
    """Run the micro batches forward and backward.

    Returns:
        This rank's part of the step's loss, on the device, and what its batches held.
    """
    runtime = run.runtime
    total = _trained_of_all_ranks(run, step)
    loss = torch.zeros((), device=runtime.device)
    counts: Counter[str] = Counter({"wait_s": step.wait_s})
    for number in range(len(step.micro)):
        begun = time.monotonic()
        batch = step.micro[number]
        counts.update(counts_of(batch) | {"wait_s": time.monotonic() - begun})
        share = batch.num_trained / total
        placed = runtime.place(batch)
        with runtime.micro_batch(run.model, last=number == len(step.micro) - 1):
            with runtime.autocast():
                mean = run.model(layout=placed.layout, pictures=placed.pictures).loss
            weighted = mean * share
            runtime.backward(weighted)
        loss = loss + weighted.detach()
    return loss, counts


def _trained_of_all_ranks(run: Run, step: StepBatch) -> float | Tensor:
    """Return the trained tokens of the step's global batch."""
    if run.runtime.world_size == 1:
        return max(step.num_trained, 1)
    count = torch.tensor(float(step.num_trained), device=run.runtime.device)
    return run.runtime.sum(count).clamp(min=1)


def _open_logs(run: Run, identity: str) -> Logs | None:
    """Return the logs of rank 0."""
    if not run.runtime.is_main:
        return None
    name = f"{run.stage}-{identity[:8]}"
    return open_logs(run.out, run.config.logs, run=name, config=run.recipe.model_dump(mode="json"))


# ------------------------------------------------------------------------- checkpoints, result


def _snapshot(run: Run) -> Callable[[Path], None]:
    """Return what writes a checkpoint's files: model, tokenizer, and all that resuming needs."""
    state = {
        "step": run.step,
        "data": run.loader.state(),
        "tenths": run.tenths.state(),
        "lost": dict(run.lost),
        "window": list(run.window),
    }
    return run.runtime.snapshot(run.model, run.optimizer, state, run.tokenizer)


def _newest(run: Run) -> Path | None:
    """Return the newest whole checkpoint as rank 0 sees it."""
    found = latest_checkpoint(run.out) if run.runtime.is_main else None
    return run.runtime.gather(found)[0]


def _restore(run: Run) -> None:
    """Go on from the newest whole checkpoint, if there is one."""
    found = _newest(run)
    if found is None:
        return
    state = run.runtime.load_state(found, run.model, run.optimizer)
    run.loader.load_state(state["data"])
    run.tenths = LossTenths(**state["tenths"])
    run.lost, run.window = state["lost"], state["window"]
    run.step = state["step"]


def _finish(run: Run, checkpoint: Path, progress: Progress, seed: int) -> TrainResult:
    """Evaluate after stage 2, and store the result."""
    own = shuffled = None
    if run.stage == "finetune":
        own, shuffled = compare_pictures(run, seed=seed, progress=progress)
    first, last = run.tenths.means()
    result = TrainResult(
        checkpoint=checkpoint,
        model=_merged(run) if has_adapters(run.model) else checkpoint,
        steps=run.step,
        samples=len(run.samples),
        skipped=dict(run.samples.skipped),
        lost=run.lost,
        first_tenth_loss=first,
        last_tenth_loss=last,
        own_pictures_loss=own,
        shuffled_pictures_loss=shuffled,
    )
    if run.runtime.is_main:
        store_result(run.out, result)
    run.runtime.barrier()
    return result


def _merged(run: Run) -> Path:
    """Write the model with its adapters added to the weights, as an ordinary model."""
    folder = run.out / MERGED_NAME
    if run.runtime.is_main:
        temporary = run.out / f".tmp-{MERGED_NAME}"
        for path in (temporary, folder):
            shutil.rmtree(path, ignore_errors=True)
        merge_adapters(run.model).save_pretrained(temporary)
        run.tokenizer.save_pretrained(temporary)
        temporary.replace(folder)
    return folder
