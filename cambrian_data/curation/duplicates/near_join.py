"""Which of millions of sets may be similar, so that no two similar ones are missed.

Sets are similar from a Jaccard similarity of t on. What is used, for sets of n and m shingles:

* Similar sets have at least t * n shingles in common. So a set in which n - t * n + 1 shingles
  stand in no other set has no partner; nearly all samples are done with here, by sorting alone.
* Order all shingles by how rare they are. Similar sets share one among the first n - t * n + 1 of
  each (the prefix), so only sets that meet in the list of such a shingle are compared.
* If the shingle is number p of its set (from 0), a partner has at most
  (n - p) * (1 + t) / t - n shingles: texts around one template, a little too different, do not
  meet although they share it.

Works in ranges of hashes, so that memory is bounded. Numbers of a row, a shingle and its frequency
are packed into one, since plain numbers are sorted fastest; where that takes bits off a hash, more
sets meet in a list than should, and are found different when they are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from cambrian_data.curation.words import mix, places, spans

_VALUE_BITS = 56
_RANGE_VALUES = 2**24  # shingles that are sorted in one go: about 0.5 GB with what it takes
_HELD_ENTRIES = 2**24  # prefixes are cut to their length whenever so many are held
_MEMORY_VALUES = 2**26  # more than 0.5 GB of sets that have candidates go to a temporary file
_FREQUENCY_BITS = 5
_HOPE_ROUNDS = 8  # each is quick and leaves out less
_EPSILON = 1e-9  # takes floating point errors out of bounds; always to the careful side


@dataclass(frozen=True, slots=True)
class Pool:
    """Sets in parts, and what is known of every row."""

    parts: Sequence[tuple[np.ndarray, np.ndarray]]
    """Values (uint64 below 2**56, sorted and distinct in each row) and ends of the rows."""
    sizes: np.ndarray
    """int64 [num_rows]: shingles."""
    group: np.ndarray
    """uint64 [num_rows]: a number below 2**56 that is mixed into the shingles of the group."""
    rank: np.ndarray
    """int64 [num_rows]: smaller ones are taken first."""

    @staticmethod
    def of(
        parts: Sequence[tuple[np.ndarray, np.ndarray]], groups: np.ndarray, rank: np.ndarray
    ) -> Pool:
        """Return the pool of some parts; groups are any numbers, equal or not."""
        sizes = [spans(ends)[1] for _, ends in parts] or [np.empty(0, np.int64)]
        mixed = mix(groups.astype(np.uint64)) >> np.uint64(64 - _VALUE_BITS)
        return Pool(parts, np.concatenate(sizes), mixed, rank)

    def entries(self, low: int, high: int, number: np.ndarray, bits: int) -> np.ndarray:
        """Return the shingles from `low` to below `high`, sorted: (shingle of its group, number).

        Args:
            low: first value.
            high: behind the last value.
            number: int64 [num_rows]: what stands for a row; rows with -1 are left out.
            bits: lower bits of an entry that hold the number; the upper ones hold the lower bits
                of the shingle.
        """
        found, first = [np.empty(0, np.uint64)], 0
        for values, ends in self.parts:
            last = first + len(ends)
            rows = np.flatnonzero(number[first:last] >= 0)
            if len(rows) < len(ends) // 2:
                starts, sizes = spans(ends)
                values, ends = values[places(starts[rows], sizes[rows])], np.cumsum(sizes[rows])
            else:
                rows = np.arange(len(ends))
            wanted = np.flatnonzero((values >= low) & (values < high))
            of_row = np.repeat(rows + first, spans(np.searchsorted(wanted, ends))[1])
            is_in = number[of_row] >= 0
            of_row = of_row[is_in]
            entries = (values[wanted[is_in]] ^ self.group[of_row]) << np.uint64(bits)
            entries |= number[of_row].astype(np.uint64)
            found.append(entries)
            first = last
        joined = np.concatenate(found)
        joined.sort()
        return joined

    def gather(self, rows: np.ndarray, scratch: Path | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the values and ends of some rows in their order.

        They are in memory, or where they are too many in a file without a name in `scratch` (the
        system's folder for such files where none is given), whose pages can be written out.
        """
        sizes = self.sizes[rows]
        ends = np.cumsum(sizes)
        total = int(sizes.sum())
        if total <= _MEMORY_VALUES:
            gathered = np.empty(total, np.uint64)
        else:
            with tempfile.TemporaryFile(dir=scratch) as file:
                gathered = np.memmap(file, np.uint64, "w+", shape=(total,))
        order = np.argsort(rows, kind="stable")
        in_order, first = rows[order], 0
        for values, part_ends in self.parts:
            last = first + len(part_ends)
            here = order[slice(*np.searchsorted(in_order, [first, last]))]
            starts = spans(part_ends)[0][rows[here] - first]
            target = places(ends[here] - sizes[here], sizes[here])
            gathered[target] = values[places(starts, sizes[here])]
            first = last
        return gathered, ends


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows in the lists of the shingles that stand in their prefixes, by list and then row."""

    lists: np.ndarray
    """int32 [num_entries]: the list."""
    rows: np.ndarray
    """int32 [num_entries]: the row, numbered in order of rank."""
    limits: np.ndarray
    """int32 [num_entries]: the largest size that a partner met here can have."""

    def only(self, wanted: np.ndarray) -> Entries:
        """Return some of the entries (a mask)."""
        return Entries(self.lists[wanted], self.rows[wanted], self.limits[wanted])

    def shared(self) -> Entries:
        """Return the entries in lists of more than one."""
        return self.only(~_is_lonely(self.lists))

    def list_starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where the lists start, and the number of each entry's list among them."""
        is_first = _is_first(self.lists)
        return np.flatnonzero(is_first), np.cumsum(is_first) - 1


