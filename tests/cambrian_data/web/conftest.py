"""A web of faults on this machine, clients for it, and a clock that need not be waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cambrian_data.web.cache import HttpCache
from cambrian_data.web.http import HttpClient, HttpConfig

Route = Callable[[BaseHTTPRequestHandler], None]


class FakeClock:
    """Moves on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.sleeps, self.lock = 1_800_000_000.0, [], threading.Lock()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        with self.lock:
            self.now += seconds
            self.sleeps.append(seconds)


class Web:
    """A server; `routes` says what each path does, `log` what was asked and when."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.log: list[tuple[float, str, dict[str, str]]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                web.log.append((time.monotonic(), self.path, dict(self.headers.items())))
                route = web.routes.get(self.path) or web.routes.get(self.path.split("?")[0])
                (route or reply(404, b"nothing here"))(self)

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Stay silent: clients that break off are part of the tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def asked(self) -> list[str]:
        return [path for _, path, _ in self.log if path != "/robots.txt"]

    def times(self) -> list[float]:
        return sorted(at for at, _, _ in self.log)

    def headers(self, path: str) -> dict[str, str]:
        """Those of the last request for a path, names in lower case."""
        found = [headers for _, asked, headers in self.log if asked == path][-1]
        return {name.lower(): value for name, value in found.items()}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def reply(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Route:
    """A route that answers so; a header whose value has line breaks is sent several times."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        given = {"Content-Length": str(len(body)), **(headers or {})}
        for name, value in given.items():
            for line in value.split("\n"):
                handler.send_header(name, line)
        handler.end_headers()
        if status != 304:
            handler.wfile.write(body)

    return send


def in_turn(*routes: Route) -> Route:
    """A route that does one thing after the other, and the last one for ever."""
    left, lock = list(routes), threading.Lock()

    def send(handler: BaseHTTPRequestHandler) -> None:
        with lock:
            route = left.pop(0) if len(left) > 1 else left[0]
        route(handler)

    return send


def broken_off(handler: BaseHTTPRequestHandler) -> None:
    """Announces more than it sends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"only a little")
    handler.close_connection = True


def hung_up(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True


@pytest.fixture
def web():
    web = Web()
    yield web
    web.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The function that makes clients over one cache file; settings as in HttpConfig."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    opened: list[HttpClient | HttpCache] = []

    def make_client(
        *,
        clock: FakeClock | None = None,
        allow_private: bool = True,
        refresh_since: str | None = None,
        trusted_hosts: tuple[str, ...] = (),
        **settings: object,
    ) -> HttpClient:
        config = HttpConfig(**({"requests_per_second": 1000} | settings))
        cache = HttpCache(
            tmp_path / "http-cache.sqlite", max_bytes=config.cache_max_bytes, clock=clock
        )
        client = HttpClient(
            config,
            cache,
            allow_private=allow_private,
            refresh_since=refresh_since,
            clock=clock,
            trusted_hosts=trusted_hosts,
        )
        opened.extend([client, cache])
        return client

    yield make_client
    for one in opened:
        one.close()


@pytest.fixture
def routes():
    """The makers of routes, for tests of which conftest cannot be imported."""

    class Routes:
        pass

    for route in (reply, in_turn):
        setattr(Routes, route.__name__, staticmethod(route))
    Routes.broken_off, Routes.hung_up = staticmethod(broken_off), staticmethod(hung_up)
    return Routes
