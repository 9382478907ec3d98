"""Prefect's settings, made before prefect is imported; none of them overrides the user's own.

With them a flow asks for nothing outside, prints next to nothing, and keeps its helper database in
the workspace. Each process at work gets a home of its own there, because two helper servers on one
database break each other; a free home is used again, since a fresh one costs some 8 seconds.
"""

from __future__ import annotations

import fcntl
import os
import signal
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
    """Take the first home that no living process holds, and end what was left running in it."""
    number = 0
    while True:
        home = folder / f"home-{number}"
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            number += 1
            continue
        _held[str(home)] = lock  # held until this process ends, however it ends
        end_orphan(home)
        return home


def remember_helper(home: Path, pid: int) -> None:
    """Write down the helper process of this home, so that the next start can end it."""
    (home / _PID_NAME).write_text(f"{pid}\n", encoding="utf-8")


def end_orphan(home: Path) -> bool:
    """End the helper that a killed run left behind in a home; return whether there was one."""
    path = home / _PID_NAME
    try:
        pid = int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    path.unlink(missing_ok=True)
    if not _is_prefect_server(pid):
        return False
    os.kill(pid, signal.SIGKILL)
    return True


def _is_prefect_server(pid: int) -> bool:
    """Whether a process is a Prefect server: its number may long belong to another program."""
    shown = subprocess.run(
        ["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return "prefect.server.api.server" in shown.stdout
