"""A search service on this machine that answers as told, and a way to it that need not wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cambrian_data.web.cache import HttpCache
from cambrian_data.web.http import HttpClient, HttpConfig


class FakeClock:
    """Moves on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        self.now += seconds


class FakeService:
    """Answers with what `answer` makes of the parameters; `asked` holds these and the head."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, str]], Any] = lambda query: {}
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                found = parse_qs(url.query, keep_blank_values=True)
                query = {key: values[0] for key, values in found.items()}
                head = {key.lower(): value for key, value in self.headers.items()}
                service.asked.append((url.path, query, head))
                given = service.answer(query)
                status, body = given if isinstance(given, tuple) else (200, given)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def queries(self) -> list[dict[str, str]]:
        return [query for _, query, _ in self.asked]


@pytest.fixture
def service():
    service = FakeService()
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client whose waits take no time."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    clock = FakeClock()
    cache = HttpCache(tmp_path / "http-cache.sqlite", max_bytes=10**8, clock=clock)
    config = HttpConfig(requests_per_second=1000, max_tries=4)
    with HttpClient(config, cache, allow_private=True, clock=clock) as client:
        yield client
    cache.close()
