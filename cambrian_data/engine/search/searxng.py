"""SearXNG, a metasearch engine that one can host: pages of about ten results, no key.

The JSON API of https://docs.searxng.org/dev/search_api.html, which its settings must allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cambrian_data.engine.search.backend import Hit, SearchConfig, SearchUnavailable
from cambrian_data.engine.search.hits import Result, collect_hits, members, result_of
from cambrian_data.engine.search.service import Fault, Service, endpoint_of
from cambrian_data.records import UserError

if TYPE_CHECKING:
    from cambrian_data.web.http import HttpClient

SEARXNG_VARIABLE = "CAMBRIAN_SEARXNG_URL"
_MAX_PAGES = 20
_BLOCKED = ("too many requests", "captcha", "suspended", "access denied", "rate limit")


def searxng_endpoint(address: str) -> str:
    """Return the address of the search of an instance, given as its base or in full.

    Raises:
        UserError: it is no http or https address.
    """
    url = endpoint_of(address, "/search", variable=SEARXNG_VARIABLE)
    return url if url.endswith("/search") else f"{url}/search"


class SearxngSearch:
    """One SearXNG instance."""

    name = "searxng"

    def __init__(self, http: HttpClient, url: str, *, config: SearchConfig) -> None:
        self._config, self._url = config, url
        self._service = Service(
            http,
            url,
            label="SearXNG",
            variable=SEARXNG_VARIABLE,
            explain=self._explain,
            check=_check,
        )

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return at most `limit` hits, best first."""
        return collect_hits(self._pages(query), limit, self._config.site)

    def subtopics(self, topic: str) -> list[str]:
        """Return none: SearXNG has no tree of topics."""
        return []

    def _pages(self, query: str) -> Iterator[list[Result]]:
        site, language = self._config.site, self._config.language
        params: dict[str, str | int] = {
            "q": f"{query} site:{site}" if site else query,
            "format": "json",
        }
        if language:
            params["language"] = language
        for number in range(1, _MAX_PAGES + 1):
            # Later pages: once there are hits, engines that have no more to say are no fault.
            check = _check if number == 1 else _check_shape
            answer = self._service.get({**params, "pageno": number}, check)
            found = members(answer, "results")
            yield [result_of(item, "url", "title", "content") for item in found]
            if not found:
                return

    def _explain(self, status: int, answer: dict[str, Any]) -> Fault | None:
        if status == 429:
            return SearchUnavailable(
                f"SearXNG at {self._url} asks to slow down (429): its limiter is on", is_quota=True
            )
        if status == 403:
            return UserError(
                f"SearXNG at {self._url} gives no JSON (403): add `json` to `search: formats:` in "
                "its settings.yml and start it again (public instances seldom allow it)"
            )
        if status == 401:
            return UserError(f"SearXNG at {self._url} asks for a login (401)")
        if status == 400:
            return UserError(
                f"SearXNG at {self._url} refuses the request (400): check search.language "
                f"({self._config.language!r}) in the recipe"
            )
        return None


def _check_shape(answer: dict[str, Any]) -> Fault | None:
    if not isinstance(answer.get("results"), list):
        return SearchUnavailable("SearXNG sent an answer without a list of results")
    return None


def _check(answer: dict[str, Any]) -> Fault | None:
    """Tell that nothing was found from that nobody was there to look."""
    fault = _check_shape(answer)
    silent = answer.get("unresponsive_engines")
    if fault or answer["results"] or not isinstance(silent, list) or not silent:
        return fault
    engines = "; ".join(
        ": ".join(map(str, item)) if isinstance(item, list) else str(item) for item in silent
    )
    return SearchUnavailable(
        f"the engines behind SearXNG do not answer: {engines}",
        is_quota=any(sign in engines.lower() for sign in _BLOCKED),
    )
