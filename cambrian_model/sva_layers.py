"""The layers of the Spatial Vision Aggregator's samplers, joint and separate, and their windows.

Names in the state dict are those of published checkpoints. The attention itself is in
sva_attention.py; the context is mixed in once a picture, never once a query. Key and value
projections are read, not called (no hooks, adapters or shards of their own).

Shape letters: P contexts (one a picture), R rows (one query and one window of each tower), Q rows
of queries (R, or P where one query is shared), C cells of a batch, K keys of a window, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cambrian_data.records import UserError
from cambrian_model.sva_attention import (
    NORM_EPS,
    Attention,
    Projection,
    Tower,
    attend,
    single_scores,
)


@dataclass(slots=True)
class Windows:
    """What the queries look at; one object serves any number of samplers."""

    keys: list[Tensor]
    """One (C, K, D) a tower."""
    masks: list[Tensor]
    """One (C, K) a tower, True where the key may be seen."""
    context: Tensor
    """(P, D): what a whole picture looks like."""
    picture: Tensor
    """(C,): the row of `context` that belongs to each row."""
    cells_per_picture: int | None = None
    """Set where rows come picture by picture, so many of each: `picture` is 0, 0, ..., 1, 1, ...
    A query shared by all rows then costs the first layer less."""

    def select(self, rows: Tensor) -> Windows:
        """Return the windows of some rows, in their order."""
        return replace(
            self,
            keys=[keys[rows] for keys in self.keys],
            masks=[mask[rows] for mask in self.masks],
            picture=self.picture[rows],
            cells_per_picture=None,
        )


class _Mlp(nn.Module):
    """Linear, GELU, linear, without biases."""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width_in, hidden, bias=False)
        self.linear_2 = nn.Linear(hidden, width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.gelu(self.linear_1(x)))


def _norm_linear(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width_in), nn.Linear(width_in, width_out, bias=False))


@dataclass(frozen=True, slots=True)
class SamplerWidths:
    """The widths that a sampler joins."""

    hidden: int
    query: int
    context: int
    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Keys:
    """What a layer sees of one tower."""

    keys_RKD: Tensor
    mask_RK: Tensor
    normed_RD: Tensor | None
    """The keys of windows with a single one, normed: the same for all layers."""
    place_KD: Tensor | None = None
    """Place embeddings of a layer, for windows with several keys."""


def keys_of(windows: Windows) -> list[Keys]:
    """Return what the layers of a sampler see of each tower."""
    return [
        Keys(
            keys,
            mask,
            F.layer_norm(keys[:, 0], keys.shape[-1:], eps=NORM_EPS) if keys.shape[1] == 1 else None,
        )
        for keys, mask in zip(windows.keys, windows.masks, strict=True)
    ]


class _Attention(nn.Module):
    """Attention whose parameters the two kinds name in their own way."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = _norm_linear(width, width)
        self.o_proj = nn.Linear(width, width, bias=False)

    def projections(self, tower: int) -> tuple[nn.Module, nn.Module]:
        """Return the key and the value projection of a tower."""
        raise NotImplementedError

    def forward(self, inside_QD: Tensor, towers: Sequence[Keys]) -> Tensor:
        """Attend to all keys of the towers under one softmax; returns (R, D)."""
        query_QHE = self.q_proj(inside_QD).unflatten(-1, (self.num_heads, -1))
        masks, scores, values, several = [], [], [], []
        for number, tower in enumerate(towers):
            key, value = (
                Projection.fold(module, self.num_heads, query_QHE.dtype)
                for module in self.projections(number)
            )
            if tower.normed_RD is None:
                several.append((tower, Tower(tower.keys_RKD, tower.place_KD, key, value)))
                continue
            normed_RD = tower.normed_RD.to(query_QHE.dtype)
            masks.append(tower.mask_RK)
            scores.append(single_scores(query_QHE, key, normed_RD))
            values.append(value(normed_RD).unflatten(-1, (self.num_heads, -1)))
        attention = Attention(
            query_QHE,
            torch.cat([*masks, *(tower.mask_RK for tower, _ in several)], dim=1),
            torch.cat(scores, dim=-1) if scores else None,
            tuple(values),
            tuple(tower for _, tower in several),
        )
        return self.o_proj(attend(attention))


class JointAttention(_Attention):
    """One softmax over the keys of all towers; each tower has its own key and value projection."""

    def __init__(self, width: int, key_widths: Sequence[int], num_heads: int) -> None:
        super().__init__(width, num_heads)
        for tower, key_width in enumerate(key_widths):
            self.add_module(f"k_proj_{tower}", _norm_linear(key_width, width))
            self.add_module(f"v_proj_{tower}", _norm_linear(key_width, width))

    def projections(self, tower: int) -> tuple[nn.Module, nn.Module]:
        return self.get_submodule(f"k_proj_{tower}"), self.get_submodule(f"v_proj_{tower}")


