"""Weights of towers: from a folder, a file or the hub, in the naming of several libraries.

A load is strict: every name that is missing or unknown is told, before anything is changed. Files
of `torch.save` are read with `weights_only=True`, so that they cannot run code.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.files.weights import read_json, read_weights
from cambrian_model.towers.layouts import LAYOUTS, Layout
from cambrian_model.vision import Tower

_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where weights lie in a folder or a hub repository, the first that is there."""
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_WRAPPERS = ("module.", "vision_tower.", "body.vision_tower.")
_SHOWN = 8
_DAMAGES = (  # what torch.load raises on files that are none, or only a part of one
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    struct.error,
    pickle.UnpicklingError,
)


def load_tower_weights(tower: nn.Module, source: str | Path | None = None) -> None:
    """Load a tower's weights.

    Args:
        tower: may be on the meta device; it is then given the file's tensors, on the CPU.
        source: a folder, a file or a hub id (`org/name`, `org/name@revision`); None for the
            registry's hub id.
    Raises:
        UserError: the source is not there, damaged, or does not fit the tower.
    """
    assert isinstance(tower, Tower)
    if source is None:
        source = tower.spec.weights
        if source is None:
            raise UserError(f"the tower {tower.spec.name} has no published weights; name a file")
    files = _find_files(source)
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(_read(file))
    load_tower_state(tower, state, str(source))


def load_tower_state(tower: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a tower's weights from tensors in any naming that is known, strictly.

    Args:
        source: where they are from, for messages.
    Raises:
        UserError: they do not fit the tower.
    """
    assert isinstance(tower, Tower)
    model = tower.body.vision_tower
    assert isinstance(model, nn.Module)
    names = _unwrapped(state)
    layout, prefix = _find_layout(tower, names, source)
    targets = model.state_dict()
    faults: dict[str, list[str]] = {"unknown": [], "of another shape": []}
    found: dict[str, Tensor] = {}
    for name, value in names.items():
        new = layout.translate(name, prefix)
        if new is None or any(part not in targets for part in new):
            faults["unknown"].append(name)
            continue
        parts = value.chunk(len(new)) if len(new) > 1 else [value] * len(new)
        for part, tensor in zip(new, parts, strict=True):
            wanted = targets[part]
            if tensor.shape == (1, *wanted.shape):  # position embeddings have a batch there
                tensor = tensor[0]
            if tensor.shape != wanted.shape:
                shapes = f"{tuple(tensor.shape)} for {tuple(wanted.shape)}"
                faults["of another shape"].append(f"{name} {shapes}")
            found[part] = tensor
    faults["missing"] = [name for name in targets if name not in found]
    told = [f"{_listed(names)} {fault}" for fault, names in faults.items() if names]
    if told:
        raise UserError(
            f"{source}: the weights ({layout.title}) do not fit the tower {tower.spec.name}: "
            + "; ".join(told)
        )
    _put(model, targets, found)


def tower_weights_id(tower: Tower) -> str:
    """Return the sha256 of a tower's name, type and weights; it reads all of them."""
    digest = hashlib.sha256(f"{tower.spec.name} {tower.spec.family}".encode())
    for name, value in tower.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ----------------------------------------------------------------------------------- tensors


def _unwrapped(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors without what a wrapper around the whole model put before every name."""
    for wrapper in _WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def _find_layout(tower: Tower, names: Mapping[str, Tensor], source: str) -> tuple[Layout, str]:
    layouts = LAYOUTS[tower.body.kind]
    for layout in layouts:
        prefix = layout.find_prefix(names)
        if prefix is not None:
            return layout, prefix
    known = " or ".join(f"{layout.probe} ({layout.title})" for layout in layouts)
    raise UserError(
        f"{source} holds no weights of a {tower.body.kind} tower such as {tower.spec.name}: it "
        f"should have {known}, and has {_listed(list(names)) or 'nothing'}"
    )


def _put(model: nn.Module, targets: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Copy tensors into a model, or give them to one without memory."""
    if not any(value.is_meta for value in targets.values()):
        model.load_state_dict(found)
        return
    own = {
        name: value.to(targets[name].dtype).clone(memory_format=torch.contiguous_format)
        for name, value in found.items()
    }
    model.load_state_dict(own, assign=True)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name == "position_ids", name
                module.register_buffer(
                    name, torch.arange(buffer.shape[-1]).expand((1, -1)), persistent=False
                )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more


# ------------------------------------------------------------------------------------- files


def _find_files(source: str | Path) -> list[Path]:
    """Return the files of a source, downloaded where they are on the hub."""
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise UserError(f"{path}: weights are in files ending in {', '.join(_SUFFIXES)}")
        return [path]
    if path.is_dir():
        for name in _FILES:
            if (path / name).is_file():
                return _parts(path / name)
        raise UserError(f"{path} holds no weights: it needs one of {', '.join(_FILES)}")
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", str(source)) and path.suffix not in _SUFFIXES:
        return _find_on_hub(str(source))
    raise UserError(
        f"there is no file or folder {source}; give one with a tower's weights, or a hub id such "
        "as openai/clip-vit-large-patch14-336"
    )


def _parts(file: Path) -> list[Path]:
    """Return the files that an index names, or the file itself."""
    if file.suffix != ".json":
        return [file]
    parts = [file.parent / name for name in _part_names(file)]
    absent = [part.name for part in parts if not part.is_file()]
    if absent:
        raise UserError(f"{file.parent}: {file.name} names {', '.join(absent)}: not there")
    return parts


def _part_names(index: Path) -> list[str]:
    content = read_json(index).get("weight_map")
    if not isinstance(content, dict) or not content:
        raise UserError(f"{index} is damaged: it has no weight_map")
    return sorted(set(content.values()))


def _find_on_hub(source: str) -> list[Path]:
    """Return the files of a hub repository: from the cache, else downloaded.

    Raises:
        UserError: they can be had from neither.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repo, _, revision = source.partition("@")
    wanted = revision or None

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(repo, name, revision=wanted))

    cached = [
        path
        for name in _FILES
        if isinstance(path := try_to_load_from_cache(repo, name, revision=wanted), str)
    ]
    try:
        first = Path(cached[0]) if cached else None
        for name in () if first else _FILES:
            try:
                first = fetch(name)
                break
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
        if first is None:
            raise UserError(f"{source} has no weights on the hub: none of {', '.join(_FILES)}")
        return [fetch(name) for name in _part_names(first)] if first.suffix == ".json" else [first]
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the weights {source} are not in the cache of the hub and cannot be downloaded: "
            f"{reason}. Where there is a network, run `hf download {repo}` and copy its folder "
            "here; then name the folder or a file under model.tower_weights"
        ) from None


def _read(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a file, also of one that keeps them under `state_dict`."""
    if file.suffix == ".safetensors":
        yield from read_weights(file)
        return
    try:
        content = _load_pickle(file)
    except _DAMAGES as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} is damaged or holds more than tensors: {reason}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise UserError(f"{file} holds no weights: it must be a dict of names and tensors")
    yield from content.items()


def _load_pickle(file: Path) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
    return torch.load(file, map_location="cpu", weights_only=True)  # a file of torch before 1.6
