"""How the published data engine reads a page, written from its description, to measure beside.

BeautifulSoup with html.parser; every section begins at a `span.mw-headline`; from its heading the
siblings are walked to the next heading, and their paragraphs and pictures make up the section.
"""

from __future__ import annotations

from typing import NamedTuple

from bs4 import BeautifulSoup, Tag

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


class PublishedFigure(NamedTuple):
    """A picture with what the published way knows of it."""

    section: str
    image_url: str
    caption: str
    text: str


def read_page(html: str) -> list[PublishedFigure]:
    """Return the pictures of a page, section by section."""
    soup = BeautifulSoup(html, "html.parser")
    found = []
    for headline in soup.find_all("span", class_="mw-headline"):
        heading = headline.parent
        paragraphs: list[str] = []
        pictures: list[tuple[str, str]] = []
        for sibling in heading.find_next_siblings() if heading is not None else ():
            if sibling.name in _HEADINGS:
                break
            if sibling.name == "p":
                paragraphs.append(sibling.get_text(" ", strip=True))
            pictures += [
                (str(image.get("src", "")), _caption_of(image)) for image in _images(sibling)
            ]
        title, text = headline.get_text(" ", strip=True), "\n".join(paragraphs)
        found += [PublishedFigure(title, address, caption, text) for address, caption in pictures]
    return found


def _images(tag: Tag) -> list[Tag]:
    return [tag] if tag.name == "img" else list(tag.find_all("img"))


def _caption_of(image: Tag) -> str:
    holder = image.find_parent(["figure", "div", "li"])
    names = ["thumbcaption", "gallerytext"]
    caption = holder and (holder.find("figcaption") or holder.find("div", class_=names))
    return caption.get_text(" ", strip=True) if caption else ""