def prefix_sizes(sizes: np.ndarray, threshold: float) -> np.ndarray:
    """Return how many shingles of each set, the rarest first, two similar sets must meet in."""
    common = np.ceil(threshold * sizes - _EPSILON).astype(np.int64)
    return np.asarray(sizes - np.maximum(common, 1) + 1)


def candidates(pool: Pool, threshold: float) -> np.ndarray:
    """Return the rows that may have a partner: int64, in order of rank.

    A row is left out when it is alone in its group, has no words, or has enough shingles that no
    other row of its group has; again without the rows left out, as long as that leaves out many.
    """
    _, group, members = np.unique(pool.group, return_inverse=True, return_counts=True)
    number = np.where((members[group] > 1) & (pool.sizes > 0), np.arange(len(pool.sizes)), -1)
    needed = prefix_sizes(pool.sizes, threshold)
    bits = _bits(len(number))
    while True:
        before = int((number >= 0).sum())
        own = np.zeros(len(number), np.int64)
        for low, high in _ranges(int(pool.sizes[number >= 0].sum())):
            entries = pool.entries(low, high, number, bits)
            lonely = entries[_is_lonely(entries >> np.uint64(bits))] & np.uint64(2**bits - 1)
            own += np.bincount(lonely.astype(np.int64), minlength=len(number))
            # They have no partner, so that nobody's later shingles need them.
            number[own >= needed] = -1
        left = np.flatnonzero(number >= 0)
        if len(left) > 0.9 * before or not len(left):
            return left[np.argsort(pool.rank[left])]


