"""Near duplicates: samples of one group (the same pictures) that say almost the same.

A sample is the set of word 5-grams of all its turns, and two samples are as alike as the Jaccard
similarity of their sets. Rows are taken in order of rank, and a row goes exactly when a row of its
group that was kept before it is alike enough; so the outcome depends on nothing but the rows.

Method: an exact join of similar sets by prefix filtering (`near_join.py`, `near_greedy.py`), not
MinHash with banding. Banding finds a pair at the threshold by chance only, needs 128 permutations a
sample, and puts whole templates into one band. Here no pair can be missed, a sample costs one sort
of its shingles, and what nearly all samples have, a few shingles that no other one has, is enough
to leave them alone without comparing them with any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from cambrian_data.curation.duplicates import near_greedy, near_join
from cambrian_data.curation.turns import turns_of
from cambrian_data.curation.words import Words, ngrams, places, spans, spoken, words_of
from cambrian_data.recipes import Config
from cambrian_data.records import UserError

SHINGLE_BITS = 56
"""Bits of a shingle's hash; the upper 8 of its number stay free for the place of its sample."""
_SLICE_ROWS = 1024  # so few that what is made of them stays in the processor's cache
_SORT_ROWS = 2 ** (64 - SHINGLE_BITS)
_MAGIC = b"shingles 1\n     "  # 16 bytes, then two counts of 8 bytes, then ends, then values


class NearConfig(Config):
    """When two samples are near duplicates of one another.

    Pairs are found by an exact join (prefix filtering over the shingles in order of how rare they
    are), not by banded MinHash: so there are no permutations, bands or chances to set.
    """

    enabled: bool = True
    """Whether near duplicates are dropped."""
    threshold: float = Field(default=0.8, ge=0.5, le=1)
    """Jaccard similarity from which the sample of lower rank goes."""
    shingle_words: int = Field(default=5, ge=1, le=50)
    """Words in a shingle; a sample with fewer words is one shingle."""


@dataclass(frozen=True, slots=True)
class Shingles:
    """The sets of shingles of some samples."""

    values: np.ndarray
    """uint64 [num_values], below 2**56: the hashes, sorted and distinct within each sample."""
    ends: np.ndarray
    """int64 [num_rows]: sample i has values[ends[i-1]:ends[i]]; none where it has no words."""

    @property
    def num_rows(self) -> int:
        """Samples."""
        return len(self.ends)

    def take(self, rows: np.ndarray) -> Shingles:
        """Return the samples at some places, in that order."""
        starts, sizes = spans(self.ends)
        sizes = sizes[rows]
        ends = np.cumsum(sizes)
        return Shingles(self.values[places(starts[rows], sizes)], ends)

    def save(self, path: Path) -> None:
        """Write a file that `load` reads: the same bytes for the same samples."""
        with path.open("wb") as file:
            file.write(_MAGIC)
            file.write(np.array([len(self.ends), len(self.values)], "<i8").tobytes())
            file.write(np.ascontiguousarray(self.ends, "<i8").data)
            file.write(np.ascontiguousarray(self.values, "<u8").data)

    @staticmethod
    def load(path: Path) -> Shingles:
        """Map a file that `save` wrote into memory; its pages are read when they are looked at.

        Raises:
            UserError: the file is something else, or cut off.
        """
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
            counts = np.frombuffer(file.read(16).ljust(16, b"\0"), "<i8")
        start, num_rows = len(_MAGIC) + 16, int(counts[0])
        wanted = start + 8 * int(counts.sum())
        if magic != _MAGIC or size != wanted:
            raise UserError(
                f"{path}: not a whole file of shingles ({size} bytes, its head names {wanted}); "
                "delete it, and it is made again"
            )
        if wanted == start:
            return Shingles(np.empty(0, np.uint64), np.empty(0, np.int64))
        mapped = np.memmap(path, dtype="<i8", mode="r", offset=start)
        return Shingles(np.asarray(mapped[num_rows:]).view("<u8"), np.asarray(mapped[:num_rows]))


@dataclass(frozen=True, slots=True)
class Near:
    """What becomes of every row."""

    keeper: np.ndarray
    """int64 [num_rows]: the kept row that it is most alike (the better ranked of two equally alike
    ones); itself where it is kept."""
    similarity: np.ndarray
    """float32 [num_rows]: the Jaccard similarity of the two; 1 where it is kept."""


