"""The folder of a run: whose run it is, where it starts, and its stored result.

`run.json` holds the hash of all that decides the outcome (recipe, stage, shards, start, seed), so
that a run is known again; `result.json` is written once it is finished. No paths, no times.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cambrian_data.records import UserError, content_id
from cambrian_data.shards import read_index
from cambrian_model.checkpoint import (
    MANIFEST_NAME,
    checkpoint_id,
    checkpoint_problem,
    checkpoints,
    latest_checkpoint,
    remove_leftovers,
)
from cambrian_model.metrics import LOG_NAME
from cambrian_model.recipe import Stage, TrainRecipe

RESULT_NAME = "result.json"
RUN_NAME = "run.json"
_VERSION = 2

# What changes a result by rounding at most: a run goes on with other values of these.
_FREE_OF_STAGE = frozenset(
    {
        "micro_batch_size",
        "gradient_checkpointing",
        "sharding",
        "save_every",
        "keep_last",
        "async_save",
        "log_every",
        "logs",
    }
)
_FREE_OF_DATA = frozenset(
    {
        "workers",
        "prefetch",
        "picture_cache_mb",
        "feature_cache_mb",
        "feature_cache",
        "cache",
    }
)


class TrainError(UserError):
    """Training that cannot start or go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a stage ended with."""

    checkpoint: Path
    """The last checkpoint."""
    model: Path
    """What to ask questions: the last checkpoint, or with adapters the model that they are merged
    into."""
    steps: int
    samples: int
    """Usable samples in the shards."""
    skipped: dict[str, int]
    """Unusable samples, by reason."""
    lost: dict[str, int]
    """Times that a sample could not be loaded, by reason."""
    first_tenth_loss: float
    """Mean training loss over the first tenth of the steps."""
    last_tenth_loss: float
    """Mean training loss over the last tenth of the steps."""
    own_pictures_loss: float | None = None
    """After stage 2: loss of the samples with pictures; None where that has no meaning."""
    shuffled_pictures_loss: float | None = None
    """The same texts, each with pictures of other samples."""
    seconds: float = 0.0
    """Time that this call took; not stored."""


def start_folder(config: TrainRecipe, stage: Stage, init_from: Path | None) -> Path | None:
    """Return the folder of the model to start from; a folder of checkpoints stands for its newest.

    Raises:
        TrainError: there is none, or it is damaged.
    """
    if init_from is None:
        if stage == "finetune" and config.model.connector_weights is None:
            raise TrainError(
                "finetune starts from a pretrain checkpoint and none is given; run "
                "`cambrian train --stage pretrain` first or name one with --from"
            )
        return None
    if (init_from / MANIFEST_NAME).is_file():
        problem = checkpoint_problem(init_from)
        if problem:
            raise TrainError(f"cannot start from {init_from}: {problem}; choose another checkpoint")
        return init_from
    found = latest_checkpoint(init_from)
    if found is not None:
        return found
    if (init_from / "config.json").is_file():  # a model that was saved or published elsewhere
        return init_from
    raise TrainError(
        f"there is no whole checkpoint in {init_from} to start {stage} from; run "
        "`cambrian train --stage pretrain` first or name another one with --from"
    )


def run_identity(
    config: TrainRecipe, stage: Stage, shards: Path | str, start: Path | None, seed: int
) -> str:
    """Return the hash of all that decides the outcome of a stage."""
    recipe = config.model_dump(mode="json", include={"model", "tokenizer", "template", "system"})
    recipe["max_tokens"] = config.tokens_of(stage)
    recipe["cpu_threads"] = config.cpu_threads
    recipe["adapters"] = config.model_dump(mode="json")["adapters"] if stage == "finetune" else None
    recipe["data"] = config.data.model_dump(mode="json", exclude=set(_FREE_OF_DATA))
    recipe["stage"] = config.stage(stage).model_dump(mode="json", exclude=set(_FREE_OF_STAGE))
    origin = _origin_id(start) if start else None
    return content_id("train", _VERSION, stage, recipe, read_index(shards), origin, seed)


def _origin_id(start: Path) -> str:
    """Return what stands for the model in a folder: of one saved elsewhere its files' sizes."""
    if (start / MANIFEST_NAME).is_file():
        return checkpoint_id(start)
    files = sorted(path for path in start.iterdir() if path.is_file())
    sizes = {path.name: path.stat().st_size for path in files}
    return content_id((start / "config.json").read_bytes().hex(), sizes)


def is_same_run(out: Path, identity: str) -> bool:
    """Whether a folder holds the run of this identity, finished or not."""
    marker = out / RUN_NAME
    return marker.is_file() and _read_json(marker).get("identity") == identity


def finished_result(out: Path, identity: str, resume: bool) -> TrainResult | None:
    """Return the result if this very run is finished in `out`, else None.

    Raises:
        TrainError: `resume`, and the folder holds another run.
    """
    if is_same_run(out, identity):
        return read_result(out)
    if resume and ((out / RUN_NAME).is_file() or checkpoints(out)):
        raise TrainError(
            f"{out} holds a run with another recipe, seed, start or other shards; give those of "
            "that run, choose another folder, or leave out --resume to start anew in this one"
        )
    return None


def claim_folder(out: Path, identity: str, resume: bool) -> None:
    """Make `out` this run's folder.

    What another run left there is kept beside it, as `STAGE.before-XXXXXXXX`; what this very run
    left there goes unless it is resumed.
    """
    marker = out / RUN_NAME
    if marker.is_file() and not is_same_run(out, identity) and checkpoints(out):
        before = str(_read_json(marker).get("identity", "unknown"))[:8]
        aside = out.with_name(f"{out.name}.before-{before}")
        if aside.exists():
            shutil.rmtree(aside)
        out.rename(aside)
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    if not resume:
        for path in checkpoints(out):
            shutil.rmtree(path)
        for name in (LOG_NAME, RESULT_NAME):
            (out / name).unlink(missing_ok=True)
    _write_json(out / RUN_NAME, {"identity": identity})


def store_result(out: Path, result: TrainResult) -> None:
    """Write the result of a finished run, without times and with its checkpoint's name alone."""
    stored = asdict(result) | {"checkpoint": result.checkpoint.name, "model": result.model.name}
    del stored["seconds"]
    _write_json(out / RESULT_NAME, stored | {"seal": content_id(stored)})


def read_result(out: Path) -> TrainResult | None:
    """Return the stored result of a finished run whose checkpoint is still whole."""
    path = out / RESULT_NAME
    stored = _read_json(path)
    seal = stored.pop("seal", None)
    if seal is None or seal != content_id(stored):
        return None
    places = {name: out / stored.get(name, "") for name in ("checkpoint", "model")}
    if not places["model"].is_dir() or checkpoint_problem(places["checkpoint"]) is not None:
        return None
    known = {field.name for field in fields(TrainResult)}
    return TrainResult(**(stored | places)) if stored.keys() <= known else None


def _read_json(path: Path) -> dict[str, Any]:
    """Return a small JSON object; a damaged one counts as empty."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # neither JSON nor even UTF-8
        return {}
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
