"""The engine's flow: topic -> hits -> pages -> figures -> samples -> pool."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow.parquet as pq
from prefect import flow

from cambrian_data.catalog import write_catalog
from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.options import EngineOptions
from cambrian_data.engine.recipe import EngineRecipe
from cambrian_data.engine.services import EngineServices, numbers, open_services
from cambrian_data.engine.stages import VERSIONS, EngineStages
from cambrian_data.outcomes import outcomes
from cambrian_data.pool import write_dataset
from cambrian_data.recipes import load_recipe
from cambrian_data.records import Progress, RunFailed, UserError, content_id, silent
from cambrian_data.runs import RunRecord, recorded, run_name, write_calls
from cambrian_data.units import chunks
from cambrian_data.workspace import Workspace, check_name
from flows.engine_plan import plan_flow
from flows.engine_stream import PAGES_PER_GROUP, EngineJob, Stream, find_pages
from flows.running import run_call, run_flow
from flows.tally import Tally

WEB_WORKERS = 16
"""Units at once by default where they wait for the web; the rate per host holds over all."""


def run_engine(
    workspace: Workspace,
    options: EngineOptions,
    *,
    recipe: str = "engine_science",
    settings: Sequence[str] = (),
    runner: str = "threads",
    workers: int | None = None,
    dry_run: bool = False,
    environment: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Take topics to VQA samples in the pool.

    Args:
        options: what is looked for, and how.
        recipe: a recipe's name or path.
        settings: `section.field=value` assignments.
        dry_run: read the pages, but ask the LLM nothing: return calls, tokens and cost.
        environment: where keys and addresses are looked up; by default that of the process.
    Returns:
        The run's and the data set's name, the funnel, drops by stage and reason, outcomes by
        host, what the LLM and the web were asked, what is left to do.
    Raises:
        UserError: an unknown recipe, backend or model, a missing key, a topic without a page.
        RunFailed: a stage dropped more than the recipe allows.
    """
    if runner != "threads":
        raise UserError(
            f"--runner {runner!r}: the engine's tasks share connections, rates and a budget, so "
            "they run in one process (--runner threads); dask and ray are for `data curate`"
        )
    wanted = options.wanted()
    check_name(options.dataset_name)
    loaded = load_recipe(recipe, "data", EngineRecipe, settings)
    env = os.environ if environment is None else environment
    with open_services(workspace, loaded.config, options, env, progress) as services:
        depends = [wanted, options.limit, options.refresh_since, services.identity]
        counted = loaded.config.content_that_counts()
        run = run_name(options.label, "engine", *depends, counted, VERSIONS)
        job = EngineJob(
            wanted=wanted,
            options=options,
            stages=EngineStages(workspace, workspace.engine(run), loaded.config, services),
            tally=Tally(loaded.config.max_drop_share),
            progress=progress,
        )
        if workers is None and services.http is not None:
            workers = WEB_WORKERS
        with workspace.lock(f"engine-{run}", lambda note: progress(note, 0, None)):
            if dry_run:
                return run_flow(plan_flow, job, runner=runner, workers=workers)
            inputs = _inputs(options, services)
            record = RunRecord(workspace, run, kind="engine", recipe=loaded, inputs=inputs)
            with recorded(record), _accounted(job, record):
                made = run_flow(engine_flow, job, runner=runner, workers=workers)
            return _finish(job, record, made)


def _inputs(options: EngineOptions, services: EngineServices) -> dict[str, Any]:
    """Return what a run's record says of what it was given."""
    return asdict(options) | {
        "files": [str(path) for path in options.files],
        "search": services.backend.name,
        "writer": services.writer.version,
    }


@contextlib.contextmanager
def _accounted(job: EngineJob, record: RunRecord) -> Iterator[None]:
    """Write down what each stage did and what was paid, however the run ends."""
    try:
        yield
    finally:
        job.tally.write(record)
        record.data |= numbers(job.services)
        if job.services.llm is not None:
            calls = job.services.llm.calls(job.tally.llm_keys)
            cost_usd = write_calls(job.stages.workspace, record.run, calls)
            record.data["llm"]["run_cost_usd"] = cost_usd


