"""What the address of a picture says about its size, and the name that all its sizes share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from bs4 import Tag

LAZY_SRCSETS = ("data-srcset", "data-lazy-srcset", "data-src-set")
_SRCSETS = ("srcset", *LAZY_SRCSETS)
_MAX_CANDIDATES = 64
_STATED = re.compile(
    r"[/,](?:max|fit|w|width|resize|c)[/_:=](\d{2,4})(?=[/,_:x.])"
    r"|[?&](?:w|width|resize|fit)=(\d{1,9})(?!\d)"
    r"|[/=][sw](\d{2,4})(?:-[a-z0-9-]{1,20})?(?=/|$)"
)
_STATED_IN_NAME = re.compile(r"[-_](\d{2,4})x\d{2,4}(?=\.\w{3,4}(?:\?|$))")
_SIZE_FOLDER = re.compile(r"[swh]\d{2,4}(-[a-z0-9-]+)?|\d{3,4}|\d{2,4}x\d{2,4}")
_SIZE_SUFFIX = re.compile(
    r"[-_@](\d{2,4}x\d{2,4}|\d{3,4}w|[1-3]x|large|medium|small|thumb|full|scaled)$"
)
_SUFFIX_CHARS = 12
_EXTENSION = re.compile(r"\.\w{3,4}$")
_EXTENSION_CHARS = 5
_PICTURE_END = re.compile(r"\.(jpe?g|png|gif|svg|webp|avif|tiff?)$", re.IGNORECASE)
_PAGE_FOLDERS = frozenset(
    {"blob", "wiki", "detail", "details", "_detail", "view", "viewer", "show", "file", "attachment"}
    | {"photo", "page", "pages", "html"}
)
"""Folders of pages about pictures, whose addresses end like those of the pictures."""

_SMALL_FOLDERS = frozenset(
    {"thumb", "thumbs", "thumbnail", "thumbnails", "small", "medium", "preview", "previews"}
    | {"resized", "scaled", "styles"}
)


class Candidate(NamedTuple):
    """One address of a picture, with its width where that is stated."""

    address: str
    width: float | None


def stated_px(url: str) -> int | None:
    """Return the width that an address names (`/max/1200/`, `w=800`), None where it names none."""
    if found := _STATED.search(url):
        return int(found[1] or found[2] or found[3])
    in_name = _STATED_IN_NAME.search(url)  # this may be the name of the original
    return int(in_name[1]) if in_name else None


def of_srcsets(holder: Tag, shown_px: int | None = None) -> Iterator[Candidate]:
    """Yield what the srcsets of an element offer, the widest of each first.

    Args:
        holder: the image or the source.
        shown_px: the width at which it is drawn, which densities (`2x`) multiply.
    """
    for name in _SRCSETS:
        if value := str(holder.get(name) or "").strip():
            yield from _offered(value, shown_px)


def _offered(srcset: str, shown_px: int | None) -> list[Candidate]:
    """Return the first candidates of a srcset, the widest first; a size that is none counts 1."""
    found = []
    parts = re.split(r",\s+|,(?=https?:|//|/)", srcset, maxsplit=_MAX_CANDIDATES)
    for part in parts[:_MAX_CANDIDATES]:
        pieces = part.split(maxsplit=2)
        if pieces:
            number = re.match(r"\d{1,9}(\.\d{1,9})?", pieces[1]) if len(pieces) > 1 else None
            size = float(number[0]) if number else 1.0
            address = pieces[0].rstrip(",")
            width: float | None = stated_px(address)
            if number and pieces[1].rstrip(",").endswith("w"):
                width = size
            elif width is None and shown_px:
                width = size * shown_px
            found.append((size, Candidate(address, width)))
    return [candidate for _, candidate in sorted(found, key=lambda item: -item[0])]


def widest(candidates: list[Candidate]) -> Candidate | None:
    """Return the widest of several addresses of one picture, given in the order of preference.

    One without a stated width is neither wider nor narrower: the first stays the first.
    """
    if not candidates:
        return None
    known = _with_number_folders(candidates)
    if known[0].width is None:
        return known[0]
    return max(known, key=lambda one: one.width or 0)


def _with_number_folders(candidates: list[Candidate]) -> list[Candidate]:
    """Add the widths of addresses that differ from the first in one number (`/480/`, `/976/`)."""
    first = candidates[0].address.split("/")
    known, first_px = [], None
    for address, width in candidates[1:]:
        pair = _differing(first, address.split("/"))
        if pair is not None:
            first_px = first_px or pair[0]
        known.append(Candidate(address, width or (pair[1] if pair else None)))
    return [Candidate(candidates[0].address, candidates[0].width or first_px), *known]


def _differing(one: list[str], other: list[str]) -> tuple[int, int] | None:
    """Return the numbers in which alone two addresses differ, each a folder of its own."""
    if len(one) != len(other):
        return None
    pairs = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
    if len(pairs) != 1 or not all(re.fullmatch(r"[0-9]{2,4}", part) for part in pairs[0]):
        return None
    return int(pairs[0][0]), int(pairs[0][1])


def is_original(link: str, url: str) -> bool:
    """Tell whether a link around a picture leads to the file of the same picture, not smaller.

    Args:
        link: where the link leads.
        url: the address at which the page shows the picture.
    """
    if not _PICTURE_END.search(urlsplit(link).path) or file_name(link) != file_name(url):
        return False
    if not _is_reduced(url) or not _is_of_site(link, url):
        return False  # nothing says that the link gives more, and it may be a dead one
    ours, theirs = _folders(url), _folders(link)
    if any(part.lower() in _PAGE_FOLDERS and part not in ours for part in theirs):
        return False
    is_alike = urlsplit(link).netloc == urlsplit(url).netloc and len(ours) == len(theirs)
    if is_alike and any(map(_is_other_folder, ours, theirs)):
        return False
    linked_px, shown_px = stated_px(link), stated_px(url)
    return linked_px is None or shown_px is None or linked_px >= shown_px


def _is_reduced(url: str) -> bool:
    """Tell whether an address says that its file is not the original."""
    if stated_px(url) is not None or not _SMALL_FOLDERS.isdisjoint(_folders(url.lower())):
        return True
    stem = _EXTENSION.sub("", unquote(urlsplit(url).path)[-_SUFFIX_CHARS - _EXTENSION_CHARS :])
    suffix = _SIZE_SUFFIX.search(stem)
    return suffix is not None and suffix[1] != "full"


def _is_of_site(link: str, url: str) -> bool:
    """Tell whether two addresses are of one site, or the second that of a proxy for the first."""
    ours, theirs = urlsplit(url), urlsplit(link)
    host = theirs.netloc.lower()
    return ours.netloc.lower().split(".")[-2:] == host.split(".")[-2:] or host in ours.path.lower()


def _is_other_folder(one: str, other: str) -> bool:
    """Tell whether two folders are those of different pictures (`/album/1/`, `/album/2/`)."""
    if one == other or all(map(_SIZE_FOLDER.fullmatch, (one, other))):
        return False
    return all(re.search(r"\d", part) for part in (one, other))


def _folders(url: str) -> list[str]:
    return urlsplit(url).path.split("/")[:-1]


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


def with_width(urls: Iterable[str]) -> Iterator[Candidate]:
    """Yield addresses with the widths that they state themselves."""
    for url in urls:
        yield Candidate(url, stated_px(url))
