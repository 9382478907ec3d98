"""One walk over a page: headings open sections, paragraphs fill them, figures stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin

from bs4 import BeautifulSoup, Tag

from cambrian_data.engine.extract.captions import (
    Shown,
    is_figure,
    is_image,
    loose_picture,
    pictures_of,
)
from cambrian_data.engine.extract.furniture import Furniture
from cambrian_data.engine.extract.text import is_silent, plain_text

_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_ROOTS = ("article", "main", "[role=main]", "[itemprop=articleBody]")
_ROOT_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of a page with its caption and the section that it stands in."""

    image_url: str
    caption: str
    alt: str
    section: list[str]
    text: str
    position: int


@dataclass(slots=True)
class _Section:
    path: list[str]
    paragraphs: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the paragraphs; a section that has none gives the items of its lists."""
        return "\n\n".join(self.paragraphs or self.items)


def extract(html: str | bytes, url: str) -> list[Figure]:
    """Return the figures of a page in their order, those without a caption too.

    Args:
        html: the page; bytes are decoded as their own declaration says.
        url: the page's address, against which the addresses of pictures are resolved.
    """
    soup = _parse(html)
    root = _content_root(soup)
    bases = soup.select("base[href]")
    base = urljoin(url, str(bases[0]["href"])) if bases else url
    walk = _Walk(root, Furniture(soup, root), base)
    walk.run()
    return walk.figures()


def page_title(html: str | bytes) -> str:
    """Return the heading of a page, or what its `title` says where it has none."""
    soup = _parse(html)
    for heading in [*soup.select("#firstHeading"), *soup.select("h1")]:
        if text := plain_text(heading):
            return text
    return re.sub(r"\s+", " ", soup.title.get_text()).strip() if soup.title else ""


def page_language(html: str | bytes) -> str:
    """Return the language that a page says it is in, such as `en`; empty where it says none."""
    tags = _parse(html).select("[lang]")
    return str(tags[0]["lang"]).split("-")[0].lower() if tags else ""


def _parse(html: str | bytes) -> BeautifulSoup:
    if isinstance(html, str):
        html = html.removeprefix("\ufeff")
    return BeautifulSoup(html, "lxml")


def _content_root(soup: BeautifulSoup) -> Tag:
    """Return the element that holds the article."""
    body = soup.body or soup
    outputs = soup.select(".mw-parser-output, #mw-content-text")
    if outputs:
        return max(outputs, key=lambda tag: len(tag.find_all("p")))
    prose = _prose(body)
    for selector in _ROOTS:
        largest = max(soup.select(selector), key=_prose, default=None)
        if largest is not None and _prose(largest) >= _ROOT_SHARE * prose:
            return largest
    return body


def _prose(tag: Tag) -> int:
    return sum(len(p.get_text()) for p in tag.find_all("p"))


class _Walk:
    """Collects sections and figures in document order."""

    def __init__(self, root: Tag, furniture: Furniture, base: str) -> None:
        self._root, self._furniture, self._base = root, furniture, base
        self._open: list[tuple[int, str]] = []
        self._section = _Section([])
        self._found: list[tuple[Shown, _Section]] = []
        self._titles = _titles(root)

    def run(self) -> None:
        """Walk the whole page; iterative, since pages nest deeply."""
        stack: list[Iterator[Tag]] = [_elements(self._root)]
        while stack:
            tag = next(stack[-1], None)
            if tag is None:
                stack.pop()
            elif self._descend(tag):
                stack.append(_elements(tag))

    def figures(self) -> list[Figure]:
        """Return what was found; a picture with one caption in one section counts once."""
        seen: set[tuple[str, str, int]] = set()
        figures: list[Figure] = []
        for shown, section in self._found:
            key = (shown.url, shown.caption, id(section))
            if key not in seen:
                seen.add(key)
                figures.append(
                    Figure(
                        shown.url,
                        shown.caption,
                        shown.alt,
                        list(section.path),
                        section.text(),
                        len(figures),
                    )
                )
        return figures

    def _descend(self, tag: Tag) -> bool:
        """Take what an element gives; tell whether to look inside."""
        if is_image(tag):
            shown = loose_picture(tag, self._base, self._root)
            self._add([shown] if shown else [])
            return False
        if tag.name == "noscript":
            return True
        if is_silent(tag) or self._furniture.holds(tag):
            return False
        if tag.name in _HEADINGS:
            self._enter(tag)
            return False
        if is_figure(tag):
            self._add(pictures_of(tag, self._base))
            return False
        self._read(tag)
        return True

    def _add(self, pictures: Iterator[Shown] | list[Shown]) -> None:
        self._found.extend((shown, self._section) for shown in pictures)

    def _enter(self, heading: Tag) -> None:
        text = plain_text(heading)
        if not text or heading in self._titles or heading.find_parent("table") is not None:
            return
        level = int(heading.name[1])
        self._open = [(at, name) for at, name in self._open if at < level] + [(level, text)]
        self._section = _Section([name for _, name in self._open])

    def _read(self, tag: Tag) -> None:
        if tag.name not in ("p", "li", "dd"):
            return
        if tag.find_parent("table") is not None and self._root.name != "td":
            return
        if text := plain_text(tag):
            if tag.name == "p":
                self._section.paragraphs.append(text)
            elif tag.find_parent("li") is None:
                self._section.items.append(text)


def _titles(root: Tag) -> list[Tag]:
    """Return the headings that name the page: the first h1, or the only ones there are."""
    headings = root.find_all("h1")
    return headings[:1]


def _elements(tag: Tag) -> Iterator[Tag]:
    return (child for child in tag.children if isinstance(child, Tag))
