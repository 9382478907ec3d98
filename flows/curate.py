"""Curation's flow: pool -> checks -> dedup -> mixture -> system prompts -> shards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import flow

from cambrian_data.build import Build, published
from cambrian_data.catalog import check_view_name, write_catalog
from cambrian_data.curation.assemble import (
    CURATE_VERSION,
    SHARDS_VERSION,
    ShardStage,
    curate,
    publish_shards,
    read_mixture,
    write_mixture,
)
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.pool import dataset_manifests, dataset_names, read_datasets
from cambrian_data.recipes import Recipe, load_recipe
from cambrian_data.records import Progress, RunFailed, content_id, silent
from cambrian_data.runs import RunRecord, recorded, run_name
from cambrian_data.shards import read_index
from cambrian_data.workspace import Workspace, check_name
from flows.running import map_stage, run_call, run_flow


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateJob:
    """One curation: what goes in, the recipe, the two folders that come out."""

    workspace: Workspace
    name: str
    recipe: Recipe[CurateRecipe]
    datasets: Sequence[str]
    key: str
    with_shards: bool
    record: RunRecord
    progress: Progress


def run_curate(
    workspace: Workspace,
    *,
    recipe: str = "tiny",
    settings: Sequence[str] = (),
    name: str | None = None,
    with_shards: bool = True,
    runner: str = "threads",
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make a mixture of the pool, and its shards.

    Args:
        recipe: a recipe's name or path.
        settings: `section.field=value` assignments.
        name: the mixture's name; by default the recipe's.
    Returns:
        The mixture's name, rows in and out of every stage, drops, plan, and the shards' totals.
    Raises:
        UserError: no such recipe or data set, or a damaged one.
        RunFailed: too much was dropped, nothing was left, or the shards differ from their index.
    """
    loaded = load_recipe(recipe, "data", CurateRecipe, settings)
    name = check_name(name or loaded.name)
    check_view_name(workspace, name)
    with workspace.lock(f"mixture-{name}", lambda note: progress(note, 0, None)):
        datasets = dataset_names(workspace, loaded.config.datasets)
        inputs = pool_state(workspace, datasets)
        parts = ["curate", loaded.content(), inputs, CURATE_VERSION]
        run = run_name(f"curate-{name}", *parts)
        record = RunRecord(
            workspace,
            run,
            kind="curate",
            recipe=loaded,
            inputs=inputs,
        )
        job = CurateJob(
            workspace=workspace,
            name=name,
            recipe=loaded,
            datasets=datasets,
            key=content_id(parts),
            with_shards=with_shards,
            record=record,
            progress=progress,
        )
        with recorded(record):
            result = run_flow(curate_flow, job, runner=runner, workers=workers)
            record.finish("done", outputs=result)
            write_catalog(workspace)
    return result


def pool_state(workspace: Workspace, datasets: Sequence[str]) -> dict[str, str]:
    """Return a hash of the content of every data set, each file checked against its manifest."""
    manifests = dataset_manifests(workspace, datasets)
    return {name: content_id(found["files"]) for name, found in manifests.items()}


def plan_curate(
    workspace: Workspace, *, recipe: str, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the plan of a mixture without making it: what `--dry-run` shows."""
    loaded = load_recipe(recipe, "data", CurateRecipe, settings)
    datasets = dataset_names(workspace, loaded.config.datasets)
    dataset_manifests(workspace, datasets)
    curated = curate(read_datasets(workspace, datasets), loaded.config, silent)
    return {
        "name": loaded.name,
        "datasets": datasets,
        "flow": curated.flow,
        "plan": curated.plan.to_json(),
        "explained": curated.plan.explain(),
    }


@flow(name="curate", validate_parameters=False, persist_result=False)
def curate_flow(job: CurateJob) -> dict[str, Any]:
    """Make the mixture's folder, then its shards."""
    started = time.monotonic()
    mixture = Build(job.workspace, job.workspace.mixture(job.name), job.key)
    if not mixture.is_done():
        run_call("curate", lambda: _make_mixture(job, mixture))
    manifest = published(mixture.target)["about"]
    for stage in manifest["flow"]:
        job.record.stage(
            stage["stage"],
            rows_in=stage["in"],
            rows_out=stage["out"],
            seconds=0.0,
            drops=stage["drops"],
        )
    result = {
        "name": job.name,
        "datasets": list(job.datasets),
        "samples": manifest["samples"],
        "flow": manifest["flow"],
        "plan": manifest["plan"],
        "explained": manifest["explained"],
    }
    if not job.with_shards:
        result["stale_shards"] = _stale_shards(job)
    else:
        result["shards"] = _make_shards(job)
    job.record.stage(
        "curate",
        rows_in=manifest["flow"][0]["in"],
        rows_out=manifest["samples"],
        seconds=time.monotonic() - started,
    )
    return result


def _make_mixture(job: CurateJob, build: Build) -> None:
    samples = read_datasets(job.workspace, job.datasets)
    if pool_state(job.workspace, job.datasets) != job.record.data["inputs"]:
        raise RunFailed("the pool changed while it was read; run the same command again")
    curated = curate(samples, job.recipe.config, job.progress)
    about = {
        "recipe": job.recipe.name,
        "datasets": list(job.datasets),
        "plan": curated.plan.to_json(),
        "explained": curated.plan.explain(),
    }
    write_mixture(job.workspace, build, curated, about)


def _make_shards(job: CurateJob) -> dict[str, Any]:
    """Write the shards that are missing, verify them all, return their totals."""
    folder = job.workspace.shards(job.name)
    build = _shards_build(job)
    if not build.is_done() or read_index(folder)["dropped"]:
        samples = read_mixture(job.workspace.mixture(job.name))
        shards = ShardStage.of(job.workspace, build, samples, job.recipe.config)
        units = map_stage(shards.stage(), shards.pieces(), job.progress)
        publish_shards(job.workspace, build, job.name, units)
        _limit_lost(job, read_index(folder))
    index = read_index(folder)
    dropped = len(index["dropped"])
    job.record.stage(
        "shards",
        rows_in=index["samples"] + dropped,
        rows_out=index["samples"],
        seconds=0.0,
        drops={"picture_damaged": dropped} if dropped else None,
    )
    return {
        "folder": job.workspace.relative(folder),
        "shards": len(index["shards"]),
        "dropped": dropped,
        **{k: index[k] for k in ("samples", "pictures", "bytes")},
    }


def _stale_shards(job: CurateJob) -> str | None:
    """Return the folder of shards of this name where they hold another mixture."""
    folder = job.workspace.shards(job.name)
    if not folder.is_dir() or _shards_build(job).is_done():
        return None
    return job.workspace.relative(folder)


def _shards_build(job: CurateJob) -> Build:
    folder = job.workspace.shards(job.name)
    return Build(job.workspace, folder, content_id(job.key, SHARDS_VERSION))


def _limit_lost(job: CurateJob, index: dict[str, Any]) -> None:
    """Stop where more samples lost their pictures than the recipe allows to be bad."""
    lost, share = len(index["dropped"]), job.recipe.config.max_drop_share
    if lost > share * (lost + index["samples"]):
        raise RunFailed(
            f"shards: {lost:,} of {lost + index['samples']:,} samples have pictures that are "
            f"missing or damaged, more than max_drop_share = {share} in the recipe allows "
            f"(the first: {index['dropped'][0]['detail']}); run the commands that filled the pool "
            "again, they make only what is lost anew"
        )
