"""Which rows of the pool stay: every row's fate, decided on numbers alone.

Rows go for the first reason that holds, in the order of `STAGES`. Of rows that say the same one is
kept by rank (longer answers, then the source's priority, then the id, then the source's name), so
that neither the order of the pool nor the number of workers makes a difference. Copies within one
source have nothing else to tell them apart: of them the first stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from cambrian_data.curation.duplicates.dedup import DedupConfig, preference
from cambrian_data.curation.duplicates.exact import duplicates
from cambrian_data.curation.index import Rows
from cambrian_data.curation.words import mix
from cambrian_data.records import CLUSTER

STAGES = (
    "checks",
    "quality",
    "decontaminate",
    "picture_dedup",
    "exact_dedup",
    "near_dedup",
    "mixture",
)
"""What a row goes through, in order."""

ALIVE = -1
TEXT_ONLY = np.uint64(0)
"""The picture set of a row without pictures."""


@dataclass(slots=True)
class Fates:
    """What became of every row so far."""

    rows: Rows
    stage: np.ndarray
    """int8: place in `STAGES` of the stage that dropped the row, `ALIVE` where none did."""
    partner: np.ndarray
    """int64: the row that a duplicate is one of; itself elsewhere."""
    similarity: np.ndarray
    """float32: how like its partner a duplicate is."""
    sets: np.ndarray
    """uint64: the pictures of every row as one number; `TEXT_ONLY` where it has none."""
    pictures: dict[str, Any] = field(default_factory=dict)
    """What was seen of pictures that look alike."""
    explained: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Reason and detail of rows that stand in another set, or whose picture does."""

    @classmethod
    def of(cls, rows: Rows) -> Fates:
        """Return the fates after the rules on single rows."""
        stages = [STAGES.index(stage) if stage else ALIVE for stage, _ in rows.verdicts]
        return cls(
            rows=rows,
            stage=np.array(stages, dtype=np.int8)[rows.verdict],
            partner=np.arange(len(rows)),
            similarity=np.ones(len(rows), dtype=np.float32),
            sets=np.zeros(len(rows), dtype=np.uint64),
        )

    @property
    def is_alive(self) -> np.ndarray:
        """Which rows are still there."""
        return self.stage == ALIVE

    def drop_copies(self, stage: str, keeper: np.ndarray, similarity: np.ndarray | None) -> None:
        """Drop all rows whose keeper (over all rows) is another row."""
        lost = np.flatnonzero((keeper != np.arange(len(keeper))) & self.is_alive)
        self.stage[lost] = STAGES.index(stage)
        self.partner[lost] = keeper[lost]
        if similarity is not None:
            self.similarity[lost] = similarity[lost]

    def drop_explained(self, stage: str, found: Mapping[int, tuple[str, str]]) -> None:
        """Drop rows at a stage; `found` has reason and detail by row."""
        here = {row: why for row, why in found.items() if self.stage[row] == ALIVE}
        self.stage[list(here)] = STAGES.index(stage)
        self.explained |= here

    def flow(self) -> list[dict[str, Any]]:
        """Return the rows in and out of every stage up to the mixture."""
        steps, left = [], len(self.rows)
        for number, stage in enumerate(STAGES[:-1]):
            lost = np.flatnonzero(self.stage == number)
            step = {"stage": stage, "in": left, "out": left - len(lost), "drops": {}}
            step["drops"] = self._reasons(stage, lost)
            left -= len(lost)
            steps.append(step)
        return steps

    def _reasons(self, stage: str, lost: np.ndarray) -> dict[str, int]:
        if stage in _ONE_REASON:
            return {_ONE_REASON[stage]: len(lost)} if len(lost) else {}
        if stage == "decontaminate":
            return dict(sorted(Counter(self.explained[row][0] for row in lost.tolist()).items()))
        counts = np.bincount(self.rows.verdict[lost], minlength=len(self.rows.verdicts))
        named = {self.rows.verdicts[code][1]: int(n) for code, n in enumerate(counts) if n}
        return dict(sorted(named.items()))

    def by_source(self) -> list[dict[str, Any]]:
        """Return for every (source, category) the rows it has and those lost at each stage."""
        frame = pl.DataFrame(
            {"source": self.rows.source, "category": self.rows.category, "stage": self.stage}
        )
        counts = frame.group_by("source", "category", "stage").len().sort(pl.all())
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for source, category, stage, count in counts.iter_rows():
            row = found.setdefault(
                (source, category),
                {
                    "source": self.rows.sources[source],
                    "category": self.rows.categories[category],
                    "have": 0,
                    **dict.fromkeys(STAGES[:-1], 0),
                },
            )
            row["have"] += count
            if stage != ALIVE:
                row[STAGES[stage]] += count
        return [found[key] for key in sorted(found)]


_ONE_REASON = {
    "picture_dedup": "picture_duplicate",
    "exact_dedup": "exact_duplicate",
    "near_dedup": "near_duplicate",
}


# ------------------------------------------------------------------------------------ rank


