"""The article of a page: where it stands, its title and language, and its figures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bs4 import BeautifulSoup, Tag

from cambrian_data.engine.extract.address import base_url
from cambrian_data.engine.extract.furniture import Furniture
from cambrian_data.engine.extract.headings import titles_of
from cambrian_data.engine.extract.outline import Outline
from cambrian_data.engine.extract.parse import PageError, parse_page
from cambrian_data.engine.extract.pictures import Pictures
from cambrian_data.engine.extract.text import plain_text
from cambrian_data.engine.extract.walk import Walk

MAX_GIVEN_CHARS = 100_000_000
"""Characters in all figures of a page, each with its caption and the prose beside it."""
_ROOTS = ("article", "main", "body")
_ROOT_SHARE = 0.6
_MAX_CLIMB = 4
_MAX_MORE_PROSE = 1.1
_MAX_MORE_PICTURES = 3
_MAX_TITLES = 20
_MAX_TITLE_CHARS = 1000
_TITLE_NAMES = ("og:title", "twitter:title")


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of a page with its caption and the section that it stands in."""

    image_url: str
    caption: str
    alt: str
    section: list[str]
    """Headings from the outside in; empty in the lead."""
    text: str
    """The section's own prose: all of a short one, else its opening and what stands beside."""
    position: int
    num_words: int
    """Words in all of the section's own prose."""


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
    base = next((str(tag["href"]) for tag in outline.all(soup, "base") if tag.get("href")), "")
    pictures = Pictures(outline, soup, base_url(url, base))
    titles = set() if outline.is_a(root, "wiki") else _titles(soup, outline)
    walk = Walk(root, Furniture(soup, root, outline), outline, pictures, titles)
    walk.run()
    figures: list[Figure] = []
    num_chars = 0
    for shown, section, place in walk.found():
        path, text = list(section.path), section.prose().beside(place)
        num_chars += sum(map(len, (*shown, *path, text)))
        if num_chars > MAX_GIVEN_CHARS:
            raise PageError(f"its figures repeat its text: over {MAX_GIVEN_CHARS} characters")
        words = section.prose().num_words
        figures.append(Figure(*shown, path, text, len(figures), words))
    return figures


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
    return _document_title(soup)


def page_language(html: str | bytes) -> str:
    """Return the language that a page says it is in, such as `en`; empty where it says none."""
    try:
        tag = parse_page(html).find(attrs={"lang": True})
    except PageError:
        return ""
    return str(tag.get("lang")).split("-")[0].lower() if isinstance(tag, Tag) else ""


def _document_title(soup: BeautifulSoup) -> str:
    return re.sub(r"\s+", " ", soup.title.get_text()).strip() if soup.title else ""


def _titles(soup: BeautifulSoup, outline: Outline) -> set[str]:
    """Return the texts of headings that would name the page."""
    found = titles_of(_document_title(soup)[:_MAX_TITLE_CHARS])
    for tag in outline.all(soup, "meta"):
        if tag.get("property") in _TITLE_NAMES or tag.get("name") in _TITLE_NAMES:
            stated = str(tag.get("content") or tag.get("value") or "")
            found |= titles_of(stated[:_MAX_TITLE_CHARS])
    return found


def _content_root(soup: BeautifulSoup, outline: Outline) -> Tag:
    """Return the element that holds the article."""
    body = soup.body or soup
    if outputs := outline.all(soup, "wiki"):
        return max(outputs, key=lambda tag: outline.count(tag, "p"))
    prose = outline.prose(body)
    for kind in _ROOTS:
        largest = max(outline.all(soup, kind), key=outline.prose, default=None)
        if largest is not None and outline.prose(largest) >= _ROOT_SHARE * prose:
            return _with_lead_picture(largest, outline)
    return body


def _with_lead_picture(article: Tag, outline: Outline) -> Tag:
    """Return the element around an article that adds a figure or two and hardly any prose."""
    root, tag = article, article
    for _ in range(_MAX_CLIMB):
        if tag.parent is None or tag.parent.name in ("body", "html", "[document]"):
            break
        tag = tag.parent
        num_more = outline.count(tag, "image") - outline.count(root, "image")
        if outline.prose(tag) > _MAX_MORE_PROSE * outline.prose(root):
            break
        if num_more > _MAX_MORE_PICTURES:
            break
        if outline.count(tag, "caption") > outline.count(root, "caption"):
            root = tag
    return root
