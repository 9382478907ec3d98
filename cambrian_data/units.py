"""Units of work and their manifests: what makes a run resumable.

A stage cuts its work into units (a chunk of topics, of pages, of figures, a part of rows). Each
unit has a key, the hash of its input, the stage's config and the stage's version, and leaves

    FOLDER/TABLE/part-STAGE-KEY.parquet       its rows, one file a table (none where it has none)
    FOLDER/manifests/STAGE/KEY.json           written last: its files with sizes and hashes, counts

A unit is done when its manifest is there and every file in it is intact. Everything else is made
again, to the same bytes, under the same names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.records import TABLES, content_id, table_of
from cambrian_data.workspace import Workspace, file_entry, is_intact, read_sealed, sealed

Rows: TypeAlias = pa.Table | Sequence[Mapping[str, Any]]
PARQUET: Mapping[str, Any] = {"compression": "zstd"}
"""How parts are written unless told, as everywhere (`workspace.parquet_bytes`)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A finished unit: its key, the tables that it has rows in, the numbers that it reported."""

    key: str
    tables: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """A file that a unit's work wrote itself, under a name from `Workspace.scratch()`.

    For files too large to be handed over as bytes; `commit` renames it into place.
    """

    path: Path
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Written:
        """Return a file with its size and hash."""
        entry = file_entry(path, path.name)
        return cls(path, entry["bytes"], entry["sha256"])


class Units:
    """The units of one stage in one folder."""

    def __init__(
        self, workspace: Workspace, folder: Path, stage: str, *, version: str, config: Any
    ) -> None:
        """Name the stage.

        Args:
            workspace: for writing, and for the pictures that units share.
            folder: where parts and manifests go, such as `engine/<run>`.
            stage: the stage's name, part of the file names.
            version: raised when the stage's code changes what it writes.
            config: what the output depends on beside the input, as JSON data.
        """
        self.workspace, self.folder, self.stage = workspace, folder, stage
        self._salt = content_id(stage, version, config)
        self._manifests = folder / "manifests" / stage

    def key(self, *inputs: Any) -> str:
        """Return the key of the unit with these inputs (JSON data, best: ids)."""
        return content_id(self._salt, *inputs)[:24]

    def load(self, key: str) -> Unit | None:
        """Return a unit that is done and intact, else None."""
        manifest = read_sealed(self._manifests / f"{key}.json")
        if manifest is None:
            return None
        own = ((self.folder, entry) for entry in manifest["files"])
        shared = ((self.workspace.root, entry) for entry in manifest["shared"])
        if not all(is_intact(base / entry["path"], entry) for base, entry in (*own, *shared)):
            return None
        return Unit(key, tuple(manifest["tables"]), manifest["numbers"])

    def commit(
        self,
        key: str,
        tables: Mapping[str, Rows],
        *,
        files: Mapping[str, bytes | Written] | None = None,
        numbers: Mapping[str, Any] | None = None,
        pictures: Iterable[Path] = (),
        parquet: Mapping[str, Any] = PARQUET,
    ) -> Unit:
        """Write a unit's tables and files and then its manifest.

        Args:
            key: from `key`.
            tables: rows by table name; those of `images` go to the workspace's own table.
            files: other files by their name in the folder, such as a shard: their content, or a
                file that is written already and moves into the folder.
            numbers: counts to be summed up over the run.
            pictures: stored pictures that the rows name; the unit is made again if one is lost.
            parquet: how the tables are written, as `pyarrow.parquet.write_table` takes it.
        """
        names, own, shared = [], [], []
        for name, rows in tables.items():
            table = rows if isinstance(rows, pa.Table) else table_of(name, rows)
            if not len(table):
                continue
            path = self._part(name, key)
            entry = self._write(path, table.cast(TABLES[name]), parquet)
            names.append(name)
            if name == "images":
                shared.append({"path": self.workspace.relative(path), **entry})
            else:
                own.append({"path": path.relative_to(self.folder).as_posix(), **entry})
        for name, data in (files or {}).items():
            own.append(self._put(name, data))
        shared += [
            file_entry(path, self.workspace.relative(path)) for path in sorted(set(pictures))
        ]
        manifest = {
            "stage": self.stage,
            "key": key,
            "tables": names,
            "files": own,
            "shared": shared,
            "numbers": dict(numbers or {}),
        }
        self.workspace.write_json(self._manifests / f"{key}.json", sealed(manifest))
        return Unit(key, tuple(names), dict(numbers or {}))

    def _write(self, path: Path, table: pa.Table, parquet: Mapping[str, Any]) -> dict[str, Any]:
        """Write a part; return its size and hash, without reading it again."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **parquet)
        content = sink.getvalue()
        self.workspace.write_bytes(path, content)
        return {"bytes": content.size, "sha256": hashlib.sha256(content).hexdigest()}

    def _put(self, name: str, data: bytes | Written) -> dict[str, Any]:
        """Write a file of a unit, or move it in; return its entry."""
        path = self.folder / name
        if isinstance(data, Written):
            path.parent.mkdir(parents=True, exist_ok=True)
            data.path.replace(path)
            return {"path": name, "bytes": data.bytes, "sha256": data.sha256}
        self.workspace.write_bytes(path, data)
        return file_entry(path, name)

    def _part(self, table: str, key: str) -> Path:
        folder = self.workspace.images if table == "images" else self.folder / table
        return folder / f"part-{self.stage}-{key}.parquet"

    def parts(self, table: str, units: Iterable[Unit]) -> list[Path]:
        """Return the files of a table of finished units, in the order of the units."""
        return [self._part(table, unit.key) for unit in units if table in unit.tables]

    def read(self, table: str, units: Iterable[Unit]) -> pa.Table:
        """Return the rows of finished units, in the order of the units."""
        found = [pq.read_table(path, schema=TABLES[table]) for path in self.parts(table, units)]
        return pa.concat_tables([TABLES[table].empty_table(), *found])

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove the units of this stage that are not among `keys`: their input is gone.

        Parts of the shared table `images` stay, since the pictures do.
        """
        keep = set(keys)
        if not self._manifests.is_dir():
            return
        for path in sorted(self._manifests.glob("*.json")):
            if path.stem not in keep:
                path.unlink()
                for part in self.folder.glob(f"*/part-{self.stage}-{path.stem}.parquet"):
                    part.unlink()


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a stage's work on one chunk gives: rows by table, files, numbers, stored pictures."""

    tables: Mapping[str, Rows]
    files: Mapping[str, bytes | Written] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as the flows see it: chunks of rows go in, finished units come out.

    `work` is a plain function of a chunk (a list of JSON-able rows); the key of its unit is the
    hash of that chunk, so the chunk must hold all that the work depends on.
    """

    units: Units
    work: Callable[[Sequence[Any]], StageOutput]
    is_complete: Callable[[Unit], bool] = lambda unit: True
    """Whether a finished unit holds all it should; one that does not is tried again."""

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.units.stage

    def finished(self, chunk: Sequence[Any]) -> Unit | None:
        """Return the chunk's unit if it is done, intact and complete."""
        unit = self.units.load(self.units.key(list(chunk)))
        return unit if unit is not None and self.is_complete(unit) else None

    def run(self, chunk: Sequence[Any]) -> Unit:
        """Do the work on a chunk and commit its unit."""
        output = self.work(chunk)
        try:
            return self.units.commit(
                self.units.key(list(chunk)),
                output.tables,
                files=output.files,
                numbers=output.numbers,
                pictures=output.pictures,
            )
        finally:  # what a commit that failed did not take
            for data in output.files.values():
                if isinstance(data, Written):
                    data.path.unlink(missing_ok=True)


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut a sequence into pieces of at most `size`, in order."""
    return [items[start : start + size] for start in range(0, len(items), size)]
