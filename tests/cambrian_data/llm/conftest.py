"""Servers for the tests of the LLM layer: the shared fake one, and small ones that misbehave."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cambrian_data.llm import calls
from cambrian_data.llm.client import LlmClient, LlmConfig
from cambrian_data.llm.ledger import Ledger
from tests.cambrian_data.llm.servers import KEY, Call, Fake, Tiny
from tests.reference import shared


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between tries."""
    monkeypatch.setattr(calls, "FIRST_BACKOFF_S", 0.02)


@pytest.fixture
def tiny() -> Iterator[Callable[..., Tiny]]:
    """Start a server: `answer(call, number)` gives status, body and headers of each answer."""
    servers = []

    def start(answer: Callable[[Call, int], tuple], models: list[str] | None = None) -> Tiny:
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def reply(self, status: int, value: Any, headers: dict[str, str]) -> None:
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                headers = {"Content-Length": str(len(body)), **headers}
                for name, text in headers.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(body)
                if int(headers["Content-Length"]) > len(body):
                    self.close_connection = True

            def do_GET(self) -> None:
                data = [{"id": name, "object": "model"} for name in models or ()]
                status = 404 if models is None else 200
                self.reply(status, {"object": "list", "data": data}, {})

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                call = Call(json.loads(raw), raw, dict(self.headers), time.monotonic())
                with lock:
                    made.calls.append(call)
                    number = len(made.calls)
                given = answer(call, number)
                self.reply(given[0], given[1], given[2] if len(given) > 2 else {})

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that go
        made = Tiny(f"http://127.0.0.1:{server.server_port}/v1")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return made

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Callable[..., Fake]]:
    """Start the shared fake server with arguments."""
    processes = []

    def start(*arguments: object) -> Fake:
        log = tmp_path / "calls.jsonl"
        log.touch()
        tool = shared("tools") / "fake_openai.py"
        command = [sys.executable, tool, "--port", 0, "--log", log, *arguments]
        # Port 0 is one that is free, but the tool prints what it was told: ask it for the real one.
        code = (
            "import runpy, sys, http.server as h\n"
            "old = h.ThreadingHTTPServer.server_activate\n"
            "def activate(self):\n"
            "    old(self); print(self.server_port, flush=True)\n"
            "h.ThreadingHTTPServer.server_activate = activate\n"
            "sys.argv = sys.argv[1:]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, command[1:])], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        return Fake(f"http://127.0.0.1:{process.stdout.readline().strip()}/v1", log)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger."""
    with Ledger(tmp_path / "llm.sqlite") as ledger:
        yield ledger


@pytest.fixture
def client(ledger: Ledger) -> Iterator[Callable[..., LlmClient]]:
    """Make clients for a server; they are closed at the end."""
    clients = []

    def make(url: str, model: str = "fake-vision", **rest: Any) -> LlmClient:
        settings = {"timeout_s": 10, "max_open_calls": 16, **rest.pop("settings", {})}
        made = LlmClient(
            LlmConfig(**settings),
            rest.pop("ledger", ledger),
            model=model,
            base_url=url,
            api_key=rest.pop("api_key", KEY),
            **rest,
        )
        clients.append(made)
        return made

    yield make
    for made in clients:
        made.close()
