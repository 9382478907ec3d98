"""Rules of quality that a recipe may switch on; each has a name, and all are off by default.

A batch of samples -> for each the first rule that it breaks, and by what. Works on whole columns;
with all rules on some ten microseconds a sample. Rules are tried in the order of the fields of
`QualityConfig`. What each one counts exactly is in docs/quality.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from cambrian_data.curation.rules.cannot_see import only_cannot_see
from cambrian_data.curation.rules.language import LANGUAGES, languages_of
from cambrian_data.curation.rules.scores import ScoreTable, scores_of
from cambrian_data.curation.rules.text_counts import TextCounts, counts_of
from cambrian_data.curation.turns import Turns, numbers, turns_of
from cambrian_data.curation.words import Words, ngrams, words_of
from cambrian_data.recipes import Config
from cambrian_data.records import IMAGE_TOKEN, UserError

_SHOWN = 120
"""Characters of an answer that a drop's detail shows."""
_BLOCK_NGRAMS = 1 << 15
_ROW_BITS = 12  # the other bits of a key are of an n-gram's hash
_BLOCK_ROWS = 1 << _ROW_BITS


class QualityConfig(Config):
    """Rules that a sample must keep; one that is null, false or empty is off."""

    min_words: int | None = Field(default=None, ge=1)
    """Least words of all turns together. Reason few_words."""
    max_words: int | None = Field(default=None, ge=1)
    """Most words of all turns together. Reason many_words."""
    min_answer_words: int | None = Field(default=None, ge=1)
    """Least words of the longest answer. Reason short_answer."""
    max_answer_words: int | None = Field(default=None, ge=1)
    """Most words of the longest answer. Reason long_answer."""
    min_turns: int | None = Field(default=None, ge=1)
    """Least questions and answers together. Reason few_turns."""
    max_turns: int | None = Field(default=None, ge=1)
    """Most questions and answers together. Reason many_turns."""
    max_repeated_ngrams: float | None = Field(default=None, ge=0, lt=1)
    """Largest part of the word n-grams of the answers that stand there more than once. Reason
    repeated_ngrams."""
    repeated_ngram_words: int = Field(default=5, ge=1, le=50)
    """Words of such an n-gram."""
    languages: list[str] | None = Field(default=None, min_length=1)
    """Languages that are let in (ISO 639-1); a sample whose language cannot be told is, too. Reason
    language."""
    max_non_letters: float | None = Field(default=None, ge=0, lt=1)
    """Largest part of the characters that are neither letter, digit nor white space. Reason
    non_letters."""
    cannot_see: bool = False
    """Whether samples with pictures go of which an answer says only that the model cannot see.
    Reason cannot_see."""
    min_picture_px: int | None = Field(default=None, ge=1)
    """Least width and height of every picture, in pixels; unread pictures pass. Reason
    picture_size."""
    max_picture_aspect: float | None = Field(default=None, ge=1)
    """Most times that the longer side of a picture may be the shorter one; unread pictures pass.
    Reason picture_aspect."""
    min_scores: dict[str, float] = Field(default_factory=dict)
    """Least value of each named score, such as a judge's rating. Reason low_score."""
    on_missing_score: Literal["keep", "drop"] = "keep"
    """What happens to a sample that lacks one of these scores. Reason no_score."""

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, codes: list[str] | None) -> list[str] | None:
        unknown = sorted(set(codes or ()) - set(LANGUAGES))
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} cannot be told apart; known are {', '.join(LANGUAGES)}"
            )
        return codes

    @field_validator("min_scores")
    @classmethod
    def _finite_scores(cls, scores: dict[str, float]) -> dict[str, float]:
        for name, least in scores.items():
            if not np.isfinite(least):
                raise ValueError(f"min_scores.{name} is {least}, which is no threshold")
        return scores

    @model_validator(mode="after")
    def _least_below_most(self) -> QualityConfig:
        for name in ("words", "answer_words", "turns"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{name} = {least} is more than max_{name} = {most}")
        return self

    @property
    def is_on(self) -> bool:
        """Whether there is any rule."""
        settings = self.model_dump(exclude={"repeated_ngram_words", "on_missing_score"})
        return any(
            not (value is None or value is False or value == {}) for value in settings.values()
        )


class _Finding(NamedTuple):
    """A rule at work on a batch."""

    reason: str
    fails: np.ndarray
    """bool [rows]"""
    tell: Callable[[int], str]
    """Says what was counted in a row."""


def check_scores(config: QualityConfig, scores: ScoreTable | None) -> None:
    """Make sure that the given tables have the scores that the rules ask for.

    Raises:
        UserError: tables were given, and none has a score of `min_scores`.
    """
    missing = sorted(set(config.min_scores) - set(scores.names if scores else config.min_scores))
    if scores and missing:
        raise UserError(
            f"quality.min_scores asks for {', '.join(missing)}, but the tables of scores have "
            f"{', '.join(scores.names)}: give the file that has it, or take it out of the recipe"
        )


def quality(
    batch: pa.RecordBatch, config: QualityConfig, scores: ScoreTable | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rule each sample breaks.

    Args:
        batch: of samples; needs images and conversations, with `min_scores` also id and scores.
        scores: numbers that count instead of those in the samples, where it has any.
    Returns:
        Two object arrays [rows]: the reason of the first rule that is broken ("" where the sample
        passes), and what was counted (None where it passes).
    """
    reasons = np.full(batch.num_rows, "", dtype=object)
    details = np.full(batch.num_rows, None, dtype=object)
    passes = np.ones(batch.num_rows, dtype=bool)
    if not config.is_on:
        return reasons, details
    for finding in _findings(_Batch(batch), config, scores):
        for row in np.flatnonzero(finding.fails & passes).tolist():
            reasons[row], details[row] = finding.reason, finding.tell(row)
        passes &= ~finding.fails
    return reasons, details


def repeated_share(turns: Turns, words: Words, size: int) -> np.ndarray:
    """Return the part of the n-grams of every sample's answers that stand there more than once.

    Args:
        words: of `turns.text`.
        size: words of an n-gram; none goes over the end of an answer.
    Returns:
        float64 [rows]; 0 where the answers have no n-gram.
    """
    total = np.zeros(turns.num_rows, dtype=np.int64)
    repeated = np.zeros(turns.num_rows, dtype=np.int64)
    ends = np.concatenate([[0], words.ends])
    lengths = np.where(turns.is_human, 0, np.maximum(np.diff(ends) - size + 1, 0))
    upto = np.cumsum(turns.total(lengths))
    first = 0
    while first < turns.num_rows:  # as many samples as a processor's cache holds
        last = int(np.searchsorted(upto, (upto[first - 1] if first else 0) + _BLOCK_NGRAMS)) + 1
        last = min(last, first + _BLOCK_ROWS, turns.num_rows)
        low, high = np.searchsorted(turns.row, [first, last])
        grams = ngrams(words.hashes[ends[low] : ends[high]], size)
        count = lengths[low:high]
        start = np.repeat(ends[low:high] - ends[low] - np.cumsum(count) + count, count)
        row = np.repeat(turns.row[low:high] - first, count)
        keys = grams[np.arange(len(start)) + start] >> np.uint64(_ROW_BITS)
        keys |= row.astype(np.uint64) << np.uint64(64 - _ROW_BITS)
        keys.sort()
        is_next = keys[1:] == keys[:-1]
        is_repeated = np.zeros(len(keys), dtype=bool)
        is_repeated[1:] = is_next
        is_repeated[:-1] |= is_next
        of_row = (keys[is_repeated] >> np.uint64(64 - _ROW_BITS)).astype(np.int64)
        repeated[first:last] = np.bincount(of_row, minlength=last - first)
        total[first:last] = np.bincount(row, minlength=last - first)
        first = last
    return repeated / np.maximum(total, 1)


# ------------------------------------------------------------------------------ measured


class _Batch:
    """A batch, and what was counted in it; nothing is counted before it is asked for."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    @cached_property
    def turns(self) -> Turns:
        return turns_of(self.batch)

    @cached_property
    def counts(self) -> TextCounts:
        return counts_of(self.turns.text)

    @cached_property
    def hashes(self) -> Words:
        return words_of(self.turns.text, lower=True)

    @cached_property
    def words(self) -> np.ndarray:
        return self.turns.total(self.counts.words)

    @cached_property
    def answer_words(self) -> np.ndarray:
        """Words of the longest answer of every sample."""
        longest = np.zeros(self.turns.num_rows, dtype=np.int64)
        is_answer = ~self.turns.is_human
        np.maximum.at(longest, self.turns.row[is_answer], self.counts.words[is_answer])
        return longest

    @cached_property
    def non_letters(self) -> np.ndarray:
        tokens = self.counts.tokens * len(IMAGE_TOKEN)
        characters = self.turns.total(self.counts.characters - tokens)
        return self.turns.total(self.counts.signs) / np.maximum(characters, 1)

    @cached_property
    def pictures(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, width and height of every picture whose size is known."""
        column = self.batch.column("images")
        row = np.repeat(np.arange(len(column)), numbers(pc.list_value_length(column)))
        sides = [
            numbers(pc.fill_null(column.flatten().field(side), 0)) for side in ("width", "height")
        ]
        is_read = np.minimum(*sides) > 0
        return row[is_read], sides[0][is_read], sides[1][is_read]


def _findings(seen: _Batch, config: QualityConfig, scores: ScoreTable | None) -> Iterator[_Finding]:
    """Yield the rules that are on, in order."""
    yield from _length_findings(seen, config)
    if (most := config.max_repeated_ngrams) is not None:
        repeated = repeated_share(seen.turns, seen.hashes, config.repeated_ngram_words)
        yield _share("repeated_ngrams", repeated, most, "max_repeated_ngrams")
    if (allowed := config.languages) is not None:
        found = languages_of(seen.turns, seen.hashes)
        fails = ~np.isin(found.astype(str), [*allowed, ""])
        yield _Finding(
            "language", fails, lambda row: f"{found[row]}, allowed: {', '.join(allowed)}"
        )
    if (most := config.max_non_letters) is not None:
        yield _share("non_letters", seen.non_letters, most, "max_non_letters")
    if config.cannot_see:
        blind = only_cannot_see(seen.batch, seen.turns, seen.counts)
        fails = np.bincount(seen.turns.row[blind], minlength=seen.turns.num_rows) > 0
        yield _Finding("cannot_see", fails, lambda row: _answer(seen.turns, blind, row))
    yield from _picture_findings(seen, config)
    if config.min_scores:
        yield from _score_findings(seen.batch, config, scores)


def _length_findings(seen: _Batch, config: QualityConfig) -> Iterator[_Finding]:
    measured: tuple[tuple[str, str, str, str, Callable[[], np.ndarray]], ...] = (
        ("words", "few_words", "many_words", "words", lambda: seen.words),
        ("answer_words", "short_answer", "long_answer", "words", lambda: seen.answer_words),
        ("turns", "few_turns", "many_turns", "turns", lambda: seen.turns.lengths),
    )
    for name, too_few, too_many, unit, count in measured:
        least, most = getattr(config, f"min_{name}"), getattr(config, f"max_{name}")
        if least is not None:
            yield _count(too_few, count(), count() < least, f"{unit}, min_{name} = {least}")
        if most is not None:
            yield _count(too_many, count(), count() > most, f"{unit}, max_{name} = {most}")


def _picture_findings(seen: _Batch, config: QualityConfig) -> Iterator[_Finding]:
    if config.min_picture_px is not None:
        _, width, height = seen.pictures
        is_wrong = np.minimum(width, height) < config.min_picture_px
        yield _picture("picture_size", seen, is_wrong, f"min_picture_px = {config.min_picture_px}")
    if config.max_picture_aspect is not None:
        _, width, height = seen.pictures
        limit = config.max_picture_aspect
        is_wrong = np.maximum(width, height) > limit * np.minimum(width, height)
        yield _picture("picture_aspect", seen, is_wrong, f"max_picture_aspect = {limit:g}")


def _score_findings(
    batch: pa.RecordBatch, config: QualityConfig, scores: ScoreTable | None
) -> Iterator[_Finding]:
    found = scores_of(batch, sorted(config.min_scores), scores)
    for name, values in found.items():
        least = np.float32(config.min_scores[name])  # scores are stored as float32

        def tell(row: int, name: str = name, values: np.ndarray = values) -> str:
            return f"{name} is {values[row]:g}, min_scores = {config.min_scores[name]:g}"

        yield _Finding("low_score", values < least, tell)
    if config.on_missing_score == "drop":
        is_missing = {name: np.isnan(values) for name, values in found.items()}
        yield _Finding(
            "no_score",
            np.logical_or.reduce(list(is_missing.values())),
            lambda row: "no " + ", ".join(name for name, rows in is_missing.items() if rows[row]),
        )


def _count(reason: str, counted: np.ndarray, fails: np.ndarray, text: str) -> _Finding:
    return _Finding(reason, fails, lambda row: f"{counted[row]} {text}")


def _share(reason: str, share: np.ndarray, most: float, field: str) -> _Finding:
    return _Finding(reason, share > most, lambda row: f"{share[row]:.3f}, {field} = {most:g}")


def _picture(reason: str, seen: _Batch, is_wrong: np.ndarray, limit: str) -> _Finding:
    row, width, height = seen.pictures
    first: dict[int, int] = {}
    for place in np.flatnonzero(is_wrong).tolist():
        first.setdefault(int(row[place]), place)
    fails = np.zeros(seen.batch.num_rows, dtype=bool)
    fails[list(first)] = True
    return _Finding(
        reason, fails, lambda row: f"{width[first[row]]} x {height[first[row]]} px, {limit}"
    )


def _answer(turns: Turns, is_chosen: np.ndarray, row: int) -> str:
    """Return how the first chosen answer of a sample begins."""
    end = int(turns.lengths[: row + 1].sum())
    start = end - int(turns.lengths[row])
    place = start + int(np.flatnonzero(is_chosen[start:end])[0])
    text: Any = turns.text[place].as_py()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
