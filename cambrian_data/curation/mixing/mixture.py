"""Which samples make the mixture: the planned number of every source, and why not the others.

Works on numbers alone, one row a sample of the pool: each source's samples are lined up (choice.py)
and the plan's number is taken from the front. So neither the order of the pool nor other sources
decide about a sample. Source by source: beside its columns it holds some 30 bytes a row, and takes
about 0.3 microseconds for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from cambrian_data.curation.mixing.choice import Candidates, hash_keys, line_up
from cambrian_data.curation.mixing.plan import (
    PUBLISHED_RATIOS,
    CategoryShare,
    MixtureConfig,
    MixturePlan,
    SourceShare,
    is_named,
    plan_mixture,
)
from cambrian_data.records import UserError

__all__ = [
    "FRAME",
    "PUBLISHED_RATIOS",
    "CategoryShare",
    "Chosen",
    "MixtureConfig",
    "MixturePlan",
    "Reason",
    "SourceShare",
    "choose",
    "count_sources",
    "plan_mixture",
]


FRAME: dict[str, pl.DataType] = {
    "source": pl.UInt32(),
    "category": pl.UInt32(),
    "id_hi": pl.UInt64(),
    "id_lo": pl.UInt64(),
    "quality": pl.Float32(),
    "picture": pl.UInt64(),
    "opening": pl.UInt64(),
}
"""Columns of the frame that is chosen from: places in the lists of source and category names, the
first and the next 16 hex digits of the id, and what `choice` may need: `quality` (nan: no score)
for quality; `picture` and `opening` (0: none) for diverse."""

_TAKEN = -1
_OVER_CAP, _OTHER = 0, 1


@dataclass(frozen=True, slots=True)
class Reason:
    """Why samples of a source are left out: a word from `DROP_REASONS`, and a sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows of a frame are taken, and why the others are not."""

    copies: np.ndarray
    """How many times each row is taken, int32 [rows]; 0: not at all."""
    why: np.ndarray
    """The number of each row's reason in `reasons`, int32 [rows]; -1 where it is taken."""
    reasons: tuple[Reason, ...]

    def drop_columns(self, rows: slice | np.ndarray) -> tuple[pa.Array, pa.Array]:
        """Return reason and detail (strings) of rows that are not taken.

        Args:
            rows: a slice or row numbers; all of them dropped rows.
        """
        why = pa.array(self.why[rows])
        reasons = pa.array([reason.reason for reason in self.reasons], pa.string())
        details = pa.array([reason.detail for reason in self.reasons], pa.string())
        return reasons.take(why), details.take(why)

    def counts(self) -> dict[str, int]:
        """Return how many rows each reason drops."""
        numbers = np.bincount(self.why[self.why != _TAKEN], minlength=len(self.reasons))
        found: dict[str, int] = {}
        for reason, number in zip(self.reasons, numbers.tolist(), strict=True):
            if number:
                found[reason.reason] = found.get(reason.reason, 0) + number
        return dict(sorted(found.items()))


