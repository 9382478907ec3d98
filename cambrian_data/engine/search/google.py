"""Google Custom Search: 10 results a page, 100 at most, with a key and an engine of one's own.

The JSON API of https://developers.google.com/custom-search/v1/reference/rest/v1/cse/list
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cambrian_data.engine.search.backend import (
    Hit,
    SearchConfig,
    SearchUnavailable,
    primary_language,
)
from cambrian_data.engine.search.hits import Result, collect_hits, members, result_of
from cambrian_data.engine.search.service import Fault, Service
from cambrian_data.records import UserError

if TYPE_CHECKING:
    from cambrian_data.web.http import HttpClient

GOOGLE_ENDPOINT = "https://www.googleapis.com/customsearch/v1"
GOOGLE_PATH = "/customsearch/v1"
_PAGE_SIZE, _MAX_RESULTS = 10, 100
_QUOTA_REASONS = frozenset(
    {"ratelimitexceeded", "userratelimitexceeded", "dailylimitexceeded", "quotaexceeded"}
    | {"dailylimitexceededunreg", "limitexceeded", "resource_exhausted", "rate_limit_exceeded"}
)


class GoogleSearch:
    """Google Custom Search."""

    name = "google"

    def __init__(
        self, http: HttpClient, url: str, *, key: str, engine: str, config: SearchConfig
    ) -> None:
        self._config, self._key, self._engine = config, key, engine
        self._service = Service(
            http,
            url,
            label="Google Custom Search",
            variable="CAMBRIAN_GOOGLE_ENDPOINT",
            explain=self._explain,
            secret_params={"key": key},
        )

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return at most `limit` hits, best first."""
        return collect_hits(self._pages(query, limit), limit, self._config.site)

    def subtopics(self, topic: str) -> list[str]:
        """Return none: Google has no tree of topics."""
        return []

    def _pages(self, query: str, limit: int) -> Iterator[list[Result]]:
        size = min(_PAGE_SIZE, limit)
        for start in range(1, _MAX_RESULTS - size + 2, size):
            answer = self._service.get(self._params(query, start, size))
            items = members(answer, "items")
            yield [result_of(item, "link", "title", "snippet") for item in items]
            # An answer that tells of pages at all tells of the next one, too, where there is one.
            is_last = "queries" in answer and not members(answer, "queries", "nextPage")
            if is_last or len(items) < size:
                return

    def _params(self, query: str, start: int, size: int) -> dict[str, str | int]:
        params: dict[str, str | int] = {"cx": self._engine, "q": query, "num": size, "start": start}
        language = self._config.language
        if language:
            params |= {"hl": language, "lr": f"lang_{_google_language(language)}"}
        if self._config.site:
            params |= {"siteSearch": self._config.site, "siteSearchFilter": "i"}
        return params

    def _explain(self, status: int, answer: dict[str, Any]) -> Fault | None:
        """Tell a spent quota from a wrong key: both may come as 403."""
        error = answer.get("error")
        error = error if isinstance(error, dict) else {}
        reasons = {str(item.get("reason", "")) for item in members(error, "errors")}
        reasons |= {str(item.get("reason", "")) for item in members(error, "details")}
        reasons = {reason for reason in {*reasons, str(error.get("status", ""))} if reason}
        message = str(error.get("message") or f"status {status}").replace(self._key, "***")
        text = f"{message} ({', '.join(sorted(reasons))})" if reasons else message
        if status == 429 or {reason.lower() for reason in reasons} & _QUOTA_REASONS:
            return SearchUnavailable(
                f"the quota of Google Custom Search is used up: {text}", is_quota=True
            )
        if status in (400, 401, 403):
            return UserError(
                f"Google Custom Search refuses the request: {text}; check GOOGLE_API_KEY (the "
                "Custom Search API must be enabled for it) and GOOGLE_SE_ID"
            )
        return None


def _google_language(language: str) -> str:
    """Return Google's name of a language: Chinese is told apart by region, others are not."""
    primary = primary_language(language)
    if primary != "zh":
        return primary
    is_traditional = language.lower().endswith(("-tw", "-hk", "-hant"))
    return "zh-TW" if is_traditional else "zh-CN"
