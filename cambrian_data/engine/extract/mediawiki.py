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
    for page in pages.values() if isinstance(pages, Mapping) else _list(pages):
        if isinstance(page, Mapping):
            for revision in _list(page.get("revisions")):
                if found := _titled(page, _content(revision)):
                    return found
    return None


def _titled(page: Mapping[str, Any], html: str | None) -> tuple[str, str] | None:
    return (str(page.get("title") or ""), html) if html else None


def _content(value: Any, levels: int = 3) -> str | None:
    """Return the text that a value holds directly or under `*`, `content` or `slots.main`."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping) or not levels:
        return None
    slots = value.get("slots")
    main = slots.get("main") if isinstance(slots, Mapping) else None
    for inner in (value.get("*"), value.get("content"), main):
        if (found := _content(inner, levels - 1)) is not None:
            return found
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
