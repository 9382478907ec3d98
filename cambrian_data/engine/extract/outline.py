"""Every element of a page by its number in document order, for questions that would be searches.

What holds what, what stands around an element, how much prose it has: all answered from lists that
one pass over the page makes, so that no page can make the extraction walk it over and over.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right

from bs4 import BeautifulSoup, Tag
from bs4.element import CData, NavigableString

from cambrian_data.engine.extract.address import LAZY, PICTURE_FILE, lazy_addresses
from cambrian_data.engine.extract.text import classes

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_NAMED = frozenset(
    {"p", "img", "figure", "figcaption", "picture", "source", "table", "li", "dd", "article"}
    | {"main", "section", "header", "aside", "meta", "base", *HEADINGS}
)
_BY_CLASS = {
    "gallerytext": "caption",
    "thumbinner": "thumbinner",
    "thumbimage": "thumbimage",
    "mw-parser-output": "wiki",
    "mwe-math-element": "formula",
    "ltx_math": "formula",
}
_CAPTION_NAMES = frozenset(
    {"div", "p", "span", "dd", "small", "em", "cite", "td", "li", "h4", "h5", "h6"}
)
_CAPTION_CLASS = re.compile(
    r"(^|[-_])(captions?|legende?|leyenda|didascalia|cutline|onderschrift|bildunterschrift"
    r"|bildtext|imgdesc|imagecaption|photocaption)([-_]|$)|caption(text)?$"
)
_NO_CAPTION = re.compile(r"code|video|audio|table|title-caption|opener|gallerycaption")
_LAZY_NAMES = frozenset({"span", "div", "i"})
_TEXT_BLOCKS = frozenset({"div", "td", "section", "article", "main", "body", "center", "font"})
_LEAST_TEXT_CHARS = 80
"""A block with so much text outside of paragraphs holds prose itself."""


class Outline:
    """Answers about the elements of one page; kinds are tag names and what `_kinds` adds.

    Kinds: `wiki` (what MediaWiki has rendered), `body` (said to be the article), `thumbinner`,
    `thumbimage`, `formula`, `caption`, `infobox`, `lazy` (shows a picture once
    scrolled to), `image` (shows one) and `hidden` (may show one, in a figure that has no other).
    """

    def __init__(self, soup: BeautifulSoup) -> None:
        self._tags: list[Tag] = []
        self._number: dict[int, int] = {}
        self._parent: list[int] = []
        self._around: list[dict[str, int]] = []
        self._places: dict[str, list[int]] = {}
        self._chars: list[int] = []
        self._read(soup)
        self._own_chars = list(self._chars)
        self._prose = [0] * len(self._tags)
        self._end = list(range(1, len(self._tags) + 1))
        self._sum_up()
        lazy = [n for n in self._places.get("lazy", []) if not self.has(self._tags[n], "img")]
        self._places["image"] = sorted({*self._places.get("img", []), *lazy})

    def all(self, tag: Tag, kind: str) -> list[Tag]:
        """Return the elements of a kind inside an element, in their order."""
        places, first, last = self._span(tag, kind)
        return [self._tags[n] for n in places[first:last]]

    def first(self, tag: Tag, kind: str) -> Tag | None:
        """Return the first element of a kind inside an element."""
        places, first, last = self._span(tag, kind)
        return self._tags[places[first]] if first < last else None

    def count(self, tag: Tag, kind: str) -> int:
        """Return the number of elements of a kind inside an element."""
        _, first, last = self._span(tag, kind)
        return last - first

    def has(self, tag: Tag, *kinds: str) -> bool:
        """Tell whether an element of one of these kinds is inside an element."""
        return any(self.count(tag, kind) for kind in kinds)

    def is_a(self, tag: Tag, kind: str) -> bool:
        """Tell whether an element is of a kind."""
        places, n = self._places.get(kind, []), self._number[id(tag)]
        at = bisect_left(places, n)
        return at < len(places) and places[at] == n

    def around(self, tag: Tag, kind: str) -> Tag | None:
        """Return the nearest element of a kind that holds an element."""
        n = self._around[self._number[id(tag)]].get(kind)
        return None if n is None else self._tags[n]

    def holds(self, outer: Tag, inner: Tag) -> bool:
        """Tell whether an element stands inside another one."""
        start, n = self._number[id(outer)], self._number[id(inner)]
        return start < n < self._end[start]

    def number(self, tag: Tag) -> int:
        """Return the place of an element in document order."""
        return self._number[id(tag)]

    def numbers(self, tag: Tag) -> tuple[int, int]:
        """Return the number of an element and the one after the last element inside it."""
        n = self._number[id(tag)]
        return n, self._end[n]

    def prose(self, tag: Tag) -> int:
        """Return the number of characters in the paragraphs inside an element."""
        return self._prose[self._number[id(tag)]]

    def chars(self, tag: Tag) -> int:
        """Return the number of characters of text inside an element, blanks not counted."""
        return self._chars[self._number[id(tag)]]

    def is_text_block(self, tag: Tag) -> bool:
        """Tell whether an element that is no paragraph holds prose of its own."""
        if tag.name not in _TEXT_BLOCKS:
            return False
        return self._own_chars[self._number[id(tag)]] >= _LEAST_TEXT_CHARS

    def _span(self, tag: Tag, kind: str) -> tuple[list[int], int, int]:
        places, n = self._places.get(kind, []), self._number[id(tag)]
        return places, bisect_right(places, n), bisect_left(places, self._end[n])

    def _read(self, soup: BeautifulSoup) -> None:
        """Number the elements and note which stand where."""
        within: list[dict[str, int]] = []
        for node in itertools.chain([soup], soup.descendants):
            if not isinstance(node, Tag):
                if type(node) in (NavigableString, CData) and node.parent is not None:
                    self._chars[self._number[id(node.parent)]] += len(str(node).strip())
                continue
            n = len(self._tags)
            parent = self._number[id(node.parent)] if node.parent is not None else 0
            kinds = _kinds(node)
            around = within[parent] if n else {}
            self._tags.append(node)
            self._number[id(node)] = n
            self._parent.append(parent)
            self._around.append(around)
            self._chars.append(0)
            within.append(around | dict.fromkeys(kinds, n) if kinds else around)
            for kind in kinds:
                self._places.setdefault(kind, []).append(n)

    def _sum_up(self) -> None:
        """Carry ends, characters and prose from the innermost elements outwards."""
        for n in range(len(self._tags) - 1, 0, -1):
            parent, tag = self._parent[n], self._tags[n]
            self._end[parent] = max(self._end[parent], self._end[n])
            own = self._chars[n] if tag.name == "p" else 0
            if tag.name in _TEXT_BLOCKS and self._own_chars[n] >= _LEAST_TEXT_CHARS:
                own = self._own_chars[n]
            self._chars[parent] += self._chars[n]
            self._prose[parent] += self._prose[n] + own


def _kinds(tag: Tag) -> set[str]:
    name = tag.name
    kinds = {name} if name in _NAMED else set()
    attributes = tag.attrs
    if name == "figcaption":
        kinds.add("caption")
    if not attributes:
        return kinds
    if "id" in attributes and attributes["id"] == "mw-content-text":
        kinds.add("wiki")
    if attributes.get("role") == "main" or attributes.get("itemprop") == "articleBody":
        kinds.add("body")
    names = classes(tag)
    if names:
        kinds.update(_BY_CLASS[one] for one in names if one in _BY_CLASS)
        if any("infobox" in one for one in names):
            kinds.add("infobox")
    if name in _CAPTION_NAMES and _is_caption(attributes, names):
        kinds.add("caption")
    if name in _LAZY_NAMES:
        if any(PICTURE_FILE.search(str(attributes[a])) for a in LAZY if a in attributes):
            kinds.add("lazy")
        elif lazy_addresses(tag):
            kinds.add("hidden")
    elif name == "amp-img" or (
        name == "object" and str(attributes.get("type") or "").startswith("image/")
    ):
        kinds.add("lazy")
    return kinds


def _is_caption(attributes: dict, names: list[str]) -> bool:
    if "caption" in str(attributes.get("itemprop") or "").lower():
        return True
    return any(_CAPTION_CLASS.search(n) and not _NO_CAPTION.search(n) for n in names)
