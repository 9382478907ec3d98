"""The spacing of requests and Retry-After, over all threads of a client."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.client import HTTPConnection

import pytest

from cambrian_data.web.address import parse_address
from cambrian_data.web.answers import FetchError
from cambrian_data.web.rates import Rates
from cambrian_data.web.retry import backoff_s, retry_after_s


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_no_two_requests_are_nearer_than_the_rate(web, make, routes, monkeypatch):
    """Redirects, retries, robots.txt and new connections included."""
    sent, send = [], HTTPConnection.send

    def note(self, data):
        sent.append(time.monotonic())
        send(self, data)

    monkeypatch.setattr(HTTPConnection, "send", note)
    for number in range(12):
        web.routes[f"/{number}"] = routes.reply(200, b"x")
    web.routes["/1"] = routes.reply(301, headers={"Location": "/moved"})
    web.routes["/moved"] = routes.reply(200)
    web.routes["/2"] = routes.in_turn(routes.hung_up, routes.reply(200))
    client = make(requests_per_second=25)
    with ThreadPoolExecutor(8) as pool:
        kinds = ["page", "service", "picture"]
        calls = [pool.submit(client.get, f"{web.url}/{n}", kind=kinds[n % 3]) for n in range(12)]
        for call in calls:
            call.result()
    assert len(web.log) == len(sent) == 15
    assert sent == sorted(sent) and min(gaps(sent)) >= 1 / 25


def test_spacing_holds_exactly_where_requests_are_sent(clock):
    """Threads that were slow to connect do not bunch."""
    rates = Rates(10, {}, max_wait_s=1, clock=clock, end=threading.Event())
    rate, sent = rates.of(parse_address("http://example.org/")), []
    with rate.turn() as one, rate.turn() as two, rate.turn() as three:
        clock.now += 5  # all three took 5 s to connect
        for turn in (one, two, three):
            with turn.sending():
                sent.append(clock.now)
    assert all(gap >= 0.1 for gap in gaps(sent)) and sent[-1] - sent[0] < 0.22


def test_a_turn_is_waited_for_before_there_is_a_connection(clock):
    rate = Rates(1, {}, max_wait_s=1, clock=clock, end=threading.Event()).of(
        parse_address("http://example.org/")
    )
    with rate.turn() as turn, turn.sending():
        start = clock.now
    with rate.turn():
        assert clock.now - start >= 1


def test_a_request_that_never_goes_out_leaves_its_place(clock):
    rate = Rates(1, {}, max_wait_s=1, clock=clock, end=threading.Event()).of(
        parse_address("http://example.org/")
    )
    for _ in range(3):
        with pytest.raises(KeyError), rate.turn():
            raise KeyError
    start = clock.now
    with rate.turn() as turn, turn.sending():
        assert clock.now - start < 0.01


def test_hosts_have_their_own_rates(clock):
    rates = Rates(1, {"b.org": 5, "c.org:81": 10}, max_wait_s=1, clock=clock, end=threading.Event())

    def seconds_of_two(url: str) -> float:
        rate, start = rates.of(parse_address(url)), clock.now
        for _ in range(2):
            with rate.turn() as turn, turn.sending():
                pass
        return clock.now - start

    assert 1 <= seconds_of_two("http://a.org/x") < 1.02
    assert 2 <= seconds_of_two("https://A.org:443/y") < 2.04, "one host on both its ports"
    assert 0.2 <= seconds_of_two("https://b.org/") < 0.22
    assert 0.1 <= seconds_of_two("http://c.org:81/") < 0.12
    assert 1 <= seconds_of_two("http://c.org/") < 1.02


def test_retry_after_holds_the_whole_host(web, make, routes):
    web.routes["/busy"] = routes.in_turn(
        routes.reply(429, headers={"Retry-After": "1"}), routes.reply(200)
    )
    for number in range(8):
        web.routes[f"/{number}"] = routes.reply(200)
    client = make()
    held = threading.Event()

    def ask(path: str) -> None:
        if path != "/busy":
            assert held.wait(10)
        client.get(f"{web.url}{path}", kind="service")

    rate = client._rates.of(parse_address(web.url))
    hold = rate.hold
    rate.hold = lambda seconds: (hold(seconds), held.set())
    with ThreadPoolExecutor(9) as pool:
        for call in [pool.submit(ask, f"/{name}") for name in ("busy", *range(8))]:
            call.result()
    first, *others = web.times()
    assert len(others) == 9 and min(others) - first >= 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_retry_after_is_for_a_later_run(web, make, routes, clock, status):
    web.routes["/busy"] = routes.reply(status, headers={"Retry-After": "121"})
    web.routes["/other"] = routes.reply(200)
    client = make(clock=clock)
    for path in ("/busy", "/other"):
        with pytest.raises(FetchError, match="121 s") as caught:
            client.get(f"{web.url}{path}", kind="service")
        assert caught.value.reason == "rate_limited" and caught.value.is_passing
        assert caught.value.status == (status if path == "/busy" else 0)
    assert web.asked() == ["/busy"], "nobody asks a host that wants to be left alone"
    clock.now += 122
    assert client.get(f"{web.url}/other", kind="service").status == 200


def test_a_short_retry_after_is_waited_for(web, make, routes, clock):
    date = formatdate(clock.now + 77, usegmt=True)
    web.routes["/busy"] = routes.in_turn(
        routes.reply(503, headers={"Retry-After": date}), routes.reply(200)
    )
    start = clock.now
    make(clock=clock).get(f"{web.url}/busy", kind="service")
    assert 77 <= clock.now - start < 77.1


def test_what_retry_after_says():
    now = 1_800_000_000.0
    assert retry_after_s("12", now) == 12
    assert retry_after_s(" -3 ", now) == 0
    assert retry_after_s("Fri, 15 Jan 2027 08:01:00 GMT", now) == 60
    assert retry_after_s("Fri, 15 Jan 1999 08:01:00 GMT", now) == 0
    for nothing in (None, "", "soon", "9" * 400, "\u0663"):
        assert retry_after_s(nothing, now) in (None, 3.0)


def test_backoff_grows_and_is_the_same_again():
    waits = [backoff_s("http://a/", attempt) for attempt in range(1, 12)]
    assert waits == [backoff_s("http://a/", attempt) for attempt in range(1, 12)]
    assert waits != [backoff_s("http://b/", attempt) for attempt in range(1, 12)]
    assert 0.25 <= waits[0] <= 0.75 and max(waits) <= 30 and waits[-1] >= 15
