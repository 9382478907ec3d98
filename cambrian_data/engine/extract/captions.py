"""Pictures with their captions inside one element: figure, thumb, gallery box, infobox, group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from bs4 import Tag

from cambrian_data.engine.extract.address import LAZY, file_name, picture_url, side_px
from cambrian_data.engine.extract.text import classes, plain_text

MIN_SIDE_PX = 50
"""A loose picture that is drawn smaller is an icon, a flag or a bullet."""
_PREVIEW_PX = 100
_CAPTION_CLASS = re.compile(r"(^|[-_])(caption|captions|legend|bildunterschrift|imagecaption)"
                            r"([-_]|$)|caption(text)?$")  # fmt: skip
_NO_CAPTION = re.compile(r"code|video|audio|table|title-caption|opener")
_PART_CLASSES = ["tsingle", "gallerybox", "blocks-gallery-item"]
_GALLERY_TEXT = ["gallerytext", "gallerycaption"]
_PICTURE_FILE = re.compile(r"\.(jpe?g|png|gif|svg|webp|avif|tiff?)([?/]|$)", re.IGNORECASE)
_STATED = re.compile(
    r"/(?:max|fit|w|width|resize|c)[/_:=](\d{2,4})(?=[/,_:x.])|[?&]w(?:idth)?=(\d+)"
)
_MATH = frozenset({"mwe-math-fallback-image-inline", "mwe-math-fallback-image-display", "tex"})


class Shown(NamedTuple):
    """A picture as a page shows it."""

    url: str
    caption: str
    alt: str


def is_figure(tag: Tag) -> bool:
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
            tag.find(class_="thumbinner") is not None
        )
    return tag.name == "div" and "figure" in names and tag.find("img") is not None


def pictures_of(figure: Tag, base: str) -> Iterator[Shown]:
    """Yield the pictures of a figure, each with its own caption or else with the group's."""
    group = _group_caption(figure)
    for part in _parts(figure):
        yield from _shown(part, _own_caption(part) or group, base)


def loose_picture(image: Tag, base: str, stop: Tag) -> Shown | None:
    """Return a picture that stands in no figure, with the caption near to it where there is one."""
    url = _usable(image, base)
    side = side_px(image)
    if url is None or (side is not None and side < MIN_SIDE_PX):
        return None
    return Shown(url, _caption_near(image, stop), _alt(image))


def is_image(tag: Tag) -> bool:
    """Tell whether an element shows a picture: an img, or what stands in for one until scrolled."""
    if tag.name == "img":
        return True
    if tag.name not in ("span", "div", "amp-img") or tag.find("img") is not None:
        return False
    return any(_PICTURE_FILE.search(str(tag.get(name) or "")) for name in LAZY)


def _parts(figure: Tag) -> list[Tag]:
    """Return the elements that hold one picture each, or the figure itself."""
    parts = figure.find_all(class_=_PART_CLASSES) or figure.find_all("figure")
    return [tag for tag in parts if tag.find("figure") is None] or [figure]


def _group_caption(figure: Tag) -> str:
    if figure.name == "figure":
        for child in figure.find_all("figcaption"):
            if child.find_parent("figure") is figure:
                return plain_text(child)
    parts = figure.find_all(class_=_PART_CLASSES)
    for tag in figure.find_all(_is_caption):
        if not any(part in tag.parents for part in parts):
            return plain_text(tag)
    return ""


def _own_caption(part: Tag) -> str:
    found = part.find(class_=_GALLERY_TEXT) or part.find("figcaption") or part.find(_is_caption)
    return plain_text(found) if isinstance(found, Tag) else ""


def _is_caption(tag: Tag) -> bool:
    if tag.name == "figcaption":
        return True
    if tag.name not in ("div", "p", "span", "dd", "small", "em", "cite", "td", "li", "figcaption"):
        return False
    return any(_CAPTION_CLASS.search(n) and not _NO_CAPTION.search(n) for n in classes(tag))


def _shown(part: Tag, caption: str, base: str) -> Iterator[Shown]:
    """Yield the distinct pictures of an element; of several sizes of one, the largest."""
    found: dict[str, tuple[int, Shown]] = {}
    for image in part.find_all(is_image):
        url = _usable(image, base)
        if url is None or image.find_parent("figcaption") is not None:
            continue
        size = _stated_px(url) or side_px(image) or 0
        name = file_name(url)
        if name not in found or found[name][0] < size:
            found[name] = (size, Shown(url, caption, _alt(image)))
    several = len(found) > 1
    for size, shown in found.values():
        if not several or size == 0 or size >= _PREVIEW_PX or part.find(class_="thumbimage"):
            yield shown


def _usable(image: Tag, base: str) -> str | None:
    """Return the address of an image that is no formula, tracker or placeholder."""
    if not _MATH.isdisjoint(classes(image)) or image.find_parent(class_="mwe-math-element"):
        return None
    side = side_px(image)
    if side is not None and side <= 2:
        return None
    return picture_url(image, base)


def _alt(image: Tag) -> str:
    alt = str(image.get("alt") or image.get("data-alt") or "")
    return re.sub(r"\s+", " ", alt).strip()


def _stated_px(url: str) -> int | None:
    """Return the width that an address names (`/max/1200/`, `w=800`), None where it names none."""
    found = _STATED.search(url)
    return int(found[1] or found[2]) if found else None


def _caption_near(image: Tag, stop: Tag) -> str:
    """Return the caption in the smallest element around a picture that has one."""
    for depth, parent in enumerate(image.parents):
        if depth > 5 or parent is stop or parent.name in ("body", "article", "main", "section"):
            break
        captions = parent.find_all(_is_caption)
        if any(other.get("src") != image.get("src") for other in parent.find_all("img")):
            break
        if len(captions) == 1:
            return plain_text(captions[0])
        if captions or parent.find(["h1", "h2", "h3", "h4", "p", "table"]) is not None:
            break
    return ""
