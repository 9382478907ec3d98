"""Pairs and groups of 64-bit codes that differ in at most a few bits, without comparing all pairs.

Codes are cut into bands of bits: two that differ in at most r bits agree in all of some k of r + k
bands, so only codes that share those are compared. Where many do, they are cut further in the same
way. A million codes at radius 4 take seconds; pairs are compared in blocks, so memory is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

MAX_RADIUS = 8
"""With more bits than this, unlike pictures come closer than copies do, and bands become many."""

_BITS = 64
_BLOCK_PAIRS = 2_000_000
_FEW_PAIRS = 200_000
"""So few pairs are compared directly."""
_CROWDED_PAIRS = 20_000_000
"""A place that would need more comparisons than this is cut by the remaining bits first."""
_FIRST_BLOCK = 256
# Neighbouring bits of a picture's hash go together: deal them out over the bands.
_ORDER = [(17 * place) % _BITS for place in range(_BITS)]


class NearPairs(NamedTuple):
    """Places in two arrays of codes, and the number of bits in which the codes there differ."""

    left: np.ndarray
    right: np.ndarray
    distance: np.ndarray


def near_pairs(left: np.ndarray, right: np.ndarray, radius: int) -> NearPairs:
    """Return every pair of codes, one from each array, that differ in at most `radius` bits.

    Args:
        left: uint64 codes, in any order; equal ones are pairs of their own.
        right: uint64 codes.
        radius: 0 to `MAX_RADIUS`.
    Returns:
        Each pair once, by place in `left`, then in `right`.
    """
    check_radius(radius)
    return _pairs(left, right.view(), radius)  # a view is another object: all pairs are wanted


def _pairs(left: np.ndarray, right: np.ndarray, radius: int) -> NearPairs:
    """Do the work of `near_pairs`; of one and the same array, give a pair with itself never."""
    found = list(_joined(left, right, np.arange(len(left)), np.arange(len(right)), radius, _ORDER))
    one = np.concatenate([pair[0] for pair in found] or [np.empty(0, np.int64)])
    other = np.concatenate([pair[1] for pair in found] or [np.empty(0, np.int64)])
    width = max(len(right), 1)
    one, other = np.divmod(np.unique(one * width + other), width)
    return NearPairs(one, other, np.bitwise_count(left[one] ^ right[other]))


def star(codes: np.ndarray, radius: int) -> np.ndarray:
    """Group codes around kept ones, best first: the order of the array is the order of rank.

    The first code is kept. Each further one joins the first kept code that differs from it in at
    most `radius` bits, else it is kept itself. So two members of a group differ in at most twice
    the radius, and there are no chains.

    Returns:
        For every code the place of the kept one it joined (its own place where it is kept).
    """
    check_radius(radius)
    distinct, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    values, places = distinct[order], first[order]
    joined = _star_distinct(values, radius)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return places[joined[position[inverse]]]


def check_radius(radius: int) -> None:
    """Raise ValueError for a radius that is not supported."""
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"a radius is a number of bits from 0 to {MAX_RADIUS}, got {radius}")


def _star_distinct(values: np.ndarray, radius: int) -> np.ndarray:
    """Do the work of `star` for codes without equals.

    Blocks grow twofold: what joins a code kept in an earlier block is compared no further, so a
    crowd of codes near one another costs its size, not its square.
    """
    joined = np.arange(len(values))
    if radius == 0:
        return joined
    kept = np.empty(0, np.int64)
    start, size = 0, _FIRST_BLOCK
    while start < len(values):
        block = np.arange(start, min(start + size, len(values)))
        pairs = near_pairs(values[block], values[kept], radius)
        place, at = np.unique(pairs.left, return_index=True)  # the first is the best: both sorted
        joined[block[place]] = kept[pairs.right[at]]
        free = block[joined[block] == block]
        mine = values[free]
        among = _pairs(mine, mine, radius)
        best = settle(len(free), among.left, among.right)
        joined[free] = free[best]
        kept = np.concatenate([kept, free[best == np.arange(len(free))]])
        start, size = start + size, size * 2
    return joined


def settle(count: int, worse: np.ndarray, better: np.ndarray) -> np.ndarray:
    """Return for each of `count` codes the best kept one among its better neighbours, or itself.

    Args:
        worse, better: pairs of neighbours, sorted by `worse`, then `better`.
    """
    result = np.arange(count)
    is_open = np.zeros(count, dtype=bool)
    is_open[worse] = True
    is_kept = ~is_open
    while len(worse):
        # Joins: the best better neighbour that is open or kept is a kept one.
        place, at = np.unique(worse, return_index=True)
        sure = is_kept[better[at]]
        result[place[sure]] = better[at[sure]]
        is_open[place[sure]] = False
        alive = is_open[worse] & (is_open[better] | is_kept[better])
        worse, better = worse[alive], better[alive]
        left_alone = is_open.copy()
        left_alone[worse] = False
        is_kept |= left_alone
        is_open &= ~left_alone
    return result


# -------------------------------------------------------------------------------- the join


def _joined(
    left: np.ndarray,
    right: np.ndarray,
    left_at: np.ndarray,
    right_at: np.ndarray,
    radius: int,
    bits: Sequence[int],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield near pairs (some of them several times) of `left[left_at]` and `right[right_at]`.

    Args:
        bits: those in which the codes may differ; they agree in all others.
    """
    if not len(left_at) or not len(right_at):
        return
    num_bands, num_equal = _bands(len(left_at), len(right_at), radius, len(bits))
    if len(left_at) * len(right_at) <= _FEW_PAIRS or not num_equal:
        runs = [np.array([edge]) for edge in (0, len(left_at), 0, len(right_at))]
        yield from _compared(left, right, left_at, right_at, runs, radius)
        return
    bands = [list(bits[start::num_bands]) for start in range(num_bands)]
    for chosen in combinations(range(num_bands), num_equal):
        shared = [bit for band in chosen for bit in bands[band]]
        one, left_key = _sorted_by(left, left_at, shared)
        other, right_key = _sorted_by(right, right_at, shared)
        runs = _common_runs(left_key, right_key)
        crowded = (runs[1] - runs[0]) * (runs[3] - runs[2]) > _CROWDED_PAIRS
        yield from _compared(left, right, one, other, [edge[~crowded] for edge in runs], radius)
        rest = [bit for bit in bits if bit not in shared]
        for a, b, c, d in np.stack(runs, axis=1)[crowded].tolist():
            yield from _joined(left, right, one[a:b], other[c:d], radius, rest)


