"""What went wrong, whether to try again, and how long to wait first.

A `Fault` is tried again (5xx, 429, 408, broken connections, time-outs); any other `FetchError` is
final. Waits grow from half a second to half a minute, spread by a hash of address and try.
"""

from __future__ import annotations

import email.utils
import http
import ssl
from collections.abc import Mapping

import urllib3.exceptions

from cambrian_data.records import draw
from cambrian_data.web.answers import FetchError

BASE_WAIT_S, MAX_WAIT_S = 0.5, 30.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
GONE = frozenset({404, 410})


class Fault(FetchError):
    """A failure that may be over at the next try."""

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        retry_after_s: float | None = None,
        status: int = 0,
        body: bytes = b"",
    ) -> None:
        super().__init__(reason, detail, is_passing=True, status=status, body=body)
        self.retry_after_s = retry_after_s

    def as_rate_limited(self, place: str) -> FetchError:
        """Return what is left for a later run: the host asks for a longer rest than is waited."""
        return FetchError(
            "rate_limited",
            f"{self.detail}; {place} asks to be left alone for {self.retry_after_s or 0:.0f} s",
            is_passing=True,
            status=self.status,
            body=self.body,
        )


def fault_of_status(
    status: int, headers: Mapping[str, str], body: bytes, now: float
) -> FetchError | None:
    """Return what a status means; None for an answer (200, 203, 304) and for redirects."""
    if status in (200, 203, 304) or status in REDIRECTS:
        return None
    detail = f"status {status}{_phrase(status)}"
    if status == 429 or status >= 500 or status == 408:
        reason = "rate_limited" if status == 429 else "server_error"
        wait = retry_after_s(headers.get("retry-after"), now) if status in (429, 503) else None
        return Fault(reason, detail, retry_after_s=wait, status=status, body=body)
    if status in GONE:
        return FetchError("missing", detail, status=status, body=body)
    if status >= 400:
        return FetchError("refused", detail, status=status, body=body)
    return FetchError("missing", f"{detail}: no page in it", status=status, body=body)


def _phrase(status: int) -> str:
    try:
        return f" {http.HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def fault_of_error(error: Exception, place: str) -> FetchError:
    """Return what an error of the connection means, in words of our own.

    The error's own text is left out: it can hold the address with its secret parameters.
    """
    if isinstance(error, urllib3.exceptions.ProxyError):
        return Fault("unreachable", "the proxy cannot be reached, or refuses")
    inner = error.args[0] if error.args else None
    cause = error if isinstance(error, ssl.SSLError) else inner
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Fault("unreachable", f"{place} broke off the connection")
    if isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError | ssl.CertificateError):
        why = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "TLS failed"
        return FetchError("unreachable", f"no secure connection to {place}: {why}")
    if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError):
        return Fault("unreachable", f"{place} did not answer in time")
    if isinstance(error, urllib3.exceptions.IncompleteRead | urllib3.exceptions.ProtocolError):
        return Fault("unreachable", f"{place} broke off the answer or the connection")
    return Fault("unreachable", f"no connection to {place}: {type(error).__name__}")


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After (seconds or a date) asks for; None where it is none."""
    if value is None:
        return None
    value = value.strip()
    try:
        return max(0.0, float(int(value)))
    except (ValueError, OverflowError):
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def backoff_s(url: str, attempt: int) -> float:
    """Return the wait before the next try: doubled each time, spread over half to one and a half.

    Args:
        url: spreads addresses that failed together.
        attempt: how many tries there were.
    """
    wait = min(MAX_WAIT_S, BASE_WAIT_S * 2.0 ** min(attempt - 1, 16))
    return min(MAX_WAIT_S, wait * (0.5 + draw(0, "backoff", url, attempt)))
