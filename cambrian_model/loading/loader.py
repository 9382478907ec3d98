"""Samples -> the batches of each optimizer step, for one rank of any number.

The samples of a step depend on the data, the seed and the global batch alone (`order`), so a run
goes on exactly where it stopped with another number of ranks, micro batch or packing. Reading and
decoding run ahead in worker processes, within a bound; results are taken in order, so that the
number of workers changes nothing either. A sample that cannot be loaded is counted and left out.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cambrian_data.records import UserError
from cambrian_model.batches import Batch, Collator
from cambrian_model.loading.examples import BadSamplesError, Example
from cambrian_model.loading.picture_store import (
    FeatureStore,
    ShownPicture,
    crops_of,
    shown_pictures,
)
from cambrian_model.loading.read_ahead import ReadAhead
from cambrian_model.loading.sample_reader import Fault, Loaded, SampleReader
from cambrian_model.loading.samples import Samples
from cambrian_model.loading.step_plan import LoaderOptions, Plan, StepPlanner, distinct
from cambrian_model.vision import TowerSpec

_log = logging.getLogger(__name__)
_JUDGED = 1000
"""Samples over which the share of those that cannot be loaded is judged at first."""
_NAMED = 5
"""Samples that an error names."""


@dataclass(slots=True)
class StepBatch:
    """What a rank does for one optimizer step."""

    micro: Sequence[Batch]
    """The same number on every rank; made anew each time one is taken. Where all samples of a
    micro batch were lost it is a row of one token without labels."""
    sample_ids: list[str]
    num_tokens: int
    num_trained: int
    """Labels that are predicted, on this rank; 0 where every sample was lost."""
    skipped: dict[str, int]
    """Samples of this step and rank that could not be loaded, by reason."""
    wait_s: float
    """Seconds that the step waited for its data."""

    @property
    def num_samples(self) -> int:
        """Return the samples of this step and rank."""
        return len(self.sample_ids)


@dataclass(frozen=True, slots=True)
class _MicroBatches(Sequence[Batch]):
    """Micro batches, made when they are taken: pixels of a whole step would be too many."""

    makers: Sequence[Callable[[], Batch]]

    def __len__(self) -> int:
        return len(self.makers)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return _MicroBatches(self.makers[at])
        return self.makers[at]()

    def __iter__(self) -> Iterator[Batch]:
        return (make() for make in self.makers)


class Loader:
    """An endless sequence of steps. Close it, or use it as a context manager."""

    def __init__(
        self,
        samples: Samples,
        options: LoaderOptions,
        specs: Sequence[TowerSpec],
        *,
        pad_token_id: int,
        rank: int = 0,
        world_size: int = 1,
        features: FeatureStore | None = None,
        consumed: int = 0,
    ) -> None:
        """Stand at a position in the data; workers start with the first step.

        Args:
            specs: of the towers, in order.
            features: gives features instead of pixels, where all towers are frozen.
            consumed: samples that were taken before, by all ranks.
        Raises:
            UserError: options that do not go together or do not fit the samples.
        """
        self.samples, self.options = samples, options
        self.rank, self.world_size = rank, world_size
        self._crops, self._features = crops_of(specs), features
        self._collate = Collator(
            side=samples.make.side,
            pad_token_id=pad_token_id,
            crops=self._crops,
            static=options.static,
            features=features,
        )
        self._planner = StepPlanner(samples, options, rank, world_size)
        # Each worker has a cache of its own.
        cache_bytes = options.picture_cache_bytes // max(options.num_workers, 1)
        self._reader = SampleReader(samples.make, self._crops, cache_bytes)
        self._read_ahead = ReadAhead(
            samples,
            self._reader,
            with_pixels=features is None,
            num_workers=options.num_workers,
        )
        self._data = samples.index.sequence_id(with_lengths=options.group_by == "length")
        self._loaded, self._faults = 0, dict[int, Fault]()
        self._go_to(consumed)

    # -------------------------------------------------------------------------- position

    @property
    def samples_per_epoch(self) -> int:
        """Return the samples of an epoch, over all ranks."""
        return len(self.samples)

    def steps(self, epochs: float) -> int:
        """Return the steps that show all samples so many times."""
        return -(-int(np.ceil(epochs * len(self.samples))) // self.options.global_batch)

    @property
    def consumed(self) -> int:
        """Return the samples that all ranks have taken."""
        return self._step * self.options.global_batch

    def state(self) -> dict[str, Any]:
        """Return the position in the data, good for any number of ranks."""
        return {"consumed": self.consumed, **self._identity()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state` returned.

        Raises:
            UserError: it is one in other data or of another order.
        """
        for name, value in self._identity().items():
            if name in state and state[name] != value:
                raise UserError(
                    f"the position is one with {name} {state[name]!r}, and {name} is {value!r} "
                    "now; go on with the data and the recipe of the run, or start anew"
                )
        self._go_to(int(state["consumed"]))

    def _identity(self) -> dict[str, Any]:
        options = self.options
        return {
            "seed": options.seed,
            "global_batch": options.global_batch,
            "order": [
                options.shuffle,
                options.group_by,
                options.mega_batch if options.group_by != "none" else 0,
                options.window_shards or 0,
            ],
            "data": self._data,
        }

    def _go_to(self, consumed: int) -> None:
        step, rest = divmod(consumed, self.options.global_batch)
        if rest:
            raise UserError(
                f"{consumed} samples are no whole number of steps of "
                f"{self.options.global_batch}; go on with the global batch of the run"
            )
        self._step, self._plans = step, dict[int, Plan]()
        self._read_ahead.follow(self._numbers(step), self._max_ahead())

    def _max_ahead(self) -> int:
        """Return how many samples are read ahead."""
        options = self.options
        share = -(-options.global_batch // self.world_size)
        a_picture = sum(3 * px * px for px, _ in self._crops) or 1
        return min(options.prefetch * share, max(options.ahead_bytes // a_picture, 1))

    # ----------------------------------------------------------------------------- steps

    def next_step(self) -> StepBatch:
        """Return the next step's micro batches of this rank and move on.

        Raises:
            BadSamplesError: more samples could not be loaded than allowed; the first are named.
            ShardError: a shard is gone.
            RunFailed: a worker process died.
        """
        begun = time.monotonic()
        plan = self._plan(self._step)
        taken = [(number, self._read_ahead.take()) for number in distinct(plan)]
        wait_s = time.monotonic() - begun
        usable, skipped = self._usable(taken)
        del self._plans[self._step]
        self._step += 1
        makers, examples = [], list[Example]()
        for rows in plan:
            kept = [[usable[number] for number in row if number in usable] for row in rows]
            kept = [row for row in kept if row]
            shown = [picture for row in kept for _, pictures in row for picture in pictures]
            row_examples = [[example for example, _ in row] for row in kept]
            makers.append(partial(self._collate, row_examples, shown, self._planner.num_rows))
            examples += [example for row in row_examples for example in row]
        return StepBatch(
            micro=_MicroBatches(makers),
            sample_ids=[example.sample_id for example in examples],
            num_tokens=sum(example.num_tokens for example in examples),
            num_trained=sum(example.num_trained for example in examples),
            skipped=skipped,
            wait_s=wait_s,
        )

    def _usable(
        self, taken: Sequence[tuple[int | None, Loaded | Fault | None]]
    ) -> tuple[dict[int, tuple[Example, list[ShownPicture]]], dict[str, int]]:
        """Return the samples that were loaded with their pictures, and count the others."""
        usable, faults = {}, dict[int, Fault]()
        for number, loaded in taken:
            if number is None or loaded is None:
                continue
            if isinstance(loaded, Fault):
                faults[number] = loaded
                continue
            shown = shown_pictures(loaded, self._reader, self._features)
            if isinstance(shown, Fault):
                faults[number] = shown
            else:
                usable[number] = loaded.example, shown
        self._loaded += len(usable) + len(faults)
        for number, fault in faults.items():
            if number not in self._faults:
                _log.warning("left out: %s", fault)
        self._faults |= faults
        self._judge()
        return usable, dict(sorted(Counter(fault.reason for fault in faults.values()).items()))

    def _judge(self) -> None:
        """Stop where the share of unusable samples, of the index and since, is above the limit."""
        total, index = len(self.samples), self.samples.index
        share = -(-total // self.world_size)
        base = max(min(self._loaded, total), min(share, _JUDGED))
        left_out = index.num_unusable / (total + index.num_unusable)
        bad = left_out + (1 - left_out) * len(self._faults) / base
        if not self._faults or bad <= self.options.max_bad_share:
            return
        reasons = dict(sorted(Counter(fault.reason for fault in self._faults.values()).items()))
        named = "; ".join(str(fault) for fault in list(self._faults.values())[:_NAMED])
        raise BadSamplesError(
            f"{len(self._faults)} of {base} samples of {self.samples.files.shown} could not be "
            f"loaded {reasons}, beside {index.num_unusable} that the index leaves out; the recipe "
            f"allows a share of {self.options.max_bad_share}; the first: {named}; mend the data "
            "or raise max_bad_share"
        )

    def _numbers(self, step: int) -> Iterator[int | None]:
        """Yield the samples of this rank from a step on, those of a step once."""
        while True:
            self._planner.expect(step)
            yield from distinct(self._plan(step))
            step += 1

    def _plan(self, step: int) -> Plan:
        if step not in self._plans:
            self._plans[step] = self._planner.plan(step)
        return self._plans[step]

    # ------------------------------------------------------------------------------ the end

    def close(self) -> None:
        """End the worker processes and the fetching of shards."""
        self._read_ahead.close()
        self.samples.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
