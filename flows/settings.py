"""Prefect's settings, made before prefect is imported; none of them overrides the user's own.

With them a flow asks for nothing outside, prints next to nothing, and keeps its helper database in
the workspace. Each process at work gets a home of its own there, because two helper servers on one
database break each other; a free home is used again, since a fresh one costs some 8 seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import IO

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_UI_API_URL": "/api",
    "PREFECT_CLI_WIKI_LINKS": "false",
}
_PID_NAME = "helper.pid"
_held: dict[str, IO[str]] = {}


def prepare(workspace: Path) -> Path:
    """Set Prefect's environment for runs in a workspace; return the home that is used."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" not in os.environ:
        os.environ["PREFECT_HOME"] = str(_free_home(workspace / ".prefect"))
    return Path(os.environ["PREFECT_HOME"])


def _free_home(folder: Path) -> Path:
    """Take the first home that no living process holds; tidy up all that are free."""
    taken = None
    for number in itertools.count():
        home = folder / f"home-{number}"
        if taken is not None and not home.is_dir():
            return taken
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        end_orphan(home)
        if taken is None:
            taken = home
            _held[str(home)] = lock  # held until this process ends, however it ends
            _check_database(home / "prefect.db")
        else:
            lock.close()
    raise AssertionError("unreachable")


def _check_database(path: Path) -> None:
    """Remove Prefect's database if it is damaged: nothing in it is needed, and it would hang."""
    if not path.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            is_whole = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        is_whole = False
    if not is_whole:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()


def remember_helper(home: Path, pid: int) -> None:
    """Write down the helper process of this home, so that the next start can end it."""
    (home / _PID_NAME).write_text(f"{pid}\n", encoding="utf-8")


def end_orphan(home: Path) -> bool:
    """End the helper that a killed run left behind in a home; return whether there was one."""
    found = [pid for pid in {*_noted(home), *_running_in(home)} if _is_prefect_server(pid)]
    (home / _PID_NAME).unlink(missing_ok=True)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def _noted(home: Path) -> list[int]:
    try:
        return [int((home / _PID_NAME).read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []


def _running_in(home: Path) -> list[int]:
    """Return processes with this home, where the system tells: a kill may forestall the note."""
    wanted = b"PREFECT_HOME=" + os.fsencode(home)
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def _is_prefect_server(pid: int) -> bool:
    """Whether a process is a Prefect server: its number may long belong to another program."""
    shown = subprocess.run(
        ["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return "prefect.server.api.server" in shown.stdout
