"""What a report is made of: a mixture's folder, its data sets, shards and runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cambrian_data.build import MANIFEST, published
from cambrian_data.records import UserError
from cambrian_data.report.tables import Tables
from cambrian_data.runs import read_runs
from cambrian_data.shards import INDEX_NAME
from cambrian_data.workspace import Workspace


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
    """mixture, pool (its data sets), images, clusters, matches, drops (of all stages before and in
    curation), left_out (of curation alone)."""

    @property
    def seed(self) -> int:
        """The seed that chose the mixture; it chooses what the report shows too."""
        return int(self.plan.get("seed") or 0)

    @property
    def flow(self) -> list[dict[str, Any]]:
        """Rows in and out of every stage of curation, in order."""
        return list(self.about.get("flow") or self.stats.get("flow") or [])

    def recipe(self) -> dict[str, Any] | None:
        """Return the recipe in full, as the manifest or the run record has it."""
        kept = self.about.get("config") or (self.curate_run() or {}).get("recipe")
        return dict(kept) if kept else None

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


@contextlib.contextmanager
def open_inputs(workspace: Workspace, mixture: str) -> Iterator[Inputs]:
    """Read what there is on a mixture; its tables are open until the end of the block.

    Raises:
        UserError: there is no such mixture, or it is unfinished or damaged.
    """
    about = published(mixture_folder(workspace, mixture))["about"]
    folder = workspace.mixture(mixture)
    pool = {name: read_json(workspace.pool(name) / MANIFEST) for name in about["datasets"]}
    with Tables(workspace, _parts(workspace, mixture, pool)) as tables:
        yield Inputs(
            workspace=workspace,
            name=mixture,
            about=about,
            plan=read_json(folder / "plan.json") or {},
            stats=read_json(folder / "stats.json") or {},
            shards=read_json(workspace.shards(mixture) / INDEX_NAME),
            pool=pool,
            runs=sorted(read_runs(workspace), key=lambda run: (run["started_at"], run["run"])),
            tables=tables,
        )


def mixture_folder(workspace: Workspace, mixture: str) -> Path:
    """Return a mixture's folder.

    Raises:
        UserError: there is no such mixture; the message names those that there are.
    """
    known = workspace.names("mixtures")
    if mixture not in known:
        have = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(
            f"there is no mixture {mixture!r} in {workspace.root} ({have}); make one with "
            "`cambrian data curate --recipe tiny`"
        )
    return workspace.mixture(mixture)


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
        "mixture": ("samples", files_of([folder], "samples")),
        "pool": ("samples", files_of(datasets, "samples")),
        "images": ("images", sorted(workspace.images.glob("part-*.parquet"))),
        "clusters": ("clusters", files_of([folder], "clusters")),
        "matches": ("matches", files_of([folder], "matches")),
        "drops": ("drops", files_of([*runs, *datasets, folder], "drops")),
        "left_out": ("drops", files_of([folder], "drops")),
    }


def files_of(folders: Iterable[Path], table: str) -> list[Path]:
    """Return the files of a table in folders, in a fixed order."""
    return [path for folder in folders for path in sorted((folder / table).glob("part-*.parquet"))]


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is no file that holds one."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None
