"""Pictures with their captions inside one element: figure, thumb, gallery box, infobox, group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from bs4 import Tag

from cambrian_data.engine.extract.address import Addresses, file_name, side_px
from cambrian_data.engine.extract.outline import Outline
from cambrian_data.engine.extract.text import classes, plain_text

MIN_SIDE_PX = 50
"""A loose picture that is drawn smaller is an icon, a flag or a bullet."""
_PREVIEW_PX = 100
_STATED = re.compile(
    r"/(?:max|fit|w|width|resize|c)[/_:=](\d{2,4})(?=[/,_:x.])|[?&]w(?:idth)?=(\d{1,9})(?!\d)"
)
_MATH = frozenset({"mwe-math-fallback-image-inline", "mwe-math-fallback-image-display", "tex"})
_ENDS_NEARNESS = ("h1", "h2", "h3", "h4", "p", "table")


class Shown(NamedTuple):
    """A picture as a page shows it."""

    url: str
    caption: str
    alt: str


class Pictures:
    """Finds the pictures of one page with their captions."""

    def __init__(self, outline: Outline, base: str) -> None:
        self._outline = outline
        self._addresses = Addresses(base, outline)
        self._texts: dict[int, str] = {}

    def is_figure(self, tag: Tag) -> bool:
        """Tell whether an element is a picture (or some) with the caption."""
        if tag.name == "figure":
            return True
        if tag.name not in ("div", "li", "dl", "table", "span"):
            return False
        names = classes(tag)
        if "gallerybox" in names or "wp-caption" in names:
            return True
        if "thumb" in names:
            return any(n in ("tright", "tleft", "tnone", "center", "tmulti") for n in names) or (
                self._outline.has(tag, "thumbinner")
            )
        return tag.name == "div" and "figure" in names and self._outline.has(tag, "img")

    def of_figure(self, figure: Tag) -> Iterator[Shown]:
        """Yield the pictures of a figure, each with its own caption or else with the group's."""
        group = self._group_caption(figure)
        for part in self._parts(figure):
            yield from self._shown(part, self._own_caption(part) or group)

    def loose(self, image: Tag, stop: Tag) -> Shown | None:
        """Return a picture that stands in no figure, with the caption near to it, if any."""
        url = self._usable(image)
        side = side_px(image)
        if url is None or (side is not None and side < MIN_SIDE_PX):
            return None
        return Shown(url, self._caption_near(image, stop), _alt(image))

    def _parts(self, figure: Tag) -> list[Tag]:
        """Return the innermost elements that hold one picture each, or the figure itself."""
        outline = self._outline
        parts = outline.all(figure, "part") or outline.all(figure, "figure")
        return [tag for tag in parts if not outline.has(tag, "part", "figure")] or [figure]

    def _group_caption(self, figure: Tag) -> str:
        outline = self._outline
        if figure.name == "figure":
            for child in outline.all(figure, "figcaption"):
                if outline.around(child, "figure") is figure:
                    return self._text(child)
        for tag in outline.all(figure, "caption"):
            part = outline.around(tag, "part")
            if part is None or not outline.holds(figure, part):
                return self._text(tag)
        return ""

    def _own_caption(self, part: Tag) -> str:
        for kind in ("gallerytext", "figcaption", "caption"):
            if (found := self._outline.first(part, kind)) is not None:
                return self._text(found)
        return ""

    def _shown(self, part: Tag, caption: str) -> Iterator[Shown]:
        """Yield the distinct pictures of an element; of several sizes of one, the largest."""
        found: dict[str, tuple[int, Shown]] = {}
        for image in self._outline.all(part, "image"):
            url = self._usable(image)
            if url is None or self._outline.around(image, "figcaption") is not None:
                continue
            size = _stated_px(url) or side_px(image) or 0
            name = file_name(url)
            if name not in found or found[name][0] < size:
                found[name] = (size, Shown(url, caption, _alt(image)))
        all_count = len(found) == 1 or self._outline.has(part, "thumbimage")
        for size, shown in found.values():
            if all_count or size == 0 or size >= _PREVIEW_PX:
                yield shown

    def _usable(self, image: Tag) -> str | None:
        """Return the address of an image that is no formula, tracker or placeholder."""
        is_formula = self._outline.around(image, "formula") is not None
        if is_formula or not _MATH.isdisjoint(classes(image)):
            return None
        side = side_px(image)
        if side is not None and side <= 2:
            return None
        return self._addresses.of(image)

    def _caption_near(self, image: Tag, stop: Tag) -> str:
        """Return the caption in the smallest element around a picture that has one."""
        outline = self._outline
        for depth, parent in enumerate(image.parents):
            if depth > 5 or parent is stop or parent.name in ("body", "article", "main", "section"):
                break
            if outline.shows_other_picture(parent, image.get("src")):
                break
            num_captions = outline.count(parent, "caption")
            if num_captions == 1:
                return self._own_text(parent)
            if num_captions or outline.has(parent, *_ENDS_NEARNESS):
                break
        return ""

    def _own_text(self, parent: Tag) -> str:
        caption = self._outline.first(parent, "caption")
        return self._text(caption) if caption is not None else ""

    def _text(self, tag: Tag) -> str:
        """Return the text of a caption; many pictures may share one."""
        if id(tag) not in self._texts:
            self._texts[id(tag)] = plain_text(tag)
        return self._texts[id(tag)]


def _alt(image: Tag) -> str:
    alt = str(image.get("alt") or image.get("data-alt") or "")
    return re.sub(r"\s+", " ", alt).strip()


def _stated_px(url: str) -> int | None:
    """Return the width that an address names (`/max/1200/`, `w=800`), None where it names none."""
    found = _STATED.search(url)
    return int(found[1] or found[2]) if found else None
