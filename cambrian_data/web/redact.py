"""Secrets of requests: kept out of every message, log line and cached byte."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

_LOGGERS = ("urllib3.connectionpool", "urllib3.connection")
"""urllib3 logs whole addresses, at debug level and with its warnings."""
MIN_LENGTH = 6
"""Shorter values are no secrets; taking them out would tear up every text."""


class Secrets(logging.Filter):
    """The secret values that were sent so far, in all their spellings."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._spellings: tuple[str, ...] = ()

    def add(self, values: Iterable[str]) -> None:
        """Take note of secret values before they are sent."""
        new = {
            spelling
            for value in values
            for spelling in (value, quote(value), quote(value, safe=""), quote_plus(value))
            if len(value) >= MIN_LENGTH
        }
        if new.issubset(self._spellings):
            return
        with self._lock:  # the longest first: one spelling can be part of another
            both = new.union(self._spellings)
            self._spellings = tuple(sorted(both, key=lambda value: (-len(value), value)))
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def text(self, text: str) -> str:
        """Return a text with *** in the place of every secret."""
        for spelling in self._spellings:
            text = text.replace(spelling, "***")
        return text

    def data(self, data: bytes) -> bytes:
        """Return bytes with *** in the place of every secret."""
        for spelling in self._spellings:
            data = data.replace(spelling.encode(), b"***")
        return data

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the secrets out of a log record of urllib3."""
        message = record.getMessage()
        clean = self.text(message)
        if clean != message:
            record.msg, record.args = clean, ()
        return True

    def close(self) -> None:
        """Leave the logs alone again."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)
