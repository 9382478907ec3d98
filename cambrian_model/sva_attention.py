"""Attention of one query a row over the few keys of its windows, without projecting every key.

A score is q_h . (W_h z) = (W_h^T q_h) . z for a normed key z, and the values of a head sum up to
W_h (sum of weight * z): so the query is lifted to the width of the keys and the weighted keys are
projected, which costs a row as much as one key, however many its window holds. The lifted queries
are as large as the keys, so rows are taken in blocks that fit into a cache; the backward pass makes
them again instead of storing them. A LayerNorm's weight and bias are folded into the projection.

Shape letters: R rows, Q queries (R, or fewer where several rows in a run share one), K keys of a
window, H heads, E width of a head, D width of the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-5
_CACHE_BLOCK = 2**20  # elements of the lifted queries of a block on a CPU: 4 MB in float32
_DEVICE_BLOCK = 2**28  # on other devices, where only the memory counts


@dataclass(frozen=True, slots=True)
class Projection:
    """A LayerNorm and a linear layer after it as one matrix and bias for normed input."""

    weight_HED: Tensor
    bias_HE: Tensor

    @classmethod
    def fold(cls, norm_linear: nn.Module, num_heads: int, dtype: torch.dtype) -> Projection:
        """Fold the norm's weight and bias into the linear layer's (which has no bias)."""
        norm, linear = norm_linear.children()
        assert isinstance(norm, nn.LayerNorm) and isinstance(linear, nn.Linear)
        weight = (linear.weight * norm.weight).to(dtype)
        bias = F.linear(norm.bias, linear.weight).to(dtype)
        return cls(weight.unflatten(0, (num_heads, -1)), bias.view(num_heads, -1))

    def __call__(self, normed_RD: Tensor) -> Tensor:
        """Return (R, H * E)."""
        return F.linear(normed_RD, self.weight_HED.flatten(0, 1), self.bias_HE.flatten())


@dataclass(frozen=True, slots=True)
class Tower:
    """A tower whose windows hold several keys."""

    keys_RKD: Tensor
    place_KD: Tensor | None
    """Added to the keys before they are normed."""
    key: Projection
    value: Projection

    def tensors(self) -> list[Tensor | None]:
        """Return what `from_tensors` takes."""
        key, value = self.key, self.value
        projections = [key.weight_HED, key.bias_HE, value.weight_HED, value.bias_HE]
        return [self.keys_RKD, self.place_KD, *projections]

    @classmethod
    def from_tensors(cls, tensors: Sequence[Any]) -> Tower:
        """Return the tower of which `tensors` was called."""
        keys, place, key_weight, key_bias, value_weight, value_bias = tensors
        return cls(
            keys, place, Projection(key_weight, key_bias), Projection(value_weight, value_bias)
        )

    def placed(self) -> Tensor:
        """Return the keys with their places added, (R, K, D)."""
        return self.keys_RKD if self.place_KD is None else self.keys_RKD + self.place_KD

    def rows(self, at: slice) -> Tower:
        """Return the tower for some rows."""
        return Tower(self.keys_RKD[at], self.place_KD, self.key, self.value)


@dataclass(frozen=True, slots=True)
class Attention:
    """Queries and all that they attend to."""

    query_QHE: Tensor
    """Each serves R / Q rows that follow each other."""
    mask_RK: Tensor
    """True where a key may be seen: first the single keys, then the towers' keys in their order."""
    scores_RHS: Tensor | None
    """Unscaled scores of the S towers with a single key."""
    values_RHE: tuple[Tensor, ...]
    """Their projected values."""
    towers: tuple[Tower, ...]

    def tensors(self) -> list[Tensor | None]:
        """Return what `from_tensors` takes."""
        several = [tensor for tower in self.towers for tensor in tower.tensors()]
        return [self.query_QHE, self.mask_RK, self.scores_RHS, *self.values_RHE, *several]

    @classmethod
    def from_tensors(cls, tensors: Sequence[Any], num_single: int) -> Attention:
        """Return the object of which `tensors` was called."""
        query, mask, scores, *rest = tensors
        several = rest[num_single:]
        towers = [Tower.from_tensors(several[at : at + 6]) for at in range(0, len(several), 6)]
        return cls(query, mask, scores, tuple(rest[:num_single]), tuple(towers))

    def block(self, queries: slice, rows: slice) -> Attention:
        """Return the part for some queries and the rows that they serve."""
        return Attention(
            self.query_QHE[queries],
            self.mask_RK[rows],
            None if self.scores_RHS is None else self.scores_RHS[rows],
            tuple(values[rows] for values in self.values_RHE),
            tuple(tower.rows(rows) for tower in self.towers),
        )

    def blocks(self) -> list[tuple[slice, slice]]:
        """Split the work: queries and their rows, or some rows of one query."""
        queries, heads, _ = self.query_QHE.shape
        rows = self.mask_RK.shape[0]
        run = rows // queries
        width = max([1, *[tower.keys_RKD.shape[-1] for tower in self.towers]])
        limit = _CACHE_BLOCK if self.mask_RK.device.type == "cpu" else _DEVICE_BLOCK
        size = max(1, limit // (heads * width))
        if size >= run:
            step = size // run
            ends = [min(at + step, queries) for at in range(0, queries, step)]
            starts = [0, *ends[:-1]]
            return [
                (slice(start, end), slice(start * run, end * run))
                for start, end in zip(starts, ends, strict=True)
            ]
        return [
            (slice(query, query + 1), slice(at, min(at + size, (query + 1) * run)))
            for query in range(queries)
            for at in range(query * run, (query + 1) * run, size)
        ]


def attend(attention: Attention) -> Tensor:
    """Return what each row takes from its keys, (R, H * E); zeros where all keys are hidden."""
    tensors, num_single = attention.tensors(), len(attention.values_RHE)
    if attention.mask_RK.device.type == "xla":  # its compiler orders and recomputes by itself
        return _attend_rows(attention)[0].flatten(1)
    return _BlockwiseAttention.apply(num_single, *tensors).flatten(1)


def single_scores(query_QHE: Tensor, key: Projection, normed_RD: Tensor) -> Tensor:
    """Return the unscaled scores of one key a row, (R, H, 1)."""
    if query_QHE.shape[0] < normed_RD.shape[0]:
        return _scores(query_QHE, key, normed_RD[:, None])
    return (query_QHE * key(normed_RD).view_as(query_QHE)).sum(-1, keepdim=True)


# ------------------------------------------------------------------------------- the arithmetic


def _runs(tensor_R: Tensor, queries: int) -> Tensor:
    """Put the rows of each query beside each other: (R, K, D) -> (Q, R / Q * K, D)."""
    return tensor_R.reshape(queries, -1, tensor_R.shape[-1])


def _lift(query_QHE: Tensor, weight_HED: Tensor) -> Tensor:
    """Return (Q, H, D): what each head's query looks for in the normed keys."""
    return torch.bmm(query_QHE.transpose(0, 1), weight_HED).transpose(0, 1)


def _scores(query_QHE: Tensor, key: Projection, normed_RKD: Tensor) -> Tensor:
    """Return the unscaled scores, (R, H, K), by lifting the queries."""
    queries = query_QHE.shape[0]
    lifted_QHD = _lift(query_QHE, key.weight_HED)
    scores_QHX = torch.bmm(lifted_QHD, _runs(normed_RKD, queries).mT)
    scores_QHX = scores_QHX + (query_QHE * key.bias_HE).sum(-1, keepdim=True)
    return scores_QHX.unflatten(2, (-1, normed_RKD.shape[1])).transpose(1, 2).flatten(0, 1)


def _by_query(scores_RHK: Tensor, queries: int) -> Tensor:
    """(R, H, K) -> (Q, H, R / Q * K)."""
    return scores_RHK.unflatten(0, (queries, -1)).transpose(1, 2).flatten(2)


def _normed(tower: Tower, dtype: torch.dtype) -> Tensor:
    placed = tower.placed()
    return F.layer_norm(placed, placed.shape[-1:], eps=NORM_EPS).to(dtype)


def _weights(logits_RHK: Tensor, mask_RK: Tensor) -> Tensor:
    """Softmax in float32 or better; hidden keys get 0, also where all are hidden."""
    logits = logits_RHK.to(torch.promote_types(logits_RHK.dtype, torch.float32))
    hidden = ~mask_RK[:, None]
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(hidden, lowest).softmax(-1).masked_fill(hidden, 0.0)


def _attend_rows(part: Attention) -> tuple[Tensor, Tensor]:
    """Return (R, H, E) and the weights (R, H, K), in one piece."""
    query, dtype = part.query_QHE, part.query_QHE.dtype
    normed = [_normed(tower, dtype) for tower in part.towers]
    logits = [] if part.scores_RHS is None else [part.scores_RHS]
    logits += [_scores(query, tower.key, z) for tower, z in zip(part.towers, normed, strict=True)]
    weights = _weights(torch.cat(logits, dim=-1) * query.shape[-1] ** -0.5, part.mask_RK)
    single, *several = _split(weights, part)
    taken = [
        share * values
        for share, values in zip(single.to(dtype).split(1, -1), part.values_RHE, strict=False)
    ]
    for tower, z, share in zip(part.towers, normed, several, strict=True):
        mixed = torch.bmm(share.to(dtype), z)
        taken.append(torch.bmm(mixed.transpose(0, 1), tower.value.weight_HED.mT).transpose(0, 1))
        taken.append(share.sum(-1, keepdim=True).to(dtype) * tower.value.bias_HE)
    out = taken[0]
    for piece in taken[1:]:
        out = out + piece
    return out, weights


def _split(weights_RHK: Tensor, part: Attention) -> list[Tensor]:
    """Split along the keys: those of the single keys together, then a tower each."""
    sizes = [len(part.values_RHE), *(tower.keys_RKD.shape[1] for tower in part.towers)]
    return list(weights_RHK.split(sizes, dim=-1))


# --------------------------------------------------------------------- blocks and their gradients


class _BlockwiseAttention(torch.autograd.Function):
    """`_attend_rows` a block at a time; the backward pass computes a block again."""

    @staticmethod
    def forward(ctx: Any, num_single: int, *tensors: Tensor | None) -> Tensor:
        whole = Attention.from_tensors(tensors, num_single)
        rows, num_keys = whole.mask_RK.shape
        heads, width = whole.query_QHE.shape[1:]
        out = whole.query_QHE.new_empty(rows, heads, width)
        precise = torch.promote_types(out.dtype, torch.float32)
        weights = out.new_empty(rows, heads, num_keys, dtype=precise)
        for queries, at in whole.blocks():
            out[at], weights[at] = _attend_rows(whole.block(queries, at))
        ctx.num_single = num_single
        ctx.save_for_backward(weights, *tensors)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        weights, *tensors = ctx.saved_tensors
        whole = Attention.from_tensors(tensors, ctx.num_single)
        into = _gradients_of(whole)
        for queries, at in whole.blocks():
            _backward_block(
                whole.block(queries, at), weights[at], grads[0][at], into.block(queries, at)
            )
        found = [
            None if total is None or tensor is None else total.to(tensor.dtype)
            for total, tensor in zip(into.tensors(), tensors, strict=True)
        ]
        found[1] = None  # the mask's
        return None, *found


def _gradients_of(whole: Attention) -> Attention:
    """Return where gradients go: sums start at zero, what blocks write once is left empty."""

    def zeros(projection: Projection) -> Projection:
        return Projection(_zeros(projection.weight_HED), _zeros(projection.bias_HE))

    return Attention(
        _zeros(whole.query_QHE),
        whole.mask_RK,
        None if whole.scores_RHS is None else torch.empty_like(whole.scores_RHS),
        tuple(torch.empty_like(values) for values in whole.values_RHE),
        tuple(
            Tower(
                torch.empty_like(tower.keys_RKD),
                None if tower.place_KD is None else _zeros(tower.place_KD),
                zeros(tower.key),
                zeros(tower.value),
            )
            for tower in whole.towers
        ),
    )


def _zeros(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a batched matrix product, in place where types allow."""
    if total.dtype == left.dtype:
        total.baddbmm_(left, right)
    else:
        total.add_(torch.bmm(left, right))


def _backward_block(part: Attention, weights: Tensor, grad_RHE: Tensor, into: Attention) -> None:
    """Add the gradients of one block to `into`, given the weights (R, H, K) of its forward pass."""
    single, *several = _split(weights, part)
    grads = []
    for number, (values, gradient) in enumerate(zip(part.values_RHE, into.values_RHE, strict=True)):
        gradient.copy_(single[..., number : number + 1] * grad_RHE)
        grads.append((grad_RHE * values).sum(-1, keepdim=True, dtype=weights.dtype))
    towers = [_TowerBackward(tower, grad_RHE) for tower in part.towers]
    for tower, shares, total in zip(towers, several, into.towers, strict=True):
        grads.append(tower.through_values(shares, total).to(weights.dtype))
    grad = torch.cat(grads, dim=-1)
    grad = weights * (grad - (weights * grad).sum(-1, keepdim=True))
    query = part.query_QHE
    grad_single, *grads = _split(grad * query.shape[-1] ** -0.5, part)
    if into.scores_RHS is not None:
        into.scores_RHS.copy_(grad_single)
    for tower, shares, scores, total in zip(towers, several, grads, into.towers, strict=True):
        into.query_QHE.add_(tower.through_scores(query, shares, scores.to(query.dtype), total))


class _TowerBackward:
    """The gradients of one tower in a block."""

    def __init__(self, tower: Tower, grad_RHE: Tensor) -> None:
        self.tower, self.grad_RHE = tower, grad_RHE
        self.placed = tower.placed()
        self.width = [self.placed.shape[-1]]
        normed, self.mean, self.rstd = torch.native_layer_norm(
            self.placed, self.width, None, None, NORM_EPS
        )
        self.normed = normed.to(grad_RHE.dtype)
        self.pulled_HRD = torch.bmm(grad_RHE.transpose(0, 1), tower.value.weight_HED)

    def through_values(self, share_RHK: Tensor, into: Tower) -> Tensor:
        """Add the value projection's gradients; returns those of the weights, (R, H, K)."""
        mixed_RHD = torch.bmm(share_RHK.to(self.normed.dtype), self.normed)
        grad_HER = self.grad_RHE.permute(1, 2, 0)
        _add_product(into.value.weight_HED, grad_HER, mixed_RHD.transpose(0, 1))
        into.value.bias_HE.add_((share_RHK.sum(-1, keepdim=True) * self.grad_RHE).sum(0))
        from_bias = (self.grad_RHE * self.tower.value.bias_HE).sum(-1, keepdim=True)
        return torch.bmm(self.pulled_HRD.transpose(0, 1), self.normed.mT) + from_bias

    def through_scores(
        self, query_QHE: Tensor, share_RHK: Tensor, grad_RHK: Tensor, into: Tower
    ) -> Tensor:
        """Add the gradients of key projection, keys and places; returns the queries', (Q, H, E)."""
        key, queries = self.tower.key, query_QHE.shape[0]
        grad_QHX = _by_query(grad_RHK, queries)
        lifted_QHD = _lift(query_QHE, key.weight_HED)
        grad_lifted = torch.bmm(grad_QHX, _runs(self.normed, queries)).transpose(0, 1)
        _add_product(into.key.weight_HED, query_QHE.permute(1, 2, 0), grad_lifted)
        grad_bias = grad_QHX.sum(-1, keepdim=True)
        into.key.bias_HE.add_((grad_bias * query_QHE).sum(0))
        # Contiguous, since compiled by inductor (torch 2.13) a product with the transposed weights
        # reads them after their memory was given to something else.
        shares_RKH = share_RHK.mT.contiguous().to(query_QHE.dtype)
        grad_normed = torch.bmm(shares_RKH, self.pulled_HRD.transpose(0, 1))
        grad_QXH = grad_QHX.mT.contiguous()
        grad_normed = torch.baddbmm(_runs(grad_normed, queries), grad_QXH, lifted_QHD)
        grad_keys = torch.ops.aten.native_layer_norm_backward(
            grad_normed.view_as(self.placed).to(self.placed.dtype),
            self.placed,
            self.width,
            self.mean,
            self.rstd,
            None,
            None,
            [True, False, False],
        )[0]
        into.keys_RKD.copy_(grad_keys)
        if into.place_KD is not None:
            into.place_KD.add_(grad_keys.sum(0))
        return torch.bmm(grad_lifted, key.weight_HED.mT).transpose(0, 1) + grad_bias * key.bias_HE