def _bands(num_left: int, num_right: int, radius: int, num_bits: int) -> tuple[int, int]:
    """Return into how many bands to cut and how many of them to hold equal, at the least cost."""
    best, best_cost = (1, 0), float(num_left) * num_right
    for num_equal in range(1, 6):
        num_bands = radius + num_equal
        if num_bands > num_bits:
            break
        tables = math.comb(num_bands, num_equal)
        bits = num_equal * (num_bits // num_bands)
        # Measured: to sort a code costs about as much as to compare ten.
        cost = tables * (10.0 * (num_left + num_right) + num_left * num_right / 2.0**bits)
        if cost < best_cost:
            best, best_cost = (num_bands, num_equal), cost
    return best


def _sorted_by(
    codes: np.ndarray, at: np.ndarray, bits: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places in order of some bits of their codes, and those bits."""
    mask = np.uint64(sum(1 << bit for bit in bits))
    key = codes[at] & mask
    order = np.argsort(key)
    return at[order], key[order]


def _common_runs(left: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    """Return where runs of equal keys begin and end in both of two sorted arrays."""
    begins = np.flatnonzero(np.r_[True, left[1:] != left[:-1]])
    ends = np.r_[begins[1:], len(left)]
    keys = left[begins]
    from_, to = np.searchsorted(right, keys, "left"), np.searchsorted(right, keys, "right")
    is_met = to > from_
    return [begins[is_met], ends[is_met], from_[is_met], to[is_met]]


def _compared(
    left: np.ndarray,
    right: np.ndarray,
    left_at: np.ndarray,
    right_at: np.ndarray,
    runs: Sequence[np.ndarray],
    radius: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs within `radius` of the products of runs, a block of pairs at a time."""
    begins, ends, from_, to = runs
    widths = np.repeat(to - from_, ends - begins)  # partners of every place on the left
    partners = np.repeat(from_, ends - begins)
    places = _ranges(begins, ends - begins)
    totals = np.cumsum(widths)
    start = 0
    while start < len(places):
        passed = totals[start - 1] if start else 0
        stop = max(int(np.searchsorted(totals, passed + _BLOCK_PAIRS, "right")), start + 1)
        part = slice(start, stop)
        one = left_at[np.repeat(places[part], widths[part])]
        other = right_at[_ranges(partners[part], widths[part])]
        is_near = np.bitwise_count(left[one] ^ right[other]) <= radius
        if left is right:
            is_near &= other < one
        yield one[is_near], other[is_near]
        start = stop


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return starts[0], starts[0] + 1 ... for lengths[0] numbers, then the next ones."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
