"""In which order a source's samples are taken: by hash, by score, or as diverse as can be.

Arrays of numbers in, an order out; no text is looked at. A sample's place depends on the seed and
on what the sample is, never on its row, on other sources or on the number of workers. `random` and
`quality` give every sample a place of its own, so that a new one only moves those behind it;
`diverse` looks at how many others share a picture or an opening.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cambrian_data.curation.words import mix
from cambrian_data.records import content_id

Choice = Literal["random", "quality", "diverse"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The samples of one source in one category, one number each; arrays of equal length."""

    hashes: np.ndarray
    """uint64, from `hash_keys`."""
    id_lo: np.ndarray
    """uint64, decides between equal hashes; the row does where that is equal too."""
    quality: np.ndarray | None = None
    """float32, higher is better, nan where there is no score; for `quality`."""
    picture: np.ndarray | None = None
    """uint64, equal for equal pictures, 0 for none; for `diverse`."""
    opening: np.ndarray | None = None
    """uint64, equal for questions that begin alike, 0 for none; for `diverse`."""


def line_up(samples: Candidates, choice: Choice) -> np.ndarray:
    """Return the samples' numbers in the order in which they are taken (int64).

    random: by hash. quality: the best score first, those without one last, then by hash. diverse:
    how many with its picture stand before it, then how many with its opening, then by hash.

    Raises:
        ValueError: the choice needs a column that is not given.
    """
    line = _by_hash(samples)
    if choice == "random":
        return line
    if choice == "quality":
        if samples.quality is None:
            raise ValueError("choice: quality needs the column quality")
        quality = samples.quality[line]
        quality = np.where(np.isnan(quality), -np.inf, quality)
        return line[np.argsort(-quality, kind="stable")]
    if samples.picture is None or samples.opening is None:
        raise ValueError("choice: diverse needs the columns picture and opening")
    of_picture = nth_of_its_kind(samples.picture[line])
    by_picture = np.argsort(of_picture, kind="stable")
    line, of_picture = line[by_picture], of_picture[by_picture]
    of_opening = nth_of_its_kind(samples.opening[line])
    return line[np.lexsort((of_opening, of_picture))]


def _by_hash(samples: Candidates) -> np.ndarray:
    line = np.argsort(samples.hashes, kind="stable")
    in_order = samples.hashes[line]
    is_tie = in_order[1:] == in_order[:-1]  # equal ids, where duplicates were kept
    if is_tie.any():
        tied = np.flatnonzero(np.r_[is_tie, False] | np.r_[False, is_tie])
        rows = line[tied]
        line[tied] = rows[np.lexsort((samples.id_lo[rows], samples.hashes[rows]))]
    return line


def nth_of_its_kind(kinds: np.ndarray) -> np.ndarray:
    """Return for every place how many equal kinds stand before it (int64); 0 equals nothing."""
    line = np.argsort(kinds, kind="stable")
    in_order = kinds[line]
    places = np.arange(len(kinds))
    is_first = np.ones(len(kinds), dtype=bool)
    is_first[1:] = in_order[1:] != in_order[:-1]
    starts = np.maximum.accumulate(np.where(is_first, places, 0))
    found = np.empty(len(kinds), dtype=np.int64)
    found[line] = np.where(in_order == 0, 0, places - starts)
    return found


# ------------------------------------------------------------------------------------ hashes


def hash_keys(id_hi: np.ndarray, seed: int) -> np.ndarray:
    """Return a hash of seed and id (uint64): different for different `id_hi`, since `mix` is."""
    return mix(id_hi ^ np.uint64(int(content_id("mixture", seed)[:16], 16)))
