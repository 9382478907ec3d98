"""Opening a SQLite file that several processes share, and that may be damaged.

Opening is serialised by a lock file, since two processes that make the same database at once trip
over each other. A damaged file is renamed, with a warning; one that another process has just made
anew is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_BUSY_MS = 30_000
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_FULL = sqlite3.SQLITE_FULL

logger = logging.getLogger(__name__)


def open_database(path: Path, schema: str, *, is_suspect: bool = False) -> sqlite3.Connection:
    """Open a database and make its tables; one that is damaged is begun anew.

    Args:
        path: the file; it is made where there is none.
        schema: statements that do no harm to a database that has its tables.
        is_suspect: damage was met: look through the whole file, which takes its time.
    Raises:
        OSError: it cannot be written, or the disk is full; the error names the file.
    """
    with _locked(path):
        try:
            return _connect(path, schema, is_suspect)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise os_error(error, path) from error
            _set_aside(path, error)
        try:
            return _connect(path, schema, False)
        except sqlite3.Error as error:
            raise os_error(error, path) from error


def is_damage(error: sqlite3.Error) -> bool:
    """Say whether an error means that the file is no database, or a broken one."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    # Tables that are not as they should be: of an older version, or of another program.
    is_other = code & 0xFF == sqlite3.SQLITE_ERROR and "no such" in str(error)
    return code & 0xFF in _DAMAGE or is_other or "has no column" in str(error)


def os_error(error: sqlite3.Error, path: Path) -> OSError:
    """Return an error of SQLite as one of the system, with the file's name."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = {_FULL: errno.ENOSPC, sqlite3.SQLITE_BUSY: errno.EBUSY}.get(code, errno.EIO)
    text = os.strerror(number) if code == _FULL else str(error)
    return OSError(number, text, str(path))


def _connect(path: Path, schema: str, is_suspect: bool) -> sqlite3.Connection:
    database = sqlite3.connect(
        path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")  # holds for a new file only
        database.execute("PRAGMA journal_mode = WAL").fetchall()
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(schema)
        if is_suspect:
            verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _damaged(verdict)
    except BaseException:
        database.close()
        raise
    return database


def _damaged(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _set_aside(path: Path, error: sqlite3.Error) -> None:
    aside = path.with_name(path.name + ".damaged")
    logger.warning("%s is damaged (%s): set aside as %s, begun anew", path, error, aside.name)
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{ending}").replace(f"{aside}{ending}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with Path(f"{path}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
