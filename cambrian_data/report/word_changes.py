"""What two texts differ in, word by word, for copies that are shown side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

MAX_WORDS = 1_200
"""Words of a text that are compared; the comparison takes time in proportion to their square."""
_CONTEXT = 10
"""Words that are shown before and after a difference; more equal ones become an ellipsis."""
_SPACED_WORDS = re.compile(r"\s*\S+")

Piece = dict[str, Any]
"""`text`, and `is_changed` where the other text does not have it."""


def changes(left: str, right: str, limit: int = 900) -> tuple[list[Piece], list[Piece]]:
    """Return both texts in pieces; what the other one lacks is marked, long equal parts are cut.

    Args:
        limit: characters of each text that are shown.
    """
    left_words = _SPACED_WORDS.findall(left)[:MAX_WORDS]
    right_words = _SPACED_WORDS.findall(right)[:MAX_WORDS]
    matcher = SequenceMatcher(None, _bare(left_words), _bare(right_words), autojunk=False)
    ours: list[Piece] = []
    theirs: list[Piece] = []
    operations = matcher.get_opcodes()
    for place, (kind, i0, i1, j0, j1) in enumerate(operations):
        if kind == "equal":
            edges = (place > 0, place < len(operations) - 1)
            _add(ours, _cut(left_words[i0:i1], *edges), False)
            _add(theirs, _cut(right_words[j0:j1], *edges), False)
        else:
            _add(ours, "".join(left_words[i0:i1]), True)
            _add(theirs, "".join(right_words[j0:j1]), True)
    return _limited(ours, limit), _limited(theirs, limit)


def _bare(words: Sequence[str]) -> list[str]:
    return [word.strip() for word in words]


def _add(pieces: list[Piece], text: str, is_changed: bool) -> None:
    if text:
        pieces.append({"text": text, "is_changed": is_changed})


def _cut(words: Sequence[str], has_before: bool, has_after: bool) -> str:
    """Return equal words; of a long run only those next to a difference."""
    head = _CONTEXT if has_before else 0
    tail = _CONTEXT if has_after else 0
    if not head and not tail:  # no difference at all: the whole text is worth its place
        return "".join(words)
    if len(words) <= head + tail + 5:
        return "".join(words)
    return "".join(words[:head]) + " [...] " + "".join(words[len(words) - tail :]).lstrip()


def _limited(pieces: list[Piece], limit: int) -> list[Piece]:
    """Return pieces up to a number of characters, with a mark where they were cut."""
    shown: list[Piece] = []
    left = limit
    for piece in pieces:
        if left <= 0:
            shown.append({"text": " [...]", "is_changed": False})
            break
        shown.append(piece | {"text": piece["text"][:left]})
        left -= len(piece["text"])
    return shown
