"""What a report is made of: a mixture's folder, its data sets, shards and runs; SQL over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import orjson

from cambrian_data.build import MANIFEST, published
from cambrian_data.records import TABLES, UserError
from cambrian_data.runs import read_runs
from cambrian_data.shards import INDEX_NAME
from cambrian_data.workspace import Workspace


class Tables:
    """SQL over Parquet parts, in memory; the catalog is neither needed nor touched."""

    def __init__(self, parts: Mapping[str, tuple[str, Iterable[Path]]]) -> None:
        self._connection = duckdb.connect()
        for view, (table, paths) in parts.items():
            files = [str(path) for path in paths]
            if files:
                relation = self._connection.read_parquet(files, union_by_name=True)
                relation.create_view(view)
            else:
                self._connection.register(view, TABLES[table].empty_table())

    def run(self, sql: str) -> None:
        """Run a statement that makes a view or a temporary table."""
        self._connection.execute(sql)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        relation = self._connection.sql(sql, params=list(values) or None)
        return relation.to_arrow_table().to_pylist()


@dataclass(frozen=True, slots=True)
class Inputs:
    """A mixture and all that stands behind it, read once."""

    workspace: Workspace
    name: str
    about: dict[str, Any]
    """What the mixture's manifest says: recipe, data sets, flow, plan."""
    plan: dict[str, Any]
    stats: dict[str, Any]
    shards: dict[str, Any] | None
    """The shards' index; None where none were made."""
    pool: dict[str, dict[str, Any] | None]
    """The manifest of every data set; None where it is no longer in the pool."""
    runs: list[dict[str, Any]]
    """All run records of the workspace, oldest first."""
    tables: Tables
    """mixture, pool (its data sets), clusters, drops (of all stages before and in curation)."""

    @property
    def seed(self) -> int:
        """The seed that chose the mixture; it chooses what the report shows too."""
        return int(self.plan.get("seed") or 0)

    def run_of(self, dataset: str) -> dict[str, Any] | None:
        """Return the record of the run that made a data set."""
        manifest = self.pool.get(dataset)
        run = manifest["about"].get("run") if manifest else None
        return next((record for record in self.runs if record["run"] == run), None)

    def curate_run(self) -> dict[str, Any] | None:
        """Return the record of the newest run that made this mixture."""
        made = [
            record
            for record in self.runs
            if record["kind"] == "curate"
            and record["status"] == "done"
            and record["outputs"].get("name") == self.name
        ]
        return made[-1] if made else None


def read_inputs(workspace: Workspace, mixture: str) -> Inputs:
    """Read what there is on a mixture.

    Raises:
        UserError: there is no such mixture, or it is unfinished or damaged.
    """
    known = workspace.names("mixtures")
    if mixture not in known:
        have = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(
            f"there is no mixture {mixture!r} in {workspace.root} ({have}); make one with "
            "`cambrian data curate --recipe tiny`"
        )
    folder = workspace.mixture(mixture)
    about = published(folder)["about"]
    pool = {name: read_json(workspace.pool(name) / MANIFEST) for name in about["datasets"]}
    return Inputs(
        workspace=workspace,
        name=mixture,
        about=about,
        plan=read_json(folder / "plan.json") or {},
        stats=read_json(folder / "stats.json") or {},
        shards=read_json(workspace.shards(mixture) / INDEX_NAME),
        pool=pool,
        runs=sorted(read_runs(workspace), key=lambda run: (run["started_at"], run["run"])),
        tables=Tables(_parts(workspace, mixture, pool)),
    )


def _parts(
    workspace: Workspace, mixture: str, pool: Mapping[str, dict[str, Any] | None]
) -> dict[str, tuple[str, list[Path]]]:
    """Return table and files of every view."""
    folder = workspace.mixture(mixture)
    datasets = [workspace.pool(name) for name, manifest in pool.items() if manifest]
    runs = [
        workspace.engine(manifest["about"]["run"])
        for manifest in pool.values()
        if manifest and manifest["about"].get("made_by") == "engine"
    ]
    return {
        "mixture": ("samples", _files([folder], "samples")),
        "pool": ("samples", _files(datasets, "samples")),
        "clusters": ("clusters", _files([folder], "clusters")),
        "drops": ("drops", _files([*runs, *datasets, folder], "drops")),
    }


def _files(folders: Iterable[Path], table: str) -> list[Path]:
    return [path for folder in folders for path in sorted((folder / table).glob("part-*.parquet"))]


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is no file that holds one."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None
