"""HTML to a tree, within bounds: size, depth and number of elements are checked while parsing.

Every page that people read is far below the limits; one above them raises `PageError` before it
can cost minutes or gigabytes. Time grows with the size: about a second a megabyte of dense markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bs4 import BeautifulSoup
from bs4.builder import ParserRejectedMarkup
from bs4.builder._lxml import LXMLTreeBuilder
from bs4.dammit import EncodingDetector
from lxml import etree

MAX_PAGE_BYTES = 20_000_000
MAX_DEPTH = 600
"""Elements inside each other; browsers stop at 512."""
MAX_NODES = 300_000
"""Elements and comments; the longest articles of Wikipedia have some 60,000."""
MAX_TAGS = 4 * MAX_NODES
"""Counted before the page is parsed: opening and closing tags, and what looks like them."""
MAX_STEPS = 15_000_000
"""Sum of the depths of all nodes: the parser walks up from every text that it places."""
MAX_ATTRIBUTE_CHARS = 65_536
"""What is longer is cut: only pictures within the page are, and those are not read."""
_ENCODING_WINDOW = 8192


class PageError(ValueError):
    """A page that cannot be read, or only at a price that no page is worth."""


def parse_page(html: str | bytes) -> BeautifulSoup:
    """Return the tree of a page; bytes are decoded as their own declaration says.

    Raises:
        PageError: the page is too large, too deep or of too many elements, or is no text.
    """
    if len(html) > MAX_PAGE_BYTES:
        raise PageError(f"the page has {len(html)} bytes, at most {MAX_PAGE_BYTES} are read")
    num_tags = html.count("<") if isinstance(html, str) else html.count(b"<")
    if num_tags > MAX_TAGS:
        raise PageError(f"the page has more than {MAX_TAGS} tags")
    try:
        return BeautifulSoup(html, builder=_BoundedBuilder())
    except (ParserRejectedMarkup, etree.LxmlError, UnicodeError) as error:
        raise PageError(f"the parser refuses the page: {error}") from None


class _BoundedBuilder(LXMLTreeBuilder):
    """The builder of BeautifulSoup for lxml, with limits, and one encoding instead of trials."""

    def __init__(self) -> None:
        super().__init__(multi_valued_attributes=None, attribute_dict_class=dict)
        self._depth = self._nodes = self._steps = 0

    def prepare_markup(  # type: ignore[override]
        self, markup: Any, *_: Any, **__: Any
    ) -> Iterable[tuple[Any, str | None, None, bool]]:
        """Yield the one way to read the page: searching a whole page for its encoding is slow."""
        if isinstance(markup, str):
            text = markup.removeprefix("\ufeff").encode("utf-8", "replace")
            yield text.decode("utf-8"), None, None, False
        else:
            data, marked = EncodingDetector.strip_byte_order_mark(markup)
            yield data, marked or _encoding_of(data), None, False

    def start(self, tag: Any, attrib: Any, nsmap: Any = None) -> None:
        """Open an element."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise PageError(f"more than {MAX_DEPTH} elements stand inside each other")
        self._count()
        short = {name: text[:MAX_ATTRIBUTE_CHARS] for name, text in attrib.items()}
        if self.soup is not None:  # HTML knows no namespaces: what the base class does is for XML
            self.soup.handle_starttag(tag, None, None, short)

    def end(self, tag: Any) -> None:
        """Close an element."""
        if self.soup is not None:
            self.soup.endData()
            self.soup.handle_endtag(tag)
        self._depth -= 1

    def comment(self, text: Any) -> None:
        """Take a comment."""
        self._count()
        super().comment(text)

    def pi(self, target: Any, data: Any) -> None:
        """Take a processing instruction."""
        self._count()
        super().pi(target, data or "")

    def _count(self) -> None:
        self._nodes += 1
        self._steps += self._depth
        if self._nodes > MAX_NODES:
            raise PageError(f"the page has more than {MAX_NODES} elements and comments")
        if self._steps > MAX_STEPS:
            raise PageError(f"the page nests too deeply: {self._steps} steps up in all")


def _encoding_of(data: bytes) -> str:
    """Return what the page declares, or else UTF-8 where it fits and Windows-1252 elsewhere."""
    declared = EncodingDetector.find_declared_encoding(data[:_ENCODING_WINDOW], is_html=True)
    if declared and not declared.startswith(("utf-16", "utf-32")):  # it would not be readable
        try:
            etree.HTMLParser(encoding=declared)
        except (LookupError, ValueError):
            pass
        else:
            return declared
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"
