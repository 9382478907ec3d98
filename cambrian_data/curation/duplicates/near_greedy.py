"""Which rows go because a better ranked one says almost the same: decided by halves.

`near_join.py` finds the lists in which similar rows meet. Of the rows in them the better ranked
half is decided on first, then the worse half is compared with those that stay, then what is left of
it is decided on. So rows that go are not compared with one another (but for a few at a time), and a
hundred thousand copies of a text cost that many comparisons. Whether two rows are similar is told
by all of their shingles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from cambrian_data.curation.duplicates.near_join import Entries, Pool, candidates, prefix_lists
from cambrian_data.curation.words import places, spans

_VALUE_BITS = 56
_LEAF_PAIRS = 2**18  # so few pairs are all compared, whether their rows stay or go
_SLICE_PAIRS = 2**20
_SLICE_VALUES = 2**22
_SORT_PAIRS = 2 ** (64 - _VALUE_BITS)
_SIGN_BITS = 512
_EPSILON = 1e-9  # takes floating point errors out of bounds; always to the careful side


def decide(pool: Pool, threshold: float, scratch: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return every row's keeper (int64) and the similarity of the two (float32).

    Rows that stay keep themselves, with similarity 1; of several keepers the most similar one
    counts, then the better ranked.

    Args:
        pool: the sets.
        threshold: Jaccard similarity from which a row goes.
        scratch: folder for sets that do not fit into memory.
    """
    keeper = np.arange(len(pool.sizes))
    similarity = np.ones(len(pool.sizes), np.float32)
    rows = candidates(pool, threshold)
    if not len(rows):
        return keeper, similarity
    entries = prefix_lists(pool, rows, pool.sizes[rows], threshold)
    taken = np.unique(entries.rows)  # the others share no prefix with anyone
    if not len(taken):
        return keeper, similarity
    number = np.zeros(len(rows), np.int32)
    number[taken] = np.arange(len(taken))
    entries = Entries(entries.lists, number[entries.rows], entries.limits)
    rows = rows[taken]
    greedy = _Greedy.of(pool, rows, threshold, scratch)
    greedy.decide(entries)
    for goes, stays, alike in greedy.best(entries):
        keeper[rows[goes]] = rows[stays]
        similarity[rows[goes]] = alike
    return keeper, similarity


