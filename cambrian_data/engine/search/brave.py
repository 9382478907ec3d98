"""Brave Search: up to 20 results a page, 10 pages, with a key.

The JSON API of https://api-dashboard.search.brave.com/app/documentation/web-search
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

BRAVE_ENDPOINT = "https://api.search.brave.com/res/v1/web/search"
BRAVE_PATH = "/res/v1/web/search"
_PAGE_SIZE, _MAX_PAGES = 20, 10
_LANGUAGES = {
    "zh": "zh-hans",
    "zh-cn": "zh-hans",
    "zh-sg": "zh-hans",
    "zh-hans": "zh-hans",
    "zh-tw": "zh-hant",
    "zh-hk": "zh-hant",
    "zh-hant": "zh-hant",
    "pt": "pt-pt",
    "pt-br": "pt-br",
    "pt-pt": "pt-pt",
    "en-gb": "en-gb",
    "ja": "jp",
    "no": "nb",
}
"""Where Brave's name of a language is not its two letters."""


class BraveSearch:
    """Brave Search."""

    name = "brave"

    def __init__(self, http: HttpClient, url: str, *, key: str, config: SearchConfig) -> None:
        self._config, self._key = config, key
        self._service = Service(
            http,
            url,
            label="Brave Search",
            variable="CAMBRIAN_BRAVE_ENDPOINT",
            explain=self._explain,
            headers={"X-Subscription-Token": key, "Accept": "application/json"},
        )

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return at most `limit` hits, best first."""
        return collect_hits(self._pages(query, limit), limit, self._config.site)

    def subtopics(self, topic: str) -> list[str]:
        """Return none: Brave has no tree of topics."""
        return []

    def _pages(self, query: str, limit: int) -> Iterator[list[Result]]:
        size = min(_PAGE_SIZE, limit)
        for offset in range(_MAX_PAGES):
            answer = self._service.get(self._params(query, offset, size))
            found = members(answer, "web", "results")
            yield [result_of(item, "url", "title", "description") for item in found]
            # Pages of Brave are often short of `count` although more follow; it says so.
            about = answer.get("query")
            more = about.get("more_results_available") if isinstance(about, dict) else None
            if more is False or (more is None and len(found) < size):
                return

    def _params(self, query: str, offset: int, size: int) -> dict[str, str | int]:
        site, language = self._config.site, self._config.language.lower()
        params: dict[str, str | int] = {
            "q": f"{query} site:{site}" if site else query,
            "count": size,
            "offset": offset,
            "result_filter": "web",
            "text_decorations": "false",
        }
        if language:
            primary = primary_language(language)
            params["search_lang"] = _LANGUAGES.get(language) or _LANGUAGES.get(primary, primary)
        return params

    def _explain(self, status: int, answer: dict[str, Any]) -> Fault | None:
        error = answer.get("error")
        error = error if isinstance(error, dict) else {}
        code = str(error.get("code") or f"status {status}")
        detail = str(error.get("detail") or error.get("message") or "").replace(self._key, "***")
        text = f"{code}: {detail}" if detail else code
        if status == 429 or code in ("RATE_LIMITED", "QUOTA_LIMITED"):
            return SearchUnavailable(f"the quota of Brave Search is used up: {text}", is_quota=True)
        if "TOKEN" in code or status in (401, 402, 403):
            return UserError(f"Brave Search refuses the key: {text}; check BRAVE_API_KEY")
        if status in (400, 422):
            return UserError(
                f"Brave Search refuses the request: {text}; check search.language "
                f"({self._config.language!r}) and search.site in the recipe, and BRAVE_API_KEY"
            )
        return None
