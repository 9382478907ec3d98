"""A host that is down is left alone after some addresses, and asked again later."""

from __future__ import annotations

import threading

import pytest

from cambrian_data.web.answers import FetchError
from cambrian_data.web.outages import MAX_IN_VAIN, REST_S, Outages


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        self.now += seconds


def test_a_host_that_is_down_is_left_alone_for_a_while():
    clock = Clock()
    outages = Outages(clock)
    told = [outages.failed("a:80", "503") for _ in range(MAX_IN_VAIN)]
    assert told == [False] * (MAX_IN_VAIN - 1) + [True]
    with pytest.raises(FetchError, match="503") as met:
        outages.check("a:80")
    assert met.value.is_passing and met.value.reason == "unreachable"
    outages.check("b:80")
    clock.now += REST_S
    outages.check("a:80")
    assert outages.failed("a:80", "503"), "one more failure is enough"


def test_an_answer_between_clears_a_host():
    outages = Outages(Clock())
    for _ in range(5 * MAX_IN_VAIN):
        outages.failed("a:80", "503")
        outages.answered("a:80")
    outages.check("a:80")


def test_the_client_stops_asking(web, make, routes):
    web.routes["/x"] = routes.reply(503)
    client = make(max_tries=2, requests_per_second=1000)
    for number in range(MAX_IN_VAIN + 3):
        with pytest.raises(FetchError):
            client.get(f"{web.url}/x?{number}", kind="page")
    assert client.numbers()["requests"] <= 2 * MAX_IN_VAIN + 1  # and robots.txt
