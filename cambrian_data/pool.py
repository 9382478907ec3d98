"""The pool: data sets of samples, checked, that curation draws from.

`pool/<dataset>/{samples,drops}/part-*.parquet`, made by the engine or by ingest. A data set is
replaced as a whole; a mixture sees the old one or the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cambrian_data.build import Build, published
from cambrian_data.records import SAMPLE, UserError, drop
from cambrian_data.units import Units
from cambrian_data.workspace import Workspace

ROWS_PER_PART = 50_000


class PoolError(UserError):
    """A data set that is not in the pool."""


class Written(NamedTuple):
    """How many samples a data set has, and how many were left out since they are there already."""

    num_samples: int
    num_repeated: int


def write_dataset(
    workspace: Workspace, dataset: str, key: str, parts: Sequence[Path], about: Mapping[str, Any]
) -> Written:
    """Put samples into the pool as a data set, in parts of bounded size, sorted by id.

    Args:
        dataset: the data set's name; what it held before is replaced.
        key: hash of all that the samples depend on; a data set with this key is left as it is.
        parts: Parquet files of samples; of several with one id the first is kept, the others are
            drops of the data set.
        about: kept in the data set's manifest.
    """
    with workspace.lock(f"pool-{dataset}"):
        build = Build(workspace, workspace.pool(dataset), key)
        order = _order(parts)
        if not build.is_done():
            units = Units(workspace, build.folder(), "pool", version="2", config=build.key)
            _fill(units, dataset, parts, order)
            build.publish({"samples": len(order.ids), **about})
    return Written(len(order.ids), len(order.repeated))


class _Order(NamedTuple):
    """The distinct ids of a data set in order, and which part keeps each."""

    ids: list[str]
    part_of: dict[str, int]
    repeated: list[tuple[str, int]]


def _order(parts: Sequence[Path]) -> _Order:
    part_of: dict[str, int] = {}
    repeated = []
    for number, path in enumerate(parts):
        for sample in pq.read_table(path, columns=["id"])["id"].to_pylist():
            if part_of.setdefault(sample, number) != number:
                repeated.append((sample, number))
    return _Order(sorted(part_of), part_of, repeated)


def _fill(units: Units, dataset: str, parts: Sequence[Path], order: _Order) -> None:
    """Write the parts that are missing; one of them and one input in memory at a time."""
    drops = [
        drop("vqa", sample, "duplicate", detail="the same turns and picture stand in another part")
        for sample, _ in order.repeated
    ]
    for number, start in enumerate(range(0, max(len(order.ids), 1), ROWS_PER_PART)):
        if units.load(units.key(number)) is None:
            wanted = order.ids[start : start + ROWS_PER_PART]
            samples = _gather(parts, order.part_of, wanted, dataset)
            units.commit(units.key(number), {"samples": samples, "drops": [] if number else drops})


def _gather(
    parts: Sequence[Path], part_of: Mapping[str, int], wanted: Sequence[str], dataset: str
) -> pa.Table:
    """Return the samples with these ids, sorted by id, named after their data set."""
    ids = pa.array(wanted, pa.string())
    found = [SAMPLE.empty_table()]
    for number in sorted({part_of[sample] for sample in wanted}):
        table = pq.read_table(parts[number], schema=SAMPLE)
        mine = pa.array([part_of[sample] == number for sample in table["id"].to_pylist()])
        found.append(table.filter(pc.and_(mine, pc.is_in(table["id"], ids))))
    table = pa.concat_tables(found).sort_by("id")
    column = SAMPLE.get_field_index("dataset")
    named = pa.array([dataset] * len(table), pa.string())
    return table.set_column(column, SAMPLE.field(column), named)


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


@dataclass(frozen=True, slots=True)
class PoolPart:
    """One file of samples in the pool."""

    dataset: str
    path: str
    """Relative to the workspace."""
    sha256: str

    @property
    def name(self) -> str:
        """A name for files that belong to this part."""
        return f"{self.dataset}-{self.sha256[:20]}"

    def piece(self, *more: Any) -> list[Any]:
        """Return the part as the piece of a stage, with what else the work depends on."""
        return [self.dataset, self.path, self.sha256, *more]


def pool_parts(
    workspace: Workspace, manifests: Mapping[str, Mapping[str, Any]]
) -> tuple[PoolPart, ...]:
    """Return the parts of data sets (by their manifests), in the order of data set and file."""
    return tuple(
        PoolPart(
            dataset,
            workspace.relative(workspace.pool(dataset) / entry["path"]),
            entry["sha256"],
        )
        for dataset in sorted(manifests)
        for entry in sorted(manifests[dataset]["files"], key=lambda entry: entry["path"])
        if entry["path"].startswith("samples/")
    )
