"""Which caption belongs to a picture: by the smallest element that holds both, or as its neighbour.

A caption is an element that says so (figcaption, a class, itemprop), or, right after a picture that
stands alone, a paragraph that begins with "Figure 1" or is all emphasised, or the table row below.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable

from bs4 import PageElement, Tag
from bs4.element import PreformattedString

from cambrian_data.engine.extract.address import PICTURE_FILE
from cambrian_data.engine.extract.outline import HEADINGS, Outline
from cambrian_data.engine.extract.prose import num_words
from cambrian_data.engine.extract.text import classes, is_silent, plain_text

_ENDS_NEARNESS = ("p", "table", "h1", "h2", "h3", "h4")
_FIGURE_NUMBER = re.compile(
    r"(fig(ure|ura|uur|\.)?|abb(ildung|\.)?|image|photo|foto|bild|plate|chart|diagram|map|plot"
    r"|kuva|slika|rysunek|rys\.|obr(\u00e1zek|\.)?|\u0440\u0438\u0441(\u0443\u043d\u043e\u043a|\.)?"
    r"|\u03b5\u03b9\u03ba\u03cc\u03bd\u03b1|\u0634\u0643\u0644|\u56fe|\u5716|\u56f3|\uadf8\ub9bc)"
    r"\s{0,3}\d{1,3}(\.\d{1,2})?[a-z]?\s{0,2}[.:)\u2013\u2014|\uff1a-]",
    re.IGNORECASE,
)
_STRONG = frozenset({"b", "strong"})
_EMPHASIS = frozenset({"em", "i", "small", "cite", "sub"})
_MAX_NEIGHBOUR_CHARS = 600
_MAX_ROW_CHARS = 600
_MIN_ROW_WORDS = 2
_MAX_CLIMB = 6
_MAX_LINKS = 50
_INFOBOX = re.compile(r"infobox|taxobox|biota|sinottico|(^|[-_])ficha|vcard|infotable")


class Captions:
    """The captions of one page."""

    def __init__(self, outline: Outline, is_picture_in: Callable[[Tag], bool]) -> None:
        """Take the outline, and what tells whether an element holds a picture that is no icon."""
        self._outline, self._is_picture_in = outline, is_picture_in
        self._texts: dict[int, str] = {}
        self._taken: set[int] = set()
        self._tags: list[Tag] = []
        self._numbers: list[int] = []

    def read(self, page: Tag) -> None:
        """Note the captions of a page: the outermost of those that hold no picture themselves."""
        end = 0
        for tag in self._outline.all(page, "caption"):
            number, after = self._outline.numbers(tag)
            if number < end:
                continue
            if tag.name == "figcaption" or self._is_text_only(tag):
                self._tags.append(tag)
                self._numbers.append(number)
                end = after

    def is_taken(self, tag: Tag) -> bool:
        """Tell whether an element is a caption, so that it is no prose."""
        return id(tag) in self._taken or self._outline.is_a(tag, "caption")

    def text(self, tag: Tag) -> str:
        """Return the text of a caption; many pictures may share one."""
        if id(tag) not in self._texts:
            self._texts[id(tag)] = plain_text(tag)
        return self._texts[id(tag)]

    def is_in_one(self, tag: Tag) -> bool:
        """Tell whether an element stands inside a caption."""
        number = self._outline.number(tag)
        at = bisect_right(self._numbers, number) - 1
        return at >= 0 and self._outline.holds(self._tags[at], tag)

    def inside(self, tag: Tag) -> list[Tag]:
        """Return the captions inside an element."""
        first, after = self._outline.numbers(tag)
        return self._tags[bisect_right(self._numbers, first) : bisect_left(self._numbers, after)]

    def of_figure(self, figure: Tag, images: list[Tag]) -> dict[int, str]:
        """Return the caption of each image of a figure by the image's id.

        Each caption belongs to the smallest element around it that holds an image, and each image
        takes that of the smallest such element around itself.
        """
        numbers = sorted(self._outline.number(image) for image in images)
        scopes: dict[int, list[Tag]] = {}
        for caption in self.inside(figure):
            if self.text(caption):
                for parent in caption.parents:
                    if parent is figure or self._first_in(parent, numbers) is not None:
                        scopes.setdefault(id(parent), []).append(caption)
                        break
        return {id(image): self._chosen(image, figure, scopes, numbers) for image in images}

    def _first_in(self, tag: Tag, numbers: list[int]) -> int | None:
        """Return the first of some numbers that is that of an element inside an element."""
        first, after = self._outline.numbers(tag)
        at = bisect_right(numbers, first)
        return numbers[at] if at < len(numbers) and numbers[at] < after else None

    def _chosen(
        self, image: Tag, figure: Tag, scopes: dict[int, list[Tag]], numbers: list[int]
    ) -> str:
        """Return the caption after an image, or before it where captions stand above."""
        for parent in image.parents:
            if captions := scopes.get(id(parent)):
                number = self._outline.number
                at = bisect_left(captions, number(image), key=number)
                first = self._first_in(parent, numbers)
                is_above = first is not None and number(captions[0]) < first
                return self.text(captions[at - 1 if is_above or at == len(captions) else at])
            if parent is figure:
                break
        return ""

    def leads_away(self, figure: Tag, images: list[Tag]) -> bool:
        """Tell whether picture and caption of a figure link to the same other page."""
        hrefs = {_href_around(image, figure) for image in images} - {""}
        if not hrefs:
            return False
        links = (link for caption in self.inside(figure) for link in caption.find_all("a"))
        return any(
            link.get("href") in hrefs and not _is_in_tool(link, figure)
            for link in itertools.islice(links, _MAX_LINKS)
        )

    def near(self, image: Tag, stop: Tag, shows_other: Callable[[Tag], bool]) -> str:
        """Return the caption in the smallest element around a picture that has one."""
        for depth, parent in enumerate(image.parents):
            if depth >= _MAX_CLIMB or parent is stop or parent.name in ("body", "article", "main"):
                break
            if shows_other(parent):
                break
            first, after = self._outline.numbers(parent)
            at = bisect_right(self._numbers, first)
            num_captions = bisect_left(self._numbers, after) - at
            if num_captions:
                return self.text(self._tags[at]) if num_captions == 1 else ""
            if self._outline.has(parent, *_ENDS_NEARNESS):
                break
        return ""

    def after(self, picture: Tag, stop: Tag) -> str:
        """Return the caption that follows a picture which stands alone in its block."""
        node = picture
        for _ in range(_MAX_CLIMB):
            following = _next(node)
            if following is not None:
                return self._of_neighbour(following, node)
            parent = node.parent
            if parent is None or parent is stop or parent.name in ("body", "article", "main"):
                return ""
            if self._outline.chars(parent) - self._outline.chars(node) > 0:
                return ""
            node = parent
        return ""

    def _of_neighbour(self, node: PageElement, before: Tag) -> str:
        if not isinstance(node, Tag) or self._outline.chars(node) > _MAX_NEIGHBOUR_CHARS:
            return ""
        if node.name in HEADINGS or self._is_picture_in(node):
            return ""
        if self._outline.is_a(node, "caption"):
            return self._take(node)
        inner = self.inside(node)
        if len(inner) == 1 and self._outline.chars(inner[0]) == self._outline.chars(node):
            return self._take(inner[0])
        if node.name == "tr":
            return self._of_row(node, before)
        if node.name in ("p", "div", "center") and _is_all_in(node, _EMPHASIS):
            return self._take(node)
        if node.name in _EMPHASIS and _next(node) is None:
            return self._take(node)
        if node.name in ("p", "div", "center", "span") and _FIGURE_NUMBER.match(plain_text(node)):
            return self._take(node)
        return ""

    def _of_row(self, row: Tag, before: Tag) -> str:
        """Return the text of the only cell in the row below the only cell with a picture."""
        cells = [_cells(row), _cells(before) if before.name == "tr" else []]
        if any(len(found) != 1 or found[0].name != "td" for found in cells):
            return ""
        cell = cells[0][0]
        if _is_all_in(cell, _STRONG) or num_words(self.text(cell)) < _MIN_ROW_WORDS:
            return ""
        if self._outline.chars(row) > _MAX_ROW_CHARS or self._outline.has(row, "table"):
            return ""
        return self._take(cell)

    def in_infobox(self, cell: Tag) -> str:
        """Return the text of the cell of an infobox that shows one picture."""
        table = self._outline.around(cell, "table")
        if table is None or not any(_INFOBOX.search(name) for name in classes(table)):
            return ""
        row = cell.parent
        is_own = cell.name == "td" and row is not None and len(_cells(row)) == 1
        if not is_own or self._outline.chars(cell) > _MAX_ROW_CHARS:
            return ""
        return self.text(cell) if num_words(self.text(cell)) >= _MIN_ROW_WORDS else ""

    def _take(self, tag: Tag) -> str:
        self._taken.add(id(tag))
        return self.text(tag)

    def _is_text_only(self, tag: Tag) -> bool:
        return not self._is_picture_in(tag) and not self._outline.has(tag, "table")


def _is_all_in(block: Tag, names: frozenset[str]) -> bool:
    """Tell whether all the text of a block is in elements of these names."""
    inner = [node for node in block.contents if not _is_void(node)]
    return bool(inner) and all(isinstance(n, Tag) and n.name in names for n in inner)


def _href_around(image: Tag, figure: Tag) -> str:
    """Return the address of the page that a picture links to, empty for one of a picture file."""
    for tag in image.parents:
        if tag is figure:
            break
        if tag.name == "a":
            href = str(tag.attrs.get("href") or "")
            return "" if href.startswith("#") or PICTURE_FILE.search(href) else href
    return ""


def _is_in_tool(link: Tag, figure: Tag) -> bool:
    inside = itertools.takewhile(lambda tag: tag is not figure, link.parents)
    return any(is_silent(tag) for tag in inside)


def _cells(row: Tag) -> list[Tag]:
    return [cell for cell in row.children if isinstance(cell, Tag) and cell.name in ("td", "th")]


def _next(node: PageElement) -> PageElement | None:
    """Return the next sibling that a reader sees."""
    return next((one for one in node.next_siblings if not _is_void(one)), None)


def _is_void(node: PageElement) -> bool:
    if not isinstance(node, Tag):
        return isinstance(node, PreformattedString) or not str(node).strip()
    if node.name in ("br", "source", "wbr", "hr"):
        return True
    if node.name == "img":
        return False
    return is_silent(node) or (not node.contents and node.name in ("a", "span", "div", "p"))