def _finish(job: EngineJob, record: RunRecord, made: dict[str, Any]) -> dict[str, Any]:
    """Close the record of a run that came to its end; return what the user sees."""
    asked: dict[str, Any] = {
        name: record.data[name] for name in ("http", "llm") if name in record.data
    }
    result: dict[str, Any] = {
        "run": record.run,
        "dataset": job.options.dataset_name,
        **made,
        "drops": record.data["drops"],
        "outcomes": outcomes(job.stages.workspace, record.run),
        **asked,
    }
    record.finish("stopped" if made["left_by_budget"] else "done", outputs=result)
    write_catalog(job.stages.workspace)
    return result


@flow(name="engine", validate_parameters=False, persist_result=False)
def engine_flow(job: EngineJob) -> dict[str, Any]:
    """Run the engine; return the funnel and what is left to do."""
    try:
        return _run(job)
    except BaseException:
        job.services.interrupt()  # nothing waits for a host or a model any more
        raise


def _run(job: EngineJob) -> dict[str, Any]:
    stages = job.stages
    origins, counts = find_pages(job)
    urls = origins.urls(job.options.limit)
    if not urls:
        raise UserError(_nothing_found(job))
    stream = Stream(job, origins, len(urls))
    for group in chunks(urls, PAGES_PER_GROUP):
        stream.read(group)
    written = stream.finish()
    stream.close()
    job.tally.check(is_over=True)
    parts = stages.vqa.units.parts("samples", written)
    key = content_id(
        [(unit.key, unit.numbers["out"]) for unit in written], job.options.dataset_name
    )
    about = {"made_by": "engine", "run": stages.folder.name}
    made = run_call(
        "pool", lambda: write_dataset(stages.workspace, job.options.dataset_name, key, parts, about)
    )
    if made.num_repeated:
        drops = {"duplicate": made.num_repeated}
        job.tally.add("vqa", rows_in=0, rows_out=-made.num_repeated, drops=drops, num_tried=0)
    funnel = {
        **counts,
        "pages": len(stream.page_ids),
        "figures": len(stream.figure_ids),
        "pictures": len(stream.picture_ids),
        "samples": made.num_samples,
    }
    tally = job.tally
    return {
        "funnel": funnel,
        "kinds": dict(tally.kinds.most_common()),
        "left_by_budget": tally.num_left,
        "to_try_again": tally.num_passing,
    }


def _nobody_answered(job: EngineJob) -> str:
    """Say what the search backend answered instead of hits."""
    drops = job.stages.search.units.folder / "drops"
    details = {
        row["detail"]
        for path in sorted(drops.glob("part-search-*.parquet"))
        for row in pq.read_table(path).to_pylist()
        if row["reason"] in ("unavailable", "quota")
    }
    return (
        f"{job.services.backend.name} gave no hit: {'; '.join(sorted(details)[:3])}. The same "
        "command tries again; another --search asks elsewhere"
    )


def _nothing_found(job: EngineJob) -> str:
    name = job.services.backend.name
    if job.tally.num_passing:
        raise RunFailed(_nobody_answered(job))
    if name != "corpus":
        why = ", ".join(
            f"{reason} {count}" for reason, count in job.tally.drops().get("search", {}).items()
        )
        return (
            f"{name} found no page for {job.options.label!r} ({why or 'no topic'}): try another "
            "topic, another --search, or `cambrian doctor` if everything fails"
        )
    fields = sorted({page.field for page in load_corpus().pages})
    return (
        f"{name} found no page for the topic {job.options.label!r}; the embedded corpus "
        f"has pages on {', '.join(fields)}: try --topic {fields[0].lower()}"
    )
