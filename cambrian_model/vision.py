"""Vision towers at work: pictures -> a square map of features a tower, frozen or learning.

Pixels (B, 3, px, px) -> features (B, grid * grid, width), row-major over the padded square. What
towers there are and how they are named is in `towers.registry`, their modules in `towers.models`,
their weights in `towers.weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.pictures import Size
from cambrian_model.sva import resize_map
from cambrian_model.towers.models import Checkpoint
from cambrian_model.towers.registry import RELEASED_TOWERS, TowerSpec, tower_spec

__all__ = [
    "RELEASED_TOWERS",
    "Pictures",
    "Tower",
    "TowerSpec",
    "build_towers",
    "encode",
    "freeze_towers",
    "normalise_pixels",
    "num_parameters",
    "tower_spec",
]


@dataclass(slots=True)
class Pictures:
    """Pictures of a batch in the order of their places, as pixels or as features of the towers.

    Each list has one entry a tower, None where the other list has it.
    """

    sizes: list[Size]
    pixels: Sequence[Tensor | None] | None = None
    """(B, 3, px, px): normalised, or uint8 as they are, which the tower normalises itself."""
    features: Sequence[Tensor | None] | None = None
    """(B, N, D); where given, the tower is not run."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Pictures:
        """Return the same pictures on a device."""
        moved = [
            group and [t if t is None else t.to(device, non_blocking=non_blocking) for t in group]
            for group in (self.pixels, self.features)
        ]
        return Pictures(self.sizes, *moved)

    def pin_memory(self) -> Pictures:
        """Return the same pictures in pinned memory, from where a GPU copies without waiting."""
        pinned = [
            group and [t if t is None else t.pin_memory() for t in group]
            for group in (self.pixels, self.features)
        ]
        return Pictures(self.sizes, *pinned)


def normalise_pixels(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (pixels / 255 - mean) / std in float32; (B, 3, px, px) of uint8.

    The same numbers as `pictures.normalise`, on any device. Channel by channel, since a tensor of
    means would have to be copied to the device first.
    """
    scaled = pixels.float() / 255
    channels = [(scaled[:, c] - mean[c]) / std[c] for c in range(3)]
    return torch.stack(channels, dim=1)


class Tower(nn.Module):
    """A tower of the registry, frozen until it is told otherwise.

    A frozen tower stays in evaluation mode, builds no graph, and may run in another type.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.spec = tower_spec(name)
        self.body = self.spec.build()
        self.set_frozen(True)

    @property
    def dtype(self) -> torch.dtype:
        """Return the type that it runs in and returns."""
        return next(self.parameters()).dtype

    def set_frozen(self, frozen: bool, dtype: torch.dtype | None = None) -> None:
        """Let the tower learn, or not.

        Args:
            dtype: of a frozen tower's parameters, None for the one they have. A tower that learns
                has float32.
        """
        self.frozen = frozen
        self.requires_grad_(not frozen)
        self.train(not frozen)
        wanted = dtype if frozen else torch.float32
        if wanted is not None:
            self.to(wanted)

    def use_checkpointing(self, function: Checkpoint | None) -> None:
        """Let the layers of a tower that learns run through a runtime's checkpoint function."""
        self.body.checkpoint = function

    def train(self, mode: bool = True) -> Tower:
        """Set the mode; a frozen tower stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, grid * grid, width) in the tower's type.

        Args:
            pixels: (B, 3, px, px), normalised, or uint8 as they are.
        Raises:
            ValueError: they are of another size.
        """
        px = self.spec.px
        if pixels.shape[1:] != (3, px, px):
            raise ValueError(
                f"{self.spec.name} takes pictures of 3 x {px} x {px}, got {tuple(pixels.shape[1:])}"
            )
        if pixels.dtype == torch.uint8:
            pixels = normalise_pixels(pixels, self.spec.mean, self.spec.std)
        with torch.set_grad_enabled(not self.frozen and torch.is_grad_enabled()):
            return resize_map(self.body(pixels.to(self.dtype)), self.spec.grid)


def encode(towers: Sequence[Tower] | nn.ModuleList, pictures: Pictures) -> list[Tensor]:
    """Return the features of pictures, one (B, N, D) a tower: those that are given, else made.

    Raises:
        ValueError: of a tower there are neither pixels nor features.
    """
    given = [made for made in pictures.features or () if made is not None]
    if given and len(given) == len(pictures.features or ()):
        return given  # a model may have no towers of its own
    absent = [None] * len(towers)
    features, pixels = pictures.features or absent, pictures.pixels or absent
    found = []
    for tower, made, raw in zip(towers, features, pixels, strict=True):
        assert isinstance(tower, Tower)
        if made is None and raw is None:
            raise ValueError(f"there are neither pixels nor features for {tower.spec.name}")
        found.append(tower(raw) if made is None else made)
    return found


def build_towers(names: Sequence[str]) -> nn.ModuleList:
    """Return the towers of a recipe, frozen, with random weights."""
    return nn.ModuleList(Tower(name) for name in names)


def freeze_towers(
    towers: Sequence[Tower] | nn.ModuleList,
    unfrozen: Sequence[str] = (),
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Freeze all towers but some, which learn in float32.

    Args:
        unfrozen: names of those that learn, in any spelling.
        dtype: of the frozen ones, None for what they have.
    Raises:
        UserError: a name is none of the towers'.
    """
    learning = {tower_spec(name).name: name for name in unfrozen}
    present = []
    for tower in towers:
        assert isinstance(tower, Tower)
        present.append(tower.spec.name)
    for name, text in learning.items():
        if name not in present:
            raise UserError(
                f"cannot unfreeze {text!r}: the model's towers are {', '.join(present) or 'none'}"
            )
    for tower in towers:
        assert isinstance(tower, Tower)
        frozen = tower.spec.name not in learning
        tower.set_frozen(frozen, dtype)


@lru_cache(maxsize=64)
def num_parameters(name: str) -> int:
    """Return how many parameters a tower has; nothing is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in tower_spec(name).build().parameters())
