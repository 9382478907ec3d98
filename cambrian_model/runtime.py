"""Where training runs: one small object for the device and what differs between devices.

Chosen by the user's name (`cpu`, `cuda`, `mps`, `xla`), never by what is installed. The base is the
CPU: one process, or several that `torchrun` starts (gloo), with whole copies of the model or with
FSDP2. Gradients are summed over the ranks, so a loss that each rank weights by its share of the
step's trained tokens is the same on any number of ranks.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from cambrian_data.records import UserError
from cambrian_model.runtimes.ranks import Ranks

_LOG = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=nn.Module)

RUNTIMES = ("cpu", "cuda", "mps", "xla")


class Movable(Protocol):
    """What can be put on a device, such as a batch."""

    def to(self, device: torch.device) -> Any:
        """Return the same on a device."""


MovableT = TypeVar("MovableT", bound=Movable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How a model lies on the devices."""

    sharding: Literal["auto", "none", "full", "hybrid"] = "auto"
    """With several devices: full spreads weights, gradients and optimizer states over all of them,
    hybrid over those of a machine, none keeps a whole copy on each. auto: full on CUDA and XLA."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """What is computed in. bf16 keeps what learns, and its optimizer states, in float32, and what
    does not learn in bf16. auto: bf16 on CUDA, float32 elsewhere."""


class Runtime:
    """CPU processes; the base of the others."""

    name = "cpu"
    backend = "gloo"
    static_shapes = False
    """Whether every batch must have the same shapes."""
    shards_by_default = False
    precision_by_default: Literal["float32", "bf16"] = "float32"

    def __init__(self, *, threads: int = 2) -> None:
        self.device = torch.device(self.name)
        self.threads = threads
        self.placement = Placement(sharding="none", precision=self.precision_by_default)
        self.seed = 0
        self.ranks = Ranks(self.backend)

    # ------------------------------------------------------------------------- who trains

    @property
    def rank(self) -> int:
        """Return the number of this process."""
        return self.ranks.rank

    @property
    def world_size(self) -> int:
        """Return how many processes read batches of their own."""
        return self.ranks.world_size

    @property
    def is_main(self) -> bool:
        """Return whether this process writes logs and results."""
        return self.rank == 0

    @property
    def num_devices(self) -> int:
        """Return over how many devices this process cuts a micro batch; its rows must divide."""
        return 1

    @property
    def is_sharded(self) -> bool:
        """Return whether weights are spread over devices."""
        return self.placement.sharding != "none"

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over all ranks, the same on each."""
        return self.ranks.sum(value)

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank gave, on every rank; for small objects."""
        return self.ranks.gather(value)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.ranks.barrier()

    def close(self) -> None:
        """Leave the group of processes."""
        self.ranks.close()

    # ------------------------------------------------------------------------ how it runs

    def prepare(self, seed: int) -> None:
        """Set the threads and seed every source of randomness, the same on every rank."""
        torch.set_num_threads(self.threads)
        self.seed = seed
        random.seed(seed)
        torch.manual_seed(seed)

    def wrap(self, model: ModelT, placement: Placement | None = None) -> ModelT:
        """Return the model on the device, spread over the ranks where that is asked for.

        What learns must be chosen before, and the optimizer made after. All ranks get the weights
        of rank 0; the others may bring a model on the meta device.

        Raises:
            UserError: a sharding that this runtime does not have.
        """
        from cambrian_model.runtimes.fsdp import hold_frozen_in, replicate, shard

        self.placement = self._resolve(placement or Placement())
        if self.placement.precision == "bf16":
            hold_frozen_in(model, torch.bfloat16)
        if self.is_sharded:
            shard(model, self.ranks, self.device, self.placement)
        else:
            replicate(model, self.ranks, self.device)
        if hasattr(model, "stand_in"):  # else a rank without pictures hangs the others
            setattr(model, "stand_in", self.is_sharded)  # noqa: B010
        if self.world_size > 1:
            torch.manual_seed(self.seed + self.rank)  # dropout differs between ranks
        return model

    def _resolve(self, placement: Placement) -> Placement:
        """Return a placement without `auto`."""
        sharding = placement.sharding
        if sharding == "auto":
            sharding = "full" if self.shards_by_default else "none"
        if self.world_size * self.num_devices == 1:
            if placement.sharding in ("full", "hybrid"):
                _LOG.warning("sharding %r is 'none' on a single device", sharding)
            sharding = "none"
        precision = placement.precision
        if precision == "auto":
            precision = self.precision_by_default
        return Placement(sharding=sharding, precision=precision)

    def checkpoint_function(self) -> Callable[..., Any]:
        """Return what runs a part of the model again in the backward pass to save memory."""
        return partial(checkpoint, use_reentrant=False)

    def place(self, batch: MovableT) -> MovableT:
        """Return a batch on the device."""
        return batch.to(self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the model, or a tower of it, is called."""
        if self.placement.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    @contextmanager
    def micro_batch(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        """Run forward and backward of one micro batch of a step."""
        from torch.distributed.fsdp import FSDPModule

        if isinstance(model, FSDPModule) and self.placement.sharding == "hybrid":
            # Between machines the gradients travel once a step; within one each time, since
            # whole ones would not fit.
            model.set_requires_all_reduce(last)
        yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss; one that nothing learns from has none."""
        if loss.requires_grad:
            loss.backward()

    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """Finish the gradients of a step: sum over ranks, then clip their common norm.

        Returns:
            The norm before clipping, 0-d, on the device.
        """
        from torch.distributed.tensor import DTensor

        learning = list(parameters)
        if not self.is_sharded:
            self.ranks.sum_gradients(learning)
        norm = clip_grad_norm_(learning, max_norm)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def step_boundary(self) -> None:
        """Mark the end of an optimizer step; before it nothing is read from the device."""

    # ------------------------------------------------------------------------- its state

    def rng_state(self) -> dict[str, Any]:
        """Return the state of the random generators, for a checkpoint."""
        return {"torch": torch.get_rng_state()}

    def set_rng_state(self, state: dict[str, Any]) -> None:
        """Go back to a state that `rng_state` returned."""
        torch.set_rng_state(state["torch"])

    def snapshot(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        extra: dict[str, Any],
        tokenizer: Any = None,
    ) -> Callable[[Path], None]:
        """Copy all that resuming needs, on every rank, and return what writes it to a folder.

        Args:
            extra: the rest of the run's state, the same on every rank: numbers, texts, tensors,
                lists and dicts of them.
        """
        from cambrian_model.files.training_state import snapshot

        return snapshot(self, model, optimizer, extra, tokenizer)

    def load_state(self, folder: Path, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        """Set weights, optimizer and random generators to a checkpoint's; returns its `extra`.

        The checkpoint may be of another number of ranks. A rank that it does not know draws
        randomness of its own.

        Raises:
            UserError: the checkpoint is of another model.
        """
        from cambrian_model.files.training_state import load_state

        return load_state(self, folder, model, optimizer)

    def fill(self, target: Tensor, whole: Tensor) -> None:
        """Copy a whole tensor, the same on every rank, into one of the model's or like it."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        with torch.no_grad():
            if isinstance(target, DTensor):
                whole = whole.to(self.device)
                mesh, placements = target.device_mesh, target.placements
                whole = distribute_tensor(whole, mesh, placements, src_data_rank=None)
            target.copy_(whole)

    def like(self, parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
        """Return zeros that lie as a parameter does."""
        return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)

    def stage(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Any], Any]:
        """Return a copy on the CPU of this rank's parts, and the planner that saves it."""
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        stager = DefaultStager(StagingOptions(False, False, False, False))
        staged = stager.stage(dict(tensors))
        stager.close()
        assert isinstance(staged, dict)
        return staged, None

    def load_planner(self) -> Any:
        """Return the planner that loads parts into this runtime's tensors; None: torch's own."""
        return None


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
        if self.world_size > 1:
            raise UserError(
                f"runtime 'mps' trains in one process and WORLD_SIZE is {self.world_size}; start "
                "it without torchrun"
            )

    def rng_state(self) -> dict[str, Any]:
        return super().rng_state() | {"mps": torch.mps.get_rng_state()}

    def set_rng_state(self, state: dict[str, Any]) -> None:
        super().set_rng_state(state)
        if "mps" in state:
            torch.mps.set_rng_state(state["mps"])


def runtime_of(name: str, *, threads: int = 2) -> Runtime:
    """Return a runtime by its name.

    Raises:
        UserError: no such runtime, or its device or package is not there.
    """
    if name not in RUNTIMES:
        raise UserError(f"there is no runtime {name!r}; use one of {', '.join(RUNTIMES)}")
    if name == "cuda":
        from cambrian_model.runtimes.cuda import CudaRuntime

        return CudaRuntime(threads=threads)
    if name == "xla":
        from cambrian_model.runtimes.xla import XlaRuntime

        return XlaRuntime(threads=threads)
    return MpsRuntime(threads=threads) if name == "mps" else Runtime(threads=threads)
