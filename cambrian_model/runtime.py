"""Where training runs: one small object for the device and what differs between devices.

Chosen by the user's name (`cpu`, `cuda`, `mps`, `xla`), never by what is installed. `cuda` is one
device without sharding for now; `xla` is named and refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cambrian_data.records import UserError

ModelT = TypeVar("ModelT", bound=nn.Module)

RUNTIMES = ("cpu", "cuda", "mps", "xla")


class Runtime:
    """A single CPU process; the base of the others."""

    name = "cpu"

    def __init__(self, *, threads: int = 2) -> None:
        self.device = torch.device(self.name)
        self.threads = threads

    def prepare(self, seed: int) -> None:
        """Set the threads and seed every source of randomness."""
        torch.set_num_threads(self.threads)
        random.seed(seed)
        torch.manual_seed(seed)

    def wrap(self, model: ModelT) -> ModelT:
        """Return the model on the device, sharded where the runtime shards."""
        return model.to(self.device)

    def checkpoint_function(self) -> Callable[..., Any]:
        """Return what runs a part of the model again in the backward pass to save memory."""
        return partial(checkpoint, use_reentrant=False)

    def step_boundary(self) -> None:
        """Mark the end of an optimizer step."""

    def rng_state(self) -> dict[str, Any]:
        """Return the state of the random generators, for a checkpoint."""
        return {"torch": torch.get_rng_state()}

    def set_rng_state(self, state: dict[str, Any]) -> None:
        """Go back to a state that `rng_state` returned."""
        torch.set_rng_state(state["torch"])


class CudaRuntime(Runtime):
    """One CUDA device."""

    name = "cuda"

    def __init__(self, *, threads: int = 2) -> None:
        if not torch.cuda.is_available():
            raise UserError(
                "runtime 'cuda': torch finds no CUDA device; use --runtime cpu, or install a "
                "torch built for CUDA on a machine with a driver"
            )
        super().__init__(threads=threads)

    def rng_state(self) -> dict[str, Any]:
        return super().rng_state() | {"cuda": torch.cuda.get_rng_state()}

    def set_rng_state(self, state: dict[str, Any]) -> None:
        super().set_rng_state(state)
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"])


class MpsRuntime(Runtime):
    """The GPU of an Apple machine."""

    name = "mps"

    def __init__(self, *, threads: int = 2) -> None:
        if not torch.backends.mps.is_available():
            raise UserError(
                "runtime 'mps': torch finds no Metal device; use --runtime cpu, or run on an "
                "Apple machine with macOS 12.3 or newer"
            )
        super().__init__(threads=threads)

    def rng_state(self) -> dict[str, Any]:
        return super().rng_state() | {"mps": torch.mps.get_rng_state()}

    def set_rng_state(self, state: dict[str, Any]) -> None:
        super().set_rng_state(state)
        if "mps" in state:
            torch.mps.set_rng_state(state["mps"])


def runtime_of(name: str, *, threads: int = 2) -> Runtime:
    """Return a runtime by its name.

    Raises:
        UserError: no such runtime, or its device is not there.
    """
    if name == "xla":
        raise UserError("runtime 'xla' (TPU) is not there yet; use cpu, cuda or mps")
    kinds: dict[str, type[Runtime]] = {"cpu": Runtime, "cuda": CudaRuntime, "mps": MpsRuntime}
    if name not in kinds:
        raise UserError(f"there is no runtime {name!r}; use one of {', '.join(RUNTIMES)}")
    return kinds[name](threads=threads)
