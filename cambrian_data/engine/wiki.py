"""MediaWikis through their API: exactly the page of an address, and what is known of its pictures.

Known are Wikimedia's projects and the wiki whose `api.php` is named (CAMBRIAN_MEDIAWIKI_API). A
page costs one request and one for every 50 of its pictures; what a wiki says of itself (licence,
language, place of its articles) is asked once. Both versions of the JSON format are read.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

import orjson

from cambrian_data.engine.extract import html_of_api_answer
from cambrian_data.engine.extract.address import absolute_url
from cambrian_data.engine.extract.parse import PageError, parse_page
from cambrian_data.engine.extract.text import plain_text
from cambrian_data.engine.fetch import Fetched, FetchError, PictureFacts
from cambrian_data.engine.html_body import utf8_body
from cambrian_data.engine.licenses import license_of
from cambrian_data.engine.wiki_address import (
    Article,
    Place,
    article_at,
    canonical_url,
    home_of_picture,
    host_language,
    picture_name,
    same_file,
    same_host,
    split_url,
    wikimedia_place,
)
from cambrian_data.records import UserError
from cambrian_data.web.answers import Answer

if TYPE_CHECKING:
    from cambrian_data.web.http import HttpClient

__all__ = ["Article", "Wikis", "canonical_url"]

_MISSING = frozenset(
    {"missingtitle", "nosuchpageid", "nosuchrevid", "missingcontent", "invalidtitle"}
    | {"missingcontent-pageid", "missingcontent-revid", "nosuchrevision"}
)
_NO_PAGE = frozenset({"pagecannotexist", "invalidspecial", "notwikitext"})
_REFUSED = frozenset({"permissiondenied", "readapidenied", "blocked", "autoblocked"})
_PASSING = frozenset({"ratelimited", "maxlag", "readonly", "timeout", "unknownerror"})
_INTERNAL = ("internal_api_error", "db_error")
_FACTS = "LicenseShortName|LicenseUrl|UsageTerms|Artist|Attribution"
_MAX_TITLES = 50
"""Titles that MediaWiki takes in one request."""
_MAX_TITLE_CHARS = 6000
"""Length of all titles of a request as sent; many servers take no address above 8 kB."""
_MAX_PARTS = 20
_MAX_FACT_CHARS = 300
_OUTPUT_LANGUAGE = re.compile(
    r"\s*(?:<!doctype[^<>]{0,200}>\s*)?<(?:html\b|div\b(?=[^<>]{0,500}\bmw-parser-output\b))"
    r"[^<>]{0,2000}?\slang=\"([\w-]{2,20})\"",
    re.IGNORECASE,
)
"""The language that the element around a whole text states."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Site:
    """What a wiki says of itself."""

    license: str | None = None
    license_url: str | None = None
    language: str = ""
    article_path: str = ""


