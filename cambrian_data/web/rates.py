"""One request after another: strict spacing per host, over all threads.

A request first waits for its turn without a connection, then, connected, for the moment of
sending: at least the interval after the last one was sent. So the spacing holds at the socket,
whatever a connection took. Processes do not know of each other.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

from cambrian_data.web.address import Address
from cambrian_data.web.answers import FetchError
from cambrian_data.web.clock import Clock

MARGIN, MAX_MARGIN_S = 0.05, 0.010
"""Share of the interval that is added to it: a host sees requests a little earlier or later than
they were sent."""


class HostRate:
    """The turns of one host."""

    def __init__(
        self,
        place: str,
        interval_s: float,
        *,
        max_wait_s: float,
        clock: Clock,
        end: threading.Event,
    ) -> None:
        self._place, self._max_wait_s = place, max_wait_s
        self._clock, self._end = clock, end
        self._lock, self._gate = threading.Lock(), threading.Lock()
        self._num_ahead = 0
        self._last = self._not_before = float("-inf")
        self._interval_s = 0.0
        self.slow_down(interval_s)

    def slow_down(self, interval_s: float) -> None:
        """Keep at least this much between two requests from now on."""
        interval_s += min(MAX_MARGIN_S, interval_s * MARGIN)
        self._interval_s = max(self._interval_s, interval_s)

    def hold(self, seconds: float) -> None:
        """Send nothing for so long."""
        with self._lock:
            self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    @contextlib.contextmanager
    def turn(self) -> Iterator[Turn]:
        """Wait for a turn; within it `Turn.sending` waits for the moment.

        Raises:
            FetchError: rate_limited, where the host asked for a longer rest than is waited for;
                unreachable, where the client was closed.
        """
        turn = Turn(self)
        with self._lock:
            start = max(self._clock.monotonic(), self._last + self._interval_s, self._not_before)
            start += self._num_ahead * self._interval_s
            self._num_ahead += 1
        try:
            self.check()
            self._sleep_until(start)
            yield turn
        finally:
            turn.leave()

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        with self._gate:
            while True:
                self.check()
                start = max(self._last + self._interval_s, self._not_before)
                if start <= self._clock.monotonic():
                    break
                self._sleep_until(start)
            try:
                yield
            finally:
                self._last = self._clock.monotonic()

    def _left(self) -> None:
        with self._lock:
            self._num_ahead -= 1

    def check(self) -> None:
        """Raise where there is nothing to wait for."""
        if self._end.is_set():
            raise closed()
        wait = self._not_before - self._clock.monotonic()
        if wait > self._max_wait_s:
            raise FetchError(
                "rate_limited",
                f"{self._place} asks to be left alone for {wait:.0f} s",
                is_passing=True,
            )

    def _sleep_until(self, start: float) -> None:
        while (wait := max(start, self._not_before) - self._clock.monotonic()) > 0:
            self._clock.sleep(wait, self._end)
            self.check()


class Turn:
    """A request's place in the row of its host; used for one request."""

    def __init__(self, rate: HostRate) -> None:
        self._rate, self._is_in_row, self.was_sent = rate, True, False

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Wait for the moment; the request is sent within."""
        with self._rate._sending():
            self.was_sent = True
            yield
            self.leave()

    def leave(self) -> None:
        """Make room for those behind."""
        if self._is_in_row:
            self._is_in_row = False
            self._rate._left()


class Rates:
    """The rates of all hosts."""

    def __init__(
        self,
        per_second: float,
        of_hosts: Mapping[str, float],
        *,
        max_wait_s: float,
        clock: Clock,
        end: threading.Event,
    ) -> None:
        self._per_second, self._of_hosts = per_second, of_hosts
        self._max_wait_s, self._clock, self._end = max_wait_s, clock, end
        self._lock = threading.Lock()
        self._hosts: dict[str, HostRate] = {}

    def of(self, address: Address) -> HostRate:
        """Return the rate of a host; http and https of one host share it."""
        with self._lock:
            if address.place not in self._hosts:
                per_second = self._of_hosts.get(
                    address.place, self._of_hosts.get(address.host, self._per_second)
                )
                self._hosts[address.place] = HostRate(
                    address.place,
                    1 / per_second,
                    max_wait_s=self._max_wait_s,
                    clock=self._clock,
                    end=self._end,
                )
            return self._hosts[address.place]


def closed() -> FetchError:
    """Return the error of a request that the end of the run cuts off."""
    return FetchError("unreachable", "the run was ended before the answer came", is_passing=True)
