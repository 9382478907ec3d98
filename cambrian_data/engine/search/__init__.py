"""Search: from a topic to ranked addresses, through one small protocol.

Backends: the embedded corpus, MediaWiki, Google Custom Search, Brave, SearXNG (`choose.py`).
`search_topics` is the stage: rows of `hits`, and a row of `drops` for whatever came to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cambrian_data.engine.search.backend import (
    Hit,
    SearchBackend,
    SearchConfig,
    SearchUnavailable,
)
from cambrian_data.engine.search.choose import (
    BACKENDS,
    backend_name,
    choose_backend,
    service_addresses,
)
from cambrian_data.engine.search.corpus import CorpusSearch
from cambrian_data.engine.search.mediawiki import mediawiki_api
from cambrian_data.records import drop

__all__ = [
    "BACKENDS",
    "SEARCH_VERSION",
    "CorpusSearch",
    "Hit",
    "SearchBackend",
    "SearchConfig",
    "SearchUnavailable",
    "Searched",
    "backend_name",
    "choose_backend",
    "mediawiki_api",
    "search_topics",
    "service_addresses",
]

SEARCH_VERSION = "2"
Rows = list[dict[str, Any]]


class Searched(NamedTuple):
    """What the search for some topics gave."""

    hits: Rows
    drops: Rows
    num_passing: int
    """Topics that a later run may find something for: the backend could not answer."""


def search_topics(
    topics: Sequence[dict[str, Any]], backend: SearchBackend, config: SearchConfig
) -> Searched:
    """Search for each topic.

    Returns:
        Rows of `hits`; rows of `drops` for topics without a hit and for hits that cannot be
        fetched; the number of topics that are worth another try.
    Raises:
        UserError: the backend refuses the user's key, or its address is wrong.
    """
    hits: Rows = []
    drops: Rows = []
    num_passing = 0
    for topic in topics:
        query = config.query_of(
            topic["topic"], topic.get("field") or "", topic.get("subfield") or ""
        )
        try:
            found = backend.search(query, limit=config.hits_per_topic)
        except SearchUnavailable as fault:
            num_passing += 1
            reason = "quota" if fault.is_quota else "unavailable"
            drops.append(drop("search", topic["id"], reason, detail=fault.detail, raw=query))
            continue
        rows = [_hit_row(topic["id"], backend.name, query, hit) for hit in found if not hit.refused]
        hits += rows
        drops += [_refused_row(topic["id"], hit) for hit in found if hit.refused]
        if not rows:
            detail = f"{backend.name} has no page for the query {query!r}"
            drops.append(drop("search", topic["id"], "no_hits", detail=detail, raw=query))
    return Searched(hits, drops, num_passing)


def _hit_row(topic: str, backend: str, query: str, hit: Hit) -> dict[str, Any]:
    return {
        "topic_id": topic,
        "backend": backend,
        "query": query,
        "rank": hit.rank,
        "url": hit.url,
        "title": hit.title,
        "snippet": hit.snippet,
    }


def _refused_row(topic: str, hit: Hit) -> dict[str, Any]:
    return drop(
        "search", topic, "bad_address", detail=hit.refused, source=hit.url, raw=hit.title or None
    )
