"""A model's files: config and weights under published names, written and read strictly.

Equal weights give equal bytes. Towers lie beside the rest, so that a folder is all that a question
needs. What the published code wrote is told by its config and read by `published`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.files.names import own_name, published_name
from cambrian_model.files.weights import StrictLoad, find_weight_files, read_json, read_weights

if TYPE_CHECKING:
    from cambrian_model.model import CambrianModel


def save_model(
    model: CambrianModel, folder: Path, state: dict[str, Tensor] | None = None, **kwargs: Any
) -> None:
    """Write config and weights.

    Tied weights are written once. Equal weights give equal bytes: the files carry a single entry
    of metadata, since safetensors writes several in an order that changes.

    Args:
        state: written instead of the model's own, under our names and tied weights once.
        kwargs: for `split_torch_state_dict_into_shards`, such as `max_shard_size`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if state is None:
        shared = shared_names(model)
        state = {
            name: value for name, value in model.state_dict().items() if name == min(shared[name])
        }
    weights = {published_name(name): value.detach().contiguous() for name, value in state.items()}
    write_weights(weights, folder, **kwargs)


def write_weights(weights: dict[str, Tensor], folder: Path, **kwargs: Any) -> None:
    """Write tensors as `model*.safetensors`, with an index where they are several files."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    plan = split_torch_state_dict_into_shards(weights, **kwargs)
    for file, names in plan.filename_to_tensors.items():
        save_file({name: weights[name] for name in names}, folder / file, {"format": "pt"})
        (folder / file).chmod(0o644)  # it is written for its owner alone
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def load_model(
    cls: type[CambrianModel], folder: Path, *, dtype: torch.dtype | None = None, **kwargs: Any
) -> CambrianModel:
    """Build a saved model and load all its weights; see `CambrianModel.from_pretrained`."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise UserError(_no_model(folder))
    content = read_json(config_file)
    from cambrian_model.files.published import is_published, load_published

    if is_published(content):
        return load_published(folder, dtype=dtype, **kwargs)
    if content.get("model_type") != cls.config_class.model_type:
        raise UserError(
            f"{config_file} is that of a {content.get('model_type')!r} model; a model of this "
            "project or a published one with its mm_* settings is needed"
        )
    if not any(folder.glob("model*.safetensors")):
        raise UserError(_no_model(folder))
    with empty_weights(dtype):
        model = _build(cls, folder, kwargs)
    model.decoder.tie_weights()  # skipped together with the drawing
    load_weights(model, folder)
    return model.eval()


def _build(cls: type[CambrianModel], folder: Path, kwargs: dict[str, Any]) -> CambrianModel:
    """Build the model of a config, which may hold anything."""
    try:
        return cls(cls.config_class.from_pretrained(folder, **kwargs))
    except UserError:
        raise
    except (AttributeError, OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{folder / 'config.json'} is damaged or no config of a model of this project: {reason}"
        ) from None


def _no_model(folder: Path) -> str:
    return (
        f"{folder} holds no saved model: it needs config.json and model.safetensors; give a "
        "step-* folder of a training run"
    )


@contextmanager
def empty_weights(dtype: torch.dtype | None = None) -> Iterator[None]:
    """Build models without drawing weights that are overwritten anyway."""
    from transformers.initialization import no_init_weights

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or before)
    try:
        with no_init_weights():
            yield
    finally:
        torch.set_default_dtype(before)


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load all weights of a folder, tensor by tensor; of tied weights one name is enough.

    Raises:
        UserError: a file is damaged; names are missing or unknown, or a shape differs.
    """
    strict = StrictLoad(model)
    for file in find_weight_files(folder):
        for name, value in read_weights(file):
            strict.put(own_name(name), value, name)
    shared = shared_names(model)
    missing = [name for name in shared if not shared[name] & strict.loaded]
    strict.finish(folder, [published_name(name) for name in missing])


def shared_names(model: nn.Module) -> dict[str, set[str]]:
    """Return for each name in the state dict the names of the same storage (tied weights)."""
    by_storage: dict[int, set[str]] = {}
    state = model.state_dict()
    for name, value in state.items():
        by_storage.setdefault(value.data_ptr(), set()).add(name)
    return {name: by_storage[value.data_ptr()] for name, value in state.items()}
