"""Two-stage training: shards + recipe -> checkpoints, a log and a result.

Stage 1 (pretrain) trains the connector alone, stage 2 (finetune) the language model too. A run that
was killed goes on from its newest whole checkpoint and ends with the same bytes; a finished run is
not run again. After stage 2 the loss with the samples' own pictures is set beside the loss with
other samples' pictures: a model that looks at its pictures does worse with the wrong ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import PreTrainedTokenizerFast

from cambrian_data.records import Progress, silent
from cambrian_model.batches import (
    Batch,
    Batches,
    Example,
    ExampleMaker,
    Examples,
    PictureSource,
    collate,
    make_picture_source,
    make_picture_store,
    read_examples,
    shard_texts,
)
from cambrian_model.checkpoint import latest_checkpoint, save_checkpoint
from cambrian_model.conversation import template_of
from cambrian_model.evaluation import picture_losses
from cambrian_model.metrics import LOG_NAME, JsonlLog, LossTenths
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.optimizer import build_optimizer, rate_share, set_rate, set_trainable
from cambrian_model.recipe import Stage, StageRecipe, TrainRecipe
from cambrian_model.run_folder import (
    TrainError,
    TrainResult,
    claim_folder,
    finished_result,
    is_same_run,
    run_identity,
    start_checkpoint,
    store_result,
)
from cambrian_model.runtime import Runtime
from cambrian_model.tokenizer import train_tokenizer
from cambrian_model.vision import tower_spec

_STATE_NAME = "training.pt"


@dataclass(slots=True, kw_only=True)
class _Run:
    """A stage that is under way."""

    config: StageRecipe
    stage: Stage
    out: Path
    model: CambrianModel
    tokenizer: PreTrainedTokenizerFast
    examples: Examples
    pictures: PictureSource
    optimizer: AdamW
    batches: Batches
    tenths: LossTenths
    log: JsonlLog
    runtime: Runtime
    step: int = 0


def train(
    config: TrainRecipe,
    stage: Stage,
    shards: Path,
    out: Path,
    *,
    init_from: Path | None = None,
    resume: bool | None = None,
    runtime: Runtime,
    progress: Progress = silent,
    seed: int = 0,
) -> TrainResult:
    """Train one stage.

    Args:
        shards: folder of shards as `cambrian_data.shards` reads them.
        out: folder of this stage's checkpoints, log and result.
        init_from: checkpoint, or folder of checkpoints, to start from; stage 2 needs one.
        resume: True goes on from the newest whole checkpoint in `out` and refuses another run's
            folder; False starts anew, unless the very same run is already finished there; None
            goes on where the folder holds this very run and starts anew elsewhere.
    Raises:
        TrainError: no checkpoint to start from, another run in `out`, a loss that is not finite.
        BadSamplesError: more unusable samples than the recipe allows.
    """
    begun = time.monotonic()
    start = start_checkpoint(stage, init_from)
    identity = run_identity(config, stage, shards, start, seed)
    if resume is None:
        resume = is_same_run(out, identity)
    finished = finished_result(out, identity, resume)
    if finished is not None:
        return finished
    runtime.prepare(seed)
    run = _set_up(config, stage, shards=shards, out=out, start=start, runtime=runtime, seed=seed)
    claim_folder(out, identity, resume)  # only now: a mistake above must not cost a run
    if resume:
        _restore(run)
    run.log.rewind(run.step)
    checkpoint = _loop(run, progress)
    result = _finish(run, checkpoint, progress, seed)
    return replace(result, seconds=time.monotonic() - begun)


# ---------------------------------------------------------------------------------- starting


def _set_up(
    config: TrainRecipe,
    stage: Stage,
    *,
    shards: Path,
    out: Path,
    start: Path | None,
    runtime: Runtime,
    seed: int,
) -> _Run:
    """Load or make the model, read the samples, and build what the loop needs."""
    model, tokenizer = _model_and_tokenizer(config, shards, start)
    make = ExampleMaker(
        tokenizer=tokenizer,
        template=template_of(config.template),
        system=config.system,
        max_tokens=config.max_tokens,
        side=model.connector.side,
    )
    store = make_picture_store(model.tower_specs, config.picture_cache_mb)
    examples = read_examples(shards, make, store, config.max_bad_share)
    if stage == "pretrain" and not any(example.pictures for example in examples.items):
        raise TrainError(
            f"pretrain trains what reads pictures, and no sample in {shards} has one; "
            "give shards with pictures"
        )
    model = runtime.wrap(model)
    set_trainable(model, stage)
    model.train()
    part = config.stage(stage)
    if part.gradient_checkpointing:
        model.use_checkpointing(runtime.checkpoint_function())
    steps = part.steps or math.ceil((part.epochs or 0) * len(examples.items) / part.batch_size)
    return _Run(
        config=part,
        stage=stage,
        out=out,
        model=model,
        tokenizer=tokenizer,
        examples=examples,
        pictures=make_picture_source(store, model, config.feature_cache_mb),
        optimizer=build_optimizer(model, part),
        batches=Batches(examples.items, part.batch_size, seed),
        tenths=LossTenths(steps),
        log=JsonlLog(out / LOG_NAME),
        runtime=runtime,
    )


def _model_and_tokenizer(
    config: TrainRecipe, shards: Path, start: Path | None
) -> tuple[CambrianModel, PreTrainedTokenizerFast]:
    """Return those of a checkpoint, or a fresh model with a tokenizer trained from the shards."""
    for name in config.model.towers:
        tower_spec(name)
    if start is None:
        template = template_of(config.template)
        texts = [*shard_texts(shards), config.system or template.system]
        tokenizer = train_tokenizer(texts, config.tokenizer.vocab_size, template)
        return CambrianModel(_model_config(config, tokenizer)), tokenizer
    tokenizer = PreTrainedTokenizerFast.from_pretrained(start)
    model = CambrianModel.from_pretrained(start)
    wanted = _model_config(config, tokenizer)
    for part in ("towers", "connector", "decoder", "template", "system"):
        if getattr(model.config, part) != getattr(wanted, part):
            raise TrainError(
                f"the recipe's {part} differs from that of the checkpoint {start.name}: "
                f"{getattr(wanted, part)!r} and {getattr(model.config, part)!r}; pretrain with "
                "this recipe first"
            )
    model.config.max_tokens = config.max_tokens
    return model, tokenizer


def _model_config(config: TrainRecipe, tokenizer: PreTrainedTokenizerFast) -> CambrianConfig:
    special = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CambrianConfig(
        towers=list(config.model.towers),
        connector=config.model.connector.model_dump(mode="json"),
        decoder=config.model.decoder | special,
        template=config.template,
        system=config.system,
        max_tokens=config.max_tokens,
    )


# ---------------------------------------------------------------------------------- the loop


def _loop(run: _Run, progress: Progress) -> Path:
    """Train to the last step; returns the last checkpoint."""
    checkpoint = None
    while run.step < run.tenths.steps:
        loss = _step(run)
        if run.step % run.config.save_every == 0 or run.step == run.tenths.steps:
            checkpoint = save_checkpoint(
                run.out, run.step, _writer(run), keep_last=run.config.keep_last
            )
        progress(run.stage, run.step, run.tenths.steps, loss=loss)
    # Killed between the last checkpoint and the result: nothing is left to train.
    last = checkpoint or latest_checkpoint(run.out)
    assert last is not None
    return last


def _step(run: _Run) -> float:
    """Do one optimizer step and log it; returns its loss."""
    begun = time.monotonic()
    share = rate_share(run.step, run.tenths.steps, run.config.warmup_ratio)
    set_rate(run.optimizer, share)
    examples = run.batches.take()
    run.optimizer.zero_grad(set_to_none=True)
    value = sum(_backward(run, part, share) for part, share in _micro_batches(run, examples))
    learning = [p for group in run.optimizer.param_groups for p in group["params"]]
    norm = clip_grad_norm_(learning, run.config.max_grad_norm)
    norm_value = norm.item()
    if not (math.isfinite(value) and math.isfinite(norm_value)):
        raise TrainError(
            f"step {run.step + 1} of {run.stage}: loss {value}, gradient norm {norm_value}; the "
            f"samples are {', '.join(e.sample_id for e in examples)}; look at them, or "
            "lower lr"
        )
    run.optimizer.step()
    run.runtime.step_boundary()
    run.step += 1
    run.tenths.add(run.step, value)
    seconds = max(time.monotonic() - begun, 1e-9)
    run.log.write(
        step=run.step,
        loss=value,
        lr=run.config.lr * share,
        grad_norm=norm_value,
        tokens_per_s=round(sum(example.num_tokens for example in examples) / seconds, 1),
        samples_per_s=round(len(examples) / seconds, 2),
    )
    return value


def _micro_batches(run: _Run, examples: list[Example]) -> Iterator[tuple[list[Example], float]]:
    """Cut a batch by length; yields each part with its share of the batch's trained tokens."""
    size = run.config.micro_batch_size or len(examples)
    ordered = sorted(examples, key=lambda example: example.num_tokens)
    total = sum(example.num_trained for example in examples)
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        yield part, sum(example.num_trained for example in part) / total


