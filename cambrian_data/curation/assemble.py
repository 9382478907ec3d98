"""From the pool to a mixture: the order of things.

    rules on single rows -> sets that it may not overlap -> pictures that look alike
        -> exact duplicates -> near duplicates -> plan and choice -> system prompts -> parts

`decide` says what becomes of every row, on numbers alone (`decide.py`); `make_mixture` writes the
mixture and the account of every row that is not in it. Who runs the stages is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cambrian_data.build import Build
from cambrian_data.curation.decide import (
    Fates,
    alarms,
    exact_keepers,
    near_candidates,
    picture_sets,
    rank_of,
)
from cambrian_data.curation.overlaps.against_set import AgainstSet
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.curation.selection import (
    DECIDED,
    Selection,
    decided_pieces,
    prompt_stats,
    write_stage,
    write_tables,
)
from cambrian_data.curation.stages import Curation
from cambrian_data.records import RunFailed
from cambrian_data.units import Stage, Unit
from cambrian_data.workspace import remove

RunStage = Callable[[Stage, Sequence[Sequence[Any]]], list[Unit]]
"""Makes the units of a stage for pieces, in their order: a flow's tasks, or `one_by_one`."""
Tables = list[tuple[str, pa.Table]]


def one_by_one(stage: Stage, pieces: Sequence[Sequence[Any]]) -> list[Unit]:
    """Make the units of a stage here, one after the other; those that are done are kept."""
    return [stage.finished(piece) or stage.run(piece) for piece in pieces]


def decide(curation: Curation, sets: Sequence[AgainstSet], run: RunStage) -> tuple[Fates, Tables]:
    """Return the fate of every row up to the plan, and the tables that tell of it.

    Raises:
        RunFailed: the checks dropped more than the recipe allows.
    """
    recipe = curation.recipe
    run(curation.index_stage(), curation.pieces())
    rows = curation.load()
    fates = Fates.of(rows)
    _limit_drops(fates, recipe.max_drop_share)
    tables: Tables = []
    for number, found in enumerate(sets):
        run(curation.overlap_stage(number, found.folder), curation.pieces(found.content_key))
        tables.append(("matches", curation.overlaps(fates, number)))
    rank = rank_of(rows, recipe.dedup)
    tables += _look_at_pictures(curation, fates)
    if recipe.dedup.exact:
        keeper = exact_keepers(rows, fates.is_alive, fates.sets, rank)
        fates.drop_copies("exact_dedup", keeper, None)
    if recipe.dedup.near.enabled:
        _drop_near(curation, fates, rank, run)
    return fates, tables


def make_mixture(
    curation: Curation,
    build: Build,
    sets: Sequence[AgainstSet],
    run: RunStage,
    *,
    name: str,
    datasets: Sequence[str],
    content: dict[str, Any],
) -> Path:
    """Write the mixture of a pool and swap it in; return its folder.

    Args:
        name: the recipe's name.
        content: the recipe in full, as JSON data.
    Raises:
        RunFailed: too much was dropped, nothing was left, or the pool changed meanwhile.
    """
    recipe, workspace = curation.recipe, curation.workspace
    fates, tables = decide(curation, sets, run)
    selection = Selection.of(fates, recipe.mixture)
    pieces = decided_pieces(curation, build, selection)
    units = run(write_stage(curation, build), pieces)
    write_tables(curation, build, fates, tables)
    sources = selection.by_source()
    about = {
        "recipe": name,
        "flow": selection.flow(),
        "alarms": alarms(sources, recipe.dedup.alarm_share),
    }
    stats = {
        **about,
        "sources": sources,
        "pictures": fates.pictures,
        "system_prompts": prompt_stats(units),
    }
    folder = build.folder()
    workspace.write_json(folder / "plan.json", selection.plan.to_json())
    workspace.write_json(folder / "stats.json", stats)
    if not curation.is_unchanged(datasets):
        raise RunFailed("the pool changed while it was read; run the same command again")
    remove(folder / DECIDED)
    return build.publish(
        {
            **about,
            "config": content,
            "datasets": list(datasets),
            "samples": sum(unit.numbers["samples"] for unit in units),
            "plan": selection.plan.to_json(),
            "explained": selection.plan.explain(),
        }
    )


# ---------------------------------------------------------------------------------- steps


def _limit_drops(fates: Fates, limit: float) -> None:
    """Stop where the checks dropped a larger share than the recipe allows."""
    step = fates.flow()[0]
    lost = step["in"] - step["out"]
    if lost > limit * step["in"]:
        raise RunFailed(
            f"checks: {lost / step['in']:.1%} of {step['in']:,} samples were dropped, more "
            f"than max_drop_share = {limit} in the recipe allows ({step['drops']})"
        )


def _look_at_pictures(curation: Curation, fates: Fates) -> Tables:
    """Find pictures that look alike; count them as one or drop them, as the recipe says."""
    rule = curation.recipe.pictures.on_duplicate
    alike = curation.look_alikes(fates.rows)
    if alike is not None and rule == "remove":
        curation.remove_pictures(fates, alike)
    grouped = alike.stands_for() if alike is not None and rule == "group" else None
    fates.sets = picture_sets(fates.rows, grouped)
    if alike is None:
        return []
    fates.pictures = {"on_duplicate": rule, **alike.numbers()}
    return [("clusters", alike.clusters())]


def _drop_near(curation: Curation, fates: Fates, rank: np.ndarray, run: RunStage) -> None:
    candidates = near_candidates(fates.is_alive, fates.sets)
    pieces = curation.shingle_pieces(fates.rows, candidates)
    if pieces:
        run(curation.shingle_stage(), pieces)
        near = curation.near(fates.rows, candidates, fates.sets, rank)
        fates.drop_copies("near_dedup", near.keeper, near.similarity)


def mixture_inputs(recipe: CurateRecipe) -> dict[str, Any]:
    """Return what a mixture depends on beside its pool and the rules on rows."""
    return recipe.model_dump(mode="json", include={"mixture", "system_prompts", "max_drop_share"})
