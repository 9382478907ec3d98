"""The numbers of steps: collected without waiting for the device, read and logged now and then.

What a step computed stays on the device until `flush`, which reads all pending steps at once, adds
them up over the ranks, and stops the run where a loss is not finite, naming that step's samples.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cambrian_model.batches import Batch
from cambrian_model.config import CambrianConfig
from cambrian_model.metrics import Logs
from cambrian_model.model import CambrianModel
from cambrian_model.optimizer import set_trainable
from cambrian_model.training.flops import ModelFlops, model_flops, peak_flops
from cambrian_model.training.run import Run
from cambrian_model.training.run_folder import TrainError

_COUNTS = ("tokens", "trained_tokens", "samples", "pictures", "pairs", "wait_s")
_GB = 1e9


def counts_of(batch: Batch) -> dict[str, float]:
    """Return what a batch holds; `pairs` are the pairs of tokens that attention compares."""
    layout = batch.layout
    groups = layout.attention_mask.long() if layout.segments is None else layout.segments
    pairs = 0
    for row in groups:
        lengths = torch.bincount(row)[1:]
        pairs += int((lengths * (lengths + 1) // 2).sum())
    return {
        "tokens": batch.num_tokens,
        "trained_tokens": batch.num_trained,
        "samples": len(batch.sample_ids),
        "pictures": sum(slot >= 0 for slot in layout.picture_order),
        "pairs": pairs,
    }


@dataclass(slots=True)
class _Pending:
    """A step that was not read yet."""

    step: int
    loss: Tensor
    norm: Tensor
    rates: Mapping[str, float]
    sample_ids: Sequence[str]


class StepLog:
    """Takes steps, and tells of them every `log_every` steps."""

    def __init__(self, run: Run, logs: Logs | None) -> None:
        """Start the clock.

        Args:
            logs: of rank 0; None on the others.
        """
        self._run, self._logs = run, logs
        self._pending: list[_Pending] = []
        self._counts = dict.fromkeys(_COUNTS, 0.0)
        self._skipped: Counter[str] = Counter()
        self._since = time.monotonic()
        self.loss = math.nan
        self._peak = _peak(run) if logs is not None else None
        self._flops = _flops(run) if self._peak else None

    def rewind(self) -> None:
        """Forget what was logged after the run's step."""
        if self._logs is not None:
            self._logs.rewind(self._run.step)

    def add(
        self,
        *,
        step: int,
        loss: Tensor,
        norm: Tensor,
        rates: Mapping[str, float],
        sample_ids: Sequence[str],
        skipped: Mapping[str, int],
        counts: Mapping[str, float],
    ) -> None:
        """Take a step of this rank: its part of the loss, and what its batches held."""
        self._pending.append(_Pending(step, loss, norm, rates, sample_ids))
        self._skipped.update(skipped)
        for name, value in counts.items():
            self._counts[name] += value

    def flush(self) -> None:
        """Read the pending steps; write a line where one is due. All ranks call it.

        Raises:
            TrainError: a loss or a gradient is not finite.
        """
        run = self._run
        pending, self._pending = self._pending, []
        if not pending:
            return
        losses = run.runtime.sum(torch.stack([step.loss for step in pending])).tolist()
        norms = torch.stack([step.norm.detach() for step in pending]).tolist()
        for step, loss, norm in zip(pending, losses, norms, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._stop(step, loss, norm)
            run.tenths.add(step.step, loss)
            run.window.append(loss)
        self._take_skipped()
        self.loss = losses[-1]
        if run.step % run.config.log_every == 0 or run.step == run.steps:
            self._write(pending[-1], norms[-1])

    def close(self) -> None:
        """Finish the logs."""
        if self._logs is not None:
            self._logs.close()

    def _stop(self, step: _Pending, loss: float, norm: float) -> None:
        named = [name for ids in self._run.runtime.gather(list(step.sample_ids)) for name in ids]
        raise TrainError(
            f"step {step.step} of {self._run.stage}: loss {loss}, gradient norm {norm}; the "
            f"samples are {', '.join(named)}; look at them, or lower lr"
        )

    def _take_skipped(self) -> None:
        """Count what could not be loaded, on all ranks."""
        for skipped in self._run.runtime.gather(dict(self._skipped)):
            for reason, count in skipped.items():
                self._run.lost[reason] = self._run.lost.get(reason, 0) + count
        self._skipped.clear()

    def _write(self, last: _Pending, norm: float) -> None:
        run = self._run
        summed = run.runtime.sum(torch.tensor([self._counts[n] for n in _COUNTS]).double())
        counts = dict(zip(_COUNTS, summed.tolist(), strict=True))
        seconds = max(time.monotonic() - self._since, 1e-9)
        window, run.window = run.window, []
        self._counts = dict.fromkeys(_COUNTS, 0.0)
        self._since = time.monotonic()
        if self._logs is None:
            return
        numbers = {
            "loss": sum(window) / len(window),
            "lr": dict(last.rates),
            "grad_norm": norm,
            "epoch": round(run.loader.consumed / len(run.samples), 4),
            "tokens_per_s": round(counts["tokens"] / seconds, 1),
            "samples_per_s": round(counts["samples"] / seconds, 2),
            "mfu": self._mfu(counts, seconds),
            "data_wait_share": round(counts["wait_s"] / run.runtime.world_size / seconds, 4),
            "trained_token_share": round(counts["trained_tokens"] / max(1, counts["tokens"]), 4),
            "skipped": dict(sorted(run.lost.items())),
            "peak_memory_gb": _peak_memory_gb(run.runtime.device),
        }
        self._logs.write(last.step, numbers)

    def _mfu(self, counts: Mapping[str, float], seconds: float) -> float | None:
        """Return the share of the devices' peak operations that the model needed."""
        if self._peak is None or self._flops is None:
            return None
        done = self._flops.step(
            tokens=counts["tokens"],
            pairs=counts["pairs"],
            trained_tokens=counts["trained_tokens"],
            pictures=counts["pictures"],
        )
        runtime = self._run.runtime
        return round(done / seconds / (self._peak * runtime.world_size * runtime.num_devices), 4)


def _flops(run: Run) -> ModelFlops:
    """Return what a step of the run's model costs."""
    config = run.model.config
    assert isinstance(config, CambrianConfig)
    with torch.device("meta"):
        model = CambrianModel(config)
    freeze = run.config.freeze if run.recipe.adapters is None else (*run.config.freeze, "decoder")
    set_trainable(model, run.stage, unfreeze=run.recipe.model.unfreeze, freeze=freeze)
    return model_flops(model)


def _peak(run: Run) -> float | None:
    """Return the peak operations a second of a device, or None where it is not known."""
    device, name = run.runtime.device, ""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "xla":
        kind = os.environ.get("TPU_ACCELERATOR_TYPE", "").split("-")[0]
        name = f"TPU {kind.replace('v5litepod', 'v5e')}"
    return peak_flops(name, run.runtime.placement.precision)


def _peak_memory_gb(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(device) / _GB, 2)
