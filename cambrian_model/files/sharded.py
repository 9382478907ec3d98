"""The part of a checkpoint that several devices write, each what it holds: `sharded/`.

torch.distributed.checkpoint's format: `__RANK_N.distcp` and `.metadata`, with the keys
`model.NAME` and `optimizer.NAME.KEY`. It is read by any number of ranks, a single process too, and
that of an XLA mesh by a plain torch. `consolidate` makes a whole model of it.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from cambrian_data.records import UserError
from cambrian_model.checkpoint import MANIFEST_NAME
from cambrian_model.files.names import published_name
from cambrian_model.files.training_state import STATE_NAME, OptimizerState, misfit

if TYPE_CHECKING:
    from cambrian_model.runtime import Runtime

FOLDER = "sharded"


def is_sharded(folder: Path) -> bool:
    """Return whether a checkpoint's weights are spread over files of several devices."""
    return (folder / FOLDER / ".metadata").is_file()


def stage(runtime: Runtime, tensors: dict[str, Tensor]) -> Callable[[Path], None]:
    """Copy this rank's parts to the CPU; returns what writes them, called by all ranks at once."""
    staged, planner = runtime.stage(tensors)

    def write(folder: Path) -> None:
        (folder / FOLDER).mkdir(exist_ok=True)
        dcp.save(
            staged,
            storage_writer=dcp.FileSystemWriter(folder / FOLDER, sync_files=False),
            planner=planner,
            process_group=runtime.ranks.saving_group,
            no_dist=runtime.ranks.saving_group is None,
        )

    return write


def load_shards(
    runtime: Runtime, folder: Path, weights: dict[str, Tensor], learning: dict[str, nn.Parameter]
) -> OptimizerState:
    """Fill the weights in place and return the optimizer's states, laid out as the parameters.

    Raises:
        UserError: names or shapes differ from the checkpoint's.
    """
    reader = dcp.FileSystemReader(folder / FOLDER)
    stored = _stored_tensors(reader)
    wanted: dict[str, Any] = {}
    for name, value in weights.items():
        found = stored.get(f"model.{name}")
        if found is None or found.size != value.shape:
            raise misfit(folder, name)
        wanted[f"model.{name}"] = value.detach()
    states: OptimizerState = {}
    for path, found in stored.items():
        if not path.startswith("optimizer."):
            continue
        name, key = path.removeprefix("optimizer.").rsplit(".", 1)
        if name not in learning:
            raise misfit(folder, name)
        if found.size == learning[name].shape:
            value = runtime.like(learning[name], found.properties.dtype)
        else:
            value = torch.zeros(found.size, dtype=found.properties.dtype)
        wanted[path] = states.setdefault(name, {})[key] = value
    group = runtime.ranks.saving_group
    with _alone():
        dcp.load(
            wanted,
            storage_reader=reader,
            planner=runtime.load_planner(),
            process_group=group,
            no_dist=group is None,
        )
    return states


@contextmanager
def _alone() -> Iterator[None]:
    """Let torch not warn that a process loads alone, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _stored_tensors(reader: dcp.FileSystemReader) -> dict[str, TensorStorageMetadata]:
    """Return sizes and types of the tensors in a checkpoint, by key."""
    found = reader.read_metadata().state_dict_metadata
    return {key: item for key, item in found.items() if isinstance(item, TensorStorageMetadata)}


def consolidate(folder: Path, out: Path | None = None) -> Path:
    """Write a sharded checkpoint's weights as `model*.safetensors` under the published names.

    Needs memory for the weights once; no device and no process group.

    Args:
        folder: a checkpoint of any number of ranks; nothing is done for one that is whole.
        out: where to; the checkpoint's own folder if not given.
    Returns:
        The folder that `from_pretrained` can read.
    Raises:
        UserError: it is no checkpoint.
    """
    out = out or folder
    if not is_sharded(folder):
        if not any(folder.glob("model*.safetensors")):
            raise UserError(f"{folder} is no checkpoint; give a step-* folder of a training run")
        return folder
    if any(out.glob("model*.safetensors")):
        return out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-whole-", dir=out) as temporary:
        _write_whole(folder, Path(temporary))
        for path in folder.iterdir():
            # The manifest is of other files, and the training state is of no use for questions.
            if path.is_file() and out != folder and path.name not in (MANIFEST_NAME, STATE_NAME):
                shutil.copyfile(path, Path(temporary) / path.name)
        # The weights last: a folder that holds them holds all the rest.
        for path in sorted(Path(temporary).iterdir(), key=lambda p: p.suffix == ".safetensors"):
            path.replace(out / path.name)
    return out


def _write_whole(folder: Path, out: Path) -> None:
    from cambrian_model.files.saved import write_weights

    reader = dcp.FileSystemReader(folder / FOLDER)
    stored = _stored_tensors(reader)
    weights = {
        path: torch.empty(found.size, dtype=found.properties.dtype)
        for path, found in stored.items()
        if path.startswith("model.")
    }
    with _alone():
        dcp.load(weights, storage_reader=reader, no_dist=True)
    write_weights(
        {published_name(path.removeprefix("model.")): value for path, value in weights.items()}, out
    )
