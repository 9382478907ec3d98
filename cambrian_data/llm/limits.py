"""How fast and how many: evenly spaced starts under RPM and TPM, and slots for open calls.

Used on one event loop. `Pace` gives each call its moment: starts lie at least 60/RPM seconds apart,
so that no minute ever holds more than the limit. `Gate` holds the number of open calls, and closes
partly when the server says that it is asked too much.
"""

from __future__ import annotations

import asyncio
from collections import deque

CUT = 0.7
OPENING = 0.25
"""After a 429 the gate is this much narrower; each answer widens it by a quarter of a call."""
SLACK = 1.01
"""Starts lie this much further apart than they must: timers fire up to half a second late."""


class Pace:
    """The moments at which calls may start; times are seconds of one clock."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._gap_s = SLACK * 60 / requests_per_minute if requests_per_minute else 0.0
        self._token_s = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._next_request = self._next_token = self._resume = 0.0

    def book(self, tokens: int, now: float) -> float:
        """Book a start that takes so many tokens; return how long to wait for it."""
        start = max(now, self._resume, self._next_request, self._next_token)
        if self._gap_s:
            self._next_request = start + self._gap_s
        self._next_token = max(self._next_token, start) + tokens * self._token_s
        return start - now

    def correct(self, extra_tokens: int) -> None:
        """Say that a call took more tokens than were booked, or fewer."""
        self._next_token += extra_tokens * self._token_s

    def pause(self, until: float) -> None:
        """Let nobody start before a time; who has booked an earlier start books anew."""
        self._resume = max(self._resume, until)

    def paused_s(self, now: float) -> float:
        """Return how long the pause still is."""
        return max(0.0, self._resume - now)


class Gate:
    """So many calls at once; others wait in the order in which they came."""

    def __init__(self, max_open: int) -> None:
        self._max_open, self._allowed = max_open, float(max_open)
        self.open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self.open < int(self._allowed) and not self._waiting:
            self.open += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()  # the slot was given in the same moment
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def narrow(self) -> None:
        """Let fewer calls be open at once, at least one."""
        self._allowed = max(1.0, self._allowed * CUT)

    def widen(self) -> None:
        """Let a little more calls be open at once, up to the limit."""
        self._allowed = min(float(self._max_open), self._allowed + OPENING)
        self._admit()

    def _leave(self) -> None:
        self.open -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.open < int(self._allowed):
            place = self._waiting.popleft()
            if not place.done():
                self.open += 1
                place.set_result(None)
