"""From the pool to a mixture and its shards: the stages in order, and what they leave on disk.

`curate` is the pure part: samples in, mixture, drops, clusters and plan out. `write_mixture` puts
that under `mixtures/<name>`, `ShardStage` makes the tar files under `shards/<name>` one by one.
Both folders are swapped in whole. The tables are held in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.build import Build
from cambrian_data.curation.checks import check
from cambrian_data.curation.dedup import exact_dedup
from cambrian_data.curation.mixture import count_sources, select
from cambrian_data.curation.plan import MixturePlan, plan_mixture
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.curation.system_prompts import assign
from cambrian_data.records import SAMPLE, Progress, RunFailed, StageResult, bytes_id, draw
from cambrian_data.shards import (
    INDEX_NAME,
    ShardError,
    ShardSample,
    encode_shard,
    make_index,
    plan_shards,
    shard_name,
    tar_size,
    verify_shards,
)
from cambrian_data.units import Stage, StageOutput, Unit, Units
from cambrian_data.workspace import Workspace

CURATE_VERSION = "1"
SHARDS_VERSION = "1"
ROWS_PER_PART = 50_000


@dataclass(frozen=True, slots=True)
class Curated:
    """A mixture, and the account of every row that did not get into it."""

    samples: pa.Table
    drops: pa.Table
    clusters: pa.Table
    plan: MixturePlan
    flow: list[dict[str, Any]]
    """Rows in and out of every stage, with drops by reason, in order."""
    prompts: dict[str, Any]
    """What `system_prompts.assign` says of answer lengths and prompts."""


def curate(samples: pa.Table, recipe: CurateRecipe, progress: Progress) -> Curated:
    """Run the curation stages in order.

    Raises:
        RunFailed: the checks dropped more than `max_drop_share`, or nothing was left.
    """
    flow: list[dict[str, Any]] = []
    checked = _note(flow, "checks", samples, check(samples, recipe.checks))
    share = 1 - len(checked.kept) / max(len(samples), 1)
    if share > recipe.max_drop_share:
        raise RunFailed(
            f"checks: {share:.1%} of {len(samples):,} samples were dropped, more than "
            f"max_drop_share = {recipe.max_drop_share} in the recipe allows ({flow[-1]['drops']})"
        )
    progress("curate", 1, 4)
    unique, clusters = exact_dedup(checked.kept, recipe.dedup)
    _note(flow, "exact_dedup", checked.kept, unique)
    progress("curate", 2, 4)
    plan = plan_mixture(count_sources(unique.kept), recipe.mixture)
    chosen = _note(flow, "mixture", unique.kept, select(unique.kept, plan, recipe.mixture))
    if not len(chosen.kept):
        raise RunFailed("the mixture is empty: " + plan.explain())
    progress("curate", 3, 4)
    prompted, prompts = assign(chosen.kept, recipe.system_prompts)
    progress("curate", 4, 4)
    drops = pa.concat_tables([checked.drops, unique.drops, chosen.drops])
    return Curated(prompted, drops, clusters, plan, flow, prompts)


def _note(
    flow: list[dict[str, Any]], stage: str, before: pa.Table, result: StageResult
) -> StageResult:
    reasons = Counter(result.drops["reason"].to_pylist())
    flow.append(
        {
            "stage": stage,
            "in": len(before),
            "out": len(result.kept),
            "drops": dict(sorted(reasons.items())),
        }
    )
    return result


def write_mixture(
    workspace: Workspace, build: Build, curated: Curated, about: dict[str, Any]
) -> Path:
    """Write a curated mixture into its folder and swap it in."""
    folder = build.folder()
    units = Units(workspace, folder, "curate", version=CURATE_VERSION, config=build.key)
    tables = {"drops": curated.drops, "clusters": curated.clusters}
    units.commit(units.key("drops"), tables)
    ordered = curated.samples.sort_by([("id", "ascending")])
    for number, start in enumerate(range(0, len(ordered), ROWS_PER_PART)):
        units.commit(units.key(number), {"samples": ordered.slice(start, ROWS_PER_PART)})
    workspace.write_json(folder / "plan.json", curated.plan.to_json())
    workspace.write_json(
        folder / "stats.json", {"flow": curated.flow, "system_prompts": curated.prompts}
    )
    return build.publish({"samples": len(ordered), "flow": curated.flow, **about})


def read_mixture(folder: Path) -> pa.Table:
    """Return the samples of a mixture, sorted by id."""
    parts = [
        pq.read_table(path, schema=SAMPLE)
        for path in sorted((folder / "samples").glob("part-*.parquet"))
    ]
    return pa.concat_tables([SAMPLE.empty_table(), *parts]).sort_by([("id", "ascending")])


@dataclass(frozen=True, slots=True)
class ShardStage:
    """The shards of a mixture: samples shuffled by seed, cut into tar files, one unit a file.

    A sample whose picture is lost or damaged is left out and named; the next run tries it again.
    """

    workspace: Workspace
    folder: Path
    samples: list[dict[str, Any]]
    recipe: CurateRecipe
    key: str

    @classmethod
    def of(
        cls, workspace: Workspace, build: Build, samples: pa.Table, recipe: CurateRecipe
    ) -> ShardStage:
        """Shuffle a mixture's samples by hash of seed and id."""
        rows = samples.to_pylist()
        rows.sort(key=lambda row: (draw(recipe.seed, "shards", row["id"]), row["id"]))
        return cls(workspace, build.folder(), rows, recipe, build.key)

    def pieces(self) -> list[list[int]]:
        """Return [number, first row, row after the last] of every shard."""
        sizes = [
            tar_size(shard_record(row), [self._bytes_of(image) for image in row["images"]])
            for row in self.samples
        ]
        plan = plan_shards(sizes, self.recipe.shards)
        return [[number, rows.start, rows.stop] for number, rows in enumerate(plan)]

    def stage(self) -> Stage:
        """Return the stage that writes the shard of a piece."""
        units = Units(
            self.workspace, self.folder, "shards", version=SHARDS_VERSION, config=self.key
        )
        return Stage(units, self._write, is_complete=lambda unit: not unit.numbers["dropped"])

    def _bytes_of(self, image: dict[str, Any]) -> int:
        try:
            return (self.workspace.root / image["path"]).stat().st_size
        except OSError:
            return 0

    def _write(self, piece: Sequence[Any]) -> StageOutput:
        number, start, stop = piece
        packed, dropped = [], []
        for position in range(start, stop):
            row = self.samples[position]
            try:
                pictures = [self._picture(image) for image in row["images"]]
            except ShardError as error:
                dropped.append({"id": row["id"], "detail": str(error)})
                continue
            packed.append(ShardSample(f"{position:09d}", shard_record(row), pictures))
        data, entry = encode_shard(packed)
        numbers = {"entry": {"file": shard_name(number), **entry}, "dropped": dropped}
        return StageOutput({}, files={shard_name(number): data}, numbers=numbers)

    def _picture(self, image: dict[str, Any]) -> bytes:
        path = self.workspace.root / image["path"]
        if not image["sha256"]:
            raise ShardError(
                f"{image['path']} was not read: ingest its data set with --check-images decode"
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ShardError(f"{image['path']}: {error.strerror}") from None
        if bytes_id(data) != image["sha256"]:
            raise ShardError(f"{image['path']} is damaged: its content is not what its name says")
        return data


def publish_shards(
    workspace: Workspace, build: Build, name: str, units: Sequence[Unit]
) -> dict[str, Any]:
    """Write the index of finished shards, verify them all, swap the folder in.

    Returns:
        The index.
    Raises:
        RunFailed: a shard, read back, is not what the index says.
    """
    folder = build.folder()
    index = make_index(name, [unit.numbers["entry"] for unit in units])
    index["dropped"] = [row for unit in units for row in unit.numbers["dropped"]]
    workspace.write_json(folder / INDEX_NAME, index)
    if problems := verify_shards(folder).problems:
        raise RunFailed(
            f"the shards in {folder} differ from their index, run the same command again: "
            + "; ".join(problems[:5])
        )
    build.publish({"samples": index["samples"]})
    return index


def shard_record(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a shard says of a sample: all but `original`, `scores` and where a file lies."""
    images = [
        {
            "sha256": image["sha256"],
            "width": image["width"],
            "height": image["height"],
            "file": f"{number}{Path(image['path']).suffix}",
        }
        for number, image in enumerate(row["images"])
    ]
    kept = (
        "id",
        "source",
        "dataset",
        "category",
        "conversations",
        "system",
        "figure_id",
        "provenance",
    )
    return {name: row[name] for name in kept} | {"images": images}
