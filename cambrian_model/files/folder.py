"""A folder that holds a model -> the model, its tokenizer and the tokens that end its answers.

A checkpoint, a run's folder, a published model, or adapters over one of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from cambrian_data.records import UserError
from cambrian_model.checkpoint import (
    MANIFEST_NAME,
    checkpoint_problem,
    checkpoints,
    latest_checkpoint,
)
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.training.run_folder import RESULT_NAME

_CONFIG, _ADAPTERS = "config.json", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be asked."""

    model: CambrianModel
    tokenizer: PreTrainedTokenizerFast
    stops: tuple[int, ...]
    """Tokens of its own generation config that end an answer."""


def load_folder(checkpoint: Path, *, dtype: torch.dtype | None = None) -> LoadedModel:
    """Load a model on the CPU.

    Args:
        checkpoint: a checkpoint, a run's folder (its newest whole one), a published model, or
            adapters whose `adapter_config.json` names the model under them.
        dtype: of the weights; float32 if not given.
    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    folder = base = _model_folder(checkpoint)
    if not (folder / _ADAPTERS).is_file():
        model = _whole_model(folder, dtype)
    elif (folder / _CONFIG).is_file():
        model = _with_own_adapters(folder, dtype)
    else:
        model, base = _over_another(folder, dtype)
    home = folder if (folder / "tokenizer_config.json").is_file() else base
    return LoadedModel(model.eval(), tokenizer_of(home), _own_stops(base))


def _model_folder(checkpoint: Path) -> Path:
    """Return the folder that holds the model itself."""
    if not checkpoint.is_dir():
        what = "is a file" if checkpoint.exists() else "does not exist"
        raise UserError(
            f"--model {checkpoint} {what}; give the folder of a checkpoint, of a run or of a "
            "published model"
        )
    if (checkpoint / MANIFEST_NAME).is_file() and (problem := checkpoint_problem(checkpoint)):
        raise UserError(f"{checkpoint} cannot be used: {problem}; give another checkpoint")
    if any((checkpoint / name).is_file() for name in (_CONFIG, _ADAPTERS)):
        return checkpoint
    newest = _result_of(checkpoint) or latest_checkpoint(checkpoint)
    if newest is None:
        raise UserError(
            f"there is no checkpoint at {checkpoint}; train one with `cambrian train` and give "
            "its step-* folder or the folder of the run"
        )
    return newest


def _result_of(run: Path) -> Path | None:
    """Return the model that a finished run names as its result, if it is none of its steps."""
    result = run / RESULT_NAME
    named = _json(result).get("model") if result.is_file() else None
    if not isinstance(named, str) or named in {path.name for path in checkpoints(run)}:
        return None
    return run / named if (run / named / _CONFIG).is_file() else None


def _whole_model(folder: Path, dtype: torch.dtype | None) -> CambrianModel:
    from cambrian_model.files.sharded import consolidate, is_sharded

    return CambrianModel.from_pretrained(
        consolidate(folder) if is_sharded(folder) else folder, dtype=dtype
    )


def _with_own_adapters(folder: Path, dtype: torch.dtype | None) -> CambrianModel:
    """Return a checkpoint of a run with adapters, with them merged."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("adapters need the package peft; pip install peft") from None
    from cambrian_model.adapters import merge_adapters
    from cambrian_model.files.saved import empty_weights, load_weights

    with empty_weights(dtype):
        model = CambrianModel(CambrianConfig.from_pretrained(folder))
        inject_adapter_in_model(LoraConfig.from_pretrained(str(folder)), model.decoder)
    model.decoder.tie_weights()
    load_weights(model, folder)
    return merge_adapters(model)


def _over_another(folder: Path, dtype: torch.dtype | None) -> tuple[CambrianModel, Path]:
    """Return the model under adapters with them merged, and its folder."""
    from cambrian_model.adapters import load_adapters, merge_adapters

    named = _json(folder / _ADAPTERS).get("base_model_name_or_path")
    base = Path(named) if named else None
    if base is not None and not base.is_absolute() and not base.is_dir():
        base = folder / base
    if base is None or not base.is_dir():
        raise UserError(
            f"{folder} holds adapters and its adapter_config.json names as "
            f"base_model_name_or_path {named!r}, which is no folder; write the folder of the "
            "model there that they were trained on"
        )
    base = _model_folder(base)
    return merge_adapters(load_adapters(_whole_model(base, dtype), folder)), base


def tokenizer_of(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer that lies beside a model, ours or a published one.

    Raises:
        UserError: there is none, or it is damaged.
    """
    from cambrian_model.files.published import is_published, load_tokenizer

    config = folder / _CONFIG
    if config.is_file() and is_published(_json(config)):
        found = load_tokenizer(folder)
        if not isinstance(found, PreTrainedTokenizerFast):
            raise UserError(
                f"the tokenizer of {folder} is a {type(found).__name__}, which does not tell where "
                "its tokens stand in the text; save it as tokenizer.json"
            )
        return found
    # Its class would build some parts anew, and lose how spaces were put when it was trained.
    try:
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the tokenizer of {folder} cannot be loaded: {reason}") from None


def _own_stops(folder: Path) -> tuple[int, ...]:
    """Return the end tokens of a model's generation config."""
    path = folder / "generation_config.json"
    found = _json(path).get("eos_token_id") if path.is_file() else None
    return tuple(found) if isinstance(found, list) else () if found is None else (found,)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    return content if isinstance(content, dict) else {}
