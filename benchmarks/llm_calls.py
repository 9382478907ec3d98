"""Calls in flight: how near `LlmClient` comes to what latency and open calls allow.

A test server answers after a fixed latency; N calls at `max_open` at once would take
N / max_open * latency. Beside it, in turns: the plain client of the openai package on its default
transport, as many calls at once, nothing written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from openai import AsyncOpenAI
from pydantic import BaseModel

from cambrian_data.llm.client import LlmClient, LlmConfig, LlmRequest
from cambrian_data.llm.ledger import Ledger

_KEY = "a key of no account"
_MODEL = "fake-vision"
_START_S = 20.0


class Answer(BaseModel):
    """What a stage might ask for."""

    question: str
    answer: str
    is_grounded: bool


@contextlib.contextmanager
def server(program: Path, latency_s: float) -> Iterator[str]:
    """Run the test server in a process of its own; yield its address up to `/v1`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(program), "--port", str(port), "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the test server did not start within {_START_S:g} s")


class TimedLedger:
    """A ledger that adds up the processor time of its own work."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._lock, self.seconds = ledger, threading.Lock(), 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ledger, name)
        if not callable(found):
            return found

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return found(*arguments, **options)
            finally:
                with self._lock:
                    self.seconds += time.thread_time() - start

        return timed


def _messages(label: str, number: int) -> list[dict[str, Any]]:
    prose = "The pendulum swings about its point of rest, and its period grows with its length. "
    return [{"role": "user", "content": f"{label} {number}: {prose * 20}"}]


class Times(NamedTuple):
    """What N calls took; sorted by the first."""

    seconds: float
    processor_s: float
    ledger_s: float = 0.0
    again_s: float = 0.0
    """Wall time of asking the same once more, when all is in the ledger."""


def run_cambrian(url: str, label: str, num_calls: int, max_open: int, folder: Path) -> Times:
    """Ask through `LlmClient`."""
    config = LlmConfig(max_open_calls=max_open)
    requests = [
        LlmRequest(messages=_messages(label, number), schema=Answer, max_tokens=256)
        for number in range(num_calls)
    ]
    ledger = Ledger(folder / f"{label}.sqlite")
    timed = TimedLedger(ledger)
    try:
        with LlmClient(
            config, cast(Ledger, timed), model=_MODEL, base_url=url, api_key=_KEY
        ) as client:
            client.ask([LlmRequest(messages=_messages("warm", 0), schema=Answer, max_tokens=256)])
            before, cpu, start = timed.seconds, time.process_time(), time.perf_counter()
            answers = client.ask(requests)
            seconds = time.perf_counter() - start
            cpu, in_ledger = time.process_time() - cpu, timed.seconds - before
            if any(answer.outcome != "ok" for answer in answers):
                raise RuntimeError(f"a call failed: {answers[0]}")
            start = time.perf_counter()
            client.ask(requests)
            return Times(seconds, cpu, in_ledger, time.perf_counter() - start)
    finally:
        ledger.close()


def run_plain(url: str, label: str, num_calls: int, max_open: int) -> Times:
    """Ask through the openai package alone."""

    async def ask(client: AsyncOpenAI, slots: asyncio.Semaphore, number: int) -> None:
        async with slots:
            await client.chat.completions.create(
                model=_MODEL,
                messages=_messages(label, number),  # type: ignore[arg-type]
                max_tokens=256,
            )

    async def ask_all() -> Times:
        slots = asyncio.Semaphore(max_open)
        async with AsyncOpenAI(base_url=url, api_key=_KEY, max_retries=0) as client:
            await ask(client, slots, -1)
            cpu, start = time.process_time(), time.perf_counter()
            await asyncio.gather(*(ask(client, slots, number) for number in range(num_calls)))
            return Times(time.perf_counter() - start, time.process_time() - cpu)

    return asyncio.run(ask_all())


def measure(
    program: Path, *, num_calls: int, max_open: int, latency_s: float, rounds: int
) -> dict[str, Any]:
    """Run both clients in turns, and return their shares of the ideal."""
    ideal_s = num_calls / max_open * latency_s
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as name, server(program, latency_s) as url:
        for number in range(rounds):
            ours.append(run_cambrian(url, f"round-{number}", num_calls, max_open, Path(name)))
            plain.append(run_plain(url, f"plain-{number}", num_calls, max_open))
    best, best_plain = min(ours), min(plain)
    return {
        "calls": num_calls,
        "max_open": max_open,
        "latency_s": latency_s,
        "rounds": rounds,
        "share_of_ideal": ideal_s / best.seconds,
        "shares_of_ideal": [round(ideal_s / times.seconds, 3) for times in ours],
        "plain_share_of_ideal": ideal_s / best_plain.seconds,
        "ratio": best_plain.seconds / best.seconds,
        "cpu_ms_per_call": best.processor_s / num_calls * 1000,
        "plain_cpu_ms_per_call": best_plain.processor_s / num_calls * 1000,
        "from_ledger_ms_per_call": min(times.again_s for times in ours) / num_calls * 1000,
        "ledger_ms_per_call": best.ledger_s / num_calls * 1000,
    }


def show(found: dict[str, Any]) -> str:
    """Return the numbers as text."""
    return (
        f"{found['calls']} calls, {found['max_open']} at once, {found['latency_s'] * 1000:.0f} ms "
        f"latency, best of {found['rounds']} rounds\n"
        f"  LlmClient           {found['share_of_ideal']:6.2f} of the ideal  "
        f"{found['cpu_ms_per_call']:.2f} ms of processor a call (ledger "
        f"{found['ledger_ms_per_call']:.2f} ms)  rounds {found['shares_of_ideal']}\n"
        f"  openai, its default {found['plain_share_of_ideal']:6.2f} of the ideal  "
        f"{found['plain_cpu_ms_per_call']:.2f} ms of processor a call\n"
        f"  ratio               {found['ratio']:6.2f}\n"
        f"  asked again, all from the ledger: {found['from_ledger_ms_per_call']:.2f} ms a call"
    )