@dataclass(frozen=True, slots=True)
class _Greedy:
    """The candidates in order of rank, and what is decided about them so far."""

    values: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    group: np.ndarray
    signs: np.ndarray
    """uint64 [num_rows, 8]: of 512 bits each is set when an odd number of shingles falls on it."""
    goes: np.ndarray
    """bool [num_rows]."""
    threshold: float

    @staticmethod
    def of(pool: Pool, rows: np.ndarray, threshold: float, scratch: Path | None) -> _Greedy:
        values, ends = pool.gather(rows, scratch)
        starts, sizes = spans(ends)
        goes = np.zeros(len(rows), dtype=bool)
        signs = _signs(values, ends)
        return _Greedy(values, starts, sizes, pool.group[rows], signs, goes, threshold)

    def decide(self, entries: Entries) -> None:
        """Decide on the rows of these entries, which no row outside of them bears on any more."""
        entries = entries.shared()
        if not len(entries.lists):
            return
        starts, _ = entries.list_starts()
        counts = np.diff(np.append(starts, len(entries.lists)))
        if int((counts * (counts - 1) // 2).sum()) <= _LEAF_PAIRS or len(entries.rows) <= 64:
            self._compare_all(entries)
            return
        middle = (int(entries.rows.min()) + int(entries.rows.max()) + 1) // 2
        is_better = entries.rows < middle
        better, worse = entries.only(is_better), entries.only(~is_better)
        self.decide(better)
        better = better.only(~self.goes[better.rows])
        for losers, _, _ in self._partners(better, worse, any_will_do=True):
            self.goes[losers] = True
        self.decide(worse.only(~self.goes[worse.rows]))

    def best(self, entries: Entries) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the rows that go, each with the kept row it is most like, and how much."""
        goes = self.goes[entries.rows]
        yield from self._partners(entries.only(~goes), entries.only(goes), any_will_do=False)

    def _compare_all(self, entries: Entries) -> None:
        for left, right in self._meetings(entries, entries):
            possible = self._most(left, right) >= self.threshold - _EPSILON
            left, right = left[possible], right[possible]
            alike = self._jaccard(left, right) >= self.threshold
            goes = self.goes
            # By rank, so that whether the better one stays is known before the other one's turn.
            for better, worse in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
                if not goes[better]:
                    goes[worse] = True

    def _partners(
        self, better: Entries, worse: Entries, *, any_will_do: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the worse ranked rows that have a similar one among the better ranked, and it.

        It is the most similar one (of equals the best ranked), or any where any will do. Those that
        may be most similar are compared first, and of the others only those that may be more so.

        Yields:
            the rows, each once; their partners; the similarities (float64).
        """
        for left, right in self._meetings(better, worse):
            most = self._most(left, right)
            order = np.lexsort((left, -most, right))
            order = order[most[order] >= self.threshold - _EPSILON]
            left, right, most = left[order], right[order], most[order] + _EPSILON
            rows, of_row = np.unique(right, return_inverse=True)
            best, partner = np.zeros(len(rows)), np.full(len(rows), -1)
            num_taken = 1
            while len(left):
                starts = np.searchsorted(of_row, np.arange(len(rows)))
                is_taken = np.arange(len(left)) - starts[of_row] < num_taken
                alike = self._jaccard(left[is_taken], right[is_taken])
                row, other = of_row[is_taken], left[is_taken]
                order = np.lexsort((-other, alike))  # the last one that is written is the best
                order = order[alike[order] >= self.threshold]
                row, other, alike = row[order], other[order], alike[order]
                is_better = (alike > best[row]) | ((alike == best[row]) & (other < partner[row]))
                best[row[is_better]] = alike[is_better]
                partner[row[is_better]] = other[is_better]
                is_open = ~is_taken & (most >= best[of_row])
                if any_will_do:
                    is_open &= partner[of_row] < 0
                left, right = left[is_open], right[is_open]
                most, of_row = most[is_open], of_row[is_open]
                num_taken *= 2
            found = partner >= 0
            yield rows[found], partner[found], best[found]

    def _meetings(self, better: Entries, worse: Entries) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the pairs that meet in a list where their sizes suit, each pair once."""
        first = np.searchsorted(better.lists, worse.lists, side="left")
        last = np.searchsorted(better.lists, worse.lists, side="right")
        order = np.argsort(worse.rows, kind="stable")
        order = order[last[order] > first[order]]
        counts = (last - first)[order]
        rows = worse.rows[order]
        total = np.cumsum(counts)
        # Slices of about equal work that end where a row ends.
        num_slices = int(total[-1]) // _SLICE_PAIRS if len(total) else 0
        cuts = np.searchsorted(total, np.arange(1, num_slices + 1) * _SLICE_PAIRS)
        cuts = np.searchsorted(rows, rows[cuts], side="right")
        for start, end in pairwise(np.unique([0, *cuts.tolist(), len(order)]).tolist()):
            entry = np.repeat(order[start:end], counts[start:end])
            other = places(first[order[start:end]], counts[start:end])
            left, right = better.rows[other], worse.rows[entry]
            suits = (left < right) & (self.sizes[left] <= worse.limits[entry])
            suits &= self.sizes[right] <= better.limits[other]
            suits &= self.group[left] == self.group[right]
            pairs = right[suits] * np.int64(len(self.sizes)) + left[suits]
            pairs.sort()
            pairs = pairs[np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)]]
            yield pairs % len(self.sizes), pairs // len(self.sizes)

    def _most(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the Jaccard similarity that pairs of rows have at most, by their signs: float64.

        Every shingle that only one of the two has turns one bit, so that as many differ at least
        as signs differ in bits.
        """
        both = self.sizes[left] + self.sizes[right]
        differ = np.zeros(len(left), np.int64)
        for word in range(self.signs.shape[1]):
            differ += np.bitwise_count(self.signs[left, word] ^ self.signs[right, word])
        return np.asarray((both - differ) / (both + differ))

    def _jaccard(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the Jaccard similarity of pairs of rows, float64."""
        common = np.empty(len(left), np.int64)
        if not len(left):
            return common.astype(np.float64)
        both = self.sizes[left] + self.sizes[right]
        per_slice = max(1, int(_SLICE_VALUES // (_SORT_PAIRS * both.mean()))) * _SORT_PAIRS
        for start in range(0, len(left), per_slice):
            end = min(start + per_slice, len(left))
            common[start:end] = self._common(left[start:end], right[start:end])
        return np.asarray(common / (both - common))

    def _common(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return how many shingles each pair has in common.

        The pair's place among 256 goes before the shingles of both, so that after one fast sort the
        common ones stand side by side.
        """
        rows = np.column_stack([left, right]).reshape(-1)
        sizes = self.sizes[rows]
        keys = self.values[places(self.starts[rows], sizes)]
        pair = (np.arange(len(left)) % _SORT_PAIRS).astype(np.uint64) << np.uint64(_VALUE_BITS)
        both = sizes[0::2] + sizes[1::2]
        keys |= np.repeat(pair, both)
        bounds = np.concatenate([[0], np.cumsum(both)])
        for start, end in pairwise(np.append(bounds[:-1:_SORT_PAIRS], bounds[-1]).tolist()):
            keys[start:end].sort()
        is_common = np.zeros(len(keys) + 1, np.int64)
        is_common[2:] = keys[1:] == keys[:-1]
        # Sets are not empty, so a pair's last shingle is never that of the next pair.
        before = np.cumsum(is_common)
        return np.asarray(before[bounds[1:]] - before[bounds[:-1]])


def _signs(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    starts, sizes = spans(ends)
    signs = np.empty((len(ends), _SIGN_BITS // 64), np.uint64)
    step = 2048
    for first in range(0, len(ends), step):
        rows = slice(first, min(first + step, len(ends)))
        bits = (values[starts[first] : ends[rows.stop - 1]] % _SIGN_BITS).astype(np.int64)
        place = np.repeat(np.arange(rows.stop - first) * _SIGN_BITS, sizes[rows])
        counts = np.bincount(place + bits, minlength=(rows.stop - first) * _SIGN_BITS)
        odd = (counts & 1).astype(np.uint8)
        signs[rows] = np.packbits(odd).view(np.uint64).reshape(-1, _SIGN_BITS // 64)
    return signs
