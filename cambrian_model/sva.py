"""The samplers of the Spatial Vision Aggregator, and the windows that their queries look at.

Each query attends to its own window of every tower's map. Names in the state dict are those of
published checkpoints (`layers.0.cross_attn.k_proj_0.1.weight`, ...); golden case A checks outputs
and gradients. Source: Cambrian-1 (arXiv 2406.16860).

Shape letters: B pictures, R rows (one query and one window of each tower), K keys of a window,
N tokens of a tower, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cambrian_model.pictures import Size, content_span
from cambrian_model.sva_layers import (
    JointLayer,
    SamplerWidths,
    SeparateLayer,
    Windows,
    keys_of,
)

LAYERS: dict[str, type[JointLayer] | type[SeparateLayer]] = {
    "joint": JointLayer,
    "sep": SeparateLayer,
}


class VisionSampler(nn.Module):
    """A stack of sampler layers."""

    def __init__(
        self,
        hidden_width: int,
        windows: Sequence[int],
        *,
        query_width: int | None = None,
        context_width: int | None = None,
        key_width: int | Sequence[int] | None = None,
        num_heads: int = 16,
        num_layers: int = 3,
        layer_type: str = "joint",
    ) -> None:
        """Make the layers.

        Args:
            hidden_width: width inside the layers; the widths that follow default to it.
            windows: the side of each tower's windows; K is its square.
            query_width: width of the queries, that of the decoder inside it.
            context_width: width of the context.
            key_width: width of the keys, one for all towers or one a tower.
            num_heads: attention heads, a divisor of `hidden_width`.
            num_layers: layers one after the other, each with parameters of its own.
            layer_type: `joint` or `sep`.
        """
        super().__init__()
        keys = hidden_width if key_width is None else key_width
        widths = SamplerWidths(
            hidden_width,
            query_width or hidden_width,
            context_width or hidden_width,
            (keys,) * len(windows) if isinstance(keys, int) else tuple(keys),
        )
        kind = LAYERS[layer_type]
        self.layers = nn.ModuleList(kind(widths, windows, num_heads) for _ in range(num_layers))

    def forward(self, queries_RD: Tensor, windows: Windows) -> Tensor:
        """Return the queries after all layers.

        Args:
            queries_RD: one query a row, or (1, D): the same query in every row.
            windows: what the R rows look at.
        Returns:
            (R, D), D the width of the queries.
        """
        towers = keys_of(windows)
        for layer in self.layers:
            queries_RD = layer(queries_RD, windows, towers)
        return queries_RD


# ---------------------------------------------------------------------------------- windows


def cut_windows(feats_BND: Tensor, side: int, grid: int) -> Tensor:
    """Cut a tower's map into the windows of a query grid.

    Args:
        feats_BND: row-major map, N = side * side; any trailing shape.
        side: cells along the tower's map, a multiple of `grid`.
        grid: side of the query grid.
    Returns:
        (B * grid * grid, K, ...), K = (side // grid) ** 2, row-major in each window.
    """
    batch, rest, window = feats_BND.shape[0], feats_BND.shape[2:], side // grid
    cells = feats_BND.view(batch, grid, window, grid, window, *rest).transpose(2, 3)
    return cells.reshape(batch * grid * grid, window * window, *rest)


def picture_masks(sizes: Sequence[Size], side: int, device: torch.device) -> Tensor:
    """Return (B, side * side), True where the cell shows picture and not padding."""
    mask = torch.zeros(len(sizes), side, side, dtype=torch.bool)
    for row, size in zip(mask, sizes, strict=True):
        top, bottom, left, right = content_span(size, side)
        row[top:bottom, left:right] = True
    return mask.flatten(1).to(device)


def window_masks(sizes: Sequence[Size], side: int, grid: int, device: torch.device) -> Tensor:
    """Return the masks of `cut_windows`; a window that shows no picture at all is left open.

    Queries of such windows are cropped off afterwards; open masks keep their softmax finite.
    """
    mask_RK = cut_windows(picture_masks(sizes, side, device), side, grid)
    return mask_RK | ~mask_RK.any(dim=1, keepdim=True)


def resize_map(feats_BND: Tensor, side: int) -> Tensor:
    """Bring a row-major map to another side: float32, bilinear, corners not aligned."""
    old = round(feats_BND.shape[1] ** 0.5)
    return resize_grid(feats_BND.unflatten(1, (old, old)), side).flatten(1, 2)


def resize_grid(grid_BGGD: Tensor, side: int) -> Tensor:
    """Bring (B, G, G, D) to another side, as `resize_map` does."""
    if grid_BGGD.shape[1] == side:
        return grid_BGGD
    channels_first = grid_BGGD.permute(0, 3, 1, 2).float()
    resized = F.interpolate(channels_first, (side, side), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).to(grid_BGGD.dtype)
