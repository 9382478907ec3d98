"""One of several processes that train the small model: `distributed_worker.py FOLDER`.

Rank 0 writes what came out into the folder; `test_distributed` compares it with one process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from cambrian_model.adapters import add_adapters
from cambrian_model.checkpoint import CheckpointWriter
from cambrian_model.recipe import AdapterRecipe
from cambrian_model.runtime import Placement, Runtime, runtime_of
from tests.cambrian_model.small_run import prepare, run_steps, whole_weights

STEPS, MORE = range(3), range(3, 5)
CASES: dict[str, dict[str, Any]] = {
    "whole": {"sharding": "none"},
    "spread": {"sharding": "full", "checkpointing": True},
    "hybrid": {"sharding": "hybrid"},
    "towers": {"sharding": "full", "towers": True, "frozen_decoder": True, "samplers": 0},
    # Every second row is text: rank 1 sees no picture at all.
    "text on a rank": {"sharding": "full", "text_every": 2},
    "text on a whole rank": {"sharding": "none", "text_every": 2, "frozen_decoder": True},
    "meta": {"sharding": "full", "meta": True},
    "whole meta": {"sharding": "none", "meta": True},
    "bf16": {"sharding": "full", "precision": "bf16", "frozen_decoder": True, "towers": True},
    "adapters": {"sharding": "full", "adapters": True},
}


def start(runtime: Runtime, case: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return model, optimizer and options of `run_steps`."""
    options = dict(CASES[case])
    placement = Placement(
        sharding=options.pop("sharding"), precision=options.pop("precision", "float32")
    )
    running = {"micro": 2} | {k: options.pop(k) for k in ("text_every",) if k in options}
    change = None
    if options.pop("adapters", False):
        recipe = AdapterRecipe(rank=4, alpha=8)

        def change(model: Any) -> None:
            add_adapters(model, recipe)

    model, optimizer = prepare(runtime, placement=placement, change=change, **options)
    return model, optimizer, running


def run_case(runtime: Runtime, case: str) -> dict[str, Any]:
    """Train a few steps; returns losses, norms and weights."""
    model, optimizer, running = start(runtime, case)
    trace = run_steps(runtime, model, optimizer, STEPS, **running)
    return {"losses": trace.losses, "norms": trace.norms, "weights": whole_weights(model)}


def save_and_go_on(runtime: Runtime, case: str, out: Path) -> dict[str, Any]:
    """Train, save while training goes on, and once more from what was saved."""
    model, optimizer, running = start(runtime, case)
    run_steps(runtime, model, optimizer, STEPS, **running)
    writer = CheckpointWriter(out, keep_last=1, runtime=runtime)
    writer.save(STEPS.stop, runtime.snapshot(model, optimizer, {"step": STEPS.stop}))
    trace = run_steps(runtime, model, optimizer, MORE, **running)
    folder = writer.wait()
    weights = whole_weights(model)
    assert folder is not None

    model, optimizer, running = start(runtime, case)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    extra = runtime.load_state(folder, model, optimizer)
    again = run_steps(runtime, model, optimizer, MORE, **running)
    return {
        "extra": extra,
        "losses": trace.losses,
        "losses again": again.losses,
        "weights": weights,
        "weights again": whole_weights(model),
    }


def main(folder: Path) -> None:
    runtime = runtime_of("cpu", threads=1)
    found: dict[str, Any] = {case: run_case(runtime, case) for case in CASES}
    for case in ("whole", "spread"):
        found[f"saved {case}"] = save_and_go_on(runtime, case, folder / case)
    if runtime.is_main:
        torch.save(found, folder / "found.pt")
    runtime.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
