"""Floating point operations of training: for MFU in the log and hours in a dry run.

Towers and connector are counted by running them on the meta device with one square picture (no
weights, no memory, a few seconds for the released towers); the language model by its linear layers
and its attention. A multiplication and an addition are two operations. Only what the model needs is
counted: a frozen part has no gradients of weights, hidden halves of the attention are left out, the
head runs on trained tokens alone, and running layers again to save memory counts as nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cambrian_model.model import CambrianModel
from cambrian_model.training.memory import run_connector

# Peak tensor operations per second of devices without sparsity, by a part of their name, the more
# exact one first: (bf16, float32 by TF32 where there is one). Source: the makers' data sheets.
_PEAKS: tuple[tuple[str, float, float], ...] = (
    ("GB200", 2.5e15, 1.25e15),
    ("B200", 2.25e15, 1.1e15),
    ("H200", 989e12, 494e12),
    ("H100 PCIe", 756e12, 378e12),
    ("H100 NVL", 835e12, 417e12),
    ("H100", 989e12, 494e12),
    ("H800", 989e12, 494e12),
    ("A100", 312e12, 156e12),
    ("A800", 312e12, 156e12),
    ("A40", 149.7e12, 74.8e12),
    ("A10", 125e12, 62.5e12),
    ("L40S", 362e12, 183e12),
    ("L40", 181e12, 90.5e12),
    ("L4", 121e12, 60e12),
    ("RTX 6000 Ada", 364e12, 182e12),
    ("RTX A6000", 155e12, 77e12),
    ("RTX 5090", 209e12, 104.8e12),
    ("RTX 4090", 165e12, 82.6e12),
    ("RTX 3090", 71e12, 35.6e12),
    ("TPU v6e", 918e12, 459e12),
    ("TPU v5p", 459e12, 230e12),
    ("TPU v5e", 197e12, 98e12),
    ("TPU v4", 275e12, 137e12),
)


def peak_flops(device: str, precision: str) -> float | None:
    """Return the peak operations a second of a device by its name, or None if it is not known.

    Args:
        device: such as "NVIDIA H200" or "TPU v5p".
        precision: bf16 or float32.
    """
    name = device.lower()
    for part, half, single in _PEAKS:
        if all(word in name for word in part.lower().split()):
            return half if precision == "bf16" else single
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFlops:
    """Operations of a training step of one model, forward and backward, by what is in a batch."""

    token: float
    """A token through the layers of the language model."""
    pair: float
    """A token that looks at another one or at itself, in all layers."""
    trained_token: float
    """A token that is predicted: the head."""
    picture: float
    """A picture through the towers, the connector and the samplers in the language model."""

    def step(self, *, tokens: float, pairs: float, trained_tokens: float, pictures: float) -> float:
        """Return the operations of a batch.

        Args:
            pairs: sum of n (n + 1) / 2 over its samples of n tokens.
        """
        return (
            self.token * tokens
            + self.pair * pairs
            + self.trained_token * trained_tokens
            + self.picture * pictures
        )


def model_flops(model: CambrianModel) -> ModelFlops:
    """Return what a training step of a model costs.

    Args:
        model: on the meta device, told what learns.
    """
    decoder_weights = _weights_times(model.decoder_layers)
    decoder: Any = model.decoder
    head = decoder.get_output_embeddings()
    text = decoder.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelFlops(
        token=2 * decoder_weights * _passes(decoder),
        # scores and mixture forward, twice that backward
        pair=3 * 2 * 2 * text.num_attention_heads * width * text.num_hidden_layers,
        trained_token=2 * _weights_times(head) * _passes(head) if head is not None else 0.0,
        picture=_picture_flops(model),
    )


def _passes(part: nn.Module) -> float:
    """Return forward-sized passes through a part that gradients run through: 3, frozen 2."""
    weights = [value for value in part.parameters() if value.dim() > 1]
    learning = sum(value.numel() for value in weights if value.requires_grad)
    return 2 + learning / max(1, sum(value.numel() for value in weights))


def _weights_times(part: nn.Module) -> int:
    """Return how many weights a token is multiplied with in a part's linear layers."""
    return sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))


def _picture_flops(model: CambrianModel) -> float:
    """Return the operations for a square picture."""
    towers = 0.0
    for tower, spec in zip(model.towers, model.tower_specs, strict=True):
        pixels = torch.zeros(1, 3, spec.px, spec.px, device="meta")
        learns = any(value.requires_grad for value in tower.parameters())
        towers += _count(partial(tower, pixels)) * (3 if learns else 1)
    shapes = [(1, shape.grid**2, shape.width) for shape in model.tower_shapes]
    features = [torch.zeros(shape, device="meta") for shape in shapes]
    learns = any(value.requires_grad for value in model.connector.parameters())
    return towers + _count(partial(run_connector, model, features)) * (3 if learns else 2)


def _count(run: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())
