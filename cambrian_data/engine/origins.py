"""Which addresses are fetched, and where a figure comes from: topic, hit, page, picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from cambrian_data.engine.wiki_address import canonical_url

Row = dict[str, Any]


class Origins:
    """The best hit and the topic of every address that was found.

    An address that several topics led to counts for the topic that ranked it best, ties by topic
    id. Several spellings of one address count as one.
    """

    def __init__(self, topics: pa.Table, hits: pa.Table) -> None:
        self._topics = {row["id"]: row for row in topics.to_pylist()}
        self._hits: dict[str, Row] = {}
        for hit in hits.to_pylist():
            url = canonical_url(hit["url"])
            known = self._hits.get(url)
            if known is None or (hit["rank"], hit["topic_id"]) < (known["rank"], known["topic_id"]):
                self._hits[url] = hit

    def urls(self, limit: int | None) -> list[str]:
        """Return the addresses to fetch, each once, best rank first, ties by address."""
        return sorted(self._hits, key=lambda url: (self._hits[url]["rank"], url))[:limit]

    def join(
        self, pages: pa.Table, figures: pa.Table, images: pa.Table, *, seen: set[str]
    ) -> list[Row]:
        """Join each figure that has a picture to picture, page, hit and topic, sorted by id.

        Args:
            pages: rows of pages.
            figures: their figures.
            images: their pictures.
            seen: ids of figures joined before; the new ones are added. A figure that was met
                before, on the same page under another address, has `is_repeated` set.
        """
        page_of = {row["id"]: row for row in pages.to_pylist()}
        picture_of = {(row["sha256"], row["source_url"]): row for row in images.to_pylist()}
        joined = {}
        for figure in figures.to_pylist():
            if figure["image_sha256"] is None:
                continue
            page = page_of[figure["page_id"]]
            hit = self._hits[page["url"]]
            joined[figure["id"]] = {
                "figure": figure,
                "page": page,
                "hit": hit,
                "picture": picture_of[figure["image_sha256"], figure["image_url"]],
                "topic": self._topics[hit["topic_id"]],
                "is_repeated": figure["id"] in seen,
            }
        seen.update(joined)
        return [joined[figure] for figure in sorted(joined)]


def provenance(row: Mapping[str, Any], about: Mapping[str, Any]) -> Row:
    """Return where a figure's samples come from: page, picture, topic, search, writer."""
    page, picture, topic, hit = row["page"], row["picture"], row["topic"], row["hit"]
    return {
        "page_url": page["final_url"],
        "page_title": page["title"],
        "revision": page["revision"],
        "retrieved_at": page["fetched_at"],
        "license": picture["license"],
        "author": picture["author"],
        "topic": topic["topic"],
        "field": topic["field"],
        "subfield": topic["subfield"],
        "query": hit["query"],
        "hit_rank": hit["rank"],
        **about,
    }
