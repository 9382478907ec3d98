"""One walk over a page: headings open sections, paragraphs fill them, figures stand in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bs4 import BeautifulSoup, Tag

from cambrian_data.engine.extract.address import base_url
from cambrian_data.engine.extract.captions import Pictures, Shown
from cambrian_data.engine.extract.furniture import Furniture
from cambrian_data.engine.extract.outline import Outline
from cambrian_data.engine.extract.parse import PageError, parse_page
from cambrian_data.engine.extract.text import classes, is_silent, plain_text

MAX_GIVEN_CHARS = 100_000_000
"""Characters in all figures of a page, each with the whole prose of its section."""
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_ROOTS: tuple[Callable[[Tag], bool], ...] = (
    lambda tag: tag.name == "article",
    lambda tag: tag.name == "main",
    lambda tag: tag.get("role") == "main",
    lambda tag: tag.get("itemprop") == "articleBody",
)
_ROOT_SHARE = 0.6
_MAX_TITLES = 20


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
    _text: str | None = None

    def text(self) -> str:
        """Return the paragraphs; a section that has none gives the items of its lists."""
        if self._text is None:
            self._text = "\n\n".join(self.paragraphs or self.items)
        return self._text


def extract(html: str | bytes, url: str) -> list[Figure]:
    """Return the figures of a page in their order, those without a caption too.

    Args:
        html: the page; bytes are decoded as their own declaration says.
        url: the page's address, against which the addresses of pictures are resolved.
    Raises:
        PageError: the page cannot be read within bounds: too large, too deep, too repetitive.
    """
    soup = parse_page(html)
    outline = Outline(soup)
    root = _content_root(soup, outline)
    pictures = Pictures(outline, base_url(url, _first_value(soup, "href", "base")))
    walk = _Walk(root, Furniture(soup, root, outline), outline, pictures)
    walk.run()
    return walk.figures()


def page_title(html: str | bytes) -> str:
    """Return the heading of a page, or else its `title`; empty where there is none to read."""
    try:
        soup = parse_page(html)
    except PageError:
        return ""
    first = soup.find(id="firstHeading")
    for heading in [*([first] if first else []), *soup.find_all("h1", limit=_MAX_TITLES)]:
        if text := plain_text(heading):
            return text
    return re.sub(r"\s+", " ", soup.title.get_text()).strip() if soup.title else ""


def page_language(html: str | bytes) -> str:
    """Return the language that a page says it is in, such as `en`; empty where it says none."""
    try:
        return _first_value(parse_page(html), "lang").split("-")[0].lower()
    except PageError:
        return ""


def _first_value(soup: BeautifulSoup, attribute: str, name: str | None = None) -> str:
    """Return an attribute of the first element (of that name) that has it, empty without one."""
    tag = soup.find(name, attrs={attribute: True})
    return str(tag.get(attribute) or "") if isinstance(tag, Tag) else ""


def _content_root(soup: BeautifulSoup, outline: Outline) -> Tag:
    """Return the element that holds the article."""
    body = soup.body or soup
    outputs = soup.find_all(_is_wiki_output)
    if outputs:
        return max(outputs, key=lambda tag: outline.count(tag, "p"))
    prose = outline.prose(body)
    for is_root in _ROOTS:
        largest = max(soup.find_all(is_root), key=outline.prose, default=None)
        if largest is not None and outline.prose(largest) >= _ROOT_SHARE * prose:
            return largest
    return body


def _is_wiki_output(tag: Tag) -> bool:
    return "mw-parser-output" in classes(tag) or tag.get("id") == "mw-content-text"


class _Walk:
    """Collects sections and figures in document order."""

    def __init__(
        self, root: Tag, furniture: Furniture, outline: Outline, pictures: Pictures
    ) -> None:
        self._root, self._furniture = root, furniture
        self._outline, self._pictures = outline, pictures
        self._open: list[tuple[int, str]] = []
        self._section = _Section([])
        self._found: list[tuple[Shown, _Section]] = []
        self._title = outline.first(root, "h1")
        self._title_text = plain_text(self._title) if self._title is not None else ""

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
        figures: list[Figure] = []
        num_chars = 0
        for shown, section in self._distinct():
            path = list(section.path)
            num_chars += sum(map(len, (*shown, *path, section.text())))
            if num_chars > MAX_GIVEN_CHARS:
                raise PageError(f"its figures repeat its text: over {MAX_GIVEN_CHARS} characters")
            figures.append(
                Figure(shown.url, shown.caption, shown.alt, path, section.text(), len(figures))
            )
        return figures

    def _distinct(self) -> Iterator[tuple[Shown, _Section]]:
        seen: set[tuple[str, str, int]] = set()
        for shown, section in self._found:
            key = (shown.url, shown.caption, id(section))
            if key not in seen:
                seen.add(key)
                yield shown, section

    def _descend(self, tag: Tag) -> bool:
        """Take what an element gives; tell whether to look inside."""
        if self._outline.is_a(tag, "image"):
            shown = self._pictures.loose(tag, self._root)
            self._add([shown] if shown else [])
            return False
        if tag.name == "noscript":
            return True
        if is_silent(tag) or self._furniture.holds(tag):
            return False
        if tag.name in _HEADINGS:
            self._enter(tag)
            return False
        if self._pictures.is_figure(tag):
            self._add(self._pictures.of_figure(tag))
            return False
        self._read(tag)
        return True

    def _add(self, pictures: Iterable[Shown]) -> None:
        self._found.extend((shown, self._section) for shown in pictures)

    def _enter(self, heading: Tag) -> None:
        text = plain_text(heading)
        if not text or self._names_page(heading, text) or self._is_in(heading, "table"):
            return
        level = int(heading.name[1])
        self._open = [(at, name) for at, name in self._open if at < level] + [(level, text)]
        self._section = _Section([name for _, name in self._open])

    def _names_page(self, heading: Tag, text: str) -> bool:
        """Tell whether a heading is the first h1, or says the same once more."""
        title = self._title
        if title is None or heading is title:
            return title is not None
        is_alike = heading.name == title.name and heading.attrs == title.attrs
        return is_alike and text == self._title_text

    def _is_in(self, tag: Tag, *kinds: str) -> bool:
        return any(self._outline.around(tag, kind) is not None for kind in kinds)

    def _read(self, tag: Tag) -> None:
        """Add the text of a paragraph or item, once: not that of one within another."""
        if tag.name == "p":
            texts, is_read = self._section.paragraphs, self._is_in(tag, "p")
        elif tag.name in ("li", "dd"):
            texts, is_read = self._section.items, self._is_in(tag, "li", "dd")
        else:
            return
        if is_read or (self._is_in(tag, "table") and self._root.name != "td"):
            return
        if text := plain_text(tag):
            texts.append(text)


def _elements(tag: Tag) -> Iterator[Tag]:
    return (child for child in tag.children if isinstance(child, Tag))
