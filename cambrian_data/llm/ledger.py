"""The ledger: every request, every sending and every answer of the LLM, in one SQLite file.

A sending is written down before it goes out, an answer before anybody gets it, so that no kill
makes a written-down answer cost twice. Safe for threads and for several processes (WAL). Pictures
are not stored, only their hashes. One write takes well under a millisecond. A damaged file is an
error and never begun anew: it holds what was paid for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cambrian_data.llm.bodies import Encoded
from cambrian_data.llm.ledger_rows import (
    TABLES,
    VERSION,
    Sending,
    WrittenAnswer,
    call_row,
    prompt_of,
)
from cambrian_data.records import UserError
from cambrian_data.workspace import utc_now

FILE_NAME = "llm.sqlite"
WAIT_S = 60
TIDY_EVERY = 4_000
MIN_FREE_BYTES = 32 * 2**20
"""With less room on the disk nothing more is asked: open answers, paid for, must still fit."""
_LOOK_EVERY_S = 1.0
_CHUNK = 500

Run = Callable[[str, tuple[Any, ...]], sqlite3.Cursor]
Note = Callable[[Run], Any]


class Ledger:
    """One file; used by any number of clients."""

    def __init__(
        self, path: Path, *, read_only: bool = False, now: Callable[[], str] = utc_now
    ) -> None:
        """Open a ledger, making it where there is none.

        Raises:
            UserError: it is damaged, no ledger, or cannot be opened.
        """
        self.path = path
        self._now, self._looked = now, 0.0
        self._locks = threading.Lock(), threading.Lock()
        self._num_written = 0
        self._tidying: threading.Thread | None = None
        if not path.exists():
            self._make(read_only)
        mode = "ro" if read_only else "rw"
        with self._faults():
            self._reader = self._connect("ro" if read_only else "rw")
            self._writer = self._reader if read_only else self._connect(mode)
            self._check()

    def _make(self, read_only: bool) -> None:
        """Make the file aside and give it its name when it is whole."""
        wal = self.path.with_name(self.path.name + "-wal")
        if read_only:
            raise UserError(f"there is no ledger {self.path}")
        if wal.exists() and wal.stat().st_size:
            raise UserError(
                f"the ledger {self.path} is gone, but {wal.name} beside it holds a part of it: put "
                "the ledger back, or move that file away to begin anew"
            )
        scratch = self.path.with_name(f"{self.path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._faults(), contextlib.closing(sqlite3.connect(scratch)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(TABLES)
            _name_it(scratch, self.path)
        finally:
            scratch.unlink(missing_ok=True)

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=WAIT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `_tidy`
        return connection

    def _check(self) -> None:
        version = self._reader.execute("PRAGMA user_version").fetchone()[0]
        names = {name for (name,) in self._reader.execute("SELECT name FROM sqlite_master")}
        if version > VERSION:
            raise UserError(
                f"the ledger {self.path} was written by a newer version of cambrian (its form is "
                f"{version}, this version knows {VERSION}): update cambrian"
            )
        if not {"requests", "sent", "answers", "servers"} <= names:
            raise self.damaged("it has not the tables of a ledger")

    def close(self) -> None:
        """Close the file; what was written is in it."""
        if self._tidying is not None:
            self._tidying.join(WAIT_S)
        self._writer.close()
        self._reader.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------ writing

    def write(self, *notes: Note) -> list[Any]:
        """Write things down together; when this returns no kill can lose them.

        Args:
            notes: made by `sending`, `fault` and `answer`.
        Returns:
            What each note gives: a `Sending`, nothing, a `WrittenAnswer`.
        """
        with self._transaction() as run:
            given = [note(run) for note in notes]
        self._num_written += len(notes)
        if self._num_written >= TIDY_EVERY and not (self._tidying and self._tidying.is_alive()):
            self._num_written = 0
            self._tidying = threading.Thread(target=self._tidy, name="ledger", daemon=True)
            self._tidying.start()
        return given

    def _tidy(self) -> None:
        """Move what was written from the write-ahead log into the file, beside the writers.

        SQLite does it by itself within a commit, which then takes a tenth of a second and more.
        """
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(self._connect("rw")) as connection,
        ):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _check_room(self) -> None:
        now = time.monotonic()
        if now < self._looked + _LOOK_EVERY_S:
            return
        self._looked = now
        if shutil.disk_usage(self.path.parent).free < MIN_FREE_BYTES:
            self._looked = 0.0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def sending(self, call: Encoded) -> Note:
        """Note that a request is about to be sent; gives a `Sending`.

        Raises:
            OSError: the disk is nearly full.
        """
        self._check_room()
        text = call.text()

        def note(run: Run) -> Sending:
            row = run(
                "SELECT number, outcome IS NULL AND NOT EXISTS (SELECT 1 FROM answers a WHERE "
                "a.key = s.key AND a.number = s.number) FROM sent s WHERE key = ? "
                "ORDER BY number DESC LIMIT 1",
                (call.key,),
            ).fetchone()
            number, is_repeat = (row[0] + 1, bool(row[1])) if row else (1, False)
            if row is None:
                run(
                    "INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(call.key, call.base_url, call.model, call.about),
                        *(call.prompt_tokens, call.max_tokens, text),
                    ),
                )
            run("INSERT INTO sent VALUES (?, ?, ?, NULL)", (call.key, number, self._now()))
            return Sending(call.key, number, is_repeat)

        return note

    def fault(self, sending: Sending, word: str) -> Note:
        """Note that a sending ended without an answer."""

        def note(run: Run) -> None:
            values = (word, sending.key, sending.number)
            run("UPDATE sent SET outcome = ? WHERE key = ? AND number = ?", values)

        return note

    def answer(
        self,
        sending: Sending,
        *,
        outcome: str,
        status: int,
        raw: bytes,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        is_estimated: bool = False,
        cost_usd: float | None = None,
        seconds: float = 0.0,
    ) -> Note:
        """Note an answer; gives a `WrittenAnswer`."""
        answer = WrittenAnswer(
            number=sending.number,
            outcome=outcome,
            status=status,
            raw=raw.decode("utf-8", "replace"),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            is_estimated=is_estimated,
            cost_usd=cost_usd,
            seconds=round(seconds, 3),
            at=self._now(),
        )

        def note(run: Run) -> WrittenAnswer:
            run(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(sending.key, answer.number, answer.at, answer.outcome, answer.status),
                    *(answer.raw, answer.prompt_tokens, answer.completion_tokens),
                    *(answer.is_estimated, answer.cost_usd, answer.seconds),
                ),
            )
            return answer

        return note

    def learn(self, base_url: str, model: str, trait: str) -> None:
        """Remember what a server does not know."""
        with self._transaction() as run:
            values = (base_url, model, trait, self._now())
            run("INSERT OR IGNORE INTO servers VALUES (?, ?, ?, ?)", values)

    # ------------------------------------------------------------------------------ reading

    def answers(self, key: str) -> list[WrittenAnswer]:
        """Return the answers to a request, in order."""
        rows = self._rows(
            "SELECT number, outcome, status, raw, prompt_tokens, completion_tokens, is_estimated, "
            "cost_usd, seconds, at FROM answers WHERE key = ? ORDER BY number",
            key,
        )
        return [WrittenAnswer(*row) for row in rows]

    def traits(self, base_url: str, model: str) -> set[str]:
        """Return what a server is known not to know."""
        query = "SELECT trait FROM servers WHERE base_url = ? AND model = ?"
        return {trait for (trait,) in self._rows(query, base_url, model)}

    def calls(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """Return a row of records.LLM_CALL for each of the requests that has an answer, by key."""
        wanted = sorted(set(keys))
        rows: list[dict[str, Any]] = []
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            rows += [call_row(row) for row in self._summaries(chunk)]
        return sorted(rows, key=lambda row: row["key"])

    def cost_of(self, key: str) -> dict[str, Any] | None:
        """Return what a request was, what it cost and when; None where it is not in the ledger."""
        request = self._rows("SELECT model, base_url, about, body FROM requests WHERE key = ?", key)
        if not request:
            return None
        model, base_url, about, body = request[0]
        calls = self.calls([key])
        call = (
            calls[0] if calls else {"status": None, "cost_usd": None, "at": None, "seconds": None}
        )
        return {
            **call,
            "key": key,
            "model": model,
            "base_url": base_url,
            "about": about,
            "num_answers": len(self.answers(key)),
            "num_sent": self._rows("SELECT count(*) FROM sent WHERE key = ?", key)[0][0],
            "prompt": prompt_of(body),
        }

    def _summaries(self, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        marks = ",".join("?" * len(keys))
        # The bare columns are those of the row with the largest number: SQLite's rule for max().
        return self._rows(
            "SELECT a.key, r.model, a.outcome, sum(a.prompt_tokens), sum(a.completion_tokens), "
            "CASE WHEN count(a.cost_usd) = count(*) THEN sum(a.cost_usd) END, sum(a.seconds), "
            "a.at, max(a.number) FROM answers a JOIN requests r USING (key) "
            f"WHERE a.key IN ({marks}) GROUP BY a.key",
            *keys,
        )

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._faults(), self._locks[0]:
            return self._reader.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Run]:
        """Run statements together; they hold when this ends without an error."""
        with self._faults(), self._locks[1]:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer.execute
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    # ------------------------------------------------------------------------------- faults

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Say what a fault of SQLite means."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from None

    def _explain(self, error: sqlite3.Error) -> Exception:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_FULL"):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if name.startswith("SQLITE_IOERR"):
            return OSError(errno.EIO, f"{os.strerror(errno.EIO)} ({error})", str(self.path))
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return UserError(
                f"the ledger {self.path} has been locked by another process for {WAIT_S} s; end "
                "that process, or wait for it"
            )
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            return UserError(f"the ledger {self.path} cannot be opened or written ({error})")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self.damaged(str(error))
        return RuntimeError(f"the ledger {self.path}: {error}")

    def damaged(self, why: str) -> UserError:
        """Return the error of a damaged file."""
        return UserError(
            f"the ledger {self.path} is damaged ({why}). It holds what was paid for, so it is not "
            f"begun anew by itself: restore a copy of it, or move it away (with "
            f"{self.path.name}-wal and {self.path.name}-shm) to begin anew"
        )


def _name_it(scratch: Path, path: Path) -> None:
    """Give a file its name, unless another process was faster."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        pass
    except OSError:  # no hard links on this file system
        if not path.exists():
            scratch.replace(path)
