"""A small web of given answers on 127.0.0.1, and a client that asks it without waiting."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cambrian_data.web.cache import HttpCache
from cambrian_data.web.http import HttpClient, HttpConfig

Reply = tuple[int, Mapping[str, str], bytes]
Answerer = Callable[[str, dict[str, str]], Reply | None]


class QuickClock:
    """A clock on which waiting takes no time: what sleeps moves the time on instead."""

    def __init__(self) -> None:
        self._slept = 0.0

    def time(self) -> float:
        return time.time() + self._slept

    def monotonic(self) -> float:
        return time.monotonic() + self._slept

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        self._slept += max(0.0, seconds)


@contextlib.contextmanager
def http_client(folder: Path, **options: Any) -> Iterator[HttpClient]:
    """A client that may ask this machine, at any rate, and waits for nothing."""
    cache = HttpCache(folder / "http-cache.sqlite", max_bytes=2**28)
    config = HttpConfig(contact="tests@example.org", requests_per_second=10_000)
    defaults: dict[str, Any] = {"allow_private": True, "clock": QuickClock()}
    with HttpClient(config, cache, **{**defaults, **options}) as client:
        yield client
    cache.close()


class Web:
    """A server whose answers are given by a function of path and query; it keeps a log."""

    def __init__(self, answer: Answerer) -> None:
        self.log: list[tuple[str, dict[str, str]]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                path, query = unquote(parts.path), dict(parse_qsl(parts.query))
                web.log.append((path, query))
                status, headers, body = answer(path, query) or (404, {}, b"nothing here")
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_port}"
        self.api = f"{self.base}/w/api.php"

    def __enter__(self) -> Web:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self, path: str) -> list[dict[str, str]]:
        """The queries of all requests for a path."""
        return [query for at, query in self.log if at == path]


def as_json(value: Any) -> Reply:
    """A service's answer."""
    return 200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(value).encode()
