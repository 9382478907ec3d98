"""Samples whose text or picture stands in another set, such as a benchmark.

A batch of samples and a set -> the rows that match, each with the row of the set that it matches
best. Texts match by shared runs of words; of samples with pictures only answers and long questions
are compared, since short ones are asked about many pictures. Pictures match by content, else by
perceptual hash. About 2 s for 50,000 long samples, whatever the set's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cambrian_data.curation.duplicates.hamming import near_pairs
from cambrian_data.curation.duplicates.look_alikes import Pictures, find_keys, refs_of
from cambrian_data.curation.duplicates.same_picture import (
    MIN_CORRELATION,
    StoredPictures,
    correlation,
    fine_parts,
)
from cambrian_data.curation.overlaps.against_set import AgainstConfig, AgainstSet
from cambrian_data.curation.overlaps.said import said, words_said
from cambrian_data.curation.turns import numbers, turns_of
from cambrian_data.curation.words import Words
from cambrian_data.records import MATCH
from cambrian_data.workspace import Workspace

_CONFIRM_PAIRS = 4_096


@dataclass(frozen=True, slots=True)
class PictureHits:
    """For every picture of a workspace the picture of a set that it looks like."""

    entry: np.ndarray
    """int32 [n]: its place among the set's pictures, -1 for none."""
    distance: np.ndarray
    """uint8 [n]: bits in which the hashes differ."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Rows of a batch that stand in a set: the best match of each row and kind, by row."""

    row: np.ndarray
    """int64 [k], ascending; a row stands twice where its text and its picture match."""
    is_picture: np.ndarray
    """bool [k]: what matches."""
    score: np.ndarray
    """float32 [k]: of texts the share of runs of words, of pictures the share of equal bits."""
    entry: np.ndarray
    """int64 [k]: the row of the set."""

    def table(self, batch: pa.RecordBatch, against: AgainstSet) -> pa.Table:
        """Return the matches as rows of `MATCH`."""
        columns = [
            batch.column("id").take(pa.array(self.row)).cast(pa.string()),
            pa.array([against.name] * len(self.row), pa.string()),
            pa.array(np.where(self.is_picture, "picture", "text").tolist(), pa.string()),
            pa.array(self.score, pa.float32()),
            pa.array(against.names(self.entry), pa.string()),
        ]
        return pa.Table.from_arrays(columns, schema=MATCH)

    def drops(self, num_rows: int, against: AgainstSet) -> tuple[np.ndarray, np.ndarray]:
        """Return for every row of the batch the reason to drop it ("" for none) and a detail."""
        reasons = np.full(num_rows, "", dtype=object)
        details = np.full(num_rows, None, dtype=object)
        names = against.names(self.entry)
        matched = zip(self.row.tolist(), self.is_picture.tolist(), self.score.tolist(), strict=True)
        for (row, is_picture, score), name in zip(matched, names, strict=True):
            if not reasons[row] or is_picture:
                reasons[row] = "picture_match" if is_picture else "text_match"
                details[row] = f"matches {name} of {against.name} ({score:.2f})"
        return reasons, details


def picture_hits(
    against: AgainstSet,
    pictures: Pictures,
    config: AgainstConfig,
    workspace: Workspace | None = None,
) -> PictureHits:
    """Return which pictures look like one of a set; once for a set and all pictures.

    Args:
        workspace: where the pictures' files are, for `confirm`; None leaves that out.
    """
    entry = np.full(len(pictures), -1, dtype=np.int32)
    distance = np.zeros(len(pictures), dtype=np.uint8)
    own = pictures.find(np.asarray(against.picture_keys))
    # A picture of the workspace has its hash there; one of a file brings it along.
    phash = np.where(own >= 0, pictures.phash[own] if len(pictures) else 0, against.phash)
    is_known = np.where(own >= 0, pictures.has_phash[own] if len(pictures) else False, phash != 0)
    left, right = np.flatnonzero(is_known), np.flatnonzero(pictures.has_phash)
    if not config.pictures or not len(left) or not len(right):
        return PictureHits(entry, distance)
    pairs = near_pairs(phash[left].astype(np.uint64), pictures.phash[right], config.picture_radius)
    one, other, bits = left[pairs.left], right[pairs.right], pairs.distance
    is_copy = np.bincount(one, minlength=len(phash))[one] <= config.max_group
    one, other, bits = one[is_copy], other[is_copy], bits[is_copy]
    if config.confirm and workspace is not None:
        is_same = _confirmed(against, pictures, workspace, one, own, other)
        one, other, bits = one[is_same], other[is_same], bits[is_same]
    order = np.lexsort((one, bits, other))
    found, first = np.unique(other[order], return_index=True)
    entry[found], distance[found] = one[order][first], bits[order][first]
    return PictureHits(entry, distance)