class Wikis:
    """The wikis that are read through their API."""

    def __init__(self, http: HttpClient, api: str | None = None) -> None:
        """Name the client, and the `api.php` of one more wiki.

        Raises:
            UserError: `api` is no http or https address of a script.
        """
        if api and (split_url(api) is None or not urlsplit(api).path.endswith(".php")):
            raise UserError(
                f"CAMBRIAN_MEDIAWIKI_API is {api!r}: give the http or https address of an api.php, "
                "such as https://en.wikipedia.org/w/api.php"
            )
        self._http, self._api = http, api.strip() if api else None
        self._sites: dict[str, _Site] = {}
        self._locks: dict[str, threading.Lock] = {}

    def article(self, url: str) -> Article | None:
        """Return the page that an address of a known wiki names, None for all other addresses.

        Raises:
            FetchError: the wiki could not be asked where its articles lie.
        """
        place = self._place(url)
        parts = split_url(url)
        return article_at(parts, place) if place and parts else None

    def page(self, url: str, article: Article) -> Fetched:
        """Return exactly the page that was named, redirects followed.

        Args:
            url: the address as it was given.
            article: what it names.
        Raises:
            FetchError: the wiki has no such page, or does not answer.
        """
        if article.not_shown:
            raise FetchError("not_html", article.not_shown)
        answer, data = self._ask(article.place.api, {"action": "parse", **_wanted(article)})
        found, parsed = html_of_api_answer(data), data.get("parse")
        if found is None or not isinstance(parsed, Mapping):
            raise FetchError("not_html", f"{url}: the wiki's answer holds no text")
        title, html = found
        site = self._site(article.place)
        number, revision = _number(parsed.get("pageid")), _number(parsed.get("revid"))
        return Fetched(
            url=url,
            final_url=article.place.address(title, article.revision),
            status=answer.status,
            body=utf8_body(html),
            fetched_at=answer.fetched_at,
            title=_shown_title(parsed.get("displaytitle"), title) or None,
            language=_language(html, article.place, site) or None,
            page_id=number or article.page_id or None,
            revision=revision or article.revision or None,
            license=site.license,
            license_url=site.license_url,
        )

    def _place(self, url: str) -> Place | None:
        """Return the known wiki that an address belongs to."""
        parts = split_url(url)
        if parts is None:
            return None
        api = split_url(self._api) if self._api else None
        if api is not None and same_host(parts, api):
            place = Place(api.geturl())
            if wikimedia_place(api.hostname or ""):
                return place
            return Place(place.api, self._site(place).article_path or place.article_path)
        return wikimedia_place(parts.hostname or "") if parts.port in (None, 80, 443) else None

    def _site(self, place: Place) -> _Site:
        """Return what a wiki says of itself; nothing, where it does not tell."""
        with self._locks.setdefault(place.api, threading.Lock()):
            if place.api not in self._sites:
                self._sites[place.api] = self._ask_site(place.api)
            return self._sites[place.api]

    def _ask_site(self, api: str) -> _Site:
        asked = {"action": "query", "meta": "siteinfo", "siprop": "general|rightsinfo"}
        try:
            _, data = self._ask(api, asked)
        except FetchError as error:
            if error.is_passing:  # the pages' licence would be lost for good
                raise
            return _Site()
        query = _mapping(data.get("query"))
        general, rights = _mapping(query.get("general")), _mapping(query.get("rightsinfo"))
        license = license_of(_text(rights.get("text")), _text(rights.get("url")))
        path = _text(general.get("articlepath"))
        return _Site(
            license=license.name,
            license_url=license.url,
            language=_text(general.get("lang")),
            article_path=path if path.startswith("/") and path.count("$1") == 1 else "",
        )

    # --------------------------------------------------------------------------- pictures

    def picture_facts(self, page_url: str, urls: Iterable[str]) -> dict[str, PictureFacts]:
        """Return licence, author and description page of pictures, by address.

        Asked is the wiki of the page, or else the one that a picture was uploaded to. A file of
        the same name in another place is not taken for the picture.
        """
        try:
            own = self._place(page_url)
        except FetchError as error:
            _log.warning("no licences of the pictures of %s: %s", page_url, error.detail)
            return _lost(urls, error)
        by_api: dict[str, dict[str, list[str]]] = {}
        for url in dict.fromkeys(urls):
            place, name = own or home_of_picture(url), picture_name(url)
            if place and name:
                by_api.setdefault(place.api, {}).setdefault(name, []).append(url)
        facts: dict[str, PictureFacts] = {}
        for api, wanted in by_api.items():
            for names in _batches(wanted):
                facts |= self._facts(api, {name: wanted[name] for name in names})
        return facts

    def _facts(self, api: str, wanted: Mapping[str, Sequence[str]]) -> dict[str, PictureFacts]:
        """Return what a wiki knows of some files, for every address under which one is shown."""
        facts: dict[str, PictureFacts] = {}
        try:
            for info in self._files(api, list(wanted)):
                original = _text(info.get("url"))
                for url in wanted.get(picture_name(original), ()):
                    if same_file(url, original):
                        facts[url] = _picture_facts(info, api)
        except FetchError as error:
            _log.warning("no licences of %d pictures from %s: %s", len(wanted), api, error.detail)
            facts = _lost((url for urls in wanted.values() for url in urls), error) | facts
        return facts

    def _files(self, api: str, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield what a wiki says of files; a long answer comes in parts."""
        asked = {
            "action": "query",
            "prop": "imageinfo",
            "iiprop": "url|mime|extmetadata",
            "iiextmetadatafilter": _FACTS,
            "titles": "|".join(f"File:{name}" for name in names),
        }
        for _ in range(_MAX_PARTS):
            _, data = self._ask(api, asked)
            pages = _mapping(data.get("query")).get("pages")
            listed = pages.values() if isinstance(pages, Mapping) else pages
            for page in listed if isinstance(listed, Iterable) else ():
                infos = _mapping(page).get("imageinfo")
                if isinstance(infos, list) and infos:
                    yield _mapping(infos[0])
            more = _mapping(data.get("continue"))
            if "iicontinue" not in more:  # iistart would give older versions of one file
                return
            asked |= {key: _text(value) for key, value in more.items()}

    # -------------------------------------------------------------------------------- API

    def _ask(self, api: str, asked: Mapping[str, str]) -> tuple[Answer, Mapping[str, Any]]:
        params = {"format": "json", "formatversion": "2", **asked}
        answer = self._http.get(api, kind="service", params=params, is_good=_fault)
        data = _json(answer.body)
        if data is None:
            raise FetchError("server_error", f"{api} gave no JSON", is_passing=True)
        if error := data.get("error"):
            raise _error(api, _mapping(error))
        return answer, data


def _fault(answer: Answer) -> str | None:
    """Return why an answer is to be asked for again, None for a good one."""
    data = _json(answer.body)
    if data is None:
        return "no JSON"
    code = _text(_mapping(data.get("error")).get("code"))
    return code if _is_passing(code) else None


def _is_passing(code: str) -> bool:
    return code in _PASSING or code.startswith(_INTERNAL)


def _error(api: str, error: Mapping[str, Any]) -> FetchError:
    code = _text(error.get("code"))
    detail = f"{api}: {code}: {_text(error.get('info'))}"[:_MAX_FACT_CHARS]
    for codes, reason in ((_MISSING, "missing"), (_NO_PAGE, "not_html"), (_REFUSED, "refused")):
        if code in codes:
            return FetchError(reason, detail)
    reason = "rate_limited" if code == "ratelimited" else "server_error"
    return FetchError(reason, detail, is_passing=_is_passing(code))


def _wanted(article: Article) -> dict[str, str]:
    """Return the parameters that ask for one page, without what changes from answer to answer."""
    asked = {"prop": "text|revid|displaytitle", "redirects": "1", "disablelimitreport": "1"}
    if article.revision:
        return asked | {"oldid": article.revision}
    if article.page_id:
        return asked | {"pageid": article.page_id}
    return asked | {"page": article.title}


def _shown_title(shown: Any, title: str) -> str:
    """Return the title in the case in which the wiki shows it (`iPhone`), else as it is."""
    text = _plain(shown)
    return text if text.casefold() == title.replace("_", " ").casefold() else title


def _language(html: str, place: Place, site: _Site) -> str:
    stated = _OUTPUT_LANGUAGE.match(html)
    named = stated[1] if stated else site.language or host_language(urlsplit(place.api).netloc)
    return named.split("-")[0].lower()


def _picture_facts(info: Mapping[str, Any], api: str) -> PictureFacts:
    metadata = _mapping(info.get("extmetadata"))
    given = {name: _plain(_mapping(metadata.get(name)).get("value")) for name in _FACTS.split("|")}
    license = license_of("", given["LicenseUrl"])
    described = _text(info.get("descriptionurl"))
    return PictureFacts(
        license=given["LicenseShortName"] or given["UsageTerms"] or license.name,
        license_url=license.url,
        author=given["Artist"] or given["Attribution"] or None,
        description_url=absolute_url(described, api) if described else None,
    )


def _lost(urls: Iterable[str], error: FetchError) -> dict[str, PictureFacts]:
    """Return what is known where a wiki did not answer: that a later run may know more."""
    return dict.fromkeys(urls, PictureFacts(is_passing=True)) if error.is_passing else {}


def _plain(value: Any) -> str:
    """Return a value of the API, which may be HTML, as text in one line."""
    text = _text(value)
    if "<" in text or "&" in text:
        try:
            text = plain_text(parse_page(text))
        except PageError:
            return ""
    return " ".join(text.split())[:_MAX_FACT_CHARS].rstrip()


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    num_chars = 0
    for name in names:
        chars = len(quote_plus(f"|File:{name}"))
        if batch and (len(batch) == _MAX_TITLES or num_chars + chars > _MAX_TITLE_CHARS):
            yield batch
            batch, num_chars = [], 0
        batch.append(name)
        num_chars += chars
    if batch:
        yield batch


def _json(body: bytes) -> Mapping[str, Any] | None:
    try:
        data = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) and value > 0 else ""
