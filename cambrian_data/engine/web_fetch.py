"""Pages and pictures of the real web, through one polite client.

Articles of known wikis come from their API (`wiki`), all other addresses as they are; those must
be HTML by their content. What an address does not give is a `FetchError` with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cambrian_data.engine.extract import page_language, page_title
from cambrian_data.engine.fetch import Fetched, FetchError, PictureFacts
from cambrian_data.engine.html_body import looks_like_html, looks_like_json, readable, refusal
from cambrian_data.engine.licenses import page_license
from cambrian_data.engine.wiki import Wikis
from cambrian_data.web.answers import Answer
from cambrian_data.web.optout import opt_out

if TYPE_CHECKING:
    from cambrian_data.web.http import HttpClient

_PAGE_TYPES = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1"
_PICTURE_TYPES = "image/*,*/*;q=0.1"
_HEAD_BYTES = 65_536
_LANGUAGE_BYTES = 16_384
"""Beginnings of a page in which title and language stand: parsing all of it takes a second."""
_HEADING_END = re.compile(rb"</h1\s*>", re.IGNORECASE)


class WebFetcher:
    """Reads pages and pictures from the web; for many threads at once."""

    def __init__(self, http: HttpClient, wikis: Wikis, *, max_picture_bytes: int) -> None:
        """Name the client, the wikis that are asked by their API, and the cap on pictures."""
        self._http, self._wikis, self._max_picture_bytes = http, wikis, max_picture_bytes

    def page(self, url: str) -> Fetched:
        """Return the page at an address.

        Raises:
            FetchError: it cannot be had, or is not HTML.
        """
        if article := self._wikis.article(url):
            return self._wikis.page(url, article)
        answer = self._http.get(url, kind="page", headers={"Accept": _PAGE_TYPES})
        if article := self._wikis.article(answer.final_url):  # a short link to an article
            return self._wikis.page(url, article)
        header = answer.headers.get("content-type", "")
        body = readable(answer.body, header)
        if found := refusal(body, header):
            raise FetchError("not_html", f"{answer.final_url} is {found}")
        head = _beginning(body, max(_HEAD_BYTES, _heading_end(body)))
        license = page_license(body)
        return Fetched(
            url=url,
            final_url=answer.final_url,
            status=answer.status,
            body=body,
            fetched_at=answer.fetched_at,
            title=page_title(head) or (page_title(body) if len(head) < len(body) else "") or None,
            language=_language(body, head) or None,
            license=license.name,
            license_url=license.url,
            etag=answer.headers.get("etag"),
            last_modified=answer.headers.get("last-modified"),
            no_pictures=opt_out(answer.headers, answer.body, kind="picture"),
        )

    def picture(
        self, url: str, *, etag: str | None = None, last_modified: str | None = None
    ) -> Fetched:
        """Return what is at the address of a picture, which may turn out to be none.

        Args:
            url: its address.
            etag: of a copy that the caller has; status 304 says that it is still good.
            last_modified: of a copy that the caller has.
        Raises:
            FetchError: it cannot be had.
        """
        answer = self._http.get(
            url,
            kind="picture",
            headers={"Accept": _PICTURE_TYPES},
            max_bytes=self._max_picture_bytes,
            is_good=_no_picture,
            etag=etag,
            last_modified=last_modified,
        )
        return Fetched(
            url=url,
            final_url=answer.final_url,
            status=answer.status,
            body=answer.body,
            fetched_at=answer.fetched_at,
            etag=answer.headers.get("etag"),
            last_modified=answer.headers.get("last-modified"),
        )

    def picture_facts(self, page_url: str, urls: Sequence[str]) -> dict[str, PictureFacts]:
        """Return licence, author and description page of pictures of wikis, by address."""
        return self._wikis.picture_facts(page_url, urls)


def _no_picture(answer: Answer) -> str | None:
    """Return what came in place of a picture, None where it may be one."""
    if answer.status == 304:
        return None
    if not answer.body:
        return "an empty body"
    if looks_like_html(answer.body):
        return "a page"
    return "JSON" if looks_like_json(answer.body) else None


def _language(body: bytes, head: bytes) -> str:
    """Return the language of a page: most say it at once, few further down."""
    return page_language(_beginning(body, _LANGUAGE_BYTES)) or page_language(head)


def _heading_end(body: bytes) -> int:
    heading = _HEADING_END.search(body)
    return heading.end() if heading else 0


def _beginning(body: bytes, size: int) -> bytes:
    """Return the beginning of a page, cut behind a tag so that no character is torn."""
    return body if len(body) <= size else body[: body.rfind(b">", 0, size) + 1] or body[:size]
