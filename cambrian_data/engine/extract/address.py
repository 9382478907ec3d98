"""The address of a picture: lazy loading, srcset, thumbnails resolved to the original file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from bs4 import Tag

LAZY = ("data-src", "data-original", "data-lazy-src", "data-orig-file", "data-image", "data-url")
"""Attributes that hold the true address where `src` holds a placeholder until the page scrolls."""
_SRCSETS = ("srcset", "data-srcset", "data-lazy-srcset", "data-src-set")
_PLACEHOLDER = re.compile(
    r"(^|[/_.-])(blank|spacer|placeholder|pixel|transparent|loading|lazy|1x1|clear)[\w-]*"
    r"\.(gif|png|svg|webp)$",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"/math/(render|tex|[0-9a-f]/)|/latex[./?]", re.IGNORECASE)
_THUMB = re.compile(r"/thumb/(.+?\.\w{3,4})/[^/]+$")
_SCALED = re.compile(r"(/revision/[^/]+)/(scale|zoom|smart|window|thumb)[^?]*")
_SIZE_SUFFIX = re.compile(
    r"([-_@](\d{2,4}x\d{2,4}|\d{3,4}w|[1-3]x|large|medium|small|thumb|full|scaled))*\.\w{3,4}$"
)


def picture_url(image: Tag, base: str) -> str | None:
    """Return the absolute address of the picture that an element shows.

    Returns:
        The original file where the address is that of a thumbnail; None for placeholders,
        trackers, formulas and elements without an address.
    """
    for address in _addresses(image):
        absolute = _absolute(address, base)
        if absolute and not _is_placeholder(absolute):
            return original_url(absolute)
    return None


def original_url(url: str) -> str:
    """Return the address of the original file of a thumbnail, other addresses as they are."""
    parts = urlsplit(url)
    path = _SCALED.sub(r"\1", _THUMB.sub(r"/\1", parts.path))
    return urlunsplit(parts._replace(path=path, fragment=""))


def file_name(url: str) -> str:
    """Return the name that all sizes and formats of one picture share."""
    parts = [part for part in unquote(urlsplit(url).path).split("/") if part]
    if "revision" in parts[1:]:
        return parts[parts.index("revision") - 1]
    return _SIZE_SUFFIX.sub("", parts[-1]) if parts else url


def side_px(image: Tag) -> int | None:
    """Return the smaller of the sides that the element gives itself, None where it gives none."""
    sides = []
    style = str(image.get("style") or "")
    for name in ("width", "height"):
        value = str(image.get(name) or image.get(f"data-{name}") or "").strip()
        if not value:
            found = re.search(rf"(?<![-\w]){name}\s*:\s*(\d+)(?:\.\d+)?px", style)
            value = found[1] if found else ""
        if number := re.fullmatch(r"(\d+)(?:\.\d+)?(?:px)?", value):
            sides.append(int(number[1]))
    return min(sides) if sides else None


def _addresses(image: Tag) -> Iterator[str]:
    """Yield the addresses of an element, the most trustworthy first."""
    for name in LAZY:
        if value := str(image.get(name) or "").strip():
            yield value
    src = str(image.get("src") or "").strip()
    if "/thumb/" in src:  # the original follows from it; a srcset holds only other thumbnails
        yield src
    yield from _largest_of_srcsets(image)
    if src:
        yield src


def _largest_of_srcsets(image: Tag) -> Iterator[str]:
    picture = image.find_parent("picture")
    for holder in [image, *(picture.find_all("source") if picture is not None else [])]:
        for name in _SRCSETS:
            if value := str(holder.get(name) or "").strip():
                yield from _largest(value)


def _largest(srcset: str) -> list[str]:
    """Return the candidates of a srcset, the widest first."""
    found = []
    for part in re.split(r",\s+|,(?=https?:|//|/)", srcset):
        pieces = part.split()
        if pieces:
            number = re.match(r"[\d.]+", pieces[1]) if len(pieces) > 1 else None
            found.append((float(number[0]) if number else 1.0, pieces[0].rstrip(",")))
    return [address for _, address in sorted(found, key=lambda item: -item[0])]


def _absolute(address: str, base: str) -> str | None:
    try:
        absolute = urljoin(base, address)
        parts = urlsplit(absolute)
    except ValueError:
        return None
    return absolute if parts.scheme in ("http", "https") and parts.netloc else None


def _is_placeholder(url: str) -> bool:
    path = urlsplit(url).path
    return path in ("", "/") or bool(_PLACEHOLDER.search(path) or _FORMULA.search(path))
