"""The HTML inside a JSON answer of a MediaWiki API.

Known shapes: `action=parse` in both format versions (`text` is a string or `{"*": string}`), and
`action=query` with `rvparse` (`pages` is a list or a mapping, a revision holds `*`, `content` or
`slots.main`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def html_of_api_answer(data: Any) -> tuple[str, str] | None:
    """Return (title, HTML) of an API answer, None where it holds no rendered page."""
    if not isinstance(data, Mapping):
        return None
    if isinstance(data.get("parse"), Mapping):
        return _titled(data["parse"], _content(data["parse"].get("text")))
    query = data.get("query")
    pages = query.get("pages") if isinstance(query, Mapping) else None
    for page in pages.values() if isinstance(pages, Mapping) else pages or []:
        if isinstance(page, Mapping):
            for revision in page.get("revisions") or []:
                if found := _titled(page, _content(revision)):
                    return found
    return None


def _titled(page: Mapping[str, Any], html: str | None) -> tuple[str, str] | None:
    return (str(page.get("title") or ""), html) if html else None


def _content(value: Any) -> str | None:
    """Return the text that a value holds directly or under `*`, `content` or `slots.main`."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        return None
    slots = value.get("slots")
    for inner in (value.get("*"), value.get("content"), slots and slots.get("main")):
        if (found := _content(inner)) is not None:
            return found
    return None
