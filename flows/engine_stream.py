"""An engine run's work as it streams by: topics and hits first, then groups of pages.

While the LLM writes about one group, the next one is fetched and read; a bounded number of groups
is in memory at a time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cambrian_data.engine.options import EngineOptions
from cambrian_data.engine.origins import Origins
from cambrian_data.engine.services import EngineServices
from cambrian_data.engine.stages import EngineStages
from cambrian_data.records import Progress
from cambrian_data.units import Unit, chunks
from flows.running import Lane, map_stage
from flows.tally import Tally

TOPICS_PER_UNIT = 8
PAGES_PER_UNIT = 4
PAGES_PER_GROUP = 64
"""Pages whose figures are written about together: some hundreds of calls at once."""
GROUPS_AHEAD = 1
"""Groups that are read while one is written about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineJob:
    """One engine run: what is asked for, its stages, and where its numbers go."""

    wanted: Sequence[dict[str, Any]]
    """Fields, subfields and topics; and drops for what could not be read."""
    options: EngineOptions
    stages: EngineStages
    tally: Tally
    progress: Progress

    @property
    def services(self) -> EngineServices:
        """What the run talks to."""
        return self.stages.services


def find_pages(job: EngineJob) -> tuple[Origins, dict[str, int]]:
    """Find topics and hits; return them joined, and their numbers."""
    stages = job.stages
    found = map_stage(stages.topics, [job.wanted], job.progress)
    topics = stages.topics.units.read("topics", found)
    count_units(job, "topics", len(job.wanted), found)
    searched = map_stage(stages.search, chunks(topics.to_pylist(), TOPICS_PER_UNIT), job.progress)
    hits = stages.search.units.read("hits", searched)
    count_units(job, "search", len(topics), searched)
    return Origins(topics, hits), {"topics": len(topics), "hits": len(hits)}


def count_units(job: EngineJob, stage: str, rows_in: int, units: Sequence[Unit]) -> None:
    """Add what units gave to the numbers of the run."""
    drops: Counter[str] = Counter()
    for unit in units:
        drops.update(unit.numbers["drops"])
        job.tally.note(unit.numbers)
    rows_out = sum(unit.numbers["out"] for unit in units)
    job.tally.add(stage, rows_in=rows_in, rows_out=rows_out, drops=drops)


class Stream:
    """Groups of addresses on their way through reading and writing, a bounded number at a time."""

    def __init__(self, job: EngineJob, origins: Origins, num_urls: int) -> None:
        self.job, self._origins = job, origins
        self._pages = Lane(job.stages.pages, job.progress, num_urls)
        self._vqa = Lane(job.stages.vqa, job.progress)
        self._reading: deque[list[Any]] = deque()
        self._writing: deque[Any] = deque()
        self.page_ids: set[str] = set()
        self.figure_ids: set[str] = set()
        self.picture_ids: set[str] = set()
        self._joined_ids: set[str] = set()

    def read(self, urls: Sequence[str]) -> None:
        """Begin to read a group; write about the one before it."""
        self._reading.append([self._pages.submit(piece) for piece in chunks(urls, PAGES_PER_UNIT)])
        if len(self._reading) > GROUPS_AHEAD:
            self._write()

    def close(self) -> None:
        """Remove what earlier inputs of the same run left; only once the run is through."""
        self._pages.close()
        self._vqa.close()

    def finish(self) -> list[Unit]:
        """Wait for all groups; return the units of samples."""
        while self._reading:
            self._write()
        while self._writing:
            self._take()
        return self._vqa.units

    def _write(self) -> None:
        """Join the oldest group's figures to their origins and have questions written on them."""
        units = [self._pages.result(made) for made in self._reading.popleft()]
        rows = self._joined(units)
        for unit in units:
            self._count_pages(unit)
        self.job.tally.check(is_over=False)
        if rows:
            self.write_about(rows)
        if len(self._writing) > GROUPS_AHEAD:
            self._take()

    def write_about(self, rows: list[dict[str, Any]]) -> None:
        """Begin to write questions on joined figures."""
        self._writing.append(self._vqa.submit(rows))

    def _joined(self, units: Sequence[Unit]) -> list[dict[str, Any]]:
        read = self.job.stages.pages.units.read
        pages, figures, images = (read(name, units) for name in ("pages", "figures", "images"))
        self.page_ids.update(pages["id"].to_pylist())
        self.figure_ids.update(figures["id"].to_pylist())
        self.picture_ids.update(images["sha256"].to_pylist())
        return self._origins.join(pages, figures, images, seen=self._joined_ids)

    def _count_pages(self, unit: Unit) -> None:
        numbers, add = unit.numbers, self.job.tally.add
        self.job.tally.note(numbers)
        drops = numbers["drops_by_stage"]
        pages, figures = numbers["out"], numbers["figures"]
        tried = pages + sum(drops["fetch"].values())
        add("fetch", rows_in=tried, rows_out=pages, drops=drops["fetch"], num_tried=tried)
        add("extract", rows_in=pages, rows_out=figures, drops=drops["extract"])
        pictures = numbers["pictures"]
        add("images", rows_in=figures, rows_out=pictures, drops=drops["images"], num_tried=figures)

    def _take(self) -> None:
        unit = self._vqa.result(self._writing.popleft())
        numbers = unit.numbers
        self.job.tally.note(numbers)
        self.job.tally.add(
            "vqa", rows_in=numbers["in"], rows_out=numbers["out"], drops=numbers["drops"]
        )
        self.job.tally.check(is_over=False)
