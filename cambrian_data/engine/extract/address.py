"""The address of a picture: lazy loading, srcset, thumbnails resolved to the original file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from bs4 import Tag

from cambrian_data.engine.extract.sizes import (
    LAZY_SRCSETS,
    Candidate,
    file_name,
    is_original,
    of_srcsets,
    widest,
    with_width,
)

if TYPE_CHECKING:
    from cambrian_data.engine.extract.outline import Outline

LAZY = ("data-orig-file", "data-src", "data-original", "data-lazy-src", "data-image", "data-url")
"""Attributes that hold the true address where `src` holds a placeholder until the page scrolls."""
_LAZY_ENDS = ("src", "url", "image", "img", "original", "loader", "lazy", "hires", "fullsize")
_SMALL = re.compile(r"low|small|thumb|preview|placeholder|tiny|blur|share|pin|link|page|fallback")
_BACKGROUND = re.compile(
    r"background(?:-image)?\s{0,9}:[^;]{0,99}?url\(\s{0,9}['\"]?([^'\")]{1,8192})", re.IGNORECASE
)
MAX_ADDRESS_CHARS = 8192
"""Longer ones are no addresses of files."""
PICTURE_FILE = re.compile(r"\.(jpe?g|png|gif|svg|webp|avif|tiff?)([?/#]|$)", re.IGNORECASE)
_PLACEHOLDER = frozenset({"placeholder", "spacer", "lazyload", "spinner"})
_LIKE_PLACEHOLDER = frozenset(
    {"blank", "pixel", "transparent", "loading", "loader", "lazy", "clear", "dummy", "empty"}
    | {"fallback", "trans", "grey", "gray"}
)
"""Words that photographs have in their names too, but not alone."""
_COMPANY = frozenset(
    {"", "image", "images", "img", "picture", "photo", "default", "load", "ajax", "icon", "white"}
    | {"black", "small", "large", "gif", "x", "px", "bg", "no", "to", "s", "t"}
)
_PLACEHOLDER_FORMATS = frozenset({"gif", "png", "svg", "webp"})
_FORMULA = re.compile(r"/math/(render|tex|[0-9a-f]/)|[/.]latex([./?]|$)", re.IGNORECASE)
_SCALED = re.compile(r"(/revision/[^/]+)/(scale|zoom|smart|window|thumb)[^?]*")
_SIZE_PATH = re.compile(r"/size/[wh]\d{1,4}(?:h\d{1,4})?(?:/format/\w{3,4})?(?=/)")
_PAGE_OF_SIZE = re.compile(r"(/s\d{2,4})-h(?=/)")
"""Where a `-h` after the size gives a page with the picture."""
_MAX_LINK_CLIMB = 8
_EXTENSION = re.compile(r"\.\w{3,4}$")
_EXTENSION_CHARS = 5
_STATED_SIDE = re.compile(r"(\d{1,9})(?:\.\d+)?(?:px)?")
_STYLED_SIDE = {
    name: re.compile(rf"(?<![-\w]){name}\s*:\s*(\d{{1,9}})(?:\.\d+)?px")
    for name in ("width", "height")
}


class Addresses:
    """The addresses of the pictures of one page."""

    def __init__(self, base: str, outline: Outline) -> None:
        self._base, self._outline = base, outline
        self._of_image: dict[int, str | None] = {}
        self._of_picture: dict[int, list[Candidate]] = {}
        self._of_link: dict[int, str | None] = {}

    def of(self, image: Tag) -> str | None:
        """Return the absolute address of the picture that an element shows.

        Returns:
            The original file where the address is that of a thumbnail; None for placeholders,
            trackers, formulas and elements without an address.
        """
        if id(image) not in self._of_image:
            self._of_image[id(image)] = self._find(image)
        return self._of_image[id(image)]

    def _find(self, image: Tag) -> str | None:
        shown = widest(self._candidates(image))
        if shown is None:
            return None
        original = original_url(shown.address)
        if urlsplit(original).path != urlsplit(shown.address).path:
            return original
        link = self._link_around(image)
        return link if link is not None and is_original(link, original) else original

    def _candidates(self, image: Tag) -> list[Candidate]:
        """Return the usable addresses of an image in the order of preference."""
        src = str(image.get("src") or (image.name == "object" and image.get("data")) or "").strip()
        first = [str(image.get(name) or "").strip() for name in LAZY]
        if "/thumb/" in src:  # the original follows from it; a srcset holds only other thumbnails
            first.append(src)
        width = _side(image, "width")
        found = self._usable([*with_width(first), *of_srcsets(image, width)])
        found += self._of_sources(image)
        is_lazy = any(name in image.attrs for name in (*LAZY, *LAZY_SRCSETS))
        if not found or not is_lazy:  # else it is a small copy
            found += self._of_src(src, width, found)
        return found or self._usable(with_width(lazy_addresses(image)))

    def _of_src(self, src: str, width: int | None, others: list[Candidate]) -> list[Candidate]:
        """Return the `src`; the width of the element is its own if it is no preview of others."""
        found = self._usable(with_width([src]))
        if not found or not others or width is None or found[0].width is not None:
            return found
        is_same = file_name(found[0].address) == file_name(others[0].address)
        return [found[0]._replace(width=width)] if is_same else found

    def _of_sources(self, image: Tag) -> list[Candidate]:
        """Return the best that the sources of the picture element around an image give, if any."""
        picture = self._outline.around(image, "picture")
        if picture is None:
            return []
        if id(picture) not in self._of_picture:
            sources = self._outline.all(picture, "source")
            best = widest(self._usable(one for source in sources for one in of_srcsets(source)))
            self._of_picture[id(picture)] = [] if best is None else [best]
        return self._of_picture[id(picture)]

    def _link_around(self, image: Tag) -> str | None:
        """Return where the link around an image leads."""
        around = itertools.islice(image.parents, _MAX_LINK_CLIMB)
        link = next((tag for tag in around if tag.name == "a"), None)
        if link is None:
            return None
        if id(link) not in self._of_link:
            href = str(link.get("href") or "").strip()
            url = absolute_url(href, self._base) if href else None
            self._of_link[id(link)] = original_url(_PAGE_OF_SIZE.sub(r"\1", url)) if url else None
        return self._of_link[id(link)]

    def _usable(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        found = []
        for address, width in candidates:
            absolute = absolute_url(address, self._base) if address else None
            if absolute and not _is_placeholder(absolute):
                found.append(Candidate(absolute, width))
        return found


def lazy_addresses(tag: Tag) -> list[str]:
    """Return the addresses of picture files in other attributes, those of small copies last."""
    found = []
    for name, value in tag.attrs.items():
        if name.startswith("data-") and name.endswith(_LAZY_ENDS) and name not in LAZY:
            address = str(value).strip()
            is_short = len(address) <= MAX_ADDRESS_CHARS and not address.startswith(("{", "["))
            if is_short and PICTURE_FILE.search(address):
                found.append((bool(_SMALL.search(name)), address))
    style = str(tag.attrs.get("style") or "") if tag.name != "img" else ""
    if "url(" in style and (background := _BACKGROUND.search(style)):
        found.append((False, background[1].strip()))
    return [address for _, address in sorted(found, key=lambda item: item[0])]


def original_url(url: str) -> str:
    """Return the address of the original file of a thumbnail, other addresses as they are."""
    parts = urlsplit(url)
    path = _SIZE_PATH.sub("", _SCALED.sub(r"\1", _without_thumb(parts.path)))
    return urlunsplit(parts._replace(path=path, fragment=""))


def _without_thumb(path: str) -> str:
    """Return `/a/F.svg` of `/thumb/a/F.svg/330px-F.svg.png`, other paths as they are."""
    folder, _, last = path.rpartition("/")
    before, thumb, file = folder.partition("/thumb/")
    if not last or not thumb or len(file) <= _EXTENSION_CHARS - 1:
        return path
    return f"{before}/{file}" if _EXTENSION.search(file[-_EXTENSION_CHARS:]) else path


def side_px(image: Tag) -> int | None:
    """Return the smaller of the sides that the element gives itself, None where it gives none."""
    sides = (_side(image, name) for name in _STYLED_SIDE)
    return min((side for side in sides if side is not None), default=None)


def _side(image: Tag, name: str) -> int | None:
    """Return the width or the height that an element gives itself."""
    value = str(image.get(name) or image.get(f"data-{name}") or "").strip()
    if not value:
        found = _STYLED_SIDE[name].search(str(image.get("style") or ""))
        value = found[1] if found else ""
    number = _STATED_SIDE.fullmatch(value)
    return int(number[1]) if number else None


def base_url(url: str, href: str) -> str:
    """Return what addresses are resolved against: a `base` if it is one, without a password."""
    base = (absolute_url(href, url) if href else None) or url
    try:
        parts = urlsplit(base)
    except ValueError:
        return ""
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def absolute_url(address: str, base: str) -> str | None:
    """Return an absolute http(s) address, None for all else, such as one with a password."""
    if len(address) > MAX_ADDRESS_CHARS:
        return None
    try:
        absolute = urljoin(base, address)
        parts = urlsplit(absolute)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return None
    if not is_web or "@" in parts.netloc or len(absolute) > MAX_ADDRESS_CHARS:
        return None
    return absolute


def _is_placeholder(url: str) -> bool:
    path = urlsplit(url).path
    if path in ("", "/") or _FORMULA.search(path):
        return True
    stem, _, extension = path.rpartition(".")
    if extension.lower() not in _PLACEHOLDER_FORMATS:
        return False
    name = re.split(r"[/%]", stem)[-1].lower()
    words = set(re.split(r"[-_.\s\d]+", name))
    if name == "1x1" or not _PLACEHOLDER.isdisjoint(words):
        return True
    return not _LIKE_PLACEHOLDER.isdisjoint(words) and words <= _LIKE_PLACEHOLDER | _COMPANY
