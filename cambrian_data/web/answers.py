"""What an address gave, or why it gave nothing: the two outcomes of every request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class FetchError(Exception):
    """An address that gave nothing.

    `reason` is one of DROP_REASONS["fetch"]; `is_passing` says that a later run may fare better
    (a time-out, a 503, a host that asks to slow down), so that it is tried again then.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        is_passing: bool = False,
        status: int = 0,
        body: bytes = b"",
    ) -> None:
        """Say why.

        Args:
            reason: one of DROP_REASONS["fetch"].
            detail: what happened, in words, without secrets.
            is_passing: whether a later run may fare better.
            status: the HTTP status, where there was one.
            body: the first 4 kB of the answer, where there was one: services explain themselves.
        """
        super().__init__(detail)
        self.reason, self.detail, self.is_passing = reason, detail, is_passing
        self.status, self.body = status, body


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of an address, after redirects."""

    url: str
    final_url: str
    status: int
    body: bytes
    fetched_at: str
    """When this body was fetched first, as ISO 8601 in UTC; a cached answer repeats it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    from_cache: bool = False
