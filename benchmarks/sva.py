"""The aggregator's samplers beside the published formula: time and peak memory of a step.

    python -m benchmarks.sva [--threads 2] [--query each] [--rounds 5]
    python -m benchmarks.sva --device cuda --dtype bfloat16 --compile

One step is forward and backward with gradients for parameters, queries, context and keys; the
sizes are those of the published 8B model. Both run in turns in one process, so that other work
slows both; medians are compared. Memory is what a step takes beyond inputs and parameters: peak
resident set of a process of its own on a CPU, torch's counters on CUDA. `largest_difference` is
that of the gradients of both, by norms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.sva_plain import PlainSampler
from cambrian_model.sva import VisionSampler, Windows

KINDS: dict[str, type[nn.Module]] = {"ours": VisionSampler, "plain": PlainSampler}
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "autocast": torch.float32,  # parameters and inputs; computed in bfloat16
}


class Bench:
    """Inputs, and steps of a sampler on them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.dtype = DTYPES[options.dtype]
        rows = options.pictures * options.grid**2
        self.queries = self._random(1 if options.query == "shared" else rows, options.width)
        context = self._random(options.pictures, options.width)
        keys = [self._random(rows, side**2, options.width) for side in options.sides]
        masks = [torch.rand(rows, side**2, device=self.device) > 0.1 for side in options.sides]
        masks[0][:] = True
        for mask in masks:
            mask[:, 0] = True
        picture = torch.arange(options.pictures, device=self.device)
        picture = picture.repeat_interleave(options.grid**2)
        self.windows = Windows(keys, masks, context, picture, options.grid**2)
        self.leaves = [self.queries, context, *keys]
        self.weights = torch.randn(rows, options.width, device=self.device, dtype=self.dtype)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype).requires_grad_()

    def sampler(self, name: str) -> nn.Module:
        """Return one of the two, with the same parameters."""
        torch.manual_seed(0)
        options = self.options
        made = [
            kind(
                options.width,
                options.sides,
                num_heads=options.heads,
                num_layers=options.depth,
                layer_type=options.layer_type,
            ).to(self.device, self.dtype)
            for kind in (VisionSampler, KINDS[name])
        ]
        made[1].load_state_dict(made[0].state_dict())
        return made[1]

    def stepper(self, sampler: nn.Module) -> Callable[[], tuple[float, float]]:
        """Return what runs one step and gives the seconds of forward and backward."""
        run = torch.compile(sampler) if self.options.compile else sampler

        def step() -> tuple[float, float]:
            for leaf in (*self.leaves, *sampler.parameters()):
                leaf.grad = None
            start = self._now()
            with self._autocast():
                out = run(self.queries, self.windows)
            middle = self._now()
            out.backward(self.weights.to(out.dtype))
            return middle - start, self._now() - middle

        return step

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.options.dtype == "autocast":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def gradients(self, sampler: nn.Module) -> dict[str, Tensor]:
        """Return the gradients of one step by name."""
        self.stepper(sampler)()
        named = {f"input {at}": leaf for at, leaf in enumerate(self.leaves)}
        named |= dict(sampler.named_parameters())
        return {name: leaf.grad.clone() for name, leaf in named.items() if leaf.grad is not None}


def difference(bench: Bench) -> float:
    """Return the largest error of a gradient beside the plain formula's, by norms."""
    ours, plain = (bench.gradients(bench.sampler(name)) for name in ("ours", "plain"))
    scale = statistics.median(float(value.float().norm()) for value in plain.values())
    return max(
        float((ours[name] - value).float().norm()) / max(float(value.float().norm()), 1e-3 * scale)
        for name, value in plain.items()
    )


def times(bench: Bench) -> dict[str, dict[str, float]]:
    """Return median seconds, both in turns, after a step to warm up."""
    steps = {name: bench.stepper(bench.sampler(name)) for name in KINDS}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in KINDS}
    for number in range(bench.options.rounds + 1):
        for name, step in steps.items():
            taken = step()
            if number:
                seconds[name].append(taken)
    return {
        name: {
            "forward_s": round(statistics.median(forward for forward, _ in taken), 4),
            "backward_s": round(statistics.median(backward for _, backward in taken), 4),
            "step_s": round(statistics.median(sum(both) for both in taken), 4),
        }
        for name, taken in seconds.items()
    }


def memory(bench: Bench, name: str) -> int:
    """Return the bytes that a second step takes at most beyond inputs, parameters, gradients."""
    step = bench.stepper(bench.sampler(name))
    if bench.device.type == "cuda":
        step()
        for leaf in bench.leaves:
            leaf.grad = None
        torch.cuda.reset_peak_memory_stats(bench.device)
        before = torch.cuda.memory_allocated(bench.device)
        step()
        return torch.cuda.max_memory_allocated(bench.device) - before
    before = _peak_bytes()
    step()
    return _peak_bytes() - before


def _peak_bytes() -> int:
    """Return the peak resident set; getrusage would count the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _memory_apart(arguments: Sequence[str], name: str) -> int:
    command = [sys.executable, "-m", "benchmarks.sva", *arguments, "--memory-of", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.strip().splitlines()[-1])


def measure(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Return all numbers and the ratios of plain to ours."""
    bench = Bench(options)
    error = difference(bench)
    taken = times(bench)
    used = {name: _memory_apart(arguments, name) for name in KINDS}
    return {
        "threads": torch.get_num_threads(),
        "largest_difference": error,
        **{name: {**taken[name], "peak_mb": round(used[name] / 2**20)} for name in KINDS},
        "times_as_fast": round(taken["plain"]["step_s"] / taken["ours"]["step_s"], 2),
        "share_of_memory": round(used["ours"] / max(1, used["plain"]), 2),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="the aggregator beside the published formula")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES))
    parser.add_argument("--compile", action="store_true", help="torch.compile for both")
    parser.add_argument("--query", default="shared", choices=["shared", "each"])
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--grid", type=int, default=24, help="side of the query grid")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--sides", type=int, nargs="+", default=[1, 1, 1, 4], help="of the windows")
    parser.add_argument("--layer-type", default="joint", choices=["joint", "sep"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="on the CPU")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--memory-of", choices=sorted(KINDS), help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    torch.manual_seed(1)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        print(memory(Bench(options), options.memory_of))
        return
    text = json.dumps(measure(options, given), indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
