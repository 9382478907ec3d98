"""One walk over a page: headings open sections, paragraphs fill them, figures stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bs4 import PageElement, Tag

from cambrian_data.engine.extract.furniture import Furniture
from cambrian_data.engine.extract.headings import (
    is_aside,
    is_of_others,
    is_subtitle,
    is_title,
    level_of,
)
from cambrian_data.engine.extract.outline import HEADINGS, Outline
from cambrian_data.engine.extract.pictures import Pictures, Shown
from cambrian_data.engine.extract.prose import Prose, num_words
from cambrian_data.engine.extract.text import is_block, is_silent, plain_text, text_of

_MIN_BLOCK_WORDS = 12
"""Text outside of paragraphs is prose from here on: what is shorter are dates, names, buttons."""
_BOXES = ("table", "infobox")
_MIN_PROSE_WORDS = 25
"""A paragraph that tells that the teasers of other articles are over."""


@dataclass(slots=True, eq=False)
class Section:
    """A heading with the path to it and the prose up to the next heading of any level."""

    path: list[str]
    of_others: bool = False
    """Whether it holds teasers of other articles."""
    paragraphs: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    _prose: Prose | None = None

    def place(self) -> int:
        """Return the number of paragraphs so far."""
        return len(self.paragraphs or self.items)

    def prose(self) -> Prose:
        """Return the paragraphs; a section that has none gives the items of its lists."""
        if self._prose is None:
            self._prose = Prose(self.paragraphs or self.items)
        return self._prose


class Walk:
    """Collects sections and figures in document order."""

    def __init__(
        self,
        root: Tag,
        furniture: Furniture,
        outline: Outline,
        pictures: Pictures,
        titles: set[str],
    ) -> None:
        """Take a page; `titles` are what names it in headings, none where none can."""
        self._root, self._furniture = root, furniture
        self._outline, self._pictures = outline, pictures
        self._titles = titles
        self._open: list[tuple[int, str]] = []
        self._section = Section([])
        self._before_others = (self._section, self._open)
        self._found: list[tuple[Shown, Section, int]] = []
        self._title = outline.first(root, "h1")
        self._title_text = plain_text(self._title) if self._title is not None else ""
        self._has_prose = False
        self._prose_of_page = outline.prose(root)

    def run(self) -> None:
        """Walk the whole page; iterative, since pages nest deeply."""
        stack: list[Iterator[Tag]] = [self._children(self._root)]
        while stack:
            tag = next(stack[-1], None)
            if tag is None:
                stack.pop()
            elif self._descend(tag):
                stack.append(self._children(tag))

    def found(self) -> Iterator[tuple[Shown, Section, int]]:
        """Yield each picture with its section and the number of paragraphs before it.

        A picture with one caption counts once; one that is shown in a section without a caption
        too, and not at all if it has one there.
        """
        captioned = {(shown.url, id(section)) for shown, section, _ in self._found if shown.caption}
        seen: set[tuple[str, str, int]] = set()
        for shown, section, place in self._found:
            key = (shown.url, shown.caption, 0 if shown.caption else id(section))
            is_again = not shown.caption and (shown.url, id(section)) in captioned
            if key not in seen and not is_again:
                seen.add(key)
                yield shown, section, place

    def _children(self, tag: Tag) -> Iterator[Tag]:
        """Yield the elements inside an element; text that stands loose between them is read."""
        has_prose = self._outline.is_text_block(tag) and not self._is_in(tag, "header")
        if not has_prose or self._is_in_box(tag):
            yield from (child for child in tag.children if isinstance(child, Tag))
            return
        loose: list[PageElement] = []
        for child in tag.children:
            if not isinstance(child, Tag):
                loose.append(child)
            elif self._is_inline(child):
                if child.name == "br" and loose and _is_break(loose):
                    self._read_loose(loose)
                    loose = []
                loose.append(child)
            else:
                self._read_loose(loose)
                loose = []
                yield child
        self._read_loose(loose)

    def _is_inline(self, tag: Tag) -> bool:
        if tag.name == "br":
            return True
        outline = self._outline
        return not (is_block(tag) or is_silent(tag) or outline.is_a(tag, "image")) and not (
            outline.has(tag, "image", "p", "figure", *HEADINGS)
        )

    def _read_loose(self, nodes: list[PageElement]) -> None:
        if nodes and num_words(text := text_of(nodes)) >= _MIN_BLOCK_WORDS:
            self._add_paragraph(text)

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
        if (level := level_of(tag)) is not None:
            self._enter(tag, level)
            return False
        if self._pictures.is_figure(tag):
            self._add(self._pictures.of_figure(tag, self._root))
            return False
        self._read(tag)
        return True

    def _add(self, pictures: Iterable[Shown]) -> None:
        if not self._section.of_others:
            place = self._section.place()
            self._found.extend((shown, self._section, place) for shown in pictures)

    def _enter(self, heading: Tag, level: int) -> None:
        text = plain_text(heading)
        if not text or self._is_in_box(heading, "aside") or self._names_page(heading, text):
            return
        if self._titles and (is_aside(text) or self._is_subtitle(text)):
            return
        of_others = bool(self._titles) and is_of_others(text)
        if of_others and not self._section.of_others:
            self._before_others = (self._section, self._open)
        self._open = [(at, name) for at, name in self._open if at < level] + [(level, text)]
        self._section = Section([name for _, name in self._open], of_others)

    def _is_subtitle(self, text: str) -> bool:
        return not self._open and not self._has_prose and is_subtitle(text)

    def _names_page(self, heading: Tag, text: str) -> bool:
        """Tell whether a heading is the first h1, or says the same once more."""
        is_first = self._titles and not self._has_prose
        if heading is self._title or (is_first and is_title(text, self._titles)):
            if self._open and is_first:  # what stood above it was a kicker
                self._open, self._section = [], Section([])
            return True
        title = self._title
        if title is None or heading.name != title.name or text != self._title_text:
            return False
        return heading.attrs == title.attrs

    def _is_in_box(self, tag: Tag, *more: str) -> bool:
        """Tell whether an element stands in a box, and not one that lays out the whole page."""
        boxes = (self._outline.around(tag, kind) for kind in (*_BOXES, *more))
        return any(box is not None and self._is_box(box) for box in boxes)

    def _is_box(self, box: Tag) -> bool:
        if box.name == "table" and self._root.name == "td":
            return False
        return self._outline.prose(box) * 2 < self._prose_of_page

    def _is_in(self, tag: Tag, *kinds: str) -> bool:
        return any(self._outline.around(tag, kind) is not None for kind in kinds)

    def _read(self, tag: Tag) -> None:
        """Add the text of a paragraph or item, once: not that of one within another."""
        if tag.name == "p":
            is_read = self._is_in(tag, "p", "header")
        elif tag.name in ("li", "dd"):
            is_read = self._is_in(tag, "li", "dd")
        else:
            return
        captions = self._pictures.captions
        if is_read or self._is_in_box(tag) or captions.is_taken(tag) or captions.is_in_one(tag):
            return
        if text := plain_text(tag):
            if tag.name == "p":
                self._add_paragraph(text)
            else:
                self._section.items.append(text)

    def _add_paragraph(self, text: str) -> None:
        """Add prose, to the article once more where it goes on below teasers of other articles."""
        self._has_prose = True
        if self._section.of_others and num_words(text) >= _MIN_PROSE_WORDS:
            self._section, self._open = self._before_others
        self._section.paragraphs.append(text)


def _is_break(nodes: list[PageElement]) -> bool:
    """Tell whether the last thing in a line of text is a line break."""
    for node in reversed(nodes):
        if isinstance(node, Tag):
            return node.name == "br"
        if str(node).strip():
            return False
    return False
