"""Every element of a page by its number in document order, for questions that would be searches.

What holds what, what stands around an element, how much prose it has: all answered from lists that
one pass over the page makes, so that no page can make the extraction walk it over and over.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from typing import Any

from bs4 import BeautifulSoup, Tag
from bs4.element import CData, NavigableString

from cambrian_data.engine.extract.address import LAZY
from cambrian_data.engine.extract.text import classes

_NAMED = frozenset(
    {"p", "img", "figure", "figcaption", "picture", "source", "table", "li", "dd", "article"}
    | {"h1", "h2", "h3", "h4", "h5", "h6"}
)
_BY_CLASS = {
    "tsingle": "part",
    "gallerybox": "part",
    "blocks-gallery-item": "part",
    "gallerytext": "gallerytext",
    "gallerycaption": "gallerytext",
    "thumbinner": "thumbinner",
    "thumbimage": "thumbimage",
    "mwe-math-element": "formula",
}
_CAPTION_NAMES = frozenset({"div", "p", "span", "dd", "small", "em", "cite", "td", "li"})
_CAPTION_CLASS = re.compile(r"(^|[-_])(caption|captions|legend|bildunterschrift|imagecaption)"
                            r"([-_]|$)|caption(text)?$")  # fmt: skip
_NO_CAPTION = re.compile(r"code|video|audio|table|title-caption|opener")
_LAZY_NAMES = ("span", "div", "amp-img")
_PICTURE_FILE = re.compile(r"\.(jpe?g|png|gif|svg|webp|avif|tiff?)([?/]|$)", re.IGNORECASE)


class Outline:
    """Answers about the elements of one page; kinds are tag names and what `_kinds` adds.

    Kinds: `part` (one of several pictures), `gallerytext`, `thumbinner`, `thumbimage`, `formula`,
    `caption`, `lazy` (may show a picture once scrolled to) and `image` (does show one).
    """

    def __init__(self, soup: BeautifulSoup) -> None:
        self._tags: list[Tag] = []
        self._number: dict[int, int] = {}
        self._parent: list[int] = []
        self._around: list[dict[str, int]] = []
        self._places: dict[str, list[int]] = {}
        self._chars: list[int] = []
        self._read(soup)
        self._prose = [0] * len(self._tags)
        self._end = list(range(1, len(self._tags) + 1))
        self._sum_up()
        lazy = [n for n in self._places.get("lazy", []) if not self.has(self._tags[n], "img")]
        self._places["image"] = sorted(self._places.get("img", []) + lazy)
        self._other_src = self._runs()

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

    def prose(self, tag: Tag) -> int:
        """Return the number of characters in the paragraphs inside an element."""
        return self._prose[self._number[id(tag)]]

    def shows_other_picture(self, tag: Tag, src: Any) -> bool:
        """Tell whether an element holds an img with another `src` than this."""
        places, first, last = self._span(tag, "img")
        if first == last:
            return False
        return self._tags[places[first]].get("src") != src or self._other_src[first] < last

    def _span(self, tag: Tag, kind: str) -> tuple[list[int], int, int]:
        places, n = self._places.get(kind, []), self._number[id(tag)]
        return places, bisect_right(places, n), bisect_left(places, self._end[n])

    def _read(self, soup: BeautifulSoup) -> None:
        """Number the elements and note which stand where."""
        within: list[dict[str, int]] = []
        for node in itertools.chain([soup], soup.descendants):
            if not isinstance(node, Tag):
                if type(node) in (NavigableString, CData) and node.parent is not None:
                    self._chars[self._number[id(node.parent)]] += len(str(node))
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
            parent = self._parent[n]
            self._end[parent] = max(self._end[parent], self._end[n])
            self._chars[parent] += self._chars[n]
            own = self._chars[n] if self._tags[n].name == "p" else 0
            self._prose[parent] += self._prose[n] + own

    def _runs(self) -> list[int]:
        """Return, for each img, the place of the next img with another `src`."""
        images = self._places.get("img", [])
        runs = [len(images)] * len(images)
        for i in range(len(images) - 2, -1, -1):
            same = self._tags[images[i]].get("src") == self._tags[images[i + 1]].get("src")
            runs[i] = runs[i + 1] if same else i + 1
        return runs


def _kinds(tag: Tag) -> set[str]:
    kinds = {tag.name} if tag.name in _NAMED else set()
    names = classes(tag)
    kinds.update(_BY_CLASS[name] for name in names if name in _BY_CLASS)
    if tag.name == "figcaption" or (
        tag.name in _CAPTION_NAMES
        and any(_CAPTION_CLASS.search(n) and not _NO_CAPTION.search(n) for n in names)
    ):
        kinds.add("caption")
    if tag.name in _LAZY_NAMES and any(_PICTURE_FILE.search(str(tag.get(a) or "")) for a in LAZY):
        kinds.add("lazy")
    return kinds
