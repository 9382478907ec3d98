"""Plain text of a piece of HTML: no formulas, footnote marks, edit links, styles or scripts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from bs4 import NavigableString, PageElement, Tag
from bs4.element import PreformattedString

SILENT = frozenset(
    {"script", "style", "noscript", "template", "math", "svg", "button", "img", "video", "audio"}
    | {"iframe", "input", "select", "textarea", "object", "link", "meta"}
)
"""Elements whose text is not read by a person, or is not prose."""
_SILENT_CLASSES = frozenset(
    {"mw-editsection", "mwe-math-element", "reference", "mw-ref", "headerlink", "magnify"}
    | {"mw-cite-backlink", "anchorjs-link", "screen-reader-text", "visually-hidden", "sr-only"}
    | {"mw-empty-elt", "noprint", "audiolinkinfo"}
)
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "br", "center", "dd", "div", "dl", "dt", "figure"}
    | {"figcaption", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "section"}
    | {"table", "tbody", "td", "th", "tr", "ul"}
)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_MARK = re.compile(r"\W{0,2}\w{0,4}\W{0,3}")
_MARK_NODES = 64
"""A footnote mark holds no more; keeps marks inside marks from being read over and over."""


def classes(tag: Tag) -> list[str]:
    """Return the classes of an element, lower-case."""
    value = tag.get("class") or []
    return [name.lower() for name in (value.split() if isinstance(value, str) else value)]


def plain_text(tag: Tag) -> str:
    """Return what a reader sees of an element, in one line."""
    text = _INVISIBLE.sub("", "".join(_pieces(tag)))
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\(\s*[;,]*\s*\)", "", text)  # what a removed formula or sound leaves behind
    return re.sub(r"\s+([,.;:!?)\]])(?=\s|$)", r"\1", re.sub(r"\s{2,}", " ", text))


def _pieces(tag: Tag) -> Iterator[str]:
    """Yield the texts of an element, with a blank at the edges of blocks; iterative."""
    todo: list[PageElement | str] = list(reversed(tag.contents))
    while todo:
        node = todo.pop()
        if isinstance(node, Tag):
            if not is_silent(node):
                edge = " " if node.name in _BLOCKS else ""
                yield edge
                todo.append(edge)
                todo.extend(reversed(node.contents))
        elif not isinstance(node, PreformattedString):
            yield str(node)


def is_silent(tag: Tag) -> bool:
    """Tell whether an element is no part of the prose around it."""
    if tag.name in SILENT or tag.has_attr("hidden"):
        return True
    if not _SILENT_CLASSES.isdisjoint(classes(tag)):
        return True
    style = str(tag.get("style") or "").replace(" ", "").lower()
    if "display:none" in style and tag.name != "section":  # mobile pages fold whole sections
        return True
    return tag.name == "sup" and _is_footnote_mark(tag)


def _is_footnote_mark(sup: Tag) -> bool:
    nodes = list(itertools.islice(sup.descendants, _MARK_NODES + 1))
    if len(nodes) > _MARK_NODES:
        return False
    links = [str(node.get("href") or "") for node in nodes if isinstance(node, Tag)]
    text = "".join(str(node) for node in nodes if type(node) is NavigableString).strip()
    bracketed = text.startswith("[") and text.endswith("]")
    return bracketed or (any("#" in link for link in links) and bool(_MARK.fullmatch(text)))
