"""The processes of one run: who they are, and what they tell each other.

`torchrun` starts several and names each by environment variables; alone, a process needs no group
and every call here returns at once.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cambrian_data.records import UserError

_TIMEOUT = timedelta(minutes=30)  # a rank may compile or read while the others wait


class Ranks:
    """The process group of a run, or a process alone."""

    def __init__(self, backend: str) -> None:
        """Join the others where the environment names any.

        Args:
            backend: of torch.distributed, such as `gloo` or `cpu:gloo,cuda:nccl`.
        Raises:
            UserError: the environment is incomplete, or this torch lacks what the backend needs.
        """
        self.world_size = _number("WORLD_SIZE", 1)
        self.rank = _number("RANK", 0)
        self.local_rank = _number("LOCAL_RANK", self.rank)
        self.local_world_size = _number("LOCAL_WORLD_SIZE", self.world_size)
        self.saving_group: dist.ProcessGroup | None = None
        if self.world_size > 1:
            self._join(backend)

    def _join(self, backend: str) -> None:
        missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
        if missing:
            raise UserError(
                f"WORLD_SIZE is {self.world_size} and {', '.join(missing)} not set; start the "
                "processes with torchrun, or unset WORLD_SIZE to train in one"
            )
        if "nccl" in backend and not dist.is_nccl_available():
            raise UserError(
                f"WORLD_SIZE is {self.world_size} and this torch has no NCCL; install a torch "
                "built for CUDA on Linux, or train in one process"
            )
        if not dist.is_initialized():
            dist.init_process_group(backend, timeout=_TIMEOUT)
        # Of its own, so that a checkpoint can be written while the others compute.
        self.saving_group = dist.new_group(backend="gloo", timeout=_TIMEOUT)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over all ranks, the same on each."""
        if self.world_size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank gave, on every rank; for small objects."""
        if self.world_size == 1:
            return [value]
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value, group=self.saving_group)
        return found

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world_size > 1:
            self.gather(None)

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Add up the gradients of whole copies; a parameter that no rank used keeps none."""
        if self.world_size == 1 or not parameters:
            return
        device = parameters[0].device
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
        dist.all_reduce(used)
        learning = [p for p, count in zip(parameters, used.tolist(), strict=True) if count]
        for group in _buckets(learning):
            grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in group]
            flat = torch.cat([grad.flatten() for grad in grads])
            dist.all_reduce(flat)
            for parameter, part in zip(group, flat.split([p.numel() for p in group]), strict=True):
                parameter.grad = part.view_as(parameter)

    def close(self) -> None:
        """Leave the group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"the environment's {name} is {text!r} and must be a number; torchrun sets it"
        ) from None


def _buckets(
    parameters: list[torch.nn.Parameter], max_elements: int = 2**25
) -> list[list[torch.nn.Parameter]]:
    """Cut a list into parts of one dtype and at most some elements: one message each."""
    buckets: list[list[torch.nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        fits = buckets and buckets[-1][0].dtype == parameter.dtype
        if not fits or size + parameter.numel() > max_elements:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.numel()
    return buckets
