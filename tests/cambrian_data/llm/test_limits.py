"""Spacing of starts, and the gate."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from cambrian_data.llm.limits import Gate, Pace
from tests.cambrian_data.llm.servers import GOOD, ask_for, said


@pytest.mark.parametrize("per_minute", [1, 7, 60, 3_000])
def test_no_minute_holds_more_than_the_limit(per_minute):
    pace, now, starts = Pace(per_minute, None), 100.0, []
    for i in range(3 * per_minute):
        now += 0.001 * (i % 3)
        starts.append(now + pace.book(1, now))
    assert starts == sorted(starts)
    assert all(late - early >= 60 for early, late in zip(starts, starts[per_minute:], strict=False))


def test_tokens_are_spread_and_corrected():
    pace = Pace(None, 6_000)  # 100 a second
    assert pace.book(500, 10.0) == 0
    assert pace.book(100, 10.0) == pytest.approx(5.0)
    pace.correct(-300)
    assert pace.book(100, 10.0) == pytest.approx(3.0)


def test_no_limits_no_waits():
    pace = Pace(None, None)
    assert [pace.book(10**6, 5.0) for _ in range(3)] == [0, 0, 0]


def test_starts_after_a_pause_are_as_far_apart_as_ever():
    pace = Pace(60, None)
    pace.pause(120.0)
    starts = [100.0 + pace.book(0, 100.0) for _ in range(5)]
    assert starts[0] == 120.0
    assert all(b - a >= 1.0 for a, b in itertools.pairwise(starts))


def test_pauses_hold_for_all():
    pace = Pace(None, None)
    pace.pause(12.0)
    pace.pause(11.0)
    assert pace.paused_s(10.0) == 2.0 and pace.paused_s(13.0) == 0.0


def test_the_gate_holds_its_number_and_narrows():
    async def run() -> tuple[int, int]:
        gate, most = Gate(4), [0]

        async def work() -> None:
            async with gate:
                most[0] = max(most[0], gate.open)
                await asyncio.sleep(0)

        await asyncio.gather(*[work() for _ in range(30)])
        wide, most[0] = most[0], 0
        gate.narrow()
        gate.narrow()
        waiting = [asyncio.ensure_future(work()) for _ in range(30)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[-1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert gate.open == 0
        narrow = most[0]
        for _ in range(20):
            gate.narrow()
        async with gate:
            assert gate.open == 1
        return wide, narrow

    assert asyncio.run(run()) == (4, 1)


def test_the_client_keeps_to_the_requests_of_a_minute(tiny, client):
    server = tiny(lambda call, number: (200, said(GOOD)))
    client(server.url, settings={"requests_per_minute": 600}).ask(ask_for(str(i)) for i in range(6))
    starts = [call.at for call in server.calls]
    assert starts[-1] - starts[0] >= 0.25  # five gaps of 0.1 s; the first may arrive late
