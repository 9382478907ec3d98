"""The engine's flow: topic -> hits -> pages -> figures -> samples -> pool."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import flow

from cambrian_data.catalog import write_catalog
from cambrian_data.engine.corpus import Corpus, load_corpus
from cambrian_data.engine.fetch import CorpusFetcher, Fetcher
from cambrian_data.engine.recipe import EngineRecipe
from cambrian_data.engine.search import CorpusSearch, SearchBackend, search_topics
from cambrian_data.engine.stages import VERSIONS, EngineStages, figures_with_origin, rank_urls
from cambrian_data.engine.topics import topics_from_corpus
from cambrian_data.pool import write_dataset
from cambrian_data.recipes import load_recipe
from cambrian_data.records import Progress, RunFailed, UserError, content_id, silent, table_of
from cambrian_data.runs import RunRecord, recorded, run_name
from cambrian_data.units import Stage, Unit, chunks
from cambrian_data.workspace import Workspace, check_name, slug
from flows.running import map_stage, run_call, run_flow

TOPICS_PER_UNIT = 16
PAGES_PER_UNIT = 4


class TooManyDrops(RunFailed):
    """A stage dropped a larger share than the recipe allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineJob:
    """One engine run: what is asked for, its stages, and where its numbers go."""

    topic: str
    dataset: str
    limit: int | None
    stages: EngineStages
    record: RunRecord
    progress: Progress


