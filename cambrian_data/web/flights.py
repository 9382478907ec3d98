"""Requests under way, and the thread that cuts those off which take too long.

A time-out of a socket starts anew with every byte, so a server that sends one byte a second holds
a reader for ever. Here the whole answer, TLS and headers included, has a deadline: when it has
passed (or the client is closed) the socket is shut down under the reader. Sockets wait in real
time, whatever clock the client was given.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from cambrian_data.web.rates import Turn, closed

_LOOK_EVERY_S = 0.25


class Flight:
    """One request under way, in one thread."""

    def __init__(self, turn: Turn, limit_s: float) -> None:
        self.turn, self.limit_s = turn, limit_s
        self.deadline = time.monotonic() + limit_s
        self.was_cut = False
        self._socket: socket.socket | None = None
        self._is_ours = False
        self._lock = threading.Lock()

    def watch(self, sock: socket.socket | None, *, is_ours: bool = False) -> None:
        """Name the socket to cut.

        Args:
            sock: of this request's connection; None: there is none any more.
            is_ours: it is a copy that is closed when another one is named.
        """
        with self._lock:
            if self._socket is not None and self._is_ours:
                self._socket.close()
            self._socket, self._is_ours = sock, is_ours
            if self.was_cut:
                self._shut_down()

    @contextlib.contextmanager
    def sending(self, sock: object) -> Iterator[None]:
        """Wait for the moment of sending; the deadline counts from then."""
        self.deadline = float("inf")
        with self.turn.sending():
            if isinstance(sock, socket.socket):  # else TLS within TLS, of which a copy is watched
                self.watch(sock)
            self.deadline = time.monotonic() + self.limit_s
            yield

    def cut(self) -> None:
        """End the request from another thread."""
        with self._lock:
            self.was_cut = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(
                OSError
            ):  # not by its own method: a reader still needs its TLS
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Flights:
    """All requests under way of one client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: set[Flight] = set()
        self._of_thread = threading.local()
        self._end = threading.Event()
        self._watchdog: threading.Thread | None = None

    @contextlib.contextmanager
    def flight(self, turn: Turn, limit_s: float) -> Iterator[Flight]:
        """Watch over the request that this thread makes within."""
        flight = Flight(turn, limit_s)
        with self._lock:
            if self._end.is_set():
                raise closed()
            self._flights.add(flight)
            if self._watchdog is None:
                self._watchdog = threading.Thread(
                    target=self._watch, name="http-deadlines", daemon=True
                )
                self._watchdog.start()
        self._of_thread.flight = flight
        try:
            yield flight
        finally:
            self._of_thread.flight = None
            with self._lock:
                self._flights.discard(flight)
            flight.watch(None)

    def current(self) -> Flight:
        """Return the request that this thread makes."""
        flight = self._of_thread.flight
        assert isinstance(flight, Flight), "a connection outside of a flight"
        return flight

    @property
    def is_closed(self) -> bool:
        """Whether all was cut off."""
        return self._end.is_set()

    def close(self) -> None:
        """Cut all requests off; there will be no more."""
        self._end.set()
        with self._lock:
            flights = list(self._flights)
        for flight in flights:
            flight.cut()

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            with self._lock:
                late = [flight for flight in self._flights if now > flight.deadline]
            for flight in late:
                flight.cut()
