"""Names of fields, subfields and topics: cleaned of list marks, compared, split.

People and language models number their lists, put names into quotes or bold, and end them with a
comma; a name is what is left. A number is cut only where the whole list is numbered, since
`2. Weltkrieg` and `3D printing` begin with one by right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MAX_NAME = 100
"""Characters of the longest name; what is longer is a sentence."""
_BULLET = re.compile(
    r"^(?:[-*+\u2013\u2014\u2212](?=\s|[^\W\d_])|[\u2022\u2023\u25e6\u25aa\u00b7])\s*"
)
_UNSEEN = re.compile(
    "[\u200b\u200e\u200f\u2060\ufeff\u00ad" r"\ud800-\udfff\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"
)
_CHECKBOX = re.compile(r"^\[[ xX]\]\s+")
_NUMBER = re.compile(
    r"^[*_]{0,2}[(\[]?(\d{1,3})(?:\.\d{1,3})*(?:[.)\]:]\s+|[.)](?=[^\W\d_])|\s+[-\u2013\u2014]\s+)"
    r"|^[*_]{0,2}(?:topic|subfield|field|area|category|item)\s*#?(\d{1,3})\s*[:.)\u2013\u2014-]\s*",
    re.IGNORECASE,
)
_LINK = re.compile(r"\[([^\[\]]+)\]\([^()\s]*\)")
_MARKED = re.compile(r"(\*\*|__|`)(?=\S)(.+?)(?<=\S)\1")
_QUOTES = ('""', "''", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb", "``", "\u201e\u201c")
_BRACKETS = {"(": ")", "[": "]", "{": "}", "\uff08": "\uff09"}
_COMMAS = ",;\uff0c\u3001\uff1b"
_ALIKE = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


def clean_names(texts: Sequence[str]) -> list[str]:
    """Return the names that the items of one list hold, in order; empty where there is none."""
    bare = [_without_bullet(_tidy(text)) for text in texts]
    numbers = [found for text in bare if text and (found := _NUMBER.match(text))]
    filled = sum(1 for text in bare if text)
    is_long = len(numbers) > 2
    is_numbered = 0 < filled <= 2 * len(numbers) and (is_long or _first(numbers[0]) < 2)
    return [_bare_name(_NUMBER.sub("", text, count=1) if is_numbered else text) for text in bare]


def clean_name(text: str) -> str:
    """Return the name that a text holds which stands alone."""
    return _bare_name(_tidy(text))


def key_of(name: str) -> str:
    """Return what two spellings of a name have in common: no case, one kind of space and dash."""
    return " ".join(unicodedata.normalize("NFKC", name).translate(_ALIKE).casefold().split())


def split_names(text: str) -> list[str]:
    """Split at commas and semicolons that do not stand in brackets."""
    parts, part, open_brackets = [], "", []
    for sign in text:
        if sign in _BRACKETS:
            open_brackets.append(_BRACKETS[sign])
        elif open_brackets and sign == open_brackets[-1]:
            open_brackets.pop()
        if sign in _COMMAS and not open_brackets:
            parts.append(part)
            part = ""
        else:
            part += sign
    if open_brackets and not parts:  # a bracket that is never closed holds nothing together
        parts = re.split(f"[{_COMMAS}]", text)[:-1]
        part = re.split(f"[{_COMMAS}]", text)[-1]
    if parts:
        part = re.sub(r"^\s*(?:and|&)\s+", "", part)
    parts = [part for part in (*parts, part) if part.strip() and _is_name(part)]
    return [part for part in parts if part.strip().casefold().rstrip(".") not in ("etc", "")]


def _is_name(text: str) -> bool:
    return any(sign.isalnum() for sign in text)


def _tidy(text: str) -> str:
    """Return a text composed (NFC), without signs that cannot be seen, with single spaces."""
    return " ".join(_UNSEEN.sub("", unicodedata.normalize("NFC", text)).split())


def _is_quoted(text: str) -> bool:
    """Return whether a text stands in quotes as a whole: not so `"Big" and "small"`."""
    pair = f"{text[0]}{text[-1]}"
    is_apostrophe = pair == "''"
    return pair in _QUOTES and (is_apostrophe or sum(sign in pair for sign in text) == 2)


def _without_bullet(text: str) -> str:
    return _CHECKBOX.sub("", _BULLET.sub("", text, count=1), count=1)


def _first(found: re.Match[str]) -> int:
    return int(found[1] or found[2])


def _bare_name(text: str) -> str:
    """Return a tidy text without markdown, quotes around it and marks at its end."""
    text = _MARKED.sub(r"\2", _LINK.sub(r"\1", text))
    text = re.sub(r"^\*\*\s*|\s*\*\*$", "", text)  # half of a pair, the other half cut off
    before = None
    while text != before:
        before = text
        text = text.strip(f"{_COMMAS}: ")
        if len(text) > 2 and _is_quoted(text):
            text = text[1:-1]
        if text.endswith(".") and "." not in text.split()[-1][:-1]:  # but not that of `U.S.`
            text = text[:-1]
    return text if _is_name(text) else ""