def _backward(run: _Run, examples: list[Example], share: float) -> float:
    """Add a part's gradients, weighted by its share; returns its part of the batch's loss."""
    batch = collate(examples, run.pictures, run.tokenizer.pad_token_id)
    loss = _loss(run, batch.to(run.runtime.device)) * share
    if loss.requires_grad:  # not in stage 1 where no sample of the part has a picture
        loss.backward()
    return loss.item()


def _loss(run: _Run, batch: Batch) -> torch.Tensor:
    output = run.model(
        batch.input_ids,
        attention_mask=batch.attention_mask,
        labels=batch.labels,
        pictures=batch.pictures,
    )
    return output.loss


# ------------------------------------------------------------------------- checkpoints, result


def _writer(run: _Run) -> Callable[[Path], None]:
    """Return what writes a checkpoint's files: model, tokenizer, and all that resuming needs."""

    def write(folder: Path) -> None:
        run.model.save_pretrained(folder)
        run.tokenizer.save_pretrained(folder)
        state = {
            "step": run.step,
            "optimizer": run.optimizer.state_dict(),
            "rng": run.runtime.rng_state(),
            "data": run.batches.state(),
            "tenths": run.tenths.state(),
        }
        torch.save(state, folder / _STATE_NAME)

    return write


def _restore(run: _Run) -> None:
    """Go on from the newest whole checkpoint, if there is one."""
    found = latest_checkpoint(run.out)
    if found is None:
        return
    saved = CambrianModel.from_pretrained(found)
    run.model.load_state_dict(saved.state_dict())
    state = torch.load(found / _STATE_NAME, weights_only=True, map_location="cpu")
    run.optimizer.load_state_dict(state["optimizer"])
    run.batches.load_state(state["data"])
    run.tenths = LossTenths(**state["tenths"])
    run.runtime.set_rng_state(state["rng"])
    run.step = state["step"]


def _finish(run: _Run, checkpoint: Path, progress: Progress, seed: int) -> TrainResult:
    """Evaluate after stage 2, and store the result."""
    own = shuffled = None
    if run.stage == "finetune":
        losses = picture_losses(
            run.examples.items,
            lambda examples, shown: _loss(
                run,
                collate(examples, run.pictures, run.tokenizer.pad_token_id, shown).to(
                    run.runtime.device
                ),
            ),
            model=run.model,
            batch_size=run.config.batch_size,
            seed=seed,
            progress=progress,
        )
        if losses is not None:
            own, shuffled = losses
    first, last = run.tenths.means()
    result = TrainResult(
        checkpoint=checkpoint,
        steps=run.step,
        samples=len(run.examples.items),
        skipped=run.examples.skipped,
        first_tenth_loss=first,
        last_tenth_loss=last,
        own_pictures_loss=own,
        shuffled_pictures_loss=shuffled,
    )
    store_result(run.out, result)
    return result
