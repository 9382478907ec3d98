"""How much memory training needs on a device, estimated without any weights.

Takes a model on the meta device. Weights, gradients and optimizer states are counted; what the
connector keeps for the backward pass is what autograd keeps when it runs on the meta device; the
language model's layers go by a formula. Measured peaks lie above it by what the allocator wastes
and libraries take (some 10 percent).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from cambrian_model.model import CambrianModel

_FLOAT32, _BF16 = 4, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on a device, at the largest batches."""

    weights: float
    """Those kept, and the copies that the computation makes of them."""
    gradients: float
    optimizer: float
    """AdamW's two states."""
    activations: float
    """What the backward pass needs, logits and the largest maps inside the towers."""

    @property
    def total(self) -> float:
        """Return the sum."""
        return sum(getattr(self, field.name) for field in fields(self))


def estimate_memory(
    model: CambrianModel,
    *,
    bf16: bool,
    shards: int,
    tokens: int,
    trained_tokens: int,
    pictures: int,
    checkpointing: bool,
) -> Memory:
    """Return what a device needs.

    Args:
        model: on the meta device, told what learns.
        bf16: whether it computes, and keeps what is frozen, in bf16.
        shards: devices that share weights, gradients and states.
        tokens: of a micro batch, padding and pictures counted.
        trained_tokens: of a micro batch.
        pictures: of a micro batch.
        checkpointing: whether the language model's layers run again in the backward pass.
    """
    learning = _count(model, learns=True)
    frozen = _count(model, learns=False)
    towers = sum(_count(tower, learns=False) for tower in model.towers)  # whole on every device
    item = _BF16 if bf16 else _FLOAT32
    copies = 0.0
    if shards > 1:
        copies = item * _gathered(model)
    elif bf16:
        copies = _BF16 * learning  # autocast keeps what it cast
    return Memory(
        weights=(learning * _FLOAT32 + (frozen - towers) * item) / shards + towers * item + copies,
        gradients=learning * _FLOAT32 / shards,
        optimizer=2 * learning * _FLOAT32 / shards,
        activations=_decoder_bytes(model, item, tokens, trained_tokens, checkpointing)
        + pictures * (_connector_bytes(model, item) + _tower_bytes(model, item)),
    )


def _count(part: nn.Module, *, learns: bool) -> int:
    return sum(p.numel() for p in part.parameters() if p.requires_grad == learns)


def _gathered(model: CambrianModel) -> int:
    """Return the most weights that a sharded model has together at once.

    Embeddings, head and connector over a whole step, and of the layers the one at work and the
    next one.
    """
    layers = [sum(p.numel() for p in layer.parameters()) for layer in model.decoder_layers]
    rest = sum(p.numel() for p in model.decoder.parameters()) - sum(layers)
    return rest + sum(p.numel() for p in model.connector.parameters()) + 2 * max(layers)


def _decoder_bytes(
    model: CambrianModel, item: int, tokens: int, trained_tokens: int, checkpointing: bool
) -> float:
    """Return what the language model keeps: layers' inputs alone, or all that they compute.

    A layer: its input, two norms' inputs and outputs, queries, keys, values, the mixture, and of a
    gated MLP gate, up, their product and its output.
    """
    config: Any = model.decoder.config
    text = config.get_text_config()
    width, inner, layers = text.hidden_size, text.intermediate_size, text.num_hidden_layers
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or width // heads
    keys = (getattr(text, "num_key_value_heads", None) or heads) * head
    layer = item * tokens * (7 * width + 2 * keys + 2 * heads * head + 4 * inner)
    kept = layers * item * tokens * width + layer if checkpointing else layers * layer
    logits = trained_tokens * text.vocab_size * (item + 2 * _FLOAT32)
    return float(kept + logits)


def _connector_bytes(model: CambrianModel, item: int) -> float:
    """Return what the connector and the samplers inside the language model keep for a picture."""
    features = [
        torch.zeros(1, shape.grid**2, shape.width, device="meta") for shape in model.tower_shapes
    ]
    if not any(value.requires_grad for value in model.connector.parameters()):
        return 0.0
    kept: dict[int, Tensor] = {}
    own = {id(value) for value in model.parameters()}

    def keep(value: Tensor) -> Tensor:
        base = value._base if value._base is not None else value
        if id(base) not in own:
            kept.setdefault(id(base), base)
        return value

    with saved_tensors_hooks(keep, lambda value: value):
        kept_alive = run_connector(model, features)
    total = float(sum(value.numel() for value in kept.values()))
    del kept_alive
    return total * item


def run_connector(model: CambrianModel, features: list[Tensor]) -> list[Tensor]:
    """Run the connector and the samplers inside the language model on one square picture."""
    seen = model.connector(features, [(1, 1)])
    if seen.windows is None:
        return [seen.tokens_CD]
    hidden_CD = torch.zeros(model.connector.side**2, model.decoder_width, device="meta")
    samplers = model.connector.get_submodule("vision_sampler_layers")
    assert isinstance(samplers, nn.ModuleList)
    return [seen.tokens_CD, *(sampler(hidden_CD, seen.windows) for sampler in samplers)]


def _tower_bytes(model: CambrianModel, item: int) -> float:
    """Return the largest maps at work in a frozen tower, or all of one that learns."""
    total = 0.0
    for tower, spec in zip(model.towers, model.tower_specs, strict=True):
        sizes: list[int] = []
        watchers = [
            part.register_forward_hook(_watch(sizes))
            for part in tower.modules()
            if not any(part.children())
        ]
        tower(torch.zeros(1, 3, spec.px, spec.px, device="meta"))
        for watcher in watchers:
            watcher.remove()
        if any(value.requires_grad for value in tower.parameters()):
            total += sum(sizes)
        else:
            total = max(total, 3 * max(sizes))
    return total * item


def _watch(sizes: list[int]) -> Callable[[nn.Module, Any, Any], None]:
    def watch(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    return watch