def rank_of(rows: Rows, config: DedupConfig) -> np.ndarray:
    """Return every row's place in the order in which rows are kept: int64, 0 is the best."""
    preferred = np.array(
        [preference(source, config.prefer_sources) for source in rows.sources], dtype=np.int32
    )
    frame = pl.DataFrame(
        {
            "answer": rows.answer,
            "preference": preferred[rows.source] if len(rows) else rows.source,
            "id_hi": rows.id_hi,
            "id_lo": rows.id_lo,
            "source": rows.source,  # numbers in the order of the names
            "category": rows.category,
        }
    )
    order = frame.select(
        pl.arg_sort_by(
            ["answer", "preference", "id_hi", "id_lo", "source", "category"],
            descending=[True, *[False] * 5],
            maintain_order=True,
        )
    ).to_series()
    rank = np.empty(len(rows), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(rows))
    return rank


# -------------------------------------------------------------------------------- pictures


def picture_sets(rows: Rows, stands_for: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """Return 64 bits for the pictures of every row, in their order; `TEXT_ONLY` for none.

    Args:
        stands_for: pictures (sorted) and the ones that they count as, where look-alikes count as
            one picture.
    """
    pictures = rows.pictures
    if stands_for is not None and len(stands_for[0]):
        place = np.searchsorted(stands_for[0], pictures)
        place = np.minimum(place, len(stands_for[0]) - 1)
        is_known = stands_for[0][place] == pictures
        pictures = np.where(is_known, stands_for[1][place], pictures)
    counts = np.diff(rows.picture_ends, prepend=0)
    starts = rows.picture_ends - counts
    position = np.arange(len(pictures)) - np.repeat(starts, counts)
    spread = mix(pictures + position.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    sets = np.zeros(len(rows), dtype=np.uint64)
    has = counts > 0
    if has.any():
        sets[has] = np.add.reduceat(spread, starts[has])
        sets[has] = np.maximum(mix(sets[has]), np.uint64(1))
    return sets


# ------------------------------------------------------------------------------ duplicates


def exact_keepers(rows: Rows, alive: np.ndarray, sets: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return for every row the one that is kept of all that say the same (itself mostly)."""
    keeper = np.arange(len(rows))
    here = np.flatnonzero(alive)
    keys = np.stack([rows.text_hi[here], rows.text_lo[here], sets[here]], axis=1)
    keeper[here] = here[duplicates(keys, rank[here])]
    return keeper


def near_candidates(alive: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Return the rows (in order) that share their pictures with another row that is alive."""
    here = np.flatnonzero(alive)
    frame = pl.DataFrame({"row": here, "set": sets[here]})
    return frame.filter(pl.len().over("set") > 1)["row"].to_numpy()


# ---------------------------------------------------------------------------------- tables


def clusters_of(fates: Fates, stage: str) -> Iterator[pa.Table]:
    """Yield the clusters of a stage as tables (`CLUSTER`) of bounded size.

    A cluster is named after the row that was kept, which stands in it too.
    """
    number = STAGES.index(stage)
    lost = np.flatnonzero(fates.stage == number)
    lost = lost[fates.partner[lost] != lost]
    order = np.lexsort((fates.rows.id_lo[lost], fates.rows.id_hi[lost], fates.partner[lost]))
    lost = lost[order]
    for start in range(0, len(lost), _CLUSTER_ROWS):
        some = lost[start : start + _CLUSTER_ROWS]
        partners = fates.partner[some]
        kept, place = np.unique(partners, return_inverse=True)
        if start:  # a cluster that began in the table before has its kept row there
            new = kept[kept != fates.partner[lost[start - 1]]]
        else:
            new = kept
        names, kept_names = fates.rows.ids(some), fates.rows.ids(kept)
        named = dict(zip(kept.tolist(), kept_names, strict=True))
        first = [named[row] for row in new.tolist()]
        columns = [
            pa.array([stage] * (len(new) + len(some)), pa.string()),
            pa.array(first + [kept_names[one] for one in place.tolist()], pa.string()),
            pa.array(first + names, pa.string()),
            pa.array([True] * len(new) + [False] * len(some), pa.bool_()),
            pa.array([1.0] * len(new) + fates.similarity[some].tolist(), pa.float32()),
        ]
        table = pa.Table.from_arrays(columns, schema=CLUSTER)
        yield table.sort_by(
            [("cluster", "ascending"), ("kept", "descending"), ("sample_id", "ascending")]
        )


_CLUSTER_ROWS = 200_000


def alarms(sources: Sequence[Mapping[str, Any]], limit: float) -> list[dict[str, Any]]:
    """Return the sources that lost a larger share than `limit` to duplicates, worst first."""
    totals: dict[str, list[int]] = {}
    for row in sources:
        total = totals.setdefault(row["source"], [0, 0])
        total[0] += sum(row[stage] for stage in _ONE_REASON)
        total[1] += row["have"]
    found = [
        {
            "source": source,
            "lost": lost,
            "have": have,
            "share": round(lost / have, 6),
            "limit": limit,
        }
        for source, (lost, have) in totals.items()
        if lost > limit * have
    ]
    return sorted(found, key=lambda row: (-row["share"], row["source"]))
