"""Look-alikes removed: of each group the samples of one picture and one source stay.

All pictures that the samples of a pool name, as flat arrays -> the rows to drop, and what each of
them looks like. Held in memory are some 40 bytes for each picture of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cambrian_data.curation.duplicates.look_alikes import Pictures


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows to drop, each with the picture and the source that stay in its group."""

    rows: np.ndarray
    """int64 [k], ascending."""
    picture: np.ndarray
    """int64 [k]: the place of the picture that stays."""
    source: np.ndarray
    """int64 [k]: the source whose samples of it stay."""

    def details(self, pictures: Pictures, source_names: Sequence[str]) -> pa.Array:
        """Return for every row to drop what it looks like, in words."""
        names = pictures.names(self.picture)
        return pa.array(
            [
                f"looks like {name} of {source_names[source]}"
                for name, source in zip(names, self.source.tolist(), strict=True)
            ],
            pa.string(),
        )


def removed(
    row: np.ndarray,
    picture: np.ndarray,
    source: np.ndarray,
    *,
    group: np.ndarray,
    source_rank: np.ndarray,
    pictures: Pictures,
    num_rows: int,
) -> Removed:
    """Return the rows that go where look-alikes are removed.

    Of each group one (picture, source) stays: that of the source that is preferred, then the one
    with the most samples, then with the most pixels, then with the smallest content hash. A picture
    that several sources hold is a group too, and one of them keeps it. A row with several pictures
    goes only where all of them stay elsewhere; a picture that was not read keeps its row.

    Args:
        row: the sample of every picture that is named, int64 [r].
        picture: its place in `pictures`, -1 where it was not read.
        source: its sample's source as a number.
        group: from `look_alikes.groups`.
        source_rank: the rank of every source, 0 best; equal ranks are allowed.
        num_rows: samples in the pool.
    """
    known = np.flatnonzero(picture >= 0)
    num_sources = max(len(source_rank), 1)
    choice = picture[known].astype(np.int64) * num_sources + source[known]
    choices, number, count = np.unique(choice, return_inverse=True, return_counts=True)
    shown, by = np.divmod(choices, num_sources)
    pixels = pictures.width[shown].astype(np.int64) * pictures.height[shown]
    of_group = group[shown]
    order = np.lexsort((by, shown, -pixels, -count, source_rank[by], of_group))
    is_first = np.r_[True, of_group[order][1:] != of_group[order][:-1]][: len(order)]
    kept_of_group = np.full(len(group), -1, dtype=np.int64)
    kept_of_group[of_group[order[is_first]]] = order[is_first]
    kept = kept_of_group[of_group][number]  # the choice that stays, for every known picture
    stays = np.ones(len(row), dtype=bool)
    stays[known] = kept == number
    has_one = np.bincount(row[stays], minlength=num_rows) > 0
    has_lost = np.bincount(row[~stays], minlength=num_rows) > 0
    goes = has_lost & ~has_one
    lost = known[~stays[known] & goes[row[known]]]
    rows, first = np.unique(row[lost], return_index=True)
    staying = np.full(len(row), -1, dtype=np.int64)
    staying[known] = kept
    at = staying[lost[first]]
    return Removed(rows, shown[at], by[at])
