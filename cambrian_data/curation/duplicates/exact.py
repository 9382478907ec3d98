"""Exact duplicates: the same conversation, whatever its id, source and white space.

Two samples are equal when the same roles say the same words in the same turns: Unicode form NFC,
any run of white space as one space, case as it is. Their keys have 128 bits, so that among 10
million samples two different ones have the same key with a chance of about 1 in 10**25. What is
said about which pictures is up to the caller, who adds the pictures' keys as columns of their own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cambrian_data.curation.turns import turns_of
from cambrian_data.curation.words import mix, spans, word_blocks

_LANES = (0, 1)
# Odd, and apart for the two lanes: what a place, a length and a role are multiplied with.
_PLACE = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_SIZE = (np.uint64(0x165667B19E3779F9), np.uint64(0x27D4EB2F165667C5))
_HUMAN = (np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x2545F4914F6CDD1D))


def text_keys(batch: pa.RecordBatch) -> np.ndarray:
    """Return the keys by which samples say the same: uint64 [num_rows, 2].

    Args:
        batch: rows with the column `conversations` of the schema `samples`.
    """
    turns = turns_of(batch)
    of_turns: list[list[np.ndarray]] = [[np.empty(0, np.uint64)] for _ in _LANES]
    for block in word_blocks(turns.text, lower=False):
        for lane in _LANES:
            of_turns[lane].append(_in_order(block.hashes(lane), block.ends, lane))
    ends = np.cumsum(turns.lengths)
    keys = np.empty((turns.num_rows, len(_LANES)), np.uint64)
    for lane in _LANES:
        said = np.concatenate(of_turns[lane])
        keys[:, lane] = _in_order(mix(said + turns.is_human * _HUMAN[lane]), ends, lane)
    return keys


def duplicates(keys: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return the row that is kept for every row: int64 [num_rows], itself where it is kept.

    Args:
        keys: uint64 [num_rows, num_columns]; rows are equal when all columns are.
        rank: int64 [num_rows], all different; of equal rows the one with the smallest is kept.
    """
    kept = np.arange(len(keys))
    folded = np.zeros(len(keys), np.uint64)
    for column in keys.T:
        folded = mix(folded * _PLACE[0] + column + _SIZE[0])
    order = np.argsort(folded)
    same = folded[order[1:]] == folded[order[:-1]]
    is_candidate = np.zeros(len(keys), dtype=bool)
    is_candidate[1:] |= same
    is_candidate[:-1] |= same
    rows = order[is_candidate]  # few: only they are compared by all columns
    if not len(rows):
        return kept
    rows = rows[np.lexsort((rank[rows], *keys[rows].T))]
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (keys[rows[1:]] != keys[rows[:-1]]).any(axis=1)
    firsts = rows[is_first]
    kept[rows] = firsts[np.cumsum(is_first) - 1]
    return kept


def _in_order(values: np.ndarray, ends: np.ndarray, lane: int) -> np.ndarray:
    """Return a hash of every list of values in its order: uint64 [num_lists].

    Args:
        values: uint64 [num_values], the lists one after the other.
        ends: int64 [num_lists]: where each ends.
        lane: which of the independent hashes.
    """
    starts, sizes = spans(ends)
    place = (np.arange(len(values)) - np.repeat(starts, sizes)).astype(np.uint64)
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(mix(values ^ (place * _PLACE[lane])), out=sums[1:])
    return mix(sums[ends] - sums[starts] + sizes.astype(np.uint64) * _SIZE[lane])
