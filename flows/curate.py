"""Curation's flow: pool -> rules -> duplicates out -> mixture -> system prompts -> shards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow

from cambrian_data.build import Build, published
from cambrian_data.catalog import check_view_name, write_catalog
from cambrian_data.curation.assemble import decide, make_mixture, mixture_inputs
from cambrian_data.curation.decide import alarms
from cambrian_data.curation.mixing.plan import MixturePlan
from cambrian_data.curation.mixing.sweep import compare, parse_sweep
from cambrian_data.curation.overlaps.against_set import AgainstSet
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.curation.selection import plan_rows
from cambrian_data.curation.stages import CURATE_VERSION, Curation, lock_name, tidy
from cambrian_data.pool import dataset_manifests, dataset_names, pool_parts
from cambrian_data.recipes import Recipe, load_recipe
from cambrian_data.records import Progress, UserError, content_id, silent
from cambrian_data.runs import RunRecord, recorded, run_name
from cambrian_data.units import Stage, Unit
from cambrian_data.workspace import Workspace, check_name
from flows.pack import make_shards, stale_shards
from flows.running import map_stage, run_flow


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateOptions:
    """One curation as it was asked for."""

    recipe: str = "tiny"
    """A recipe's name or path."""
    settings: Sequence[str] = ()
    """`section.field=value` assignments."""
    name: str | None = None
    """The mixture's name; by default the recipe's."""
    against: Sequence[str] = ()
    """Sets, beside those of the recipe, whose samples may not stand in the mixture."""
    against_images: Path | None = None
    """Where the pictures of files in `against` lie."""
    with_shards: bool = True
    shards_to: str | None = None
    """Address to which the shards are copied, such as s3://bucket/folder."""
    runner: str = "threads"
    address: str | None = None
    """The scheduler of a running cluster; without it one is started here."""
    workers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurateJob:
    """One curation: what goes in, the rules, the mixture that comes out."""

    workspace: Workspace
    name: str
    recipe: Recipe[CurateRecipe]
    datasets: Sequence[str]
    curation: Curation
    sets: Sequence[AgainstSet]
    options: CurateOptions
    record: RunRecord
    progress: Progress

    def run(self, stage: Stage, pieces: Sequence[Sequence[Any]]) -> list[Unit]:
        """Make the units of a stage as tasks of the flow."""
        return map_stage(stage, pieces, self.progress, record=self.record)

    @property
    def key(self) -> str:
        """The hash of all that the mixture depends on."""
        return content_id("curate", self.curation.key, mixture_inputs(self.recipe.config))


def run_curate(
    workspace: Workspace, options: CurateOptions, *, progress: Progress = silent
) -> dict[str, Any]:
    """Make a mixture of the pool, and its shards.

    Returns:
        The mixture's name, rows in and out of every stage, drops, plan, and the shards' totals.
    Raises:
        UserError: no such recipe, data set or runner, or a damaged one.
        RunFailed: too much was dropped, nothing was left, or the shards differ from their index.
    """
    return _run(curate_flow, workspace, options, progress)


