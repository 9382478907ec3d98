"""Answers on disk: one SQLite file, safe for threads and processes, and for kill -9.

`get`, `put` and `validated` keep answers; notes are small facts of the caller's. What was put is
committed before `put` returns. Past `max_bytes` the answers that were used least recently go. A
file that is damaged is set aside as `NAME.damaged` and begun anew, with a warning.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson

from cambrian_data.web import sqlite_file
from cambrian_data.web.clock import Clock, SystemClock

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, status INTEGER NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL,
    fetched_at TEXT NOT NULL, validated_at REAL NOT NULL, used_at REAL NOT NULL,
    size INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS answers_by_use ON answers (used_at, size);
CREATE TABLE IF NOT EXISTS notes (
    kind TEXT, key TEXT, value BLOB NOT NULL, used_at REAL NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (kind, key));
CREATE TABLE IF NOT EXISTS sizes (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO sizes VALUES ('answers', 0), ('notes', 0);
"""
_ROW_BYTES = 200
"""What a row takes beside its texts, about."""
_KEPT_SHARE = 0.9
_ZLIB_LEVEL = 3  # a page of 300 kB in 3 ms; level 6 takes three times that for 8 percent
_MAX_TOUCHED = 500

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAnswer:
    """An answer as it is kept."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    fetched_at: str
    """When this body was fetched first, ISO 8601 in UTC."""
    validated_at: float
    """When its host last said that it holds, in seconds since 1970."""


class HttpCache:
    """Answers and notes in one SQLite file."""

    def __init__(self, path: Path, *, max_bytes: int, clock: Clock | None = None) -> None:
        """Open the file, making it where there is none.

        Raises:
            OSError: it cannot be written; the error names it.
        """
        self.path, self.max_bytes = path, max_bytes
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._touched: dict[str, float] = {}
        self._is_closed = self._has_freed = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite_file.open_database(path, _SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it may be closed twice."""
        with self._lock:
            if not self._is_closed:
                with contextlib.suppress(OSError):
                    self._write(self._flush_touched)
                self._database.close()
            self._is_closed = True

    def get(self, key: str) -> CachedAnswer | None:
        """Return what is kept under a key, or None."""
        row = self._do(
            lambda database: database.execute(
                "SELECT status, headers, body, fetched_at, validated_at FROM answers WHERE key = ?",
                (key,),
            ).fetchone()
        )
        if row is None:
            return None
        try:
            headers, body = orjson.loads(row[1]), zlib.decompress(row[2])
        except (zlib.error, orjson.JSONDecodeError):
            logger.warning("an answer in %s was damaged; it is fetched again", self.path)
            self._write(lambda database: self._delete(database, [key]))
            return None
        with self._lock:
            self._touched[key] = self._clock.time()
            is_much = len(self._touched) >= _MAX_TOUCHED
        if is_much:
            self._write(self._flush_touched)
        return CachedAnswer(
            status=row[0], headers=headers, body=body, fetched_at=row[3], validated_at=row[4]
        )

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Keep an answer, in the place of an older one.

        Raises:
            OSError: the disk is full; the error names the file.
        """
        headers, body = orjson.dumps(dict(answer.headers)), zlib.compress(answer.body, _ZLIB_LEVEL)
        now = self._clock.time()
        size = len(key) + len(headers) + len(body) + _ROW_BYTES
        row = (key, answer.status, headers, body, answer.fetched_at, answer.validated_at, now, size)

        def write(database: sqlite3.Connection) -> None:
            self._delete(database, [key])
            database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            _grow(database, "answers", size)
            self._make_room(database)

        self._write(write)

    def validated(self, key: str, at: float, headers: Mapping[str, str]) -> None:
        """Write down that an answer still holds, and its newest headers."""
        self._write(
            lambda database: database.execute(
                "UPDATE answers SET validated_at = ?, headers = ?, used_at = ? WHERE key = ?",
                (at, orjson.dumps(dict(headers)), self._clock.time(), key),
            )
        )

    def note(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return a small fact that was kept, or None."""
        row = self._do(
            lambda database: database.execute(
                "SELECT value FROM notes WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        )
        return orjson.loads(row[0]) if row else None

    def put_note(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Keep a small fact, such as what became of a picture.

        Raises:
            OSError: the disk is full; the error names the file.
        """
        data = orjson.dumps(dict(value))
        size = len(kind) + len(key) + len(data) + _ROW_BYTES

        def write(database: sqlite3.Connection) -> None:
            old = database.execute(
                "SELECT size FROM notes WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
            database.execute(
                "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?)",
                (kind, key, data, self._clock.time(), size),
            )
            _grow(database, "notes", size - (old[0] if old else 0))
            self._make_room(database)

        self._write(write)

    # -------------------------------------------------------------------------- within

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do one piece of work; on a damaged file, begin it anew and do it there."""
        with self._lock:
            if self._is_closed:
                raise OSError(f"{self.path} was closed")
            try:
                return work(self._database)
            except sqlite3.Error as error:
                if not sqlite_file.is_damage(error):
                    raise sqlite_file.os_error(error, self.path) from error
            self._database.close()
            self._database = sqlite_file.open_database(self.path, _SCHEMA, is_suspect=True)
            try:
                return work(self._database)
            except sqlite3.Error as error:
                raise sqlite_file.os_error(error, self.path) from error

    def _write(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        def within(database: sqlite3.Connection) -> None:
            with _transaction(database):
                work(database)
            if self._has_freed:
                # `execute` would give back a single page, since it stops at the first row.
                self._has_freed = False
                database.executescript("PRAGMA incremental_vacuum")

        self._do(within)

    def _delete(self, database: sqlite3.Connection, keys: list[str]) -> None:
        for key in keys:
            row = database.execute("DELETE FROM answers WHERE key = ? RETURNING size", (key,))
            if freed := row.fetchone():
                _grow(database, "answers", -freed[0])
            self._touched.pop(key, None)

    def _flush_touched(self, database: sqlite3.Connection) -> None:
        with self._lock:
            touched, self._touched = self._touched, {}
        database.executemany(
            "UPDATE answers SET used_at = ? WHERE key = ?",
            [(at, key) for key, at in touched.items()],
        )

    def _make_room(self, database: sqlite3.Connection) -> None:
        sizes = dict(database.execute("SELECT name, bytes FROM sizes").fetchall())
        if sum(sizes.values()) <= self.max_bytes:
            return
        self._flush_touched(database)
        target = int(self.max_bytes * _KEPT_SHARE)
        if sizes["notes"] > self.max_bytes:
            _shrink(database, "notes", sizes["notes"] - target)
            sizes["notes"] = target
        _shrink(database, "answers", sum(sizes.values()) - target)
        self._has_freed = True


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    if database.in_transaction:
        yield
        return
    database.execute("BEGIN IMMEDIATE")  # a read lock that grows can fail where this one waits
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
            database.execute("ROLLBACK")
        raise


def _grow(database: sqlite3.Connection, table: str, num_bytes: int) -> None:
    database.execute("UPDATE sizes SET bytes = bytes + ? WHERE name = ?", (num_bytes, table))


def _shrink(database: sqlite3.Connection, table: str, excess: int) -> None:
    """Take away what was used least recently, until so many bytes are gone."""
    rowids, freed = [], 0
    for rowid, size in database.execute(f"SELECT rowid, size FROM {table} ORDER BY used_at"):
        if freed >= excess:
            break
        rowids.append((rowid,))
        freed += size
    database.executemany(f"DELETE FROM {table} WHERE rowid = ?", rowids)
    _grow(database, table, -freed)
