"""Search in a wiki through its api.php: no key, any MediaWiki.

`list=search` gives titles; the addresses of the articles follow from the wiki's own `articlepath`,
so that a hit is exactly the article that was found. `list=categorymembers` gives narrower topics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from cambrian_data.engine.search.backend import (
    Hit,
    SearchConfig,
    SearchUnavailable,
    is_on_site,
)
from cambrian_data.engine.search.hits import Result, collect_hits, members, plain_text
from cambrian_data.engine.search.service import Fault, Service, endpoint_of
from cambrian_data.records import UserError

if TYPE_CHECKING:
    from cambrian_data.web.http import HttpClient

MEDIAWIKI_VARIABLE = "CAMBRIAN_MEDIAWIKI_API"
MAX_SUBTOPICS = 50
"""Subcategories that are read of one category."""
_MAX_LAG_S = 5
"""https://www.mediawiki.org/wiki/Manual:Maxlag_parameter: what a program that can wait sends."""
_PAGE_SIZE, _MAX_PAGES, _MAX_QUERY = 50, 20, 300
_CATEGORY = 14
_SLOW_DOWN = frozenset({"ratelimited", "actionthrottledtext"})
_CLOSED = frozenset({"readapidenied", "search-disabled", "srsearch-disabled", "permissiondenied"})
Check = Callable[[dict[str, Any]], Fault | None]
_PASSING = re.compile(r"maxlag|readonly|internal_api_error|dberror|cirrussearch-(?!query)|-busy")


def mediawiki_api(environment: Mapping[str, str], language: str = "en") -> str:
    """Return the api.php that is meant: CAMBRIAN_MEDIAWIKI_API, or Wikipedia in a language.

    Raises:
        UserError: the variable holds no address of an api.php.
    """
    address = environment.get(MEDIAWIKI_VARIABLE, "").strip()
    if not address:
        return f"https://{_wikipedia_of(language)}.wikipedia.org/w/api.php"
    url = endpoint_of(address, "/w/api.php", variable=MEDIAWIKI_VARIABLE)
    if not url.endswith("/api.php"):
        raise UserError(
            f"{MEDIAWIKI_VARIABLE} is {address!r}: the address of an api.php is needed, such as "
            "https://en.wikipedia.org/w/api.php (Special:Version of a wiki names its own)"
        )
    return url


def _wikipedia_of(language: str) -> str:
    """Return the Wikipedia of a language: they have no regions (`pt-br`) but some variants."""
    primary, _, rest = (language.lower() or "en").partition("-")
    is_region = len(primary) == 2 and len(rest) in (2, 4)
    return primary if is_region or not rest else f"{primary}-{rest}"


