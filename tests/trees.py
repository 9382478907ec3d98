"""Workspaces in tests: what two of them must have in common, and data put into their pool."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.build import Build
from cambrian_data.curation.assemble import make_mixture, mixture_inputs, one_by_one
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.curation.stages import Curation
from cambrian_data.pool import dataset_manifests, pool_parts, write_dataset
from cambrian_data.records import SAMPLE, content_id
from cambrian_data.workspace import Workspace

PATTERNS = ("*.parquet", "*.tar", "*.png", "*.jpg", "index.json", "plan.json", "stats.json")
AREAS = ("engine", "pool", "mixtures", "shards", "images")


def tree(workspace: Path) -> dict[str, str]:
    """Return the sha256 of every file that may hold no clock time, by its place."""
    return {
        path.relative_to(workspace).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for area in AREAS
        for pattern in PATTERNS
        for path in sorted((workspace / area).rglob(pattern))
    }


def put_dataset(
    workspace: Workspace, name: str, key: str, samples: pa.Table, **about: object
) -> None:
    """Put a table of samples into the pool."""
    part = workspace.scratch()
    pq.write_table(samples, part)
    write_dataset(workspace, name, key, [part], about)
    part.unlink()


def mix(
    workspace: Workspace, recipe: CurateRecipe, name: str = "mix", datasets: Sequence[str] = ("d",)
) -> Path:
    """Make a mixture of data sets of the pool, without a flow; return its folder."""
    pool = pool_parts(workspace, dataset_manifests(workspace, datasets))
    curation = Curation.of(workspace, recipe, pool, [])
    key = content_id(curation.key, mixture_inputs(recipe))
    return make_mixture(
        curation,
        Build(workspace, workspace.mixture(name), key),
        [],
        one_by_one,
        name=name,
        datasets=datasets,
        content=recipe.model_dump(mode="json"),
    )


def read_datasets(workspace: Workspace, names: Sequence[str]) -> pa.Table:
    """Return the samples of data sets of the pool, one after the other."""
    parts = [
        pq.read_table(path, schema=SAMPLE)
        for name in names
        for path in sorted((workspace.pool(name) / "samples").glob("part-*.parquet"))
    ]
    return pa.concat_tables([SAMPLE.empty_table(), *parts])
