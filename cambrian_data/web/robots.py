"""robots.txt: read once a day for each origin, obeyed for pages and pictures, failing closed.

None (404 and most of 4xx) allows everything, 401 and 403 forbid everything; one that cannot be
had, or is too large, means not now. Crawl-delay and Request-rate slow the host's rate down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from protego import Protego

from cambrian_data.web.address import Address
from cambrian_data.web.answers import Answer, FetchError
from cambrian_data.web.clock import Clock
from cambrian_data.web.optout import AGENT
from cambrian_data.web.rates import Rates

MAX_BYTES = 500_000
MAX_AGE_S = 86_400.0
_FAILED_AGE_S = 600.0
"""So long a robots.txt that could not be had is not asked for again, by all pages of its host."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What an origin allows, or why it cannot be asked."""

    until: float
    parsed: Protego | None = None
    error: FetchError | None = None
    interval_s: float = 0.0


class Robots:
    """The rules of all origins."""

    def __init__(
        self, fetch: Callable[[str], Answer], rates: Rates, *, clock: Clock, max_wait_s: float
    ) -> None:
        """Take what is needed.

        Args:
            fetch: returns an address's answer; its own robots.txt is not asked for that.
            rates: slowed down for hosts that ask for it.
            clock: tells how old rules are.
            max_wait_s: the longest delay between two requests that is put up with.
        """
        self._fetch, self._rates, self._clock = fetch, rates, clock
        self._max_wait_s = max_wait_s
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._rules: dict[str, _Rules] = {}

    def check(self, address: Address) -> None:
        """Refuse an address that its host's robots.txt forbids, or that cannot be judged now.

        Raises:
            FetchError: robots, robots_unreachable, rate_limited (a delay too long to wait for),
                private_address, unreachable (no TLS).
        """
        rules = self._of(address)
        if rules.error is not None:
            raise _again(rules.error)
        if rules.parsed is not None and not rules.parsed.can_fetch(address.url, AGENT):
            raise FetchError("robots", f"robots.txt of {address.place} forbids it")
        if rules.interval_s > self._max_wait_s:
            raise FetchError(
                "rate_limited",
                f"robots.txt of {address.place} asks for {rules.interval_s:g} s between requests",
                is_passing=True,
            )
        if rules.interval_s:
            self._rates.of(address).slow_down(rules.interval_s)

    def _of(self, address: Address) -> _Rules:
        with self._lock:
            lock = self._locks.setdefault(address.origin, threading.Lock())
        with lock:
            rules = self._rules.get(address.origin)
            if rules is None or self._clock.monotonic() >= rules.until:
                rules = self._read(address)
                self._rules[address.origin] = rules
            return rules

    def _read(self, address: Address) -> _Rules:
        now = self._clock.monotonic()
        try:
            answer = self._fetch(f"{address.origin}/robots.txt")
        except FetchError as error:
            if error.status in (401, 403):
                forbidden = FetchError(
                    "robots", f"robots.txt of {address.place} is closed: {error.detail}"
                )
                return _Rules(now + MAX_AGE_S, error=forbidden)
            if 400 <= error.status < 500 and not error.is_passing:
                return _Rules(now + MAX_AGE_S)
            is_final = error.reason == "unreachable" and not error.is_passing
            if error.reason != "private_address" and not is_final:
                error = FetchError(
                    "robots_unreachable",
                    f"robots.txt of {address.place}: {error.detail}",
                    is_passing=True,
                    status=error.status,
                )
            return _Rules(self._clock.monotonic() + _FAILED_AGE_S, error=error)
        parsed = Protego.parse(answer.body.decode("utf-8-sig", "replace"))
        interval_s = parsed.crawl_delay(AGENT) or 0.0
        if rate := parsed.request_rate(AGENT):
            interval_s = max(interval_s, rate.seconds / rate.requests)
        return _Rules(now + MAX_AGE_S, parsed=parsed, interval_s=interval_s)


def _again(error: FetchError) -> FetchError:
    """Return a copy: an error that is raised twice would gather the traces of all its raises."""
    return FetchError(error.reason, error.detail, is_passing=error.is_passing, status=error.status)
