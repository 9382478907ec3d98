"""Pictures in tar files, read where they lie: nothing is unpacked.

The members are listed once in an SQLite file of the workspace (some 150 bytes each), and again
only for a tar file whose size or time changed. A path that stands in several tar files is taken
from the first of them, by name.
"""

from __future__ import annotations

import os
import posixpath
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from cambrian_data.curation.ingest.formats.tar import TarError, members_of
from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.curation.ingest.picture_files import FoundFile, PictureProblem, choose, stem_of
from cambrian_data.records import UserError, content_id
from cambrian_data.web.sqlite_file import open_database, os_error

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tars (
    number INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS members (
    stem TEXT NOT NULL, tar INTEGER NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL,
    name TEXT NOT NULL, refused TEXT, PRIMARY KEY (stem, tar, start)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_by_tar ON members (tar);
"""
_AT_ONCE = 500


class TarPictures:
    """The pictures in some tar files, by their paths there."""

    is_remote = False

    def __init__(self, tars: Sequence[Path], rules: PathRules, index: Path) -> None:
        """List the tar files that are not listed yet.

        Args:
            tars: the files.
            rules: how paths may differ.
            index: the SQLite file of all lists.
        Raises:
            UserError: one is missing, damaged, or no tar file.
            OSError: the index cannot be written; the error names it.
        """
        self._tars = [tar.resolve() for tar in sorted(tars)]
        self._rules, self._index = rules, index
        self._database: sqlite3.Connection | None = None
        self._known = {self._listed(tar): (order, tar) for order, tar in enumerate(self._tars)}
        self._times = {tar: tar.stat().st_mtime_ns for tar in self._tars}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_database": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def find(
        self, paths: Collection[str], *, with_times: bool
    ) -> dict[str, FoundFile | PictureProblem]:
        """Look for pictures in the lists."""
        stems = sorted({stem_of(path) for path in paths})
        alike: dict[str, list[tuple[int, Any]]] = {}
        for start in range(0, len(stems), _AT_ONCE):
            some = stems[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            query = (
                f"SELECT stem, tar, start, size, name, refused FROM members WHERE stem IN ({marks})"
            )
            for stem, tar, *about in self._rows(query, some):
                if tar in self._known:
                    alike.setdefault(stem, []).append((self._known[tar][0], about))
        return {path: self._chosen(path, alike.get(stem_of(path), [])) for path in paths}

    def _chosen(self, path: str, alike: Sequence[tuple[int, Any]]) -> FoundFile | PictureProblem:
        first: dict[str, tuple[int, Any]] = {}
        for order, about in sorted(alike):
            name = about[2]
            same_tar = name in first and first[name][0] == order
            if name not in first or same_tar:  # within one tar file the last one holds
                first[name] = order, about
        chosen = choose(path, first, self._rules)
        if chosen is None:
            return PictureProblem("image_missing", path)
        order, (offset, size, name, refused) = first[chosen[0]]
        if refused:
            return PictureProblem("image_outside_folder", f"{path} is {refused} in a tar file")
        tar = self._tars[order]
        return FoundFile(
            name, f"{tar}!{offset}", size, self._times[tar], chosen[1], str(tar), offset
        )

    def read(self, found: FoundFile, max_bytes: int) -> bytes:
        """Return the bytes of a member."""
        if found.size > max_bytes:
            detail = f"{found.path}: {found.size} bytes, at most {max_bytes}"
            raise PictureProblem("image_unreadable", detail)
        try:
            with Path(found.place).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), found.size, found.offset)
        except OSError as error:
            raise PictureProblem("image_unreadable", f"{found.path}: {error}"[:300]) from None
        if len(data) < found.size:
            raise PictureProblem("image_unreadable", f"{found.path}: {found.place} was cut short")
        return data

    def fingerprint(self, *, with_times: bool) -> str:
        """Return a hash of the tar files' names, sizes and times."""
        return content_id([[str(tar), tar.stat().st_size, self._times[tar]] for tar in self._tars])

    # ------------------------------------------------------------------------------- listing

    def _listed(self, tar: Path) -> int:
        """Return the number of a tar file in the index, listing its members where need be."""
        try:
            about = tar.stat()
        except OSError as error:
            raise UserError(f"the tar file {tar} of --images cannot be read: {error}") from None
        row = self._rows("SELECT number, size, mtime_ns FROM tars WHERE path = ?", [str(tar)])
        if row and tuple(row[0][1:]) == (about.st_size, about.st_mtime_ns):
            return int(row[0][0])
        database = self._opened()
        try:
            database.execute("BEGIN IMMEDIATE")
            try:
                number = _replace(database, tar, about, [int(one[0]) for one in row])
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise os_error(error, self._index) from error
        return number

    def _rows(self, query: str, values: Sequence[Any]) -> list[Any]:
        try:
            return self._opened().execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise os_error(error, self._index) from error

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._index.parent.mkdir(parents=True, exist_ok=True)
            self._database = open_database(self._index, _SCHEMA)
        return self._database


def _replace(
    database: sqlite3.Connection, tar: Path, about: os.stat_result, old: Sequence[int]
) -> int:
    for number in old:
        database.execute("DELETE FROM members WHERE tar = ?", [number])
        database.execute("DELETE FROM tars WHERE number = ?", [number])
    cursor = database.execute(
        "INSERT INTO tars (path, size, mtime_ns) VALUES (?, ?, ?)",
        [str(tar), about.st_size, about.st_mtime_ns],
    )
    number = int(cursor.lastrowid or 0)
    database.executemany(
        "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?)", _members(tar, number)
    )
    return number


def _members(tar: Path, number: int) -> Iterator[tuple[Any, ...]]:
    try:
        with tar.open("rb") as file:
            for member in members_of(file):
                name = posixpath.normpath(member.name)
                yield stem_of(name), number, member.offset, member.size, name, member.refused
    except (OSError, TarError) as error:
        raise UserError(
            f"the tar file {tar} of --images is damaged or cut ({error}): fetch it again, or leave "
            "it out"
        ) from None