class MediaWikiSearch:
    """The search of one wiki."""

    name = "mediawiki"

    def __init__(self, http: HttpClient, api: str, *, config: SearchConfig) -> None:
        self._config, self._api = config, api
        self._service = Service(
            http,
            api,
            label="MediaWiki",
            variable=MEDIAWIKI_VARIABLE,
            explain=self._explain,
            check=_check_query,
        )
        self._article_path = ""

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return at most `limit` articles, best first."""
        site = self._config.site
        article = self._read_article_path()
        host = urlsplit(article).hostname
        if site and not is_on_site(article, site.partition("/")[0]):
            raise UserError(
                f"search.site is {site!r}, but the wiki searched has its articles on {host}: set "
                "a key of a search engine (GOOGLE_API_KEY, BRAVE_API_KEY), or leave site empty"
            )
        return collect_hits(self._pages(query, limit, article), limit, site)

    def subtopics(self, topic: str) -> list[str]:
        """Return the subcategories of the category of this name; none is ordinary."""
        params: dict[str, str | int] = {
            "list": "categorymembers",
            "cmtitle": f"Category:{topic}",
            "cmtype": "subcat",
            "cmprop": "title|ids",
            "cmlimit": MAX_SUBTOPICS,
        }
        names: dict[str, None] = {}
        for answer in self._continued(params, _check_passing):
            for member in members(answer, "query", "categorymembers"):
                title = str(member.get("title") or "")
                is_category = member.get("ns") == _CATEGORY and ":" in title
                name = title.partition(":")[2] if is_category else title
                names.setdefault(name.strip(), None)
            if len(names) >= MAX_SUBTOPICS:
                break
        return [name for name in names if name][:MAX_SUBTOPICS]

    def _pages(self, query: str, limit: int, article: str) -> Iterator[list[Result]]:
        params: dict[str, str | int] = {
            "list": "search",
            "srsearch": _plain_query(query),
            "srnamespace": 0,
            "srlimit": min(_PAGE_SIZE, limit),
            "srprop": "snippet",
            "srinfo": "",
        }
        for answer in self._continued(params, _check_query):
            found = [item for item in members(answer, "query", "search") if item.get("ns", 0) == 0]
            yield [
                Result(
                    _address_of(article, item["title"]),
                    item["title"],
                    plain_text(str(item.get("snippet") or "")),
                )
                for item in found
                if isinstance(item.get("title"), str)
            ]

    def _continued(self, params: dict[str, str | int], check: Check) -> Iterator[dict[str, Any]]:
        """Yield the answers to a query, page after page."""
        more: dict[str, str | int] = {}
        for _ in range(_MAX_PAGES):
            answer = self._query({**params, **more}, check)
            yield answer
            found = answer.get("continue")
            if not isinstance(found, dict) or found == more:
                return
            more = {key: value for key, value in found.items() if isinstance(value, str | int)}

    def _query(self, params: dict[str, str | int], check: Check) -> dict[str, Any]:
        about: dict[str, str | int] = {
            "action": "query",
            "format": "json",
            "formatversion": 2,
            "maxlag": _MAX_LAG_S,
        }
        return self._service.get({**about, **params}, check)

    def _read_article_path(self) -> str:
        """Return the address of an article with `$1` for its title, asked for once."""
        if not self._article_path:
            answer = self._query({"meta": "siteinfo", "siprop": "general"}, _check_passing)
            found = answer.get("query")
            general = found.get("general") if isinstance(found, dict) else None
            self._article_path = _article_path(
                self._api, general if isinstance(general, dict) else {}
            )
        return self._article_path

    def _explain(self, status: int, answer: dict[str, Any]) -> Fault | None:
        if status == 401:
            return UserError(f"the wiki at {self._api} asks for a login (401)")
        return _check_passing(answer)


def _article_path(api: str, general: dict[str, Any]) -> str:
    """Return server and articlepath as siteinfo gives them; without it the usual /wiki/$1."""
    server, path = general.get("server"), general.get("articlepath")
    if not isinstance(server, str) or not isinstance(path, str) or "$1" not in path:
        server, path = "/", "/wiki/$1"
    try:
        return urljoin(urljoin(api, server), path)  # a server may come without scheme: //host
    except ValueError:  # no address: what a siteinfo gives is not to be trusted
        return urljoin(api, "/wiki/$1")


def _address_of(article_path: str, title: str) -> str:
    """Return the address of an article, written as MediaWiki itself writes it."""
    return article_path.replace("$1", quote(title.replace(" ", "_"), safe=";@$!*(),/~:"))


def _plain_query(query: str) -> str:
    """Return a query that MediaWiki takes as words, not longer than CirrusSearch allows.

    A word with a colon at the beginning would name a name space (`Help: ...`).
    """
    return " ".join(re.sub(r":(?=\s|$)", " ", query).split())[:_MAX_QUERY]


def _error_of(answer: dict[str, Any]) -> tuple[str, str]:
    """Return code and text of the error in an answer, both empty where there is none."""
    error = answer.get("error")
    if error is None:
        return "", ""
    if not isinstance(error, dict):
        return "unknown", str(error)[:200]
    return str(error.get("code") or "unknown"), str(error.get("info") or "")[:200]


def _check_passing(answer: dict[str, Any]) -> Fault | None:
    """Say what is wrong in a passing way; other errors are answers."""
    code, info = _error_of(answer)
    if code in _SLOW_DOWN:
        return SearchUnavailable(f"the wiki asks to slow down: {code}: {info}", is_quota=True)
    if code in _CLOSED:
        return UserError(f"the wiki does not let everybody search: {code}: {info}")
    if _PASSING.search(code):
        return SearchUnavailable(f"the wiki cannot answer now: {code}: {info}")
    return None


def _check_query(answer: dict[str, Any]) -> Fault | None:
    """Say what is wrong with an answer to a search: a list must be there, empty or not."""
    fault = _check_passing(answer)
    if fault:
        return fault
    code, info = _error_of(answer)
    if code:
        return SearchUnavailable(f"the wiki refuses the search: {code}: {info}")
    found = answer.get("query")
    if not isinstance(found, dict) or not isinstance(found.get("search"), list):
        return SearchUnavailable("the wiki sent an answer without a list of hits")
    return None
