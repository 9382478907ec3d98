"""Which samples a rank takes in which step, in which rows and micro batches.

A pure function of the index, the options and the rank; nothing is read but the index.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cambrian_data.records import UserError
from cambrian_model.layout import StaticShape
from cambrian_model.loading.order import OrderOptions, SampleOrder
from cambrian_model.loading.row_packing import deal_rows, pack_rows
from cambrian_model.loading.samples import Samples

_MIB = 2**20

Plan = list[list[list[int]]]
"""A rank's share of a step: micro batches of rows of samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions(OrderOptions):
    """How samples come to a rank."""

    micro_batch: int | None = None
    """Most rows that go through the model at once; None: a rank's whole share."""
    packing: bool = False
    """Put several samples into one row."""
    row_tokens: int | None = None
    """Tokens of a packed row; None: as many as the longest sample may have."""
    static: StaticShape | None = None
    """Gives every micro batch the same shapes."""
    num_workers: int = 0
    """Processes that read and decode; 0: this one."""
    prefetch: int = 2
    """Steps that the workers are ahead."""
    ahead_bytes: int = 4096 * _MIB
    """Most memory for pictures that were made ahead."""
    picture_cache_bytes: int = 0
    """Memory for decoded pictures that are kept, over all workers."""
    max_bad_share: float = 0.05
    """Share of samples that may be unusable, those of the index counted, before this stops."""


class StepPlanner:
    """Plans the steps of one rank."""

    def __init__(
        self, samples: Samples, options: LoaderOptions, rank: int, world_size: int
    ) -> None:
        """Check the options.

        Raises:
            UserError: they do not go together or do not fit the samples.
        """
        _check_shapes(options, samples)
        _check_room(options, samples)
        self._samples, self._options = samples, options
        self._rank, self._world_size = rank, world_size
        self._order = SampleOrder(samples.index, options)
        self._expected = False

    @property
    def num_rows(self) -> int | None:
        """Return the rows that every micro batch has, where shapes are static."""
        if self._options.static is None:
            return None
        return self._options.micro_batch or -(-self._options.global_batch // self._world_size)

    def plan(self, step: int) -> Plan:
        """Return the rank's share of a step."""
        rows = self._rows(self._order.batch(step))
        lengths = self._samples.index.columns["num_tokens"]
        costs = [int(lengths[row].sum()) for row in rows]
        dealt = deal_rows(costs, self._world_size, self.num_rows or self._options.micro_batch)
        return [[rows[at] for at in part] for part in dealt[self._rank]]

    def _rows(self, numbers: np.ndarray) -> list[list[int]]:
        """Return the rows of a global batch."""
        options, columns = self._options, self._samples.index.columns
        if not options.packing:
            return [[int(number)] for number in numbers]
        make, static = self._samples.make, options.static
        pictures = columns["num_pictures"][numbers].tolist()
        if static is None:
            lengths = columns["num_tokens"][numbers].tolist()
            packed = pack_rows(lengths, pictures, options.row_tokens or make.max_tokens)
        else:
            slots = static.pictures_per_row
            room = static.num_tokens - slots * make.side * (make.side + 1)
            packed = pack_rows(columns["num_text"][numbers].tolist(), pictures, room, slots)
        return [[int(numbers[at]) for at in row] for row in packed]

    def expect(self, step: int) -> None:
        """Have the remote shards fetched that the next window of samples needs."""
        files, batch = self._samples.files, self._options.global_batch
        if not files.is_remote:
            return
        window = min(self._options.window_shards or len(files), len(files))
        ahead = len(self._samples) * window // len(files) + _grouped(self._options) + batch
        if self._expected and step % max(ahead // (4 * batch), 1):
            return
        self._expected = True
        numbers = self._order.stretch(step * batch, ahead)
        shards = self._samples.index.columns["shard"][numbers]
        present, first = np.unique(shards, return_index=True)
        files.expect(present[np.argsort(first)].tolist())


def distinct(plan: Plan) -> list[int] | list[None]:
    """Return the samples of a plan in order, or [None] where there are none.

    Each once: an epoch may be shorter than a batch.
    """
    return list(dict.fromkeys(number for rows in plan for row in rows for number in row)) or [None]


def _check_shapes(options: LoaderOptions, samples: Samples) -> None:
    static, make = options.static, samples.make
    if (static.pictures_per_row if static else None) != make.pictures_per_row:
        raise UserError(
            f"static shapes with {static.pictures_per_row if static else 'no'} pictures a row need "
            f"samples that were indexed for them, not for {make.pictures_per_row}; give both the "
            "same pictures_per_row"
        )
    if static is not None and make.max_tokens > static.num_tokens:
        raise UserError(
            f"rows have {static.num_tokens} tokens and samples up to {make.max_tokens}; lower "
            "max_tokens or make the rows longer"
        )
    if static is not None and options.packing and options.micro_batch is None:
        raise UserError("packing with static shapes needs micro_batch: the rows of every batch")


def _check_room(options: LoaderOptions, samples: Samples) -> None:
    files = samples.files
    if not files.is_remote:
        return
    largest = max(entry["bytes"] for entry in files.entries)
    window = min(options.window_shards or len(files), len(files))
    grouped = -(-_grouped(options) * len(files) // len(samples))
    needed = largest * min(2 * window + grouped, len(files))
    if needed > files.max_bytes:
        raise UserError(
            f"shuffling {window} shards together needs room for {needed / 2**30:.1f} GiB of "
            f"copies, and {files.max_bytes / 2**30:.1f} are allowed; set data.window_shards to "
            f"{max((files.max_bytes // largest - grouped) // 2, 1)} or less, or raise data.cache_mb"
        )


def _grouped(options: LoaderOptions) -> int:
    """Return how many samples are grouped together."""
    return options.global_batch * options.mega_batch if options.group_by != "none" else 0
