"""A process that trains the small model on XLA devices, or on the CPU to compare with.

`xla_worker.py cpu|xla FOLDER`: each process can have one configuration of devices only, which the
environment names (PJRT_DEVICE, CPU_NUM_DEVICES). Writes what came out to FOLDER/found.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from cambrian_model.checkpoint import CheckpointWriter, checkpoint_problem
from cambrian_model.runtime import Placement, Runtime, runtime_of
from tests.cambrian_model.small_run import STATIC, Trace, prepare, run_steps, whole_weights

STEPS, MORE = range(3), range(3, 5)
MODEL: dict[str, Any] = {"towers": True, "num_hidden_layers": 2, "samplers": 1}


def num_compiles() -> int:
    """Return how many programs were compiled so far."""
    import torch_xla.debug.metrics as metrics

    found = metrics.metric_data("CompileTime")
    return found[0] if found else 0


def num_reads() -> int:
    """Return how often a value was read back from the device."""
    import torch_xla.debug.metrics as metrics

    return metrics.counter_value("aten::_local_scalar_dense") or 0


def train(runtime: Runtime, model: Any, optimizer: Any, steps: range) -> tuple[Trace, list[int]]:
    """Train; returns losses and norms, and the programs compiled after each step."""
    trace, compiles = Trace(), []
    for step in steps:
        part = run_steps(runtime, model, optimizer, range(step, step + 1), static=STATIC, micro=8)
        trace.losses += part.losses
        trace.norms += part.norms
        compiles.append(num_compiles() if runtime.name == "xla" else 0)
    return trace, compiles


def main(name: str, folder: Path) -> None:
    runtime = runtime_of(name, threads=1)
    model, optimizer = prepare(runtime, checkpointing=True, **MODEL)
    trace, compiles = train(runtime, model, optimizer, STEPS)
    writer = CheckpointWriter(folder / "run", keep_last=1, runtime=runtime)
    writer.save(STEPS.stop, runtime.snapshot(model, optimizer, {"step": STEPS.stop}))
    more, compiles_more = train(runtime, model, optimizer, MORE)
    saved = writer.wait()
    assert saved is not None
    found: dict[str, Any] = {
        "num_devices": runtime.num_devices,
        "losses": trace.losses + more.losses,
        "norms": trace.norms + more.norms,
        "compiles": compiles + compiles_more,
        "reads": num_reads() if name == "xla" else 0,
        "problem": checkpoint_problem(saved),
        "weights": whole_weights(model),
    }
    model, optimizer = prepare(runtime, checkpointing=True, **MODEL)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    runtime.step_boundary()
    found["extra"] = runtime.load_state(saved, model, optimizer)
    again, _ = train(runtime, model, optimizer, MORE)
    found["losses again"] = again.losses
    found["weights again"] = whole_weights(model)
    found["shardings"] = shardings(model) if name == "xla" else {}
    if runtime.num_devices == 1:
        placement = Placement(precision="bf16")
        model, optimizer = prepare(runtime, placement=placement, frozen_decoder=True, **MODEL)
        trace, _ = train(runtime, model, optimizer, STEPS)
        found["losses in bf16"] = trace.losses
    torch.save(found, folder / "found.pt")


def shardings(model: torch.nn.Module) -> dict[str, str]:
    """Return how each weight lies over the devices, as XLA says it."""
    import torch_xla

    return {n: torch_xla._XLAC._get_xla_sharding_spec(p) for n, p in model.named_parameters()}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
