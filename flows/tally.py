"""What went in and out of each stage of a run, and where a run stops because it drops too much."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cambrian_data.records import RunFailed
from cambrian_data.runs import RunRecord

MIN_TRIED = 200
"""Fewer rows say little: before that many a run is not stopped half-way."""
MIN_TRIED_AT_END = 30
"""Nor is a run of fewer failed at its end, unless a stage made nothing at all."""
HINTS = {
    "private_address": "--allow-private-hosts fetches from private addresses",
    "no_contact": "set CAMBRIAN_CONTACT=you@example.org",
    "license": "images.require_license says which licences are taken",
}


class TooManyDrops(RunFailed):
    """A stage dropped a larger share than the recipe allows."""


@dataclass(slots=True)
class StageTally:
    """The numbers of one stage so far."""

    rows_in: int = 0
    rows_out: int = 0
    num_tried: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    ended: float = field(default_factory=time.monotonic)


class Tally:
    """The numbers of all stages of a run, in the order in which they were first met."""

    def __init__(self, max_drop_share: float) -> None:
        """Name the share of rows that a stage may drop; a search without a hit is no drop."""
        self._max_drop_share = max_drop_share
        self.stages: dict[str, StageTally] = {}
        self.num_left = 0
        """Fields and figures that the budget left undone."""
        self.num_passing = 0
        """What failed and is tried again by the next run."""
        self.llm_keys: set[str] = set()
        """Calls that the units were made with, in the ledger."""
        self.kinds: Counter[str] = Counter()
        """Questions by kind."""

    def note(self, numbers: Mapping[str, Any]) -> None:
        """Add what a unit left undone."""
        self.num_left += numbers.get("left", 0)
        self.num_passing += numbers.get("passing", 0)
        self.llm_keys.update(numbers.get("llm_keys", ()))
        self.kinds.update(numbers.get("kinds", {}))

    def add(
        self,
        stage: str,
        *,
        rows_in: int,
        rows_out: int,
        drops: Mapping[str, int],
        num_tried: int | None = None,
    ) -> None:
        """Add what a piece of work gave.

        Args:
            stage: its name.
            rows_in: rows that it was given.
            rows_out: rows that it made.
            drops: rows that it dropped, by reason.
            num_tried: rows of which the drops are a share; by default those made and dropped,
                since one page gives many figures.
        """
        tally = self.stages.setdefault(stage, StageTally())
        dropped = Counter(drops)
        tally.rows_in += rows_in
        tally.rows_out += rows_out
        tally.drops += dropped
        tally.num_tried += rows_out + dropped.total() if num_tried is None else num_tried
        tally.ended = time.monotonic()

    def check(self, *, is_over: bool) -> None:
        """Stop a run that drops more than it may.

        Raises:
            TooManyDrops: names the stage, the share and the reasons.
        """
        for name, tally in self.stages.items():
            dropped = tally.drops.total()
            least = MIN_TRIED
            if is_over:
                least = MIN_TRIED_AT_END if tally.rows_out else 1
            if name == "search" or tally.num_tried < least:
                continue
            if dropped > self._max_drop_share * tally.num_tried:
                reasons = ", ".join(f"{why} {count:,}" for why, count in tally.drops.most_common())
                raise TooManyDrops(
                    f"{name}: {dropped:,} of {tally.num_tried:,} were dropped, more than "
                    f"max_drop_share = {self._max_drop_share} in the recipe allows ({reasons}). "
                    + "".join(f"{HINTS[why]}. " for why in tally.drops if why in HINTS)
                    + "The rows stand in the view drops; --set max_drop_share=1 lets them pass"
                )

    def drops(self) -> dict[str, dict[str, int]]:
        """Return the drops by stage and reason."""
        return {
            name: dict(sorted(tally.drops.items()))
            for name, tally in self.stages.items()
            if tally.drops
        }

    def write(self, record: RunRecord, **numbers: Mapping[str, Any]) -> None:
        """Write the stages into a run's record.

        Args:
            record: the record.
            numbers: by stage, what else is worth knowing of it.
        """
        for name, tally in self.stages.items():
            record.stage(
                name,
                rows_in=tally.rows_in,
                rows_out=tally.rows_out,
                seconds=tally.ended - tally.started,
                drops=tally.drops,
                **numbers.get(name, {}),
            )
