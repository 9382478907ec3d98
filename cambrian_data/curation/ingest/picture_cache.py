"""What was found out about pictures, by file, size and time, so that no run opens them again.

One SQLite file in the workspace, shared by processes; it can be deleted at any time. A picture's
entry holds only as long as the stored picture is still there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cambrian_data.curation.ingest.picture_files import FoundFile
from cambrian_data.web.sqlite_file import open_database, os_error

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    key TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, version TEXT NOT NULL,
    sha256 TEXT, path TEXT, width INTEGER, height INTEGER, format TEXT, bytes INTEGER, phash TEXT,
    problem TEXT) WITHOUT ROWID;
"""
_ROW = ("sha256", "path", "width", "height", "format", "bytes", "phash")
_AT_ONCE = 500
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file: its row of `images`, or why it is no picture that is taken."""

    row: Mapping[str, Any] | None
    problem: str | None = None


class PictureCache:
    """The entries of one version of how pictures are checked."""

    def __init__(self, path: Path, version: str) -> None:
        """Name the file, which is opened at first use, and the version of the checks."""
        self._path, self._version = path, version
        self._database: sqlite3.Connection | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "version": self._version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["version"])  # type: ignore[misc]

    def get(self, files: Iterable[FoundFile]) -> dict[str, Known]:
        """Return by key what is known of those files that did not change since.

        Raises:
            OSError: the cache cannot be read; the error names it.
        """
        wanted = {file.key: file for file in files}
        keys, found = list(wanted), {}
        columns = ", ".join(_ROW)
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            query = (
                f"SELECT key, size, mtime_ns, problem, {columns} FROM pictures "
                f"WHERE version = ? AND key IN ({marks})"
            )
            for key, size, mtime_ns, problem, *values in self._do(
                _rows, query, [self._version, *some]
            ):
                if (size, mtime_ns) == (wanted[key].size, wanted[key].mtime_ns):
                    row = None if problem is not None else dict(zip(_ROW, values, strict=True))
                    found[key] = Known(row, problem)
        return found

    def put(self, entries: Sequence[tuple[FoundFile, Known]]) -> None:
        """Keep what was found out, in the place of what was known before.

        Raises:
            OSError: the disk is full; the error names the file.
        """
        marks = ", ".join("?" * (5 + len(_ROW)))
        columns = ", ".join(("key", "size", "mtime_ns", "version", "problem", *_ROW))
        rows = [
            [file.key, file.size, file.mtime_ns, self._version, known.problem]
            + [(known.row or {}).get(name) for name in _ROW]
            for file, known in entries
        ]
        statement = f"INSERT OR REPLACE INTO pictures ({columns}) VALUES ({marks})"
        self._do(_write, statement, rows)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _do(self, work: Callable[[sqlite3.Connection, str, Any], T], sql: str, values: Any) -> T:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = open_database(self._path, _SCHEMA)
        try:
            return work(self._database, sql, values)
        except sqlite3.Error as error:
            raise os_error(error, self._path) from error


def _rows(database: sqlite3.Connection, query: str, values: Sequence[Any]) -> list[Any]:
    return database.execute(query, values).fetchall()


def _write(database: sqlite3.Connection, statement: str, rows: Sequence[Any]) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        database.executemany(statement, rows)
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