def shingles_of(batch: pa.RecordBatch, config: NearConfig) -> Shingles:
    """Return the sets of word n-grams of a batch of samples.

    The words of all turns in order, in Unicode form NFC and lower case, without `<image>`. Fewer
    words than a shingle has are one shingle; no words at all are none.
    """
    values, ends, total = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for start in range(0, batch.num_rows, _SLICE_ROWS):
        turns = turns_of(batch.slice(start, _SLICE_ROWS))
        words = words_of(spoken(turns.text), lower=True)
        row_ends = np.concatenate([[0], words.ends])[np.cumsum(turns.lengths)]
        found = _as_sets(*_windows(Words(words.hashes, row_ends), config.shingle_words))
        values.append(found.values)
        ends.append(found.ends + total)
        total += len(found.values)
    return Shingles(np.concatenate(values), np.concatenate(ends))


def near_duplicates(
    shingles: Sequence[Shingles],
    *,
    groups: np.ndarray,
    rank: np.ndarray,
    threshold: float,
    scratch: Path | None = None,
) -> Near:
    """Return for every row whether it goes, and for which kept one.

    Rows are those of all `shingles` in order. Memory: about 50 bytes a row, half a gigabyte for the
    shingles that are sorted at one time, and for rows that have a partner (or nearly) 16 bytes for
    each shingle of their prefixes, some 300 bytes for a text of 100 words.

    Args:
        shingles: the samples' sets.
        groups: uint64 [num_rows]; only rows of one group are compared.
        rank: int64 [num_rows], all different: the smaller one of two is taken first.
        threshold: Jaccard similarity from which a row goes, above 0.
        scratch: folder for a temporary file, which is made when more than half a gigabyte of sets
            has to be compared; the system's own one where none is given.

    Raises:
        ValueError: the arrays do not have one number a row.
    """
    num_rows = sum(part.num_rows for part in shingles)
    if len(groups) != num_rows or len(rank) != num_rows:
        raise ValueError(f"{num_rows} rows, but {len(groups)} groups and {len(rank)} ranks")
    parts = [(part.values, part.ends) for part in shingles]
    pool = near_join.Pool.of(parts, groups, rank)
    keeper, similarity = near_greedy.decide(pool, threshold, scratch)
    return Near(keeper, similarity)


def _windows(words: Words, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every sample's runs of words, and how many it has."""
    starts, counts = spans(words.ends)
    if not len(words.hashes):
        return np.empty(0, np.uint64), counts
    # Words that stand for nothing behind the last sample let every word begin a run, and short
    # samples have their single shingle at their first word.
    padded = np.concatenate([words.hashes, np.zeros(size - 1, np.uint64)])
    runs = ngrams(padded, size)
    sizes = np.maximum(counts - (size - 1), np.minimum(counts, 1))
    for length in range(1, size):
        of_length = starts[counts == length]
        if len(of_length):
            short = words.hashes[of_length[:, None] + np.arange(length)]
            runs[of_length] = ngrams(short.reshape(-1), length)[::length]
    return runs[places(starts, sizes)], sizes


def _as_sets(values: np.ndarray, sizes: np.ndarray) -> Shingles:
    """Return values sorted within each sample, each once.

    The place of the sample among 256 goes before the value, so that one fast sort of plain numbers
    does for 256 samples.
    """
    place = (np.arange(len(sizes)) % _SORT_ROWS).astype(np.uint64) << np.uint64(SHINGLE_BITS)
    keys = values >> np.uint64(64 - SHINGLE_BITS)
    keys |= np.repeat(place, sizes)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    cuts = np.append(bounds[:-1:_SORT_ROWS], bounds[-1])
    for start, end in pairwise(cuts.tolist()):
        keys[start:end].sort()
    is_new = np.ones(len(keys), dtype=bool)
    is_new[1:] = keys[1:] != keys[:-1]
    # Empty samples between two can bring equal keys of different samples side by side.
    is_new[bounds[:-1][sizes > 0]] = True
    ends = np.concatenate([[0], np.cumsum(is_new)])[bounds[1:]]
    return Shingles(keys[is_new] & np.uint64(2**SHINGLE_BITS - 1), ends)
