"""CUDA: one GPU, or one process a GPU on any number of machines (torchrun, NCCL, FSDP2).

Weights that learn and their optimizer states are float32; the computation is bf16 and what does not
learn is held in bf16. float32 products use TF32. Attention is that of transformers (`sdpa`), which
takes torch's fused kernels.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from cambrian_data.records import UserError
from cambrian_model.runtime import Runtime


class CudaRuntime(Runtime):
    """CUDA devices, one a process."""

    name = "cuda"
    backend = "cpu:gloo,cuda:nccl"  # gloo carries small objects and checkpoints
    shards_by_default = True
    precision_by_default: Literal["float32", "bf16"] = "bf16"

    def __init__(self, *, threads: int = 2) -> None:
        if not torch.cuda.is_available():
            raise UserError(
                "runtime 'cuda': torch finds no CUDA device; use --runtime cpu, or install a "
                "torch built for CUDA on a machine with a driver"
            )
        super().__init__(threads=threads)
        here = torch.cuda.device_count()
        if self.ranks.local_rank >= here:
            raise UserError(
                f"rank {self.rank} is number {self.ranks.local_rank} on this machine, which has "
                f"{here} CUDA device{'s' if here > 1 else ''}; start at most one process a "
                "device: torchrun --nproc-per-node"
            )
        self.device = torch.device("cuda", self.ranks.local_rank)
        torch.cuda.set_device(self.device)

    def prepare(self, seed: int) -> None:
        super().prepare(seed)
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True

    def rng_state(self) -> dict[str, Any]:
        return super().rng_state() | {"cuda": torch.cuda.get_rng_state()}

    def set_rng_state(self, state: dict[str, Any]) -> None:
        super().set_rng_state(state)
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"])
