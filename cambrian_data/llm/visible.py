"""Text of others without what nobody sees in it: controls, marks of writing direction, tags.

What a server or a model says goes into messages and tables; a sequence that moves the cursor of a
terminal or turns the reading direction has no place there.
"""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""Needed to write Persian and Hindi, and in emoji."""


def is_seen(character: str) -> bool:
    """Whether a character is white space, or can be seen by itself, or joins two that can."""
    if character.isspace() or character in _JOINERS:
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs")


def only_seen(text: str) -> str:
    """Return a text without the characters that nobody sees."""
    if text.isprintable():
        return text
    return "".join(character for character in text if is_seen(character))


def one_line(text: str, max_characters: int) -> str:
    """Return a text for a message: one line, only what is seen, and not longer than that."""
    # White space shrinks: read a little more than is kept, but never all of a long text.
    return " ".join(only_seen(text[: 4 * max_characters]).split())[:max_characters].rstrip()
