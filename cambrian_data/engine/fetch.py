"""Fetching: from an address to the bytes behind it, through one small protocol.

`CorpusFetcher` reads the embedded pages and pictures; its pages carry the corpus's own date. A
page that cannot be had is a `FetchError` with a reason, which becomes a row of `drops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from cambrian_data.engine.corpus import Corpus, CorpusMiss
from cambrian_data.records import bytes_id, drop, page_id

FETCH_VERSION = "1"


class FetchError(Exception):
    """An address that gave nothing; `reason` is one of DROP_REASONS['fetch']."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


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


@runtime_checkable
class Fetcher(Protocol):
    """Whatever can read pages and pictures. Both raise FetchError."""

    def page(self, url: str) -> Fetched:
        """Return a page; asked again in the same run, it gives the same bytes."""
        ...

    def picture(self, url: str) -> Fetched:
        """Return the bytes of a picture and, where known, its licence and author."""
        ...


def fetch_pages(
    urls: Sequence[str], fetcher: Fetcher
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Fetch pages; return rows of `pages` and of `drops`, in the order of the addresses."""
    pages, drops = [], []
    for url in urls:
        try:
            pages.append(_page_row(fetcher.page(url)))
        except FetchError as error:
            drops.append(drop("fetch", url, error.reason, detail=error.detail))
    return pages, drops


def _page_row(fetched: Fetched) -> dict[str, Any]:
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
        page = self._corpus.page(url)
        if page is None:
            raise FetchError("missing", f"the corpus has no page {url}")
        body = self._corpus.read_page(url)
        return self._fetched(url, body, title=page.title, language=page.language)

    def picture(self, url: str) -> Fetched:
        try:
            return self._fetched(url, self._corpus.read_picture(url))
        except CorpusMiss as error:
            raise FetchError("missing", str(error.args[0] if error.args else error)) from None

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
