"""Asking a search service: one request, its JSON read, its faults told apart.

A fault is `SearchUnavailable` (a later run may fare better), one of its kind `is_quota` (the
allowance is used up: this run does not ask again), or a `UserError` (a wrong key or address).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from cambrian_data.engine.search.backend import SearchUnavailable
from cambrian_data.records import UserError
from cambrian_data.web.answers import Answer, FetchError

if TYPE_CHECKING:
    from cambrian_data.web.http import HttpClient

Fault = SearchUnavailable | UserError
_WRONG_ADDRESS = {404, 405, 410}
_MAX_SPENT_ANSWERS = 3
"""Answers in a row that speak of a spent quota with status 200 before it is believed: some of the
engines behind a metasearch are always blocked, and a query may have no hits at the others."""


def endpoint_of(address: str, path: str, *, variable: str) -> str:
    """Return the address of a service.

    Args:
        address: as the user wrote it: an origin, to which `path` is added, or the whole.
        path: where such a service lies on its host.
        variable: where the address was set, for the message.
    Raises:
        UserError: it is no http or https address.
    """
    try:
        parts = urlsplit(address.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address:
        raise UserError(
            f"{variable} is {address!r}, which is no address: write it as https://host{path}"
        )
    whole = parts.path.rstrip("/") or path
    return urlunsplit((parts.scheme, parts.netloc, whole, "", ""))


def read_json(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that an answer is, after a byte order mark or not; else None."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:  # or a snippet that was cut within an emoji
        try:
            found = _mended(json.loads(body))
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _mended(value: Any) -> Any:
    """Return a JSON value with whole characters only: half of one cannot be stored."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def _no_fault(answer: dict[str, Any]) -> Fault | None:
    return None


class Service:
    """One search service of one run; for many threads at once."""

    def __init__(
        self,
        http: HttpClient,
        url: str,
        *,
        label: str,
        variable: str,
        explain: Callable[[int, dict[str, Any]], Fault | None],
        check: Callable[[dict[str, Any]], Fault | None] = _no_fault,
        secret_params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say whom to ask and what its faults mean.

        Args:
            http: the way to the web.
            url: the service's address.
            label: its name in messages.
            variable: the environment variable that sets the address.
            explain: what an HTTP status and the answer with it (JSON, or {}) mean; None: nothing
                of its own.
            check: what is wrong with an answer of status 200. It is asked for again, and not kept.
            secret_params: keys in the query.
            headers: keys in the head.
        """
        self._http, self.url, self._label, self._variable = http, url, label, variable
        self._explain, self._check = explain, check
        self._secret_params, self._headers = secret_params, headers
        self._spent: Fault | None = None
        self._num_spent_answers = 0

    def get(
        self,
        params: Mapping[str, str | int],
        check: Callable[[dict[str, Any]], Fault | None] | None = None,
    ) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            SearchUnavailable: the service cannot answer now.
            UserError: it will not answer before the user mends something.
        """
        if self._spent:
            raise SearchUnavailable(f"{self._spent} (not asked again)", is_quota=True)
        check = check or self._check
        try:
            answer = self._http.get(
                self.url,
                kind="service",
                params=params,
                secret_params=self._secret_params,
                headers=self._headers,
                is_good=lambda answer: _text_of(self._fault_in(answer, check)),
            )
        except FetchError as error:
            fault = self._fault_of(error)
            if _is_quota(fault):
                self._spent = fault
            raise fault from None
        answered = self._fault_in(answer, check)
        self._num_spent_answers = self._num_spent_answers + 1 if _is_quota(answered) else 0
        if self._num_spent_answers >= _MAX_SPENT_ANSWERS:
            self._spent = answered
        if answered:
            raise answered
        return read_json(answer.body) or {}

    def _fault_in(
        self, answer: Answer, check: Callable[[dict[str, Any]], Fault | None]
    ) -> Fault | None:
        found = read_json(answer.body)
        if found is None:
            begin = answer.body[:60].decode("utf-8", "replace")
            return SearchUnavailable(f"{self._label} sent no whole JSON, but {begin!r}")
        return check(found)

    def _fault_of(self, error: FetchError) -> Fault:
        fault = self._explain(error.status, read_json(error.body) or {})
        if fault:
            return fault
        if error.status == 429:
            return SearchUnavailable(f"{self._label} asks to slow down (429)", is_quota=True)
        if error.status in _WRONG_ADDRESS:
            return UserError(
                f"{self._label} does not answer at {self.url} ({error.status}): set "
                f"{self._variable} to its address"
            )
        if error.reason == "private_address":
            return UserError(
                f"{self._label} at {self.url} lies on a private host ({error.detail}): allow it "
                "with --allow-private-hosts"
            )
        if error.reason == "bad_address":
            return UserError(f"{self._variable}: {error.detail}")
        return SearchUnavailable(f"{self._label}: {error.detail}")


def _is_quota(fault: Fault | None) -> bool:
    return isinstance(fault, SearchUnavailable) and fault.is_quota


def _text_of(fault: Fault | None) -> str | None:
    return None if fault is None else str(fault)