def plan_curate(
    workspace: Workspace,
    options: CurateOptions,
    *,
    sweep: Sequence[str] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return the plan of a mixture without making it: what `--dry-run` and `--sweep` show.

    Args:
        sweep: `field=value,value` texts; every combination is planned and compared.
    """
    return _run(plan_flow, workspace, options, progress, tuple(sweep))


def _run(
    flow_of: Any, workspace: Workspace, options: CurateOptions, progress: Progress, *more: Any
) -> dict[str, Any]:
    loaded = load_recipe(options.recipe, "data", CurateRecipe, options.settings)
    name = check_name(options.name or loaded.name)
    check_view_name(workspace, name)

    def say(note: str) -> None:
        progress(note, 0, None)

    with workspace.lock(f"mixture-{name}", say):
        against = list(dict.fromkeys([*loaded.config.against, *options.against]))
        datasets = _datasets(workspace, loaded.config.datasets, against)
        manifests = dataset_manifests(workspace, datasets)
        sets = _sets(workspace, loaded.config, against, options.against_images)
        curation = Curation.of(workspace, loaded.config, pool_parts(workspace, manifests), sets)
        inputs = {name: content_id(found["files"]) for name, found in manifests.items()}
        kind = "curate" if flow_of is curate_flow else "plan"
        run = run_name(f"{kind}-{name}", kind, loaded.content(), curation.key, CURATE_VERSION, more)
        record = RunRecord(workspace, run, kind=kind, recipe=loaded, inputs=inputs)
        job = CurateJob(
            workspace=workspace,
            name=name,
            recipe=loaded,
            datasets=datasets,
            curation=curation,
            sets=sets,
            options=options,
            record=record,
            progress=progress,
        )
        with recorded(record), workspace.lock(lock_name(curation.folder), say):
            result = run_flow(
                flow_of,
                job,
                *more,
                runner=options.runner,
                workers=options.workers,
                address=options.address,
            )
            record.finish("done", outputs=result)
            tidy(workspace)
            write_catalog(workspace)
    return result


def _datasets(workspace: Workspace, wanted: Sequence[str], against: Sequence[str]) -> list[str]:
    """Return the data sets that go in; `*` stands for all but those that are compared with.

    Raises:
        UserError: one is both named and compared with: nothing of it would be left.
    """
    sets = {name.removeprefix("pool:") for name in against}
    if both := sorted(sets & set(wanted)):
        raise UserError(
            f"the data set {both[0]!r} is both an input (datasets) and named with --against, so "
            "all of its rows would go; leave it out of one of them"
        )
    names = dataset_names(workspace, wanted)
    left = [name for name in names if name not in sets]
    if not left:
        raise UserError(f"--against names every data set of the pool: {', '.join(names)}")
    return left


def _sets(
    workspace: Workspace, recipe: CurateRecipe, against: Sequence[str], images: Path | None
) -> list[AgainstSet]:
    """Return the sets that the pool is compared with, each read once and kept."""
    folder = workspace.root / "curation" / "against"
    return [
        AgainstSet.build(workspace, name, recipe.overlap, folder=folder, images=images)
        for name in against
    ]


# ----------------------------------------------------------------------------------- flows


@flow(name="curate", validate_parameters=False, persist_result=False)
def curate_flow(job: CurateJob) -> dict[str, Any]:
    """Make the mixture's folder, then its shards."""
    started = time.monotonic()
    mixture = Build(job.workspace, job.workspace.mixture(job.name), job.key)
    if not mixture.is_done():
        make_mixture(
            job.curation,
            mixture,
            job.sets,
            job.run,
            name=job.recipe.name,
            datasets=job.datasets,
            content=job.recipe.content(),
        )
    about = published(mixture.target)["about"]
    for step in about["flow"]:
        job.record.stage(
            step["stage"],
            rows_in=step["in"],
            rows_out=step["out"],
            seconds=0.0,
            drops=step["drops"],
        )
    job.record.stage(
        "curate",
        rows_in=about["flow"][0]["in"],
        rows_out=about["samples"],
        seconds=time.monotonic() - started,
    )
    result = {
        "name": job.name,
        "datasets": list(job.datasets),
        **{key: about[key] for key in ("samples", "flow", "plan", "explained", "alarms")},
    }
    if job.options.with_shards:
        result["shards"] = make_shards(job)
    else:
        result["stale_shards"] = stale_shards(job)
    return result


@flow(name="plan", validate_parameters=False, persist_result=False)
def plan_flow(job: CurateJob, sweep: Sequence[str]) -> dict[str, Any]:
    """Decide about every row and plan, but write no mixture."""
    fates, _ = decide(job.curation, job.sets, job.run)
    base = job.recipe.config.mixture
    plan = plan_rows(fates, base)
    result = {
        "name": job.name,
        "datasets": list(job.datasets),
        "flow": fates.flow(),
        "alarms": alarms(fates.by_source(), job.recipe.config.dedup.alarm_share),
        **_planned(plan),
    }
    if sweep:
        variants = [(one, plan_rows(fates, one.config)) for one in parse_sweep(sweep, base)]
        folder = job.workspace.root / "plans" / job.name
        for variant, planned in variants:
            job.workspace.write_json(folder / f"{variant.slug}.json", planned.to_json())
        compared = compare([(variant.label, planned) for variant, planned in variants])
        job.workspace.write_json(folder / "comparison.json", compared)
        result["sweep"] = compared
        result["sweep_folder"] = job.workspace.relative(folder)
    return result


def _planned(plan: MixturePlan) -> dict[str, Any]:
    return {"plan": plan.to_json(), "explained": plan.explain()}
