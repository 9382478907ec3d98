"""Size and time: no answer fills the memory or holds a thread for ever."""

from __future__ import annotations

import gzip
import time
import zlib

import pytest

from cambrian_data.web.answers import FetchError

BOMB = gzip.compress(bytes(50_000_000))


def packed(routes, body: bytes, encoding: str):
    return routes.reply(200, body, {"Content-Encoding": encoding})


def reason(client, url: str, **more) -> tuple[str, bool]:
    with pytest.raises(FetchError) as caught:
        client.get(url, kind="page", **more)
    return caught.value.reason, caught.value.is_passing


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body, wbits=-15)),
        ("identity", bytes),
        ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("gzip", lambda body: gzip.compress(body) + b"\0 what is this"),
    ],
)
def test_packed_answers(web, make, routes, encoding, pack):
    body = b"what is in it " * 1000
    web.routes["/a"] = packed(routes, pack(body), encoding)
    client = make()
    for _ in range(2):
        answer = client.get(f"{web.url}/a", kind="page")
        assert answer.body == body and "content-encoding" not in answer.headers
    assert web.headers("/a")["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("gzip", BOMB, "too_large"),
        ("gzip, gzip", gzip.compress(BOMB), "too_large"),
        ("deflate", zlib.compress(bytes(50_000_000)), "too_large"),
        ("gzip, gzip, gzip", BOMB, "too_large"),
        ("gzip", gzip.compress(b"") * 5000, "too_large"),
        ("br", b"x", "refused"),
        ("gzip", gzip.compress(b"cut short" * 99)[:-9], "unreachable"),
        ("gzip", b"no gzip", "unreachable"),
        ("deflate", b"no deflate", "unreachable"),
    ],
    ids=[
        "bomb",
        "bomb in a bomb",
        "deflate bomb",
        "thrice",
        "members",
        "br",
        "cut",
        "no gzip",
        "no",
    ],
)
def test_what_is_not_unpacked(web, make, routes, clock, encoding, body, expected):
    web.routes["/a"] = packed(routes, body, encoding)
    client = make(clock=clock, max_page_bytes=1_000_000)
    assert reason(client, f"{web.url}/a") == (expected, expected == "unreachable")
    assert len(web.asked()) == (6 if expected == "unreachable" else 1)


def test_a_bomb_in_an_error_does_no_harm(web, make, routes):
    web.routes["/a"] = routes.reply(404, BOMB, {"Content-Encoding": "gzip"})
    web.routes["/b"] = routes.reply(404, b"x" * 30_000_000)
    for path in ("/a", "/b"):
        assert reason(make(), f"{web.url}{path}") == ("missing", False)


def test_an_announced_size_is_refused_unread(web, make):
    def announce(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "20000001")
        handler.end_headers()
        handler.close_connection = True

    web.routes["/a"] = announce
    assert reason(make(), f"{web.url}/a") == ("too_large", False)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_endless_answer_ends_at_the_cap(web, make, is_chunked):
    sent = []

    def pour(handler):
        handler.send_response(200)
        if is_chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        while len(sent) < 5000:
            handler.wfile.write(
                b"ffff\r\n" + bytes(65535) + b"\r\n" if is_chunked else bytes(65535)
            )
            sent.append(1)

    web.routes["/a"] = pour
    assert reason(make(), f"{web.url}/a", max_bytes=1_000_000) == ("too_large", False)
    assert len(sent) < 1000


def test_chunked_answers(web, make, routes, clock):
    def chunks(is_whole: bool):
        def send(handler):
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"5\r\nwhole\r\n" + b"0\r\n\r\n" * is_whole)
            handler.close_connection = True

        return send

    web.routes["/a"] = routes.in_turn(chunks(False), chunks(True))
    assert make(clock=clock).get(f"{web.url}/a", kind="page").body == b"whole"
    assert web.asked() == ["/a", "/a"]


@pytest.mark.parametrize("part", ["body", "open body", "headers"])
def test_a_dripping_answer_is_cut_off(web, make, part):
    """Every byte comes in time; the whole would take for ever."""

    def drip(handler):
        if part == "headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        else:
            handler.send_response(200)
            if part == "body":
                handler.send_header("Content-Length", "1000")
            handler.end_headers()
        handler.close_connection = True
        for _ in range(1000):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    web.routes["/a"] = drip
    client = make(timeout_s=0.15, max_tries=1)
    start = time.monotonic()
    with pytest.raises(FetchError) as caught:
        client.get(f"{web.url}/a", kind="service")
    assert caught.value.reason == "unreachable" and caught.value.is_passing
    assert "0.6 s" in caught.value.detail and time.monotonic() - start < 20


def test_a_silent_server(web, make):
    web.routes["/a"] = lambda handler: time.sleep(1)
    client = make(timeout_s=0.1, max_tries=1)
    with pytest.raises(FetchError, match="in time") as caught:
        client.get(f"{web.url}/a", kind="service")
    assert caught.value.reason == "unreachable" and caught.value.is_passing


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx",
        b"\x16\x03\x01",
    ],
    ids=["garbage", "status", "many headers", "long header", "lengths", "chunk", "tls"],
)
def test_answers_that_are_no_http(web, make, clock, answer):
    def send(handler):
        handler.wfile.write(answer)
        handler.close_connection = True

    web.routes["/a"] = send
    with pytest.raises(FetchError) as caught:
        make(clock=clock, max_tries=2).get(f"{web.url}/a", kind="service")
    assert caught.value.reason == "unreachable"
