"""From the fates of all rows to a written mixture: plan, choice, account, parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from cambrian_data.build import Build
from cambrian_data.curation import parts
from cambrian_data.curation.decide import STAGES, Fates, clusters_of
from cambrian_data.curation.mixing.mixture import Chosen, choose, count_sources
from cambrian_data.curation.mixing.plan import MixtureConfig, MixturePlan, plan_mixture
from cambrian_data.curation.stages import CURATE_VERSION, Curation
from cambrian_data.curation.system_prompts import merge_prompt_stats
from cambrian_data.records import RunFailed, bytes_id
from cambrian_data.units import Stage, Unit, Units

DECIDED = "decided"
"""Folder of what was decided about each part; gone once the mixture is written."""
_MIXTURE = STAGES.index("mixture")


@dataclass(slots=True)
class Selection:
    """The rows that make a mixture, and why the others do not."""

    fates: Fates
    here: np.ndarray
    """Rows that the plan could take from."""
    plan: MixturePlan
    chosen: Chosen
    copies: np.ndarray
    """int32 [all rows]: how often each is taken."""

    @classmethod
    def of(cls, fates: Fates, config: MixtureConfig) -> Selection:
        """Plan a mixture of the rows that are left, and choose them.

        Raises:
            RunFailed: nothing is chosen.
        """
        rows = fates.rows
        here = np.flatnonzero(fates.is_alive)
        plan = plan_rows(fates, config)
        names = {"sources": rows.sources, "categories": rows.categories}
        chosen = choose(_frame(fates, here, config), plan, config, **names)
        copies = np.zeros(len(rows), dtype=np.int32)
        copies[here] = chosen.copies
        if not copies.any():
            raise RunFailed("the mixture is empty: " + plan.explain())
        return cls(fates, here, plan, chosen, copies)

    def flow(self) -> list[dict[str, Any]]:
        """Return the rows in and out of every stage; a row taken several times counts as often."""
        taken = int(self.copies.sum())
        drops = dict(sorted(self.chosen.counts().items()))
        step = {"stage": "mixture", "in": len(self.here), "out": taken, "drops": drops}
        if repeated := taken + sum(drops.values()) - len(self.here):
            step["repeated"] = repeated
        return [*self.fates.flow(), step]

    def by_source(self) -> list[dict[str, Any]]:
        """Return what every source had, lost at each stage, and gives."""
        rows = self.fates.rows
        lost = self.here[self.chosen.copies == 0]
        frame = pl.DataFrame(
            {"source": rows.source, "category": rows.category, "taken": self.copies}
        ).with_columns(lost=pl.lit(0))
        is_lost = np.zeros(len(rows), dtype=np.int32)
        is_lost[lost] = 1
        frame = frame.with_columns(lost=pl.Series(is_lost))
        sums = {
            (source, category): (taken, gone)
            for source, category, taken, gone in frame.group_by("source", "category")
            .agg(pl.col("taken").cast(pl.Int64).sum(), pl.col("lost").cast(pl.Int64).sum())
            .iter_rows()
        }
        code = {name: number for number, name in enumerate(rows.sources)}
        kind = {name: number for number, name in enumerate(rows.categories)}
        found = self.fates.by_source()
        for row in found:
            row["taken"], row["mixture"] = sums[code[row["source"]], kind[row["category"]]]
        return found


def plan_rows(fates: Fates, config: MixtureConfig) -> MixturePlan:
    """Plan a mixture of the rows that are left.

    Raises:
        RunFailed: there are none.
        UserError: the plan cannot be made of them.
    """
    rows, here = fates.rows, np.flatnonzero(fates.is_alive)
    if not len(here):
        drops = [
            f"{step['stage']} {reason} {count:,}"
            for step in fates.flow()
            for reason, count in step["drops"].items()
        ]
        raise RunFailed(
            f"of {len(rows):,} rows none is left to mix "
            f"({', '.join(drops) or 'the data sets are empty'}): change the rules in the recipe "
            "that drop them"
        )
    frame = pl.DataFrame(
        {
            "source": rows.source[here].astype(np.uint32),
            "category": rows.category[here].astype(np.uint32),
        }
    )
    counts = count_sources(frame, sources=rows.sources, categories=rows.categories)
    return plan_mixture(counts, config)


def _frame(fates: Fates, here: np.ndarray, config: MixtureConfig) -> pl.DataFrame:
    """Return what `choose` looks at, of the rows that are left."""
    rows = fates.rows
    columns: dict[str, np.ndarray] = {
        "source": rows.source[here].astype(np.uint32),
        "category": rows.category[here].astype(np.uint32),
        "id_hi": rows.id_hi[here],
        "id_lo": rows.id_lo[here],
    }
    if config.choice == "quality":
        columns["quality"] = rows.score[here]
    if config.choice == "diverse":
        columns["picture"] = fates.sets[here]
        columns["opening"] = rows.opening[here]
    return pl.DataFrame(columns)


# ----------------------------------------------------------------------------------- write


def write_stage(curation: Curation, build: Build) -> Stage:
    """Return the stage that writes a part of the mixture; its pieces are `decided_pieces`."""
    recipe = curation.recipe
    units = Units(
        curation.workspace, build.folder(), "curate", version=CURATE_VERSION, config=build.key
    )
    work = partial(
        parts.write_work,
        curation.workspace,
        curation.folder,
        recipe.system_prompts,
        curation.index_config,
    )
    return Stage(units, work)


def decided_pieces(curation: Curation, build: Build, selection: Selection) -> list[list[Any]]:
    """Write down what was decided about every part; return the parts as pieces."""
    rows, pieces = selection.fates.rows, []
    names = _Names.of(selection)
    for number, part in enumerate(curation.pool):
        low, high = rows.starts[number : number + 2].tolist()
        data = parts.decision_bytes(_decision(selection, names, low, high))
        path = build.folder() / DECIDED / f"{number:06d}.arrow"
        curation.workspace.write_bytes(path, data)
        pieces.append(part.piece(curation.workspace.relative(path), bytes_id(data)))
    return pieces


@dataclass(slots=True)
class _Names:
    """What the drops of a mixture say, made once for all parts."""

    lost_at: np.ndarray
    """Place of every row among those that the plan could take from."""
    kept: dict[int, str]
    """Ids of rows that duplicates are of."""

    @classmethod
    def of(cls, selection: Selection) -> _Names:
        fates = selection.fates
        lost_at = np.zeros(len(fates.rows), dtype=np.int64)
        lost_at[selection.here] = np.arange(len(selection.here))
        partners = np.unique(fates.partner[fates.partner != np.arange(len(fates.rows))])
        ids = fates.rows.ids(partners)
        return cls(lost_at, dict(zip(partners.tolist(), ids, strict=True)))


def _decision(selection: Selection, names: _Names, low: int, high: int) -> dict[str, pa.Array]:
    """Return the columns of `parts.DECISION` for the rows of a part."""
    fates = selection.fates
    rows, stage = fates.rows, fates.stage[low:high]
    copies = selection.copies[low:high]
    stage = np.where((stage < 0) & (copies == 0), _MIXTURE, stage)
    reason = np.full(high - low, None, dtype=object)
    detail = reason.copy()
    by_rule = np.array([name or None for _, name in rows.verdicts], dtype=object)
    reason[:] = by_rule[rows.verdict[low:high]]
    left_out = np.flatnonzero(stage == _MIXTURE)
    why, said = selection.chosen.drop_columns(names.lost_at[low + left_out])
    reason[left_out], detail[left_out] = why.to_pylist(), said.to_pylist()
    for at in np.flatnonzero((stage >= 2) & (stage < _MIXTURE)).tolist():
        reason[at], detail[at] = _why(fates, names, low + at)
    stages = np.array([*STAGES, None], dtype=object)[stage]
    return {
        "take": pa.array(copies),
        **{
            name: pa.array(column, pa.string()).dictionary_encode()
            for name, column in (("stage", stages), ("reason", reason), ("detail", detail))
        },
    }


def _why(fates: Fates, names: _Names, row: int) -> tuple[str, str]:
    if row in fates.explained:
        return fates.explained[row]
    partner = int(fates.partner[row])
    source = fates.rows.sources[fates.rows.source[partner]]
    if STAGES[fates.stage[row]] == "exact_dedup":
        return "exact_duplicate", f"equals {names.kept[partner]} of {source}"
    return (
        "near_duplicate",
        f"Jaccard {fates.similarity[row]:.3f} with {names.kept[partner]} of {source}",
    )


def write_tables(
    curation: Curation, build: Build, fates: Fates, more: Sequence[tuple[str, pa.Table]]
) -> None:
    """Write the clusters and the matches beside the mixture's parts."""
    units = Units(
        curation.workspace, build.folder(), "account", version=CURATE_VERSION, config=build.key
    )
    tables = [
        *(
            ("clusters", t)
            for stage in ("exact_dedup", "near_dedup")
            for t in clusters_of(fates, stage)
        ),
        *more,
    ]
    for number, (name, table) in enumerate(tables):
        units.commit(units.key(number), {name: table})


def prompt_stats(units: Sequence[Unit]) -> dict[str, Any]:
    """Return what was said of the answers' lengths, over all parts."""
    return merge_prompt_stats(unit.numbers["prompts"] for unit in units)
