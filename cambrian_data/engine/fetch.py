"""Fetching: from an address to the bytes behind it, through one small protocol.

`CorpusFetcher` reads the embedded pages and pictures, which carry the corpus's own date;
`web_fetch.WebFetcher` reads the web. A page that cannot be had is a `FetchError` with a reason,
which becomes a row of `drops`, and never ends a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from cambrian_data.engine.corpus import Corpus, CorpusMiss
from cambrian_data.records import bytes_id, page_id
from cambrian_data.web.answers import FetchError

__all__ = [
    "FETCH_VERSION",
    "CorpusFetcher",
    "FetchError",
    "Fetched",
    "Fetcher",
    "PictureFacts",
    "page_row",
]

FETCH_VERSION = "2"
"""Raised when an address gives other rows than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What an address gave, and what is known of it."""

    url: str
    final_url: str
    status: int
    body: bytes
    fetched_at: str
    title: str | None = None
    language: str | None = None
    page_id: str | None = None
    revision: str | None = None
    license: str | None = None
    license_url: str | None = None
    author: str | None = None
    description_url: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    no_pictures: str | None = None
    """Words by which a page keeps its pictures, though not itself, from being used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What is known of a picture beside its bytes."""

    license: str | None = None
    license_url: str | None = None
    author: str | None = None
    description_url: str | None = None
    is_passing: bool = False
    """Whoever knows did not answer: a later run may know more."""


@runtime_checkable
class Fetcher(Protocol):
    """Whatever can read pages and pictures; both raise FetchError."""

    def page(self, url: str) -> Fetched:
        """Return a page; asked again in the same run, it gives the same bytes."""
        ...

    def picture(
        self, url: str, *, etag: str | None = None, last_modified: str | None = None
    ) -> Fetched:
        """Return the bytes of a picture.

        With the etag or the date of a copy that the caller has, a picture that has not changed is
        told by status 304 and an empty body.
        """
        ...

    def picture_facts(self, page_url: str, urls: Sequence[str]) -> dict[str, PictureFacts]:
        """Return what is known of the pictures of a page, by address; raises no FetchError."""
        ...


def page_row(fetched: Fetched) -> dict[str, Any]:
    """Return the row of `pages` of what an address gave."""
    content = bytes_id(fetched.body)
    return {
        "id": page_id(fetched.final_url, content),
        "url": fetched.url,
        "final_url": fetched.final_url,
        "page_id": fetched.page_id,
        "revision": fetched.revision,
        "status": fetched.status,
        "content_sha256": content,
        "title": fetched.title,
        "language": fetched.language,
        "fetched_at": fetched.fetched_at,
        "license": fetched.license,
    }


class CorpusFetcher:
    """Pages and pictures of the embedded corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def page(self, url: str) -> Fetched:
        """Return a page of the corpus."""
        page = self._corpus.page(url)
        if page is None:
            raise FetchError("missing", f"the corpus has no page {url}")
        body = self._corpus.read_page(url)
        return self._fetched(url, body, title=page.title, language=page.language)

    def picture(
        self, url: str, *, etag: str | None = None, last_modified: str | None = None
    ) -> Fetched:
        """Return a picture of the corpus, always with its bytes."""
        try:
            return self._fetched(url, self._corpus.read_picture(url))
        except CorpusMiss as error:
            raise FetchError("missing", str(error.args[0] if error.args else error)) from None

    def picture_facts(self, page_url: str, urls: Sequence[str]) -> dict[str, PictureFacts]:
        """Return the corpus's own licence and author for all its pictures."""
        facts = PictureFacts(
            license=self._corpus.license,
            license_url=self._corpus.license_url,
            author=self._corpus.author,
        )
        return dict.fromkeys(urls, facts)

    def _fetched(self, url: str, body: bytes, **known: str) -> Fetched:
        return Fetched(
            url=url,
            final_url=url,
            status=200,
            body=body,
            fetched_at=self._corpus.date,
            license=self._corpus.license,
            license_url=self._corpus.license_url,
            author=self._corpus.author,
            **known,
        )