def prefix_lists(pool: Pool, rows: np.ndarray, sizes: np.ndarray, threshold: float) -> Entries:
    """Return the lists of rows (numbered as in `rows`) that share a shingle of their prefixes."""
    bits = _bits(len(rows))
    number = np.full(len(pool.sizes), -1)
    number[rows] = np.arange(len(rows))
    code_bits = 64 - bits
    needed = prefix_sizes(sizes, threshold)
    own = np.zeros(len(rows), np.int64)
    held, num_held, most_held = [np.empty(0, np.uint64)], 0, _HELD_ENTRIES
    for low, high in _ranges(int(sizes.sum())):
        entries = pool.entries(low, high, number, bits)
        is_lonely = _is_lonely(entries >> np.uint64(bits))
        lonely = entries[is_lonely] & np.uint64(2**bits - 1)
        own += np.bincount(lonely.astype(np.int64), minlength=len(rows))
        held.append(_by_row(entries[~is_lonely], bits))
        num_held += len(held[-1])
        if num_held > most_held:
            held = [_cut(held, code_bits, needed - own)[0]]
            num_held, most_held = len(held[0]), max(_HELD_ENTRIES, 2 * len(held[0]))
    # A row's shingles that no other row has are its rarest: they go before the others.
    entries, place = _cut(held, code_bits, needed - own)
    del held
    of_row = (entries >> np.uint64(code_bits)).astype(np.int32)
    size = sizes[of_row]
    alike = size - own[of_row] - place
    limits = np.floor(alike * ((1 + threshold) / threshold) - size + _EPSILON).astype(np.int32)
    del place, size, alike
    entries <<= np.uint64(bits)
    entries |= of_row.astype(np.uint64)
    by_code = np.argsort(entries)
    entries = entries[by_code] >> np.uint64(bits)
    lists = np.zeros(len(entries), np.int32)
    np.cumsum(entries[1:] != entries[:-1], out=lists[1:])
    return _without_hopeless(Entries(lists, of_row[by_code], limits[by_code]), sizes)


def _by_row(entries: np.ndarray, bits: int) -> np.ndarray:
    """Return sorted entries (shingle, number) as unsorted ones (number, code of the shingle).

    The code is smaller for rarer shingles, and equal ones have equal codes; that now and then
    different ones have, too, does no harm.
    """
    shingle = entries >> np.uint64(bits)
    starts = np.flatnonzero(_is_first(shingle))
    counts = np.diff(np.append(starts, len(entries)))
    frequency = np.repeat(np.log2(counts).astype(np.uint8), counts)
    code_bits = 64 - bits - _FREQUENCY_BITS
    shingle &= np.uint64(2**code_bits - 1)
    entries = entries << np.uint64(64 - bits)
    entries |= shingle
    shingle[:] = frequency
    shingle <<= np.uint64(code_bits)
    entries |= shingle
    return entries


def _cut(
    held: list[np.ndarray], code_bits: int, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `wanted` entries of each row, sorted, and their places among its entries."""
    entries = np.concatenate(held)
    held.clear()
    entries.sort()
    first_codes = np.arange(len(wanted), dtype=np.uint64) << np.uint64(code_bits)
    starts = np.searchsorted(entries, first_codes)
    counts = np.diff(np.append(starts, len(entries)))
    place = np.arange(len(entries), dtype=np.int32)
    place -= np.repeat(starts.astype(np.int32), counts)
    is_wanted = place < np.repeat(wanted.astype(np.int32), counts)
    return entries[is_wanted], place[is_wanted]


def _without_hopeless(entries: Entries, sizes: np.ndarray) -> Entries:
    """Leave out entries whose limit, or whose size, suits no other entry of their list."""
    entries = entries.shared()
    for _ in range(_HOPE_ROUNDS):
        if not len(entries.lists):
            break
        starts, of_list = entries.list_starts()
        size = sizes[entries.rows]
        smallest = np.minimum.reduceat(size, starts)[of_list]
        furthest = np.maximum.reduceat(entries.limits, starts)[of_list]
        before = len(entries.lists)
        hopeful = (entries.limits >= smallest) & (size <= furthest)
        entries = entries.only(hopeful).shared()
        if len(entries.lists) == before:
            break
    return entries


def _ranges(total: int) -> Iterator[tuple[int, int]]:
    count = max(1, -(-total // _RANGE_VALUES))
    bounds = [2**_VALUE_BITS * number // count for number in range(count + 1)]
    yield from pairwise(bounds)


def _is_first(values: np.ndarray) -> np.ndarray:
    """Return for every one of some sorted values whether it is the first of its kind."""
    is_first = np.ones(len(values), dtype=bool)
    is_first[1:] = values[1:] != values[:-1]
    return is_first


def _is_lonely(values: np.ndarray) -> np.ndarray:
    """Return for every one of some sorted values whether it is the only one of its kind."""
    is_lonely = _is_first(values)
    is_lonely[:-1] &= is_lonely[1:]
    return is_lonely


def _bits(count: int) -> int:
    return max(1, (count - 1).bit_length())
