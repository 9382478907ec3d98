"""The published formula of the aggregator's samplers, written down as it stands.

Every key and value of every layer goes through its own LayerNorm and linear layer, the context is
repeated for each query, and the attention is that of torch. Constructor, inputs and names in the
state dict are those of `cambrian_model.sva.VisionSampler`, with which benchmarks/sva.py compares
it; golden case A holds for both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cambrian_model.sva import Windows


def _projection(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width_in), nn.Linear(width_in, width_out, bias=False))


class _Mlp(nn.Module):
    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width_in, hidden, bias=False)
        self.linear_2 = nn.Linear(hidden, width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.gelu(self.linear_1(x)))


class _Attention(nn.Module):
    """Attention of one query a row over some sets of keys, projected under the given names."""

    def __init__(self, width: int, names: Sequence[str], widths: Sequence[int], heads: int) -> None:
        super().__init__()
        self.heads, self.names = heads, tuple(names)
        self.q_proj = _projection(width, width)
        for name, key_width in zip(names, widths, strict=True):
            self.add_module(f"k_proj{name}", _projection(key_width, width))
            self.add_module(f"v_proj{name}", _projection(key_width, width))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, query: Tensor, sets: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        named = list(zip(self.names, sets, strict=True))
        keys = torch.cat([self.get_submodule(f"k_proj{name}")(keys) for name, keys in named], 1)
        values = torch.cat([self.get_submodule(f"v_proj{name}")(keys) for name, keys in named], 1)
        mask = torch.cat(list(masks), dim=1)[:, None, None]
        split = [
            tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for tensor in (self.q_proj(query), keys, values)
        ]
        mixed = F.scaled_dot_product_attention(*split, attn_mask=mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class _Aggregate(nn.Module):
    """One tower of layer type `sep`."""

    def __init__(self, width: int, key_width: int, side: int, heads: int) -> None:
        super().__init__()
        self.attention_layer = (
            _Mlp(key_width, width, width)
            if side == 1
            else _Attention(width, [""], [key_width], heads)
        )

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        if isinstance(self.attention_layer, _Attention):
            return self.attention_layer(query, [keys], [mask])
        return self.attention_layer(keys)


class _Layer(nn.Module):
    def __init__(
        self, widths: tuple[int, int, int], keys: Sequence[int], sides: Sequence[int], heads: int
    ) -> None:
        super().__init__()
        hidden, query, context = widths
        self.sides = tuple(sides)
        for number, side in enumerate(sides):
            if side > 1:
                place = nn.Parameter(torch.randn(side**2, keys[number]) * hidden**-0.5)
                self.register_parameter(f"pos_embed_{number}", place)
        self.proj_context = nn.Linear(context, hidden, bias=False)
        self.proj_in = nn.Linear(query + hidden, hidden, bias=False)
        self.proj_out = _Mlp(hidden, hidden, query)
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self, queries: Tensor, context: Tensor, keys: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Tensor:
        both = torch.cat([queries, self.proj_context(context)], dim=-1)
        inside = self.proj_in(both)
        placed = [
            window + self.get_parameter(f"pos_embed_{number}") if side > 1 else window
            for number, (side, window) in enumerate(zip(self.sides, keys, strict=True))
        ]
        inside = inside + self.gather(inside, both, placed, masks)
        return queries + self.proj_out(self.norm(inside))

    def gather(
        self, inside: Tensor, both: Tensor, keys: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Tensor:
        raise NotImplementedError


class _Joint(_Layer):
    def __init__(
        self, widths: tuple[int, int, int], keys: Sequence[int], sides: Sequence[int], heads: int
    ) -> None:
        super().__init__(widths, keys, sides, heads)
        names = [f"_{number}" for number in range(len(sides))]
        self.cross_attn = _Attention(widths[0], names, keys, heads)

    def gather(
        self, inside: Tensor, both: Tensor, keys: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Tensor:
        return self.cross_attn(inside, keys, masks)


class _Separate(_Layer):
    def __init__(
        self, widths: tuple[int, int, int], keys: Sequence[int], sides: Sequence[int], heads: int
    ) -> None:
        super().__init__(widths, keys, sides, heads)
        for number, (side, width) in enumerate(zip(sides, keys, strict=True)):
            self.add_module(f"aggregate_{number}", _Aggregate(widths[0], width, side, heads))
        if len(sides) > 1:
            self.weight_mlp = _Mlp(widths[0] + widths[1], widths[0], len(sides))

    def gather(
        self, inside: Tensor, both: Tensor, keys: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Tensor:
        taken = [
            self.get_submodule(f"aggregate_{number}")(inside, window, mask)
            for number, (window, mask) in enumerate(zip(keys, masks, strict=True))
        ]
        if len(taken) == 1:
            return taken[0]
        shares = self.weight_mlp(both).softmax(-1)
        return (shares[..., None] * torch.stack(taken, dim=2)).sum(2)


class PlainSampler(nn.Module):
    """A stack of sampler layers; arguments as for `VisionSampler`."""

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
        super().__init__()
        keys = hidden_width if key_width is None else key_width
        keys = [keys] * len(windows) if isinstance(keys, int) else list(keys)
        kind = {"joint": _Joint, "sep": _Separate}[layer_type]
        widths = (hidden_width, query_width or hidden_width, context_width or hidden_width)
        self.layers = nn.ModuleList(
            kind(widths, keys, windows, num_heads) for _ in range(num_layers)
        )

    def forward(self, queries_RD: Tensor, windows: Windows) -> Tensor:
        """Return (R, D) as `VisionSampler.forward` does."""
        rows = windows.picture.shape[0]
        queries = queries_RD.expand(rows, -1)[:, None]
        context = windows.context[windows.picture][:, None]
        for layer in self.layers:
            queries = layer(queries, context, windows.keys, windows.masks)
        return queries[:, 0]
