"""The samplers of the Spatial Vision Aggregator, and the windows that their queries look at.

Each query attends to its own window of every tower's map. Names in the state dict are those of
published checkpoints (`layers.0.cross_attn.k_proj_0.1.weight`, ...); golden case A checks outputs
and gradients. Source: Cambrian-1 (arXiv 2406.16860).

Shape letters: B pictures, R = B * grid * grid rows (one query each), K keys of a window, N tokens
of a tower, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cambrian_model.pictures import Size, content_span


class _Mlp(nn.Module):
    """Linear, GELU, linear, without biases."""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width_in, hidden, bias=False)
        self.linear_2 = nn.Linear(hidden, width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.gelu(self.linear_1(x)))


def _norm_linear(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))


def _attend(
    queries_RD: Tensor, keys_RKD: Tensor, values_RKD: Tensor, mask_RK: Tensor, num_heads: int
) -> Tensor:
    """Attend with one query a row.

    Written with products and sums: one query and a few keys a row make matrices so small that
    batched matrix products are the slow way.
    """
    rows, num_keys, width = keys_RKD.shape
    shape = (rows, num_keys, num_heads, width // num_heads)
    queries = queries_RD.view(rows, 1, num_heads, width // num_heads)
    scores = (queries * keys_RKD.view(shape)).sum(-1) * (width // num_heads) ** -0.5
    scores = scores.masked_fill(~mask_RK[:, :, None], torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=1)
    return (weights[..., None] * values_RKD.view(shape)).sum(1).reshape(rows, width)


class JointAttention(nn.Module):
    """One softmax over the keys of all towers; each tower has its own key and value projection."""

    def __init__(self, width: int, num_towers: int, num_heads: int) -> None:
        super().__init__()
        self.num_towers, self.num_heads = num_towers, num_heads
        self.q_proj = _norm_linear(width)
        for tower in range(num_towers):
            self.add_module(f"k_proj_{tower}", _norm_linear(width))
            self.add_module(f"v_proj_{tower}", _norm_linear(width))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, queries_RD: Tensor, windows: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Tensor:
        keys = [self.get_submodule(f"k_proj_{i}")(window) for i, window in enumerate(windows)]
        values = [self.get_submodule(f"v_proj_{i}")(window) for i, window in enumerate(windows)]
        mixed = _attend(
            self.q_proj(queries_RD),
            torch.cat(keys, dim=1),
            torch.cat(values, dim=1),
            torch.cat(list(masks), dim=1),
            self.num_heads,
        )
        return self.o_proj(mixed)


class TowerAttention(nn.Module):
    """Attention over the window of a single tower."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj = (_norm_linear(width) for _ in range(3))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, queries_RD: Tensor, window_RKD: Tensor, mask_RK: Tensor) -> Tensor:
        keys, values = self.k_proj(window_RKD), self.v_proj(window_RKD)
        return self.o_proj(_attend(self.q_proj(queries_RD), keys, values, mask_RK, self.num_heads))


class TowerAggregate(nn.Module):
    """What a query takes from one tower: attention, or an MLP where its window has one key."""

    def __init__(self, width: int, window: int, num_heads: int) -> None:
        super().__init__()
        self.attention_layer: nn.Module = (
            _Mlp(width, width, width) if window == 1 else TowerAttention(width, num_heads)
        )

    def forward(self, queries_RD: Tensor, window_RKD: Tensor, mask_RK: Tensor) -> Tensor:
        if isinstance(self.attention_layer, TowerAttention):
            return self.attention_layer(queries_RD, window_RKD, mask_RK)
        return self.attention_layer(window_RKD[:, 0])


class SamplerLayer(nn.Module):
    """One layer: mix in the context, gather from the windows, MLP with a residual."""

    def __init__(self, width: int, windows: Sequence[int], num_heads: int) -> None:
        super().__init__()
        self.windows = tuple(windows)
        for tower, window in enumerate(self.windows):
            if window > 1:
                start = torch.randn(window**2, width) * width**-0.5
                self.register_parameter(f"pos_embed_{tower}", nn.Parameter(start))
        self.proj_context = nn.Linear(width, width, bias=False)
        self.proj_in = nn.Linear(2 * width, width, bias=False)
        self.proj_out = _Mlp(width, width, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        queries_RD: Tensor,
        context_RD: Tensor,
        windows: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> Tensor:
        """Return the updated queries.

        Args:
            queries_RD: one query a row.
            context_RD: what the whole picture looks like, one row a query.
            windows: one (R, K, D) a tower, the keys in the query's cell.
            masks: one (R, K) a tower; True where the key shows picture.
        """
        with_context = torch.cat([queries_RD, self.proj_context(context_RD)], dim=-1)
        inside = self.proj_in(with_context)
        placed = [
            window_RKD + self.get_parameter(f"pos_embed_{tower}") if side > 1 else window_RKD
            for tower, (side, window_RKD) in enumerate(zip(self.windows, windows, strict=True))
        ]
        gathered = self.gather(inside, with_context, placed, masks)
        return queries_RD + self.proj_out(self.norm(inside + gathered))

    def gather(
        self,
        inside_RD: Tensor,
        with_context: Tensor,
        windows: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> Tensor:
        """Return what the queries take from the windows, (R, D)."""
        raise NotImplementedError


class JointLayer(SamplerLayer):
    """Layer type `joint`."""

    def __init__(self, width: int, windows: Sequence[int], num_heads: int) -> None:
        super().__init__(width, windows, num_heads)
        self.cross_attn = JointAttention(width, len(windows), num_heads)

    def gather(
        self,
        inside_RD: Tensor,
        with_context: Tensor,
        windows: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> Tensor:
        return self.cross_attn(inside_RD, windows, masks)


class SeparateLayer(SamplerLayer):
    """Layer type `sep`: each tower on its own, mixed by a softmax over the towers."""

    def __init__(self, width: int, windows: Sequence[int], num_heads: int) -> None:
        super().__init__(width, windows, num_heads)
        for tower, window in enumerate(windows):
            self.add_module(f"aggregate_{tower}", TowerAggregate(width, window, num_heads))
        self.weight_mlp = _Mlp(2 * width, width, len(windows))

    def gather(
        self,
        inside_RD: Tensor,
        with_context: Tensor,
        windows: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> Tensor:
        shares = self.weight_mlp(with_context).softmax(-1)
        taken = [
            self.get_submodule(f"aggregate_{tower}")(inside_RD, window, mask)
            for tower, (window, mask) in enumerate(zip(windows, masks, strict=True))
        ]
        return (shares[:, :, None] * torch.stack(taken, dim=1)).sum(1)


LAYERS: dict[str, type[JointLayer] | type[SeparateLayer]] = {
    "joint": JointLayer,
    "sep": SeparateLayer,
}


class VisionSampler(nn.Module):
    """A stack of sampler layers."""

    def __init__(
        self,
        width: int,
        windows: Sequence[int],
        *,
        num_heads: int = 16,
        num_layers: int = 3,
        layer_type: str = "joint",
    ) -> None:
        super().__init__()
        kind = LAYERS[layer_type]
        self.layers = nn.ModuleList(kind(width, windows, num_heads) for _ in range(num_layers))

    def forward(
        self,
        queries_RD: Tensor,
        context_RD: Tensor,
        windows: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> Tensor:
        """Return the queries after all layers; arguments as for `SamplerLayer.forward`."""
        for layer in self.layers:
            queries_RD = layer(queries_RD, context_RD, windows, masks)
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
