"""What an address costs that is in the HTTP cache, beside asking a server on this machine anew."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from cambrian_data.web.cache import HttpCache
from cambrian_data.web.http import HttpClient, HttpConfig

_BODY = b"<html><body>" + b"<p>The pendulum swings about its point of rest.</p>" * 2000 + b"</body>"


class _Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        is_page = self.path.startswith("/page")
        body = _BODY if is_page else b""
        self.send_response(200 if is_page else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def measure(num_gets: int) -> dict[str, Any]:
    """Get one page over and over, from the cache and from the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/page"
    config = HttpConfig.model_validate({"requests_per_second": 10_000})
    try:
        with (
            tempfile.TemporaryDirectory() as name,
            HttpCache(Path(name) / "http-cache.sqlite", max_bytes=2**30) as cache,
            HttpClient(config, cache, allow_private=True) as client,
            requests.Session() as session,
        ):
            client.get(url, kind="page")
            cached = _median_us(lambda: client.get(url, kind="page"), num_gets)
            plain = _median_us(lambda: session.get(url), min(num_gets, 300))
            sent = client.numbers()["requests"]
    finally:
        server.shutdown()
        server.server_close()
    return {
        "gets": num_gets,
        "body_bytes": len(_BODY),
        "requests_sent": sent,
        "cached_us": cached,
        "loopback_us": plain,
        "ratio": plain / cached,
    }


def _median_us(get: Callable[[], Any], count: int) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        get()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def show(found: dict[str, Any]) -> str:
    """Return the numbers as text."""
    return (
        f"{found['gets']} gets of a cached page of {found['body_bytes'] // 1000} kB "
        f"({found['requests_sent']} requests were sent in all)\n"
        f"  HttpClient, cached  {found['cached_us']:6.0f} us\n"
        f"  requests, loopback  {found['loopback_us']:6.0f} us"
    )
