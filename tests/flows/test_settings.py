"""Prefect's homes: one a process, used again, and no helper left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from flows import settings
from flows.settings import end_orphan, remember_helper


def free_home(folder) -> str:
    code = (
        "import sys; from pathlib import Path; from flows.settings import _free_home; "
        "print(_free_home(Path(sys.argv[1])).name, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    return process, process.stdout.readline().strip()


def test_two_processes_get_two_homes_and_a_free_one_is_used_again(tmp_path):
    first, name = free_home(tmp_path)
    second, other = free_home(tmp_path)
    assert (name, other) == ("home-0", "home-1")
    first.kill()
    first.wait()
    third, again = free_home(tmp_path)
    assert again == "home-0"
    for process in (second, third):
        process.kill()
        process.wait()


@pytest.mark.parametrize("content", [b"", b"junk" * 3000, None])
def test_a_damaged_database_is_removed(tmp_path, content):
    """Prefect would wait two minutes for a server that cannot start on it."""
    home = tmp_path / "home-0"
    home.mkdir()
    path = home / "prefect.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.commit()
    whole = path.read_bytes()
    path.write_bytes(whole if content is None else content)
    settings._check_database(path)
    assert path.exists() == (content is None or content == b"")


def test_the_users_own_settings_win(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "mine"))
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    assert settings.prepare(tmp_path / "ws") == tmp_path / "mine"
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert not (tmp_path / "ws").exists()


def test_only_a_prefect_server_is_ended(tmp_path):
    """A number that another program has by now is left alone."""
    code = "import time; time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code])
    server = subprocess.Popen([sys.executable, "-c", code, "prefect.server.api.server"])
    time.sleep(0.2)
    remember_helper(tmp_path, other.pid)
    assert not end_orphan(tmp_path)
    assert other.poll() is None
    remember_helper(tmp_path, server.pid)
    assert end_orphan(tmp_path)
    assert server.wait(timeout=10) == -signal.SIGKILL
    assert not end_orphan(tmp_path)  # nothing is remembered any more
    other.kill()
    other.wait()


def test_a_damaged_note_is_no_helper(tmp_path):
    (tmp_path / "helper.pid").write_text("not a number")
    assert not end_orphan(tmp_path)