def count_sources(
    frame: pl.DataFrame, *, sources: Sequence[str], categories: Sequence[str]
) -> dict[tuple[str, str], int]:
    """Count a frame's rows by (source, category), by name."""
    width = max(len(categories), 1)
    pairs = frame["source"].to_numpy().astype(np.int64) * width + frame["category"].to_numpy()
    numbers = np.bincount(pairs, minlength=len(sources) * width)
    return {
        (sources[pair // width], categories[pair % width]): int(numbers[pair])
        for pair in np.flatnonzero(numbers).tolist()
    }


def choose(
    frame: pl.DataFrame,
    plan: MixturePlan,
    config: MixtureConfig,
    *,
    sources: Sequence[str],
    categories: Sequence[str],
) -> Chosen:
    """Choose the planned number of rows of every source.

    Where a plan takes more of a source than it has, every row is taken equally often, and the rows
    at the front once more.

    Args:
        frame: columns of `FRAME`, one row a sample.
        sources, categories: the names that the frame's codes stand for.
    Raises:
        ValueError: the plan was made from other counts, or a column is missing.
        UserError: the choice goes by a score that no row has.
    """
    counted = count_sources(frame, sources=sources, categories=categories)
    if counted != {(s.source, s.category): s.have for s in plan.sources if s.have}:
        raise ValueError("the plan was made from another pool: its counts are not this frame's")
    columns = _columns(frame, config)
    shares = [share for share in plan.sources if share.have]
    rows = np.argsort(_groups(frame, shares, sources, categories), kind="stable")
    copies = np.zeros(len(frame), dtype=np.int32)
    why = np.full(len(frame), _TAKEN, dtype=np.int32)
    ends = np.cumsum([share.have for share in shares], dtype=np.int64)
    for number, (share, end) in enumerate(zip(shares, ends.tolist(), strict=True)):
        own = rows[end - share.have : end]
        whole, over = divmod(share.take, share.have)
        # A source that is left out whole has one reason for all of its rows.
        cap = share.cap if not _is_left_out(share, plan) else share.have
        if over or (not whole and 0 < cap < share.have):
            own = own[line_up(_candidates(columns, own, config.seed), config.choice)]
        copies[own] = whole
        copies[own[:over]] += 1
        if not whole:
            why[own[over:]] = 2 * number + _OTHER
            why[own[max(over, cap) :]] = 2 * number + _OVER_CAP
    takes = {share.category: share.take for share in plan.categories}
    reasons = tuple(reason for share in shares for reason in _reasons(share, plan, config, takes))
    return Chosen(copies, why, reasons)


# ---------------------------------------------------------------------------------- pieces


def _columns(frame: pl.DataFrame, config: MixtureConfig) -> dict[str, np.ndarray]:
    """Return the columns that the choice needs, each in one piece."""
    extra = {"quality": ["quality"], "diverse": ["picture", "opening"]}.get(config.choice, [])
    if missing := [name for name in ("id_hi", "id_lo", *extra) if name not in frame.columns]:
        raise ValueError(f"choice: {config.choice} needs the columns {', '.join(missing)}")
    columns = {name: frame[name].to_numpy() for name in ("id_hi", "id_lo", *extra)}
    if "quality" in extra and len(frame) and np.isnan(columns["quality"]).all():
        raise UserError(
            f"mixture.choice: quality goes by the score {config.score!r}, and no sample has it: "
            "name one that the pool has in mixture.score, join a table of scores, or choose by "
            "random or diverse"
        )
    return columns


def _groups(
    frame: pl.DataFrame,
    shares: Sequence[SourceShare],
    sources: Sequence[str],
    categories: Sequence[str],
) -> np.ndarray:
    """Return for every row the number of its source's share."""
    source_codes = {name: code for code, name in enumerate(sources)}
    category_codes = {name: code for code, name in enumerate(categories)}
    # The sort of 16-bit numbers is a radix sort, linear in the rows.
    kind = np.uint16 if len(shares) <= np.iinfo(np.uint16).max else np.uint32
    numbers = np.zeros((len(sources), len(categories)), dtype=kind)
    for number, share in enumerate(shares):
        numbers[source_codes[share.source], category_codes[share.category]] = number
    return numbers[frame["source"].to_numpy(), frame["category"].to_numpy()]


def _candidates(columns: dict[str, np.ndarray], rows: np.ndarray, seed: int) -> Candidates:
    own = {name: column[rows] for name, column in columns.items()}
    return Candidates(hashes=hash_keys(own.pop("id_hi"), seed), **own)


def _is_left_out(share: SourceShare, plan: MixturePlan) -> bool:
    """Return whether a source that a cap lets in is left out all the same."""
    is_out = share.category in plan.without_ratio or share.source in plan.too_small
    return is_out and share.cap > 0


def _reasons(
    share: SourceShare, plan: MixturePlan, config: MixtureConfig, takes: dict[str, int]
) -> list[Reason]:
    """Return what is said of a share's rows beyond its cap, and of the others."""
    if is_named(share.source, config):
        over_cap = f"{share.source} has {share.have}, its cap is {share.cap}"
    else:
        over_cap = f"{share.source} is not one of mixture.sources"
    if share.category in plan.without_ratio:
        other = Reason("over_ratio", f"{share.category} has no ratio")
    elif share.source in plan.too_small:
        other = Reason("too_few", f"{share.source} has {share.have}, fewer than min_per_source")
    else:
        gives = f"{share.category} gives {takes[share.category]}"
        other = Reason("over_ratio", f"{gives}, {share.take} of them {share.source}")
    return [Reason("over_cap", over_cap), other]
