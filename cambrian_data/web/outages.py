"""Hosts that answer nobody: after some addresses in vain the others are not waited for.

Each address is tried several times with growing waits. A host that is down would hold up a run for
minutes a page; so once several addresses in a row used up all their tries, the next ones fail at
once for a while, in a way that a later run tries again.
"""

from __future__ import annotations

import threading

from cambrian_data.web.answers import FetchError
from cambrian_data.web.clock import Clock

MAX_IN_VAIN = 4
"""Addresses in a row that use up all their tries before their host counts as down."""
REST_S = 300.0
"""How long it then is left alone."""


class Outages:
    """What is known of hosts that fail, for all threads of a run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._in_vain: dict[str, int] = {}
        self._down: dict[str, tuple[float, str]] = {}

    def check(self, place: str) -> None:
        """Refuse an address of a host that is down.

        Raises:
            FetchError: unreachable, in a way that may pass.
        """
        with self._lock:
            until, why = self._down.get(place, (0.0, ""))
            if not why:
                return
            if self._clock.monotonic() < until:
                detail = f"{place} failed at {MAX_IN_VAIN} addresses in a row (the last: {why})"
                raise FetchError("unreachable", detail, is_passing=True)
            del self._down[place]
            self._in_vain[place] = MAX_IN_VAIN - 1  # one more failure is enough

    def failed(self, place: str, why: str) -> bool:
        """Note an address in vain; return whether its host counts as down from now on."""
        with self._lock:
            count = self._in_vain[place] = self._in_vain.get(place, 0) + 1
            if count < MAX_IN_VAIN or place in self._down:
                return False
            self._down[place] = self._clock.monotonic() + REST_S, why
            return True

    def answered(self, place: str) -> None:
        """Note that a host answers."""
        with self._lock:
            self._in_vain.pop(place, None)
