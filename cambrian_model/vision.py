"""Vision towers: a registry with explicit keys, each giving a square map of features.

Pixels (B, 3, px, px) -> features (B, grid * grid, width), row-major over the padded square. Towers
are transformers classes; the tiny ones have random weights from a seed and need no download.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.pictures import Size
from cambrian_model.sva import resize_map

# White becomes 0, so that of a figure a tower without training sees the ink and not the paper.
PAPER_MEAN = (1.0, 1.0, 1.0)
PAPER_STD = (0.25, 0.25, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerSpec:
    """What the rest needs to know of a tower, and how it is built."""

    px: int
    """Side of its square input."""
    grid: int
    """Side of the map that it returns."""
    width: int
    """Width of its features."""
    mean: tuple[float, float, float]
    """Subtracted from pixels in 0..1; the padding has this colour."""
    std: tuple[float, float, float]
    build: Callable[[], nn.Module]
    """Makes the module, freshly initialised: pixels -> features at its own grid."""


@dataclass(slots=True)
class Pictures:
    """Pictures of a batch in the order of their places, as pixels or as features of the towers."""

    sizes: list[Size]
    pixels: list[Tensor] | None = None
    """One (B, 3, px, px) a tower, normalised."""
    features: list[Tensor] | None = None
    """One (B, N, D) a tower; where given, the towers are not run."""

    def to(self, device: torch.device | str) -> Pictures:
        """Return the same pictures on a device."""
        moved = [
            None if group is None else [tensor.to(device) for tensor in group]
            for group in (self.pixels, self.features)
        ]
        return Pictures(self.sizes, *moved)


class ClipTower(nn.Module):
    """Patch features of a hidden layer of a CLIP vision model, without the class token."""

    def __init__(self, config: dict[str, Any], select_layer: int = -2) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        self.select_layer = select_layer
        self.vision_tower = CLIPVisionModel(CLIPVisionConfig(**config))

    def forward(self, pixels: Tensor) -> Tensor:
        outputs = self.vision_tower(pixels, output_hidden_states=True)
        return outputs.hidden_states[self.select_layer][:, 1:]


class ConvNextTower(nn.Module):
    """The stages of a ConvNeXt, brought to one grid and put side by side."""

    def __init__(self, config: dict[str, Any], grid: int) -> None:
        super().__init__()
        from transformers import ConvNextConfig, ConvNextModel

        self.grid = grid
        self.vision_tower = ConvNextModel(ConvNextConfig(**config))

    def forward(self, pixels: Tensor) -> Tensor:
        outputs = self.vision_tower(pixels, output_hidden_states=True)
        stages = [stage.flatten(2).transpose(1, 2) for stage in outputs.hidden_states[1:]]
        return torch.cat([resize_map(stage, self.grid) for stage in stages], dim=-1)


def _tiny_clip() -> nn.Module:
    return ClipTower(
        {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 96,
            "patch_size": 24,
        }
    )


def _tiny_convnext() -> nn.Module:
    # Blocks start with a layer scale of 1e-6 by default: without training they would do nothing.
    config = {"hidden_sizes": [32, 64], "depths": [1, 1], "num_stages": 2, "patch_size": 6}
    return ConvNextTower(config | {"layer_scale_init_value": 1.0, "initializer_range": 0.2}, 8)


TOWERS: dict[str, TowerSpec] = {
    "tiny-clip": TowerSpec(
        px=96, grid=4, width=64, mean=PAPER_MEAN, std=PAPER_STD, build=_tiny_clip
    ),
    "tiny-convnext": TowerSpec(
        px=96, grid=8, width=96, mean=PAPER_MEAN, std=PAPER_STD, build=_tiny_convnext
    ),
}
"""The towers that a recipe may name."""


def tower_spec(name: str) -> TowerSpec:
    """Return a tower's spec by its key.

    Raises:
        UserError: the registry has no such tower.
    """
    if name not in TOWERS:
        raise UserError(f"there is no vision tower {name!r}; use one of {', '.join(TOWERS)}")
    return TOWERS[name]


class Tower(nn.Module):
    """A tower of the registry: always in evaluation mode, frozen unless it is told otherwise."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.spec = tower_spec(name)
        self.body = self.spec.build()
        self.set_frozen(True)

    def set_frozen(self, frozen: bool) -> None:
        """Let the tower learn, or not."""
        self.frozen = frozen
        self.requires_grad_(not frozen)
        self.train(not frozen)

    def train(self, mode: bool = True) -> Tower:
        """Set the mode; a frozen tower stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, grid * grid, width)."""
        with torch.set_grad_enabled(not self.frozen and torch.is_grad_enabled()):
            return resize_map(self.body(pixels), self.spec.grid)


def freeze_towers(towers: nn.ModuleList, frozen: bool = True) -> None:
    """Freeze all towers, or let them learn."""
    for tower in towers:
        assert isinstance(tower, Tower)
        tower.set_frozen(frozen)


def build_towers(names: Sequence[str]) -> nn.ModuleList:
    """Return the towers of a recipe, frozen."""
    return nn.ModuleList(Tower(name) for name in names)
