"""The pictures of a page as it shows them: in a figure, a gallery box or on their own."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from bs4 import Tag

from cambrian_data.engine.extract.address import Addresses, side_px
from cambrian_data.engine.extract.captions import Captions
from cambrian_data.engine.extract.outline import Outline
from cambrian_data.engine.extract.sizes import file_name, stated_px
from cambrian_data.engine.extract.text import classes

MIN_SIDE_PX = 50
"""A loose picture that is drawn smaller is an icon, a flag or a bullet."""
_PREVIEW_PX = 100
_MATH = frozenset(
    {"mwe-math-fallback-image-inline", "mwe-math-fallback-image-display", "tex", "latex", "math"}
)
_FIGURE_CLASSES = frozenset({"figure", "fig", "captioned-image-container"})
_MIN_OVERLAID = 3
_STRIP_RATIO = 3
_MAX_DIGITS = 12
_ABSOLUTE = re.compile(r"position\s*:\s*absolute", re.IGNORECASE)


class Shown(NamedTuple):
    """A picture as a page shows it."""

    url: str
    caption: str
    alt: str


class Pictures:
    """Finds the pictures of one page with their captions."""

    def __init__(self, outline: Outline, page: Tag, base: str) -> None:
        self._outline = outline
        self._addresses = Addresses(base, outline)
        self._images = outline.all(page, "image")
        self._numbers = [outline.number(image) for image in self._images]
        self._names = [self._name(image) for image in self._images]
        self._find_next()
        self.captions = Captions(outline, self._is_picture_in)
        self.captions.read(page)

    def is_figure(self, tag: Tag) -> bool:
        """Tell whether an element is a picture (or some) with the caption."""
        if tag.name == "figure":
            return True
        if tag.name not in ("div", "li", "dl", "table", "span"):
            return False
        names = classes(tag)
        if not names:
            return False
        if "gallerybox" in names or "wp-caption" in names:
            return True
        if "thumb" in names:
            return any(n in ("tright", "tleft", "tnone", "center", "tmulti") for n in names) or (
                self._outline.has(tag, "thumbinner")
            )
        is_named = tag.name == "div" and not _FIGURE_CLASSES.isdisjoint(names)
        return is_named and self._outline.has(tag, "image")

    def of_figure(self, figure: Tag, stop: Tag) -> Iterator[Shown]:
        """Yield the pictures of a figure, each with its caption; of several sizes the largest."""
        images = [
            image
            for image in self._outline.all(figure, "image")
            if self._usable(image) and not self.captions.is_in_one(image)
        ] or [tag for tag in self._outline.all(figure, "hidden") if self._usable(tag)]
        if self._is_composed(images) or self._is_teaser(figure, images):
            return
        captions = self.captions.of_figure(figure, images)
        found: dict[tuple[str, str], tuple[int, Shown]] = {}
        for image in images:
            url, caption = self._usable(image), captions[id(image)]
            if url is not None:
                size = stated_px(url) or side_px(image) or 0
                key = (file_name(url), caption)
                if key not in found or found[key][0] < size:
                    found[key] = (size, Shown(url, caption, _alt(image)))
        all_count = len(found) == 1 or self._outline.has(figure, "thumbimage")
        shown = [one for size, one in found.values() if all_count or not 0 < size < _PREVIEW_PX]
        if len(shown) == 1 and not shown[0].caption and not self.captions.inside(figure):
            shown = [shown[0]._replace(caption=self._beside(figure, stop))]
        yield from shown

    def loose(self, image: Tag, stop: Tag) -> Shown | None:
        """Return a picture that stands in no figure, with the caption near to it, if any."""
        url = self._usable(image)
        if url is None or _is_icon(image):
            return None
        caption = (
            self.captions.near(image, stop, lambda tag: self._shows_other(tag, url))
            or self._beside(image, stop)
            or self._in_infobox(image, url)
        )
        return Shown(url, caption, _alt(image))

    def _beside(self, picture: Tag, stop: Tag) -> str:
        return self.captions.after(picture, stop)

    def _is_teaser(self, figure: Tag, images: list[Tag]) -> bool:
        """Tell whether a figure shows another page; in MediaWiki both may link to the article."""
        is_of_wiki = str(figure.attrs.get("typeof") or "").startswith("mw:")
        return (
            figure.name == "figure" and not is_of_wiki and self.captions.leads_away(figure, images)
        )

    def _in_infobox(self, image: Tag, url: str) -> str:
        cell = next((tag for tag in image.parents if tag.name in ("td", "table")), None)
        if cell is None or self._shows_other(cell, url) or _is_strip(image):
            return ""
        return self.captions.in_infobox(cell)

    def _usable(self, image: Tag) -> str | None:
        """Return the address of an image that is no formula, tracker or placeholder."""
        is_formula = self._outline.around(image, "formula") is not None
        if is_formula or not _MATH.isdisjoint(classes(image)):
            return None
        side = side_px(image)
        if side is not None and side <= 2:
            return None
        return self._addresses.of(image)

    def _name(self, image: Tag) -> str | None:
        """Return the file name of a picture, None for what a reader does not take for one."""
        url = None if _is_icon(image) else self._usable(image)
        return file_name(url) if url else None

    def _find_next(self) -> None:
        """Note for each image the next one with a name, and the next one with another name."""
        count = len(self._images)
        self._next_named, self._next_other = [count] * (count + 1), [count] * (count + 1)
        for i in range(count - 1, -1, -1):
            following = self._next_named[i + 1]
            if self._names[i] is None:
                self._next_named[i] = following
                continue
            self._next_named[i] = i
            is_same = following < count and self._names[following] == self._names[i]
            self._next_other[i] = self._next_other[following] if is_same else following

    def _is_picture_in(self, tag: Tag) -> bool:
        first, after = self._outline.numbers(tag)
        return self._is_before(self._next_named[bisect_left(self._numbers, first)], after)

    def _shows_other(self, tag: Tag, url: str) -> bool:
        """Tell whether an element holds another picture than one."""
        first, after = self._outline.numbers(tag)
        at = self._next_named[bisect_left(self._numbers, first)]
        if not self._is_before(at, after):
            return False
        return self._names[at] != file_name(url) or self._is_before(self._next_other[at], after)

    def _is_before(self, at: int, number: int) -> bool:
        return at < len(self._images) and self._numbers[at] < number

    def _is_composed(self, images: list[Tag]) -> bool:
        """Tell whether pictures lie upon each other, such as pieces on a chess board."""
        if len(images) <= _MIN_OVERLAID:
            return False
        return sum(_is_overlaid(image) for image in images) >= _MIN_OVERLAID


def _is_overlaid(image: Tag) -> bool:
    around = [image, *(parent for _, parent in zip(range(4), image.parents, strict=False))]
    return any(_ABSOLUTE.search(str(tag.attrs.get("style") or "")) for tag in around)


def _is_icon(image: Tag) -> bool:
    side = side_px(image)
    return side is not None and side < MIN_SIDE_PX


def _is_strip(image: Tag) -> bool:
    """Tell whether a picture is so flat that it is a scale or a row of signs."""
    width, height = (str(image.attrs.get(name) or "") for name in ("width", "height"))
    if not (width.isdecimal() and height.isdecimal() and len(width + height) < _MAX_DIGITS):
        return False
    return int(width) > _STRIP_RATIO * int(height)


def _alt(image: Tag) -> str:
    return " ".join(str(image.get("alt") or image.get("data-alt") or "").split())
