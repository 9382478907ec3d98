"""XLA devices (TPU) through torch_xla: one program over all devices of a machine (SPMD).

Weights that learn, their gradients and optimizer states are spread over the devices as FSDPv2 does
(torch_xla), and each micro batch is cut over them by rows. A step is traced, compiled once for its
shapes and run at `step_boundary`, so shapes must not change and nothing is read before it.
Runs for real on the CPU too: PJRT_DEVICE=CPU, CPU_NUM_DEVICES=4.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.runtime import ModelT, MovableT, Placement, Runtime

_AXIS = "fsdp"


class XlaRuntime(Runtime):
    """All XLA devices of one machine, in one process."""

    name = "xla"
    static_shapes = True
    shards_by_default = True

    def __init__(self, *, threads: int = 2) -> None:
        try:
            import torch_xla
            import torch_xla.runtime as xr
        except ImportError as error:
            raise UserError(
                f"runtime 'xla': torch_xla cannot be imported ({error}); install torch 2.9 and "
                "torch_xla 2.9 as constraints-tpu.txt says, or use --runtime cpu"
            ) from None
        super().__init__(threads=threads)
        if self.world_size > 1 or xr.process_count() > 1:
            raise UserError(
                "runtime 'xla' trains in one process over the devices of one machine, and here "
                f"are {max(self.world_size, xr.process_count())}; start it without torchrun"
            )
        _silence()
        xr.use_spmd()
        self.device = torch_xla.device()
        self._mesh = _mesh(xr.global_runtime_device_count())

    @property
    def num_devices(self) -> int:
        return int(self._mesh.size())

    def wrap(self, model: ModelT, placement: Placement | None = None) -> ModelT:
        from cambrian_model.runtimes.fsdp import hold_frozen_in, keeping_ties

        self.placement = self._resolve(placement or Placement())
        if self.placement.sharding == "hybrid":
            raise UserError("runtime 'xla' has no sharding 'hybrid'; use full, none or auto")
        if self.placement.precision == "bf16":
            hold_frozen_in(model, torch.bfloat16)
        with keeping_ties(model):
            model.to(self.device)
        if self.is_sharded:
            self._spread(model)
        return model

    def _spread(self, model: nn.Module) -> None:
        """Spread the weights, and keep what the layers pass on cut by rows."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        for parameter in model.parameters():
            self._mark(parameter, _weight_spec(parameter.shape, self.num_devices))
        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.register_forward_hook(self._cut_output)

    def _cut_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.shape[0] % self.num_devices == 0:
            self._mark(hidden, (_AXIS, *[None] * (hidden.dim() - 1)))

    def _mark(self, tensor: Tensor, spec: tuple[str | None, ...]) -> None:
        import torch_xla.distributed.spmd as xs

        xs.mark_sharding(tensor, self._mesh, spec)

    def checkpoint_function(self) -> Callable[..., Any]:
        from torch_xla.utils.checkpoint import checkpoint

        return partial(checkpoint, use_reentrant=True)  # the other kind fails on XLA

    def place(self, batch: MovableT) -> MovableT:
        moved = batch.to(self.device)
        if self.num_devices > 1:
            for tensor in _tensors(moved):
                if tensor.dim() > 1:  # not the places in the flattened batch
                    self._cut_rows(tensor)
        return moved

    def _cut_rows(self, tensor: Tensor) -> None:
        if tensor.shape[0] % self.num_devices:
            raise UserError(
                f"a micro batch of {tensor.shape[0]} rows or pictures cannot be cut over "
                f"{self.num_devices} devices; set micro_batch_size to a multiple of "
                f"{self.num_devices}"
            )
        self._mark(tensor, (_AXIS, *[None] * (tensor.dim() - 1)))

    def autocast(self) -> Any:
        if self.placement.precision == "bf16":
            return torch.autocast("xla", dtype=torch.bfloat16)
        return nullcontext()

    @contextmanager
    def micro_batch(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        yield
        if not last:  # else the program grows with the number of micro batches
            self.step_boundary()

    def step_boundary(self) -> None:
        import torch_xla

        torch_xla.sync()

    # ------------------------------------------------------------------------- its state

    def rng_state(self) -> dict[str, Any]:
        import torch_xla.core.xla_model as xm

        return super().rng_state() | {"xla": xm.get_rng_state()}

    def set_rng_state(self, state: dict[str, Any]) -> None:
        import torch_xla.core.xla_model as xm

        super().set_rng_state(state)
        if "xla" in state:
            xm.set_rng_state(state["xla"])

    def prepare(self, seed: int) -> None:
        import torch_xla.core.xla_model as xm

        super().prepare(seed)
        xm.set_rng_state(seed)

    def fill(self, target: Tensor, whole: Tensor) -> None:
        moved = whole.to(target.dtype).to(self.device)
        if self.is_sharded:
            self._mark(moved, _weight_spec(moved.shape, self.num_devices))
        with torch.no_grad():
            target.copy_(moved)

    def like(self, parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
        # Memory of its own at once: a planner asks the device how the value lies.
        value = torch.zeros(parameter.shape, dtype=dtype).to(self.device)
        if self.is_sharded:
            self._mark(value, _weight_spec(value.shape, self.num_devices))
        return value

    def stage(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Any], Any]:
        from torch_xla.experimental.distributed_checkpoint import SPMDSavePlanner
        from torch_xla.experimental.distributed_checkpoint._helpers import _sharded_cpu_state_dict

        values = {name: value.detach() for name, value in tensors.items()}
        return _sharded_cpu_state_dict(values), SPMDSavePlanner()

    def load_planner(self) -> Any:
        from torch_xla.experimental.distributed_checkpoint import SPMDLoadPlanner

        return SPMDLoadPlanner()


def _silence() -> None:
    """Ignore what torch 2.9 says of torch_xla's own code at every checkpoint."""
    for message in (
        "torch.distributed is disabled",
        "The function definition for SavePlanner.set_up_planner",
        "TypedStorage is deprecated",
        "Using a non-tuple sequence for multidimensional indexing",
    ):
        warnings.filterwarnings("ignore", message=message)


def _mesh(num_devices: int) -> Any:
    import numpy as np
    import torch_xla.distributed.spmd as xs

    return xs.Mesh(np.arange(num_devices), (num_devices,), (_AXIS,))


def _weight_spec(shape: torch.Size, num_devices: int) -> tuple[str | None, ...]:
    """Return which dimension is spread: the longest that can be cut evenly, else none."""
    even = [at for at, length in enumerate(shape) if length and length % num_devices == 0]
    longest = max(even, key=lambda at: shape[at], default=None)
    return tuple(_AXIS if at == longest else None for at in range(len(shape)))


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a batch."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
