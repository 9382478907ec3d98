"""The reference servers as processes: a small web and an LLM endpoint, both with faults."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reference import shared


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    address: str
    log: Path

    def requests(self) -> list[dict[str, Any]]:
        """Return the log: one entry a request."""
        if not self.log.is_file():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def free_port() -> int:
    """Return a port that nobody listens at."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mini_web(folder: Path, log: Path, *arguments: str) -> Iterator[Server]:
    """Run the small web over a folder of saved pages."""
    with _running("mini_web.py", log, str(folder), *arguments) as port:
        yield Server(f"http://127.0.0.1:{port}", log)


@contextlib.contextmanager
def fake_openai(log: Path, *arguments: str) -> Iterator[Server]:
    """Run the LLM endpoint."""
    with _running("fake_openai.py", log, *arguments) as port:
        yield Server(f"http://127.0.0.1:{port}/v1", log)


@contextlib.contextmanager
def _running(tool: str, log: Path, *arguments: str) -> Iterator[int]:
    port = free_port()
    script = shared("tools") / tool
    command = [sys.executable, str(script), *arguments, "--port", str(port), "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), f"{tool} did not start"
            _wait_for(port)
            yield port
        finally:
            process.kill()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), contextlib.closing(socket.socket()) as probe:
            probe.connect(("127.0.0.1", port))
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens at {port}")