def _confirmed(
    against: AgainstSet,
    pictures: Pictures,
    workspace: Workspace,
    one: np.ndarray,
    own: np.ndarray,
    other: np.ndarray,
) -> np.ndarray:
    """Return for pairs of a set's picture and one of the workspace whether they show the same."""
    stored = StoredPictures(workspace, pictures)
    is_same = np.zeros(len(one), dtype=bool)
    if not len(against.signatures):
        is_own = own[one] >= 0
        is_same[is_own] = stored(own[one[is_own]], other[is_own])
        return is_same
    for start in range(0, len(one), _CONFIRM_PAIRS):
        part = slice(start, start + _CONFIRM_PAIRS)
        needed, at = np.unique(other[part], return_inverse=True)
        signatures, is_read = stored.signatures(needed)
        brought, place = np.unique(one[part], return_inverse=True)
        fine = fine_parts(np.concatenate([against.signatures[brought], signatures]))
        alike = correlation(fine, place, at + len(brought))
        is_same[part] = (alike >= MIN_CORRELATION) & is_read[at]
    return is_same


def match(
    batch: pa.RecordBatch,
    against: AgainstSet,
    hits: PictureHits,
    pictures: Pictures,
    config: AgainstConfig,
) -> Matches:
    """Return the samples of a batch whose text or picture stands in a set.

    Args:
        hits: from `picture_hits`, for the same set and the same `pictures`.
    """
    found = []
    if config.text and len(against.grams):
        found.append(_by_text(batch, against, config))
    if config.pictures and len(against.picture_keys):
        found.append(_by_picture(batch, against, hits, pictures))
    if not found:
        found.append(_matches(*(np.empty(0, np.int64) for _ in range(3)), is_picture=False))
    row, is_picture, score, entry = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((is_picture, row))
    return Matches(row[order], is_picture[order], score[order], entry[order])


def _matches(
    row: np.ndarray, score: np.ndarray, entry: np.ndarray, *, is_picture: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the best match of every row: the highest score, then the first row of the set."""
    order = np.lexsort((entry, -score, row))
    rows, first = np.unique(row[order], return_index=True)
    best = order[first]
    is_so = np.full(len(rows), is_picture, dtype=bool)
    return rows, is_so, score[best].astype(np.float32), entry[best].astype(np.int64)


def _by_picture(
    batch: pa.RecordBatch, against: AgainstSet, hits: PictureHits, pictures: Pictures
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    refs = refs_of(batch)
    entry = find_keys(against.picture_keys, refs.keys)
    score = np.ones(len(entry))
    place = np.where(refs.is_read, pictures.find(refs.keys), -1)
    is_alike = (entry < 0) & (place >= 0)
    entry[is_alike] = hits.entry[place[is_alike]]
    score[is_alike] -= hits.distance[place[is_alike]] / 64
    has = entry >= 0
    row_of = against.picture_rows[entry[has]]
    return _matches(refs.row[has], score[has], row_of, is_picture=True)


def _by_text(
    batch: pa.RecordBatch, against: AgainstSet, config: AgainstConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    turns = turns_of(batch)
    words = words_said(turns.text)
    lengths = np.diff(words.ends, prepend=0)
    has_picture = numbers(pc.list_value_length(batch.column("images")))[turns.row] > 0
    least = np.where(turns.is_human, config.min_question_words, config.ngram_words)
    is_compared = ~has_picture | (lengths >= least)
    words, row = _only(words, is_compared), turns.row[is_compared]
    found = said(words, ngram_words=config.ngram_words, min_words=config.min_words)
    sample = row[found.text]
    at, gram = against.look_up(found.values)
    said_by = np.unique(sample[at].astype(np.int64) * len(against.grams) + gram)
    by, gram = np.divmod(said_by, max(len(against.grams), 1))
    starts, stops = against.gram_starts[gram], against.gram_starts[gram + 1]
    counts = stops - starts
    total = int(counts.sum())
    posting = np.arange(total) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
    entry = against.gram_rows[posting].astype(np.int64)
    pair, shared = np.unique(np.repeat(by, counts) * against.num_rows + entry, return_counts=True)
    by, entry = np.divmod(pair, against.num_rows)
    shared = shared << against.row_shift[entry].astype(np.int64)
    own = _num_distinct(found.values, sample, np.unique(by), turns.num_rows)
    fewer = np.minimum(own[by], against.row_grams[entry])
    score = np.minimum(shared / np.maximum(fewer, 1), 1.0)
    has = score >= config.min_share
    return _matches(by[has], score[has], entry[has], is_picture=False)


def _only(words: Words, is_wanted: np.ndarray) -> Words:
    """Return the words of some of the texts."""
    counts = np.diff(words.ends, prepend=0)
    return Words(words.hashes[np.repeat(is_wanted, counts)], np.cumsum(counts[is_wanted]))


def _num_distinct(
    values: np.ndarray, sample: np.ndarray, wanted: np.ndarray, num_samples: int
) -> np.ndarray:
    """Return how many different runs of words some samples have (0 for the others)."""
    is_wanted = np.zeros(num_samples, dtype=bool)
    is_wanted[wanted] = True
    mine = is_wanted[sample]
    values, sample = values[mine], sample[mine]
    order = np.lexsort((values, sample))
    values, sample = values[order], sample[order]
    is_new = np.r_[True, (values[1:] != values[:-1]) | (sample[1:] != sample[:-1])][: len(values)]
    return np.bincount(sample[is_new], minlength=num_samples)
