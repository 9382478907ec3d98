"""A small model and made batches, run for a few steps on any runtime.

Used in this process, in several processes (`test_distributed`) and under torch_xla (`tests/xla`),
where the results must be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX, Encoded
from cambrian_model.layout import Layout, StaticShape, lay_out
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.runtime import Placement, Runtime
from cambrian_model.vision import Pictures, TowerSpec

SIDE, WIDTHS, GRIDS, VOCAB = 4, (24, 16), (4, 8), 96
STATIC = StaticShape(num_tokens=40, pictures_per_row=1, stand_in_at=1)


@dataclass
class SmallBatch:
    """What the loop needs of a batch."""

    layout: Layout
    pictures: Pictures
    num_trained: int

    def to(self, device: torch.device) -> SmallBatch:
        return SmallBatch(self.layout.to(device), self.pictures.to(device), self.num_trained)


@dataclass
class Trace:
    """What a run did."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)


def small_model(*, samplers: int = 2, towers: bool = False, **decoder: Any) -> CambrianModel:
    """Return a model with tied embeddings and some samplers in its decoder."""
    torch.manual_seed(3)
    connector: dict[str, Any] = {
        "hidden_size": 16,
        "num_heads": 2,
        "num_layers": 2,
        "query_grids": [SIDE],
    }
    if samplers:
        connector["in_decoder"] = {"start": 0, "stride": 2, "count": samplers}
    shape = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    }
    seen: dict[str, Any] = {"tower_shapes": [list(s) for s in zip(WIDTHS, GRIDS, strict=True)]}
    if towers:
        seen = {"towers": ["tiny-clip", "tiny-convnext"]}
    return CambrianModel(CambrianConfig(connector=connector, decoder=shape | decoder, **seen))


Row = tuple[Encoded, int | None]
"""A row's ids, and the seed of its picture."""


def small_rows(step: int, count: int, *, text_every: int = 4) -> list[Row]:
    """Return rows of a step; the last one of each `text_every` has no picture."""
    draw = torch.Generator().manual_seed(100 + step)
    rows: list[Row] = []
    for number in range(count):
        length = int(torch.randint(8, 16, (1,), generator=draw))
        ids = torch.randint(3, VOCAB, (length,), generator=draw).tolist()
        labels = [IGNORE_INDEX] * 4 + ids[4:]
        seed = int(torch.randint(0, 10**6, (1,), generator=draw))
        if number % text_every == text_every - 1:
            rows.append((Encoded(ids, labels), None))
            continue
        at = 1 + number % 2
        ids = [*ids[:at], IMAGE_TOKEN_INDEX, *ids[at:]]
        labels = [*labels[:at], IGNORE_INDEX, *labels[at:]]
        rows.append((Encoded(ids, labels), seed))
    return rows


def small_batch(
    rows: list[Row], static: StaticShape | None = None, *, specs: Sequence[TowerSpec] = ()
) -> SmallBatch:
    """Lay rows out; stand-ins get black pictures. Without towers pictures bring features."""
    seeds = [seed for _, seed in rows if seed is not None]
    sizes = [(30, 20) if seed % 2 else (20, 20) for seed in seeds]
    layout = lay_out([[e] for e, _ in rows], sizes, SIDE, pad_token_id=0, static=static)
    slots = layout.picture_order
    shown = [(sizes[slot], seeds[slot]) if slot >= 0 else ((1, 1), None) for slot in slots]
    seeds_shown = [seed for _, seed in shown]
    pictures = Pictures([size for size, _ in shown])
    if specs:
        pictures.pixels = [_drawn(seeds_shown, (3, spec.px, spec.px)) for spec in specs]
    else:
        pictures.features = [
            _drawn(seeds_shown, (grid * grid, width))
            for width, grid in zip(WIDTHS, GRIDS, strict=True)
        ]
    return SmallBatch(layout, pictures, layout.num_trained)


def _drawn(seeds: Sequence[int | None], shape: tuple[int, ...]) -> Tensor:
    """Return (P, *shape) random numbers, zeros for a stand-in."""
    drawn = torch.zeros(len(seeds), *shape)
    for number, seed in enumerate(seeds):
        if seed is not None:
            drawn[number] = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn


def prepare(
    runtime: Runtime,
    *,
    placement: Placement | None = None,
    checkpointing: bool = False,
    frozen_decoder: bool = False,
    meta: bool = False,
    change: Callable[[CambrianModel], None] | None = None,
    **model: Any,
) -> tuple[CambrianModel, torch.optim.AdamW]:
    """Return the small model on a runtime and its optimizer.

    Args:
        meta: ranks that are not main build it without weights.
        change: what is done to the model before it is placed.
    """
    runtime.prepare(0)
    with torch.device("meta" if meta and not runtime.is_main else "cpu"):
        built = small_model(**model).train()
    built.decoder.requires_grad_(not frozen_decoder)
    if change is not None:
        change(built)
    built = runtime.wrap(built, placement)
    if checkpointing:
        built.use_checkpointing(runtime.checkpoint_function())
    learning = [p for p in built.parameters() if p.requires_grad]
    # With torch's own eps noise in gradients near zero would become steps of full size.
    fused = built.device.type != "xla"
    return built, torch.optim.AdamW(learning, lr=1e-2, eps=1e-3, fused=fused)


def run_steps(
    runtime: Runtime,
    model: CambrianModel,
    optimizer: torch.optim.Optimizer,
    steps: range,
    *,
    static: StaticShape | None = None,
    num_rows: int = 8,
    micro: int = 4,
    text_every: int = 4,
) -> Trace:
    """Train; every rank takes its share of a step's rows, `micro` at a time."""
    trace = Trace()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        rows = small_rows(step, num_rows, text_every=text_every)
        specs = model.tower_specs
        total = small_batch(rows, specs=specs).num_trained
        mine = rows[runtime.rank :: runtime.world_size]
        optimizer.zero_grad(set_to_none=True)
        value = torch.zeros((), device=runtime.device)
        starts = range(0, len(mine), micro)
        for start in starts:
            batch = runtime.place(small_batch(mine[start : start + micro], static, specs=specs))
            with runtime.micro_batch(model, last=start == starts[-1]):
                with runtime.autocast():
                    loss = model(layout=batch.layout, pictures=batch.pictures).loss
                    loss = loss * (batch.num_trained / total)
                runtime.backward(loss)
            value = value + loss.detach()
        norm = runtime.clip(parameters, 1.0)
        optimizer.step()
        runtime.step_boundary()
        trace.losses.append(runtime.sum(value).item())
        trace.norms.append(norm.item())
    return trace


def whole_weights(model: CambrianModel) -> dict[str, Tensor]:
    """Return the weights on the CPU, put together where they are spread."""
    return {
        name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().cpu().clone()
        for name, p in model.named_parameters()
    }
