"""Texts of unknown origin, made fit to be shown: shortened, and free of signs that hide or turn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from cambrian_data.records import IMAGE_TOKEN

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters and those that turn the direction of a text; tab and newline stay."""


def shorten(text: str | None, limit: int) -> str:
    """Return at most `limit` characters of a text, with a mark where it was cut."""
    head = (text or "")[: limit + 1]
    cut = len(head) > limit
    return _UNSEEN.sub(" ", head[:limit]).strip() + (" ..." if cut else "")


def web_address(url: str | None) -> str | None:
    """Return an address that a reader may follow, or None.

    Only http and https with a host; `.invalid` hosts are those of the embedded corpus.
    """
    try:
        parts = urlsplit(url or "")
        host = parts.hostname
    except ValueError:
        return None
    is_web = parts.scheme in ("http", "https") and host and not _UNSEEN.search(url or "")
    return url if is_web and not str(host).endswith(".invalid") else None


def shown_text(text: str) -> str:
    """Return a turn's text without the mark of the picture and without unseen signs."""
    return _UNSEEN.sub(" ", text.replace(IMAGE_TOKEN, "")).strip()


def shown_turns(turns: Iterable[Mapping[str, str]], limit: int) -> list[dict[str, str]]:
    """Return turns as they are shown: shortened, without the mark of the picture."""
    return [
        {"from": turn["from"], "value": shorten(turn["value"].replace(IMAGE_TOKEN, ""), limit)}
        for turn in turns
    ]
