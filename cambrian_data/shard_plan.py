"""How a mixture is cut into shards: the recipe's section, and which samples go into which file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from cambrian_data.recipes import Config
from cambrian_data.tarfiles import room_in


class ReencodeConfig(Config):
    """How pictures are written anew into the shards; the stored ones stay as they are."""

    format: Literal["jpeg", "png", "webp"] = "jpeg"
    """File format of all pictures."""
    quality: int = Field(default=90, ge=1, le=100)
    """Of JPEG and WebP."""
    max_side_px: int | None = Field(default=None, ge=16)
    """Longer side; larger pictures are scaled down."""


class ShardsConfig(Config):
    """How a mixture is cut into tar files."""

    max_bytes: int = Field(default=256 * 2**20, ge=2**16)
    """Size of one tar file; a sample larger than that gets a file of its own."""
    max_samples: int = Field(default=10_000, ge=1)
    """Samples in one tar file."""
    reencode: ReencodeConfig | None = None
    """Pictures are written anew in this form; null packs the stored bytes."""
    equal_for_ranks: int | None = Field(default=None, ge=1)
    """Number of ranks that are to get equally many samples, rank r reading shards r, r + ranks and
    so on: shards come in rounds of equal ones, and the samples that do not divide, fewer than the
    ranks, are left out and named in the index."""
    uniform_names: bool = True
    """Every picture is named `KEY.N.jpg` whatever its format: `datasets` makes a column of every
    name, and readers look at the content. false gives each the ending of its format."""


def plan_shards(
    sizes: Sequence[int] | np.ndarray, config: ShardsConfig, first: int | None = None
) -> list[range]:
    """Cut samples, given by their sizes in bytes and taken in order, into shards.

    Args:
        first: the first shard has at most so many samples.
    """
    ends = np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))])
    plan: list[range] = []
    start, total, room = 0, len(sizes), room_in(config.max_bytes)
    num_ranks = config.equal_for_ranks or 1
    while total - start >= num_ranks:
        most = min(config.max_samples, (total - start) // num_ranks)
        if not plan and first:
            most = min(most, first)
        if num_ranks == 1:
            count = int(np.searchsorted(ends, ends[start] + room, side="right")) - 1 - start
            count = min(max(count, 1), most)
        else:
            count = _equal_count(ends, start, num_ranks, most, room)
        plan += [range(at, at + count) for at in range(start, start + num_ranks * count, count)]
        start += num_ranks * count
    return plan


def _equal_count(ends: np.ndarray, start: int, num_ranks: int, most: int, room: int) -> int:
    """Return how many samples each shard of a round holds so that the largest of them fits."""
    count = most
    while count > 1:
        edges = start + count * np.arange(num_ranks + 1)
        largest = int(np.diff(ends[edges]).max())
        if largest <= room:
            break
        count = max(1, min(count - 1, count * room // largest))
    return count
