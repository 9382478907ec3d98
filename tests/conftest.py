"""Fixtures for all tests: a workspace, commands, a finished demo, and no network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))  # for tools/ and benchmarks/, which are not installed

_connect = socket.socket.connect


def _only_loopback(self: socket.socket, address: object) -> None:
    host = address[0] if isinstance(address, tuple) else "localhost"
    if self.family in (socket.AF_INET, socket.AF_INET6) and host not in (
        "127.0.0.1",
        "::1",
        "localhost",
    ):
        raise OSError(f"tests use no network: a connection to {address} was tried")
    _connect(self, address)


socket.socket.connect = _only_loopback  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own keys and folders out of the tests."""
    for name in list(os.environ):
        mine = name.startswith(("CAMBRIAN_", "OPENAI_", "GOOGLE_", "BRAVE_"))
        if mine and name != "CAMBRIAN_GOLDEN":
            monkeypatch.delenv(name)


@pytest.fixture
def workspace(tmp_path: Path):
    """A new, empty workspace."""
    from cambrian_data.workspace import Workspace

    return Workspace.create(tmp_path / "ws")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; without it the test is skipped."""
    from tests.reference import shared

    return shared("")


def run_command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `cambrian ARGUMENTS` in a process of its own, as a user does."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", *map(str, arguments)],
        cwd=cwd,
        env=environment | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def command():
    """The function that runs a command of the project."""
    return run_command


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory):
    """A workspace in which `cambrian demo --json` ran, and what it printed."""
    import json

    folder = tmp_path_factory.mktemp("demo") / "ws"
    done = run_command("demo", "--workspace", folder, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)
