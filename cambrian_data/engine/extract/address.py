"""The address of a picture: lazy loading, srcset, thumbnails resolved to the original file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from bs4 import Tag

if TYPE_CHECKING:
    from cambrian_data.engine.extract.outline import Outline

LAZY = ("data-src", "data-original", "data-lazy-src", "data-orig-file", "data-image", "data-url")
"""Attributes that hold the true address where `src` holds a placeholder until the page scrolls."""
_LAZY_ENDS = ("src", "url", "image", "img", "original", "loader", "lazy", "hires", "fullsize")
_SMALL = re.compile(r"low|small|thumb|preview|placeholder|tiny|blur|share|pin|link|page|fallback")
_BACKGROUND = re.compile(
    r"background(?:-image)?\s{0,9}:[^;]{0,99}?url\(\s{0,9}['\"]?([^'\")]{1,8192})", re.IGNORECASE
)
_SRCSETS = ("srcset", "data-srcset", "data-lazy-srcset", "data-src-set")
MAX_ADDRESS_CHARS = 8192
"""Longer ones are no addresses of files."""
_MAX_CANDIDATES = 64
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
_SIZE_SUFFIX = re.compile(
    r"[-_@](\d{2,4}x\d{2,4}|\d{3,4}w|[1-3]x|large|medium|small|thumb|full|scaled)$"
)
_SUFFIX_CHARS = 12
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
        self._of_picture: dict[int, str | None] = {}

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
        src = str(image.get("src") or (image.name == "object" and image.get("data")) or "").strip()
        first = [str(image.get(name) or "").strip() for name in LAZY]
        if "/thumb/" in src:  # the original follows from it; a srcset holds only other thumbnails
            first.append(src)
        return (
            self._usable([*first, *_of_srcsets(image)])
            or self._of_sources(image)
            or self._usable([src, *lazy_addresses(image)])
        )

    def _of_sources(self, image: Tag) -> str | None:
        """Return what the sources of the picture element around an image give."""
        picture = self._outline.around(image, "picture")
        if picture is None:
            return None
        if id(picture) not in self._of_picture:
            sources = self._outline.all(picture, "source")
            found = (self._usable(_of_srcsets(source)) for source in sources)
            self._of_picture[id(picture)] = next((url for url in found if url), None)
        return self._of_picture[id(picture)]

    def _usable(self, addresses: Iterable[str]) -> str | None:
        for address in addresses:
            absolute = absolute_url(address, self._base) if address else None
            if absolute and not _is_placeholder(absolute):
                return original_url(absolute)
        return None


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
    path = _SCALED.sub(r"\1", _without_thumb(parts.path))
    return urlunsplit(parts._replace(path=path, fragment=""))


def _without_thumb(path: str) -> str:
    """Return `/a/F.svg` of `/thumb/a/F.svg/330px-F.svg.png`, other paths as they are."""
    folder, _, last = path.rpartition("/")
    before, thumb, file = folder.partition("/thumb/")
    if not last or not thumb or len(file) <= _EXTENSION_CHARS - 1:
        return path
    return f"{before}/{file}" if _EXTENSION.search(file[-_EXTENSION_CHARS:]) else path


def file_name(url: str) -> str:
    """Return the name that all sizes and formats of one picture share."""
    parts = [part for part in unquote(urlsplit(url).path).split("/") if part]
    if "revision" in parts[1:]:
        return parts[parts.index("revision") - 1]
    return _without_size(parts[-1]) if parts else url


def _without_size(name: str) -> str:
    """Cut the extension and the sizes before it, one after the other from the end."""
    extension = _EXTENSION.search(name[-_EXTENSION_CHARS:])
    if extension is None:
        return name
    end = len(name) - len(extension[0])
    while suffix := _SIZE_SUFFIX.search(name[max(0, end - _SUFFIX_CHARS) : end]):
        end -= len(suffix[0])
    return name[:end]


def side_px(image: Tag) -> int | None:
    """Return the smaller of the sides that the element gives itself, None where it gives none."""
    sides = []
    style = str(image.get("style") or "")
    for name, styled in _STYLED_SIDE.items():
        value = str(image.get(name) or image.get(f"data-{name}") or "").strip()
        if not value:
            found = styled.search(style)
            value = found[1] if found else ""
        if number := _STATED_SIDE.fullmatch(value):
            sides.append(int(number[1]))
    return min(sides) if sides else None


def _of_srcsets(holder: Tag) -> Iterator[str]:
    for name in _SRCSETS:
        if value := str(holder.get(name) or "").strip():
            yield from _largest(value)


def _largest(srcset: str) -> list[str]:
    """Return the first candidates of a srcset, the widest first; a size that is none counts 1."""
    found = []
    parts = re.split(r",\s+|,(?=https?:|//|/)", srcset, maxsplit=_MAX_CANDIDATES)
    for part in parts[:_MAX_CANDIDATES]:
        pieces = part.split(maxsplit=2)
        if pieces:
            number = re.match(r"\d{1,9}(\.\d{1,9})?", pieces[1]) if len(pieces) > 1 else None
            found.append((float(number[0]) if number else 1.0, pieces[0].rstrip(",")))
    return [address for _, address in sorted(found, key=lambda item: -item[0])]


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
