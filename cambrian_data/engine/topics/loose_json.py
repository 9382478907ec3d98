"""JSON as people and language models write it, read as far as it goes.

In fences or with prose around, with single or curly quotes, quotes within quotes, comments, bare
words, missing or surplus commas, and cut off at the end. Valid JSON is read as such. Objects come
as pairs, so that a key which stands twice loses nothing. Linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 50
START = re.compile(
    r"[{\[](?=\s*(?:[\"\u201c'{]|\[\s*[\"\u201c'\[{]))|\{(?=\s*(?:[\w-]+\s*:|//|/\*))"
)
"""Where a value begins in a text; brackets in prose do not look like this."""
_SPACE = re.compile(r"(?:[\s,;]|//[^\n]*|/\*.*?\*/|#[^\n]*)*", re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
_PLAIN = {closing: re.compile(rf"[^\\{closing}]*") for closing in _QUOTES.values()}
_AFTER = re.compile(r"[ \t\r]{0,40}(?:[,:\]}\n#]|//|/\*|(?<=[ \t])[\"'\u201c]|$)")
_BARE = re.compile(r"[^,\]}{\[:\n\"\u201c]+")
_COLON = re.compile(r"\s*(?::|=>|=)")
_ESCAPES = {"n": " ", "t": " ", "r": " ", "b": "", "f": " "}
_NOTHING = frozenset({"null", "none", "true", "false", "undefined", "nan", "...", "\u2026"})


class Pairs(list[tuple[str, Any]]):
    """An object: its keys and values in order."""


def values_of(text: str) -> Iterator[tuple[int, Any, list[tuple[int, str]]]]:
    """Yield the values in a text: its line (from 1), itself, and what is wrong with it by line."""
    strict = json.JSONDecoder(object_pairs_hook=Pairs)
    lines = _Lines(text)
    at = 0
    while found := START.search(text, at):
        faults: list[tuple[int, str]] = []
        try:
            value, at = strict.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            reader = _Reader(text, found.start())
            value, at = reader.value(0), max(reader.at, found.end())
            faults = [(lines.line_at(place), what) for place, what in reader.faults]
        yield lines.line_at(found.start()), value, faults


class Cut:
    """Stands for a value that was cut off before anything of it could be read."""


class _Lines:
    """The line of a place in a text; places must be asked for in rising order."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1

    def line_at(self, place: int) -> int:
        if place < self._at:
            return 1 + self._text.count("\n", 0, place)
        self._line += self._text.count("\n", self._at, place)
        self._at = place
        return self._line


class _Reader:
    """Reads one value; `faults` says where it had to guess or give up."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at
        self.faults: list[tuple[int, str]] = []

    def value(self, depth: int) -> Any:
        self._skip()
        sign = self._sign()
        if sign in ("{", "["):
            if depth >= MAX_DEPTH:
                self.faults.append((self.at, f"nested deeper than {MAX_DEPTH} levels"))
                self.at = len(self.text)
                return None
            self.at += 1
            return self._object(depth) if sign == "{" else self._array(depth)
        return self._string(_QUOTES[sign]) if sign in _QUOTES else self._bare()

    def _object(self, depth: int) -> Pairs | Cut:
        pairs = Pairs()
        while not self._is_closed("}"):
            before = self.at
            key = self.value(depth + 1)
            self._colon()
            value = self.value(depth + 1) if self._sign() not in ("}", "]") else None
            if isinstance(key, str):
                pairs.append((key, value))
            if self.at == before:
                self.at += 1
        return pairs if pairs or self._sign() else Cut()

    def _array(self, depth: int) -> list[Any] | Cut:
        items: list[Any] = []
        while not self._is_closed("]"):
            before = self.at
            item = self.value(depth + 1)
            if isinstance(item, str) and self._colon():  # ["Optics": [...]]
                item = Pairs([(item, self.value(depth + 1))])
            if item is not None and not isinstance(item, Cut):
                items.append(item)
            if self.at == before:
                self.at += 1
        return items if items or self._sign() else Cut()

    def _is_closed(self, closing: str) -> bool:
        self._skip()
        sign = self._sign()
        if sign == closing:
            self.at += 1
            return True
        if sign == "":
            if not self.faults or self.faults[-1][1] != "cut off":
                self.faults.append((self.at, "cut off"))
            return True
        if sign in ("}", "]"):  # closes something further out
            self.faults.append((self.at, f"{sign!r} where {closing!r} is missing"))
            return True
        return False

    def _string(self, closing: str) -> str | Cut:
        start = self.at
        self.at += 1
        parts: list[str] = []
        plain = _PLAIN[closing]
        while found := plain.match(self.text, self.at):
            parts.append(found[0])
            self.at = found.end()
            sign = self._sign()
            if sign == "\\":
                parts.append(self._escape())
            elif sign == "" or _AFTER.match(self.text, self.at + 1):
                break
            else:  # a quote that nothing follows which may follow a string stands within it
                parts.append(sign)
                self.at += 1
        if self._sign() == "":
            self.faults.append((start, "cut off"))
            return Cut()
        self.at += 1
        return "".join(parts)

    def _escape(self) -> str:
        sign = self.text[self.at + 1 : self.at + 2]
        code = self.text[self.at + 2 : self.at + 6]
        if sign == "u" and re.fullmatch("[0-9a-fA-F]{4}", code):
            self.at += 6
            return chr(int(code, 16)) if not 0xD800 <= int(code, 16) < 0xE000 else ""
        self.at += 2
        return _ESCAPES.get(sign, sign)

    def _bare(self) -> str | Cut | None:
        found = _BARE.match(self.text, self.at)
        if not found:
            return None if self._sign() else Cut()
        self.at = found.end()
        word = found[0].strip()
        return None if not word or word.lower() in _NOTHING else word

    def _colon(self) -> bool:
        found = _COLON.match(self.text, self.at)
        if found:
            self.at = found.end()
            self._skip()
        return bool(found)

    def _skip(self) -> None:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]

    def _sign(self) -> str:
        return self.text[self.at : self.at + 1]