class TowerAttention(_Attention):
    """Attention over the window of a single tower."""

    def __init__(self, width: int, key_width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        self.k_proj, self.v_proj = (_norm_linear(key_width, width) for _ in range(2))

    def projections(self, tower: int) -> tuple[nn.Module, nn.Module]:
        return self.k_proj, self.v_proj


class TowerAggregate(nn.Module):
    """What a query takes from one tower: attention, or an MLP where its window has one key."""

    def __init__(self, width: int, key_width: int, window: int, num_heads: int) -> None:
        super().__init__()
        self.attention_layer: nn.Module = (
            _Mlp(key_width, width, width)
            if window == 1
            else TowerAttention(width, key_width, num_heads)
        )

    def forward(self, inside_QD: Tensor, tower: Keys) -> Tensor:
        if isinstance(self.attention_layer, TowerAttention):
            return self.attention_layer(inside_QD, [tower])
        return self.attention_layer(tower.keys_RKD[:, 0])


@dataclass(frozen=True, slots=True)
class _Mixed:
    """A linear layer's input: queries beside the context of their picture, which is made once."""

    queries_RD: Tensor
    context_PD: Tensor
    picture_R: Tensor
    is_shared: bool
    """One query for all rows, which come picture by picture: results have a row a picture."""

    def linear(self, weight: Tensor) -> Tensor:
        """Return (R, D), or (P, D) where the query is shared."""
        widths = [self.queries_RD.shape[-1], self.context_PD.shape[-1]]
        for_queries, for_context = weight.split(widths, dim=1)
        of_context = F.linear(self.context_PD, for_context)
        if not self.is_shared:
            of_context = F.embedding(self.picture_R, of_context)
        return F.linear(self.queries_RD, for_queries) + of_context

    def to_rows(self, mixed_QD: Tensor) -> Tensor:
        """Repeat what `linear` or a function of it returned for the rows of each picture."""
        return F.embedding(self.picture_R, mixed_QD) if self.is_shared else mixed_QD


class SamplerLayer(nn.Module):
    """One layer: mix in the context, gather from the windows, MLP with a residual."""

    def __init__(self, widths: SamplerWidths, windows: Sequence[int], num_heads: int) -> None:
        super().__init__()
        hidden = widths.hidden
        if hidden % num_heads:
            raise UserError(
                f"{num_heads} attention heads do not divide the sampler's width {hidden}; "
                "set model.connector.num_heads to a divisor of hidden_size"
            )
        self.windows = tuple(windows)
        for tower, (window, width) in enumerate(zip(self.windows, widths.keys, strict=True)):
            if window > 1:
                start = torch.randn(window**2, width) * width**-0.5
                self.register_parameter(f"pos_embed_{tower}", nn.Parameter(start))
        self.proj_context = nn.Linear(widths.context, hidden, bias=False)
        self.proj_in = nn.Linear(widths.query + hidden, hidden, bias=False)
        self.proj_out = _Mlp(hidden, hidden, widths.query)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, queries_RD: Tensor, windows: Windows, towers: Sequence[Keys]) -> Tensor:
        """Return the updated queries, (R, D).

        Args:
            queries_RD: one query a row, or one for all rows.
            windows: the context, and which of it belongs to which row.
            towers: the keys in the windows.
        """
        is_shared = queries_RD.shape[0] == 1 and windows.cells_per_picture is not None
        context_PD = self.proj_context(windows.context)
        mixed = _Mixed(queries_RD, context_PD, windows.picture, is_shared)
        inside_QD = mixed.linear(self.proj_in.weight)
        placed = [
            replace(tower, place_KD=getattr(self, f"pos_embed_{number}")) if side > 1 else tower
            for number, (side, tower) in enumerate(zip(self.windows, towers, strict=True))
        ]
        gathered_RD = self.gather(inside_QD, mixed, placed)
        return queries_RD + self.proj_out(self.norm(mixed.to_rows(inside_QD) + gathered_RD))

    def gather(self, inside_QD: Tensor, mixed: _Mixed, towers: Sequence[Keys]) -> Tensor:
        """Return what the queries take from the windows, (R, D)."""
        raise NotImplementedError


class JointLayer(SamplerLayer):
    """Layer type `joint`."""

    def __init__(self, widths: SamplerWidths, windows: Sequence[int], num_heads: int) -> None:
        super().__init__(widths, windows, num_heads)
        self.cross_attn = JointAttention(widths.hidden, widths.keys, num_heads)

    def gather(self, inside_QD: Tensor, mixed: _Mixed, towers: Sequence[Keys]) -> Tensor:
        return self.cross_attn(inside_QD, towers)


class SeparateLayer(SamplerLayer):
    """Layer type `sep`: each tower on its own, mixed by a softmax over the towers if several."""

    def __init__(self, widths: SamplerWidths, windows: Sequence[int], num_heads: int) -> None:
        super().__init__(widths, windows, num_heads)
        hidden = widths.hidden
        for tower, (window, width) in enumerate(zip(windows, widths.keys, strict=True)):
            self.add_module(f"aggregate_{tower}", TowerAggregate(hidden, width, window, num_heads))
        if len(windows) > 1:
            self.weight_mlp = _Mlp(widths.query + hidden, hidden, len(windows))

    def gather(self, inside_QD: Tensor, mixed: _Mixed, towers: Sequence[Keys]) -> Tensor:
        taken = [
            self.get_submodule(f"aggregate_{number}")(inside_QD, tower)
            for number, tower in enumerate(towers)
        ]
        if len(taken) == 1:
            return taken[0]
        middle = F.gelu(mixed.linear(self.weight_mlp.linear_1.weight))
        shares = mixed.to_rows(self.weight_mlp.linear_2(middle).softmax(-1))
        gathered = shares[:, :1] * taken[0]
        for number, piece in enumerate(taken[1:], start=1):
            gathered = gathered + shares[:, number : number + 1] * piece
        return gathered
