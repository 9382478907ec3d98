"""The pool: data sets of samples, checked, that curation draws from.

`pool/<dataset>/{samples,drops}/part-*.parquet`, made by the engine or by ingest. A data set is
replaced as a whole; a mixture sees the old one or the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.build import Build, published
from cambrian_data.records import SAMPLE, UserError
from cambrian_data.units import Units
from cambrian_data.workspace import Workspace

ROWS_PER_PART = 50_000


class PoolError(UserError):
    """A data set that is not in the pool."""


def write_dataset(
    workspace: Workspace, dataset: str, key: str, samples: pa.Table, about: Mapping[str, Any]
) -> Path:
    """Put samples into the pool as a data set, in parts of bounded size, sorted by id.

    Args:
        dataset: the data set's name; what it held before is replaced.
        key: hash of all that the samples depend on; a data set with this key is left as it is.
        about: kept in the data set's manifest.
    """
    with workspace.lock(f"pool-{dataset}"):
        build = Build(workspace, workspace.pool(dataset), key)
        if not build.is_done():
            _fill(workspace, build, dataset, samples)
            build.publish({"samples": len(samples), **about})
    return build.target


def _fill(workspace: Workspace, build: Build, dataset: str, samples: pa.Table) -> None:
    units = Units(workspace, build.folder(), "pool", version="1", config=build.key)
    column = SAMPLE.get_field_index("dataset")
    named = pa.array([dataset] * len(samples), pa.string())
    ordered = samples.set_column(column, SAMPLE.field(column), named).sort_by("id")
    for number, start in enumerate(range(0, max(len(ordered), 1), ROWS_PER_PART)):
        if units.load(units.key(number)) is None:
            units.commit(units.key(number), {"samples": ordered.slice(start, ROWS_PER_PART)})


def dataset_names(workspace: Workspace, wanted: Sequence[str]) -> list[str]:
    """Return the data sets that a recipe asks for; `*` stands for all of the pool.

    Raises:
        PoolError: one is not there, or the pool is empty.
    """
    known = workspace.names("pool")
    if not known:
        raise PoolError(
            f"the pool of {workspace.root} is empty; fill it with `cambrian data engine --topic "
            "physics --offline` or `cambrian data ingest FILE.jsonl --images DIR --name NAME`"
        )
    missing = [name for name in wanted if name != "*" and name not in known]
    if missing:
        raise PoolError(f"the pool has no data set {missing[0]!r} (it has: {', '.join(known)})")
    return known if "*" in wanted else sorted(set(wanted))


def dataset_manifests(workspace: Workspace, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the manifests of data sets, every file checked against its hash.

    Raises:
        WorkspaceError: a data set is incomplete or damaged; the message names the file.
    """
    return {name: published(workspace.pool(name)) for name in names}


def read_datasets(workspace: Workspace, names: Sequence[str]) -> pa.Table:
    """Return the samples of data sets, one after the other."""
    parts = [
        pq.read_table(path, schema=SAMPLE)
        for name in names
        for path in sorted((workspace.pool(name) / "samples").glob("part-*.parquet"))
    ]
    return pa.concat_tables([SAMPLE.empty_table(), *parts])
