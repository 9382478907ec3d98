"""What an engine run would cost, before the LLM is asked anything: `--dry-run`.

Searching, fetching and extracting are done for real, since they are free of an LLM's price and are
kept for the run; then the calls that the run would make are counted to the token. Where the LLM
was to find the topics too, the topic itself and the subcategories that the search backend knows
stand in for those, and the answer says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from prefect import flow

from cambrian_data.engine.origins import Origins
from cambrian_data.engine.topics import Wanted, expand, plan_requests
from cambrian_data.engine.vqa import LlmWriter
from cambrian_data.records import table_of
from cambrian_data.units import chunks
from flows.engine_stream import (
    PAGES_PER_GROUP,
    TOPICS_PER_UNIT,
    EngineJob,
    Stream,
    count_units,
    find_pages,
)
from flows.running import map_stage

if TYPE_CHECKING:
    from cambrian_data.llm.client import Plan


@dataclass(slots=True)
class Costs:
    """Calls, tokens and money, summed up."""

    calls: int = 0
    in_ledger: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    completion_tokens_at_most: int = 0
    cost_usd: float | None = 0.0
    cost_usd_at_most: float | None = 0.0

    def add(self, plan: Plan) -> None:
        """Add the plan of some requests; a price that is not known stays so."""
        for name in (item.name for item in fields(self)):
            so_far, more = getattr(self, name), getattr(plan, name)
            setattr(self, name, None if so_far is None or more is None else so_far + more)


@flow(name="engine-plan", validate_parameters=False, persist_result=False)
def plan_flow(job: EngineJob) -> dict[str, Any]:
    """Read the pages of a run; return what writing about them would take."""
    try:
        return _plan(job)
    except BaseException:
        job.services.interrupt()
        raise


def _plan(job: EngineJob) -> dict[str, Any]:
    llm = job.services.llm
    asked = [] if llm is None else plan_requests(_wanted(job), job.stages.recipe.topics)
    is_expanded = not asked or job.stages.topics.finished(job.wanted) is not None
    origins, counts = find_pages(job) if is_expanded else _find_without_llm(job)
    urls = origins.urls(job.options.limit)
    stream = PlanStream(job, origins, len(urls))
    if llm is not None and not is_expanded:
        stream.costs.add(llm.plan(asked))
    for group in chunks(urls, PAGES_PER_GROUP):
        stream.read(group)
    stream.finish()
    return {
        **counts,
        "pages": len(stream.page_ids),
        "figures": len(stream.figure_ids),
        "pictures": len(stream.picture_ids),
        "writer": job.services.writer.name,
        "llm": asdict(stream.costs),
        "topics_are_final": is_expanded,
        "drops": job.tally.drops(),
        "urls": urls,
    }


def _find_without_llm(job: EngineJob) -> tuple[Origins, dict[str, int]]:
    """Find pages for the topics as they were named; nothing of it enters the run's own topics."""
    rows = expand(_wanted(job), job.services.backend, None, job.stages.recipe.topics).rows
    searched = map_stage(job.stages.search, chunks(rows, TOPICS_PER_UNIT), job.progress)
    hits = job.stages.search.units.read("hits", searched)
    count_units(job, "search", len(rows), searched)
    return Origins(table_of("topics", rows), hits), {"topics": len(rows), "hits": len(hits)}


def _wanted(job: EngineJob) -> list[Wanted]:
    return [Wanted(**row) for row in job.wanted if "reason" not in row]


class PlanStream(Stream):
    """Reads groups as a run does, and counts the calls where the run would make them."""

    def __init__(self, job: EngineJob, origins: Origins, num_urls: int) -> None:
        super().__init__(job, origins, num_urls)
        self.costs = Costs()

    def write_about(self, rows: list[dict[str, Any]]) -> None:
        """Count what writing about these figures would take."""
        job = self.job
        writer, llm = job.services.writer, job.services.llm
        if llm is None or not isinstance(writer, LlmWriter):
            return
        if job.stages.vqa.finished(rows) is None:
            fresh = [row for row in rows if not row["is_repeated"]]
            self.costs.add(llm.plan(writer.requests(fresh)))
