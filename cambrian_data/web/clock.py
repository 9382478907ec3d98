"""Time, passed in: so that tests of rates and waits need not wait."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the web layer needs of time."""

    def time(self) -> float:
        """Return the seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        """Wait; return early when `wake` is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Return the seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        """Wait; return early when `wake` is set."""
        wake.wait(seconds)
