"""Weights in a folder or a file, one tensor after another, whatever form they are stored in.

Safetensors and `torch.save` files (`weights_only`), whole or in shards that an index names. One
shard is open at a time, and tensors are mapped from the disk, not read, until they are used.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cambrian_data.records import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_SHOWN = 8
DAMAGES = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""What torch raises on bytes that are no weights."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no object")
    return content


def find_weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a saved model's weights.

    Raises:
        UserError: there are none, or one that the index names is missing.
    """
    for name in _INDEXES:
        if (folder / name).is_file():
            index = read_json(folder / name).get("weight_map")
            if not isinstance(index, dict):
                raise UserError(f"{folder / name} is damaged: it has no weight_map")
            files = [folder / file for file in sorted(set(index.values()))]
            absent = [file.name for file in files if not file.is_file()]
            if absent:
                raise UserError(
                    f"{folder}: {name} names {', '.join(absent)}, which {_are(absent)} missing; "
                    "download the folder again, whole"
                )
            return files
    for name in _WHOLE:
        if (folder / name).is_file():
            return [folder / name]
    raise UserError(f"{folder} holds no weights: it needs one of {', '.join(_WHOLE + _INDEXES)}")


def _are(names: list[str]) -> str:
    return "are" if len(names) > 1 else "is"


def read_weights(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of a file.

    Raises:
        UserError: it is missing, damaged, or holds more than tensors.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    yield from _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)


def _read_safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name)
    except SafetensorError as error:
        raise UserError(f"{file} is damaged: {error}") from None


def _read_pickle(file: Path) -> Iterator[tuple[str, Tensor]]:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        raise UserError(
            f"{file} is damaged or holds more than tensors: {reason_of(error)}"
        ) from None
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise UserError(f"{file} holds no weights: it must be a dict of names and tensors")
    yield from content.items()


def reason_of(error: BaseException) -> str:
    """Return an error's first line, without the advice of torch to load unsafe files anyway."""
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return first.partition(" In PyTorch 2.6")[0]


class StrictLoad:
    """Copies tensors into a module's and keeps what does not fit, to tell it all at once."""

    def __init__(self, module: nn.Module) -> None:
        self.targets = module.state_dict(keep_vars=True)
        self.loaded: set[str] = set()
        self.unknown: list[str] = []
        self.unfit: list[str] = []

    def put(self, name: str, value: Tensor, shown_as: str) -> None:
        """Copy one tensor; `shown_as` is its name in the file."""
        import torch

        target = self.targets.get(name)
        if target is None:
            self.unknown.append(shown_as)
        elif target.shape != value.shape:
            shapes = f"{tuple(value.shape)} for {tuple(target.shape)}"
            self.unfit.append(f"{shown_as} {shapes}")
        else:
            with torch.no_grad():
                target.copy_(value)
            self.loaded.add(name)

    def finish(self, source: Path, missing: list[str]) -> None:
        """Say what did not fit.

        Raises:
            UserError: a tensor is missing, unknown, or of another shape.
        """
        faults = {"missing": missing, "unknown": self.unknown, "of another shape": self.unfit}
        told = [f"{_listed(names)} {fault}" for fault, names in faults.items() if names]
        if told:
            raise UserError(f"{source}: the weights do not fit the model: {'; '.join(told)}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more
