"""From what a service answers to hits: addresses checked, each once, ranks without a gap.

A backend gives pages of results, asked for one by one; reading stops as soon as there are enough
hits, or when a page has nothing new.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cambrian_data.engine.search.backend import Hit, is_on_site

_EMPHASIS = re.compile(r"</?(?:b|br|em|i|mark|span|strong|wbr)(?:\s[^<>]*)?/?>", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Result:
    """One result as a service gave it."""

    url: str
    title: str
    snippet: str


def result_of(found: dict[str, Any], url: str, title: str, snippet: str) -> Result:
    """Return a result from the named members of an answer; what is no text becomes empty."""
    values = [found.get(key) for key in (url, title, snippet)]
    texts = [value if isinstance(value, str) else "" for value in values]
    return Result(texts[0].strip(), plain_text(texts[1]), plain_text(texts[2]))


def plain_text(text: str) -> str:
    """Return a title or snippet without the tags that mark words, entities and line breaks."""
    return " ".join(html.unescape(_EMPHASIS.sub("", text)).split())


def members(data: Any, *path: str) -> list[dict[str, Any]]:
    """Return the objects in the list at a path of an answer; none where there is no such list."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def collect_hits(pages: Iterable[Sequence[Result]], limit: int, site: str = "") -> list[Hit]:
    """Read pages of results until there are `limit` hits, or a page has nothing new.

    Args:
        pages: the results of each page; the next one is asked for only when it is needed.
        limit: hits that are wanted; refused ones do not count.
        site: hits elsewhere are left out.
    """
    hits: list[Hit] = []
    seen: set[str] = set()
    rank = 0
    for page in pages:
        before = len(seen)
        for result in page:
            url, refused = _check_url(result.url)
            if url in seen:
                continue
            seen.add(url)
            if not refused and not is_on_site(url, site):
                continue
            rank += not refused
            hits.append(
                Hit(
                    rank=0 if refused else rank,
                    url=url,
                    title=result.title,
                    snippet=result.snippet,
                    refused=refused,
                )
            )
            if rank == limit:
                return hits
        if len(seen) == before:
            break
    return hits


def _check_url(url: str) -> tuple[str, str]:
    """Return the address in its usual spelling, and why it cannot be fetched (or nothing).

    The part after `#` goes: it is never sent, so it names no other page.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return url, f"no address: {error}"
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        return url, "not an http or https address"
    if not host or re.search(r"[\s<>\"\\]", parts.netloc):
        return url, "an address without a host"
    user, at, place = parts.netloc.rpartition("@")
    place = place.lower()
    if port == _DEFAULT_PORTS[scheme]:
        place = place.rpartition(":")[0]
    return urlunsplit((scheme, user + at + place, parts.path or "/", parts.query, "")), ""