def run_engine(
    workspace: Workspace,
    *,
    topic: str,
    recipe: str = "engine_science",
    settings: Sequence[str] = (),
    search: str = "auto",
    offline: bool = False,
    limit: int | None = None,
    dataset: str | None = None,
    runner: str = "threads",
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Take a topic to VQA samples in the pool.

    Args:
        topic: a field, a subfield or a topic.
        recipe: a recipe's name or path.
        settings: `section.field=value` assignments.
        search: the backend, `auto` or `corpus`.
        offline: use the embedded corpus alone.
        limit: fetch at most this many pages, best ranked first.
        dataset: name in the pool; by default `engine-` and the topic.
    Returns:
        The run's and the data set's name, the funnel, drops by stage and reason.
    Raises:
        UserError: an unknown recipe or backend, or a topic that nothing was found for.
        RunFailed: a stage dropped more than the recipe allows.
    """
    _check_topic(topic)
    loaded = load_recipe(recipe, "data", EngineRecipe, settings)
    corpus = load_corpus()
    backend, fetcher = services(corpus, search=search, offline=offline)
    dependencies = [topic.casefold(), limit, loaded.content(), backend.name, corpus.sha256]
    dataset = check_name(dataset or f"engine-{slug(topic)}")
    name = run_name(topic, "engine", dependencies, VERSIONS)
    folder = workspace.engine(name)
    with workspace.lock(f"engine-{name}", lambda note: progress(note, 0, None)):
        inputs = {"topic": topic, "search": backend.name, "limit": limit}
        job = EngineJob(
            topic=topic,
            dataset=dataset,
            limit=limit,
            stages=EngineStages(workspace, folder, loaded.config, corpus, backend, fetcher),
            record=RunRecord(workspace, name, kind="engine", recipe=loaded, inputs=inputs),
            progress=progress,
        )
        with recorded(job.record):
            funnel = run_flow(engine_flow, job, runner=runner, workers=workers)
            result = {
                "run": name,
                "dataset": job.dataset,
                "funnel": funnel,
                "drops": job.record.data["drops"],
            }
            job.record.finish("done", outputs=result)
            write_catalog(workspace)
    return result


def _check_topic(topic: str) -> None:
    try:
        topic.encode()
    except UnicodeEncodeError:
        raise UserError(f"--topic {topic!r} is no valid text") from None
    if not topic.strip():
        raise UserError("--topic is empty: name a field, a subfield or a topic, such as physics")


def plan_engine(
    *,
    topic: str,
    recipe: str,
    settings: Sequence[str] = (),
    search: str = "auto",
    offline: bool = False,
    limit: int | None = None,
) -> dict[str, Any]:
    """Return what a run would fetch and what it would cost: what `--dry-run` shows."""
    loaded = load_recipe(recipe, "data", EngineRecipe, settings)
    corpus = load_corpus()
    backend, _ = services(corpus, search=search, offline=offline)
    topics = topics_from_corpus(topic, corpus)
    hits, drops = search_topics(topics, backend, loaded.config.search)
    urls = rank_urls(table_of("hits", hits), limit)
    return {
        "topics": len(topics),
        "hits": len(hits),
        "topics_without_hit": len(drops),
        "pages": len(urls),
        "llm_calls": 0,
        "cost_usd": 0.0,
        "urls": urls,
    }


def services(corpus: Corpus, *, search: str, offline: bool) -> tuple[SearchBackend, Fetcher]:
    """Return the search backend and the fetcher that a run uses.

    Raises:
        UserError: the backend is unknown or not there yet.
    """
    if search not in ("auto", "corpus"):
        raise UserError(f"there is no search backend {search!r} (known: auto, corpus)")
    if not offline and search != "corpus":
        raise UserError(
            "searching the web is not there yet in this version: add --offline to use the "
            "embedded corpus, which needs no network and no key"
        )
    return CorpusSearch(corpus), CorpusFetcher(corpus)


@flow(name="engine", validate_parameters=False, persist_result=False)
def engine_flow(job: EngineJob) -> dict[str, Any]:
    """Run the engine; return the funnel."""
    stages = job.stages
    topics = _map(job, stages.topics, [[job.topic]])
    topic_table = stages.topics.units.read("topics", topics)
    searched = _map(job, stages.search, chunks(topic_table.to_pylist(), TOPICS_PER_UNIT))
    hits = stages.search.units.read("hits", searched)
    urls = rank_urls(hits, job.limit)
    if not urls:
        raise UserError(_nothing_found(job))
    fetched = _map(job, stages.fetch, chunks(urls, PAGES_PER_UNIT))
    pages = stages.fetch.units.read("pages", fetched)
    found = _map(job, stages.figures, chunks(pages.to_pylist(), PAGES_PER_UNIT))
    units = stages.figures.units
    figures, pictures = units.read("figures", found), units.read("images", found)
    joined = figures_with_origin(topic_table, hits, pages, figures, pictures)
    written = _map(job, stages.vqa, [joined])
    samples = stages.vqa.units.read("samples", written)
    key = content_id([unit.key for unit in written], job.dataset)
    about = {"made_by": "engine", "run": job.record.run}
    run_call(
        "pool",
        lambda: write_dataset(stages.workspace, job.dataset, key, samples, about),
    )
    return {
        "topics": len(topic_table),
        "hits": len(hits),
        "pages": len(pages),
        "figures": len(figures),
        "pictures": len(set(pictures["sha256"].to_pylist())),
        "samples": len(samples),
    }


def _map(job: EngineJob, stage: Stage, pieces: Sequence[Sequence[Any]]) -> list[Unit]:
    """Run a stage, record its numbers, and stop where it dropped more than the recipe allows."""
    started = time.monotonic()
    units = map_stage(stage, pieces, job.progress)
    rows_in, rows_out = sum(map(len, pieces)), sum(unit.numbers["out"] for unit in units)
    drops: Counter[str] = Counter()
    picture_drops: Counter[str] = Counter()
    for unit in units:
        drops.update(unit.numbers.get("drops", {}))
        picture_drops.update(unit.numbers.get("picture_drops", {}))
    seconds = time.monotonic() - started
    name = "extract" if stage.name == "figures" else stage.name
    job.record.stage(name, rows_in=rows_in, rows_out=rows_out, seconds=seconds, drops=drops)
    if stage.name == "figures":
        stored = sum(unit.numbers["pictures"] for unit in units)
        job.record.stage(
            "images", rows_in=rows_out, rows_out=stored, seconds=0.0, drops=picture_drops
        )
    if stage.name != "search":  # a topic that nothing is written about is no fault
        # A page gives many figures, a figure many samples: rows in say nothing of what was tried.
        tried = rows_in if stage.name == "fetch" else rows_out + drops.total()
        _limit_drops(job, name, drops, tried)
    _limit_drops(job, "images", picture_drops, rows_out)
    return units


def _limit_drops(job: EngineJob, stage: str, drops: Counter[str], total: int) -> None:
    share = job.stages.recipe.max_drop_share
    if drops.total() > share * total:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in drops.most_common())
        raise TooManyDrops(
            f"{stage}: {drops.total():,} of {total:,} were dropped, more than max_drop_share = "
            f"{share} in the recipe allows ({reasons})"
        )


def _nothing_found(job: EngineJob) -> str:
    fields = sorted({page.field for page in job.stages.corpus.pages})
    return (
        f"{job.stages.backend.name} found no page for the topic {job.topic!r}; the embedded corpus "
        f"has pages on {', '.join(fields)}: try --topic {fields[0].lower()}"
    )
