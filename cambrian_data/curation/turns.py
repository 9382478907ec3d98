"""A batch's turns as flat columns, so that stages can work on whole columns at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BATCH_ROWS = 50_000
"""Samples that stages look at in one go: bounds what they hold beside the table."""


@dataclass(frozen=True, slots=True)
class Turns:
    """All turns of a batch, one after the other."""

    num_rows: int
    lengths: np.ndarray
    """Turns of every sample."""
    row: np.ndarray
    """The sample that a turn belongs to."""
    position: np.ndarray
    """The turn's place in its sample, from 0."""
    is_human: np.ndarray
    text: pa.Array

    def any(self, is_so: np.ndarray) -> np.ndarray:
        """Return for every sample whether something is so for one of its turns."""
        return np.bincount(self.row[is_so], minlength=self.num_rows) > 0

    def total(self, numbers: np.ndarray) -> np.ndarray:
        """Return for every sample the sum of a number over its turns."""
        sums = np.bincount(self.row, weights=numbers, minlength=self.num_rows)
        return sums.astype(np.int64)


def turns_of(batch: pa.RecordBatch) -> Turns:
    """Return the turns of a batch of samples as flat columns."""
    conversations = batch.column("conversations")
    lengths = numbers(pc.list_value_length(conversations))
    flat = conversations.flatten()
    row = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    return Turns(
        num_rows=len(lengths),
        lengths=lengths,
        row=row,
        position=np.arange(len(flat)) - starts[row],
        is_human=flags(pc.equal(flat.field("from"), "human")),
        text=flat.field("value"),
    )


def batches_of(samples: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield a table's rows in order in batches of bounded size."""
    yield from samples.to_batches(max_chunksize=BATCH_ROWS)


def numbers(array: Any) -> np.ndarray:
    """Return an Arrow array of numbers as numpy integers."""
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.int64)


def flags(array: Any) -> np.ndarray:
    """Return an Arrow array of booleans as numpy booleans."""
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)
