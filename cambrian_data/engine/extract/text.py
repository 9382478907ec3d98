"""Plain text of a piece of HTML: no formulas, footnote marks, edit links, styles or scripts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from bs4 import NavigableString, PageElement, Tag
from bs4.element import PreformattedString

SILENT = frozenset(
    {"script", "style", "noscript", "template", "math", "svg", "button", "img", "video", "audio"}
    | {"iframe", "input", "select", "textarea", "object", "link", "meta", "mjx-container"}
)
"""Elements whose text is not read by a person, or is not prose."""
_FORMULA_CLASSES = frozenset(
    {"mwe-math-element", "katex", "katex-display", "mathjax", "mathjax_preview", "mathjax_display"}
    | {"math", "ltx_math", "ltx_equation", "ltx_equationgroup"}
)
_FOOTNOTE_CLASSES = frozenset(
    {"mw-ref", "mw-cite-backlink", "footnote-ref", "footnote-reference", "footnote-anchor"}
    | {"footnote-backref", "noteref", "sidenote", "sidenote-number", "marginnote", "ltx_note"}
)
_TOOL_CLASSES = frozenset(
    {"mw-editsection", "editsection", "headerlink", "header-anchor", "anchor-link", "hash-link"}
    | {"heading-anchor", "anchorjs-link", "magnify", "noprint", "mw-empty-elt", "audiolinkinfo"}
    | {"screen-reader-text", "visually-hidden", "visuallyhidden", "sr-only", "off-screen"}
)
_SILENT_CLASSES = _FORMULA_CLASSES | _FOOTNOTE_CLASSES | _TOOL_CLASSES
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "br", "center", "dd", "div", "dl", "dt", "figure"}
    | {"figcaption", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "section"}
    | {"table", "tbody", "td", "th", "tr", "ul", "main", "header", "footer", "nav", "form"}
    | {"details", "summary", "caption", "thead", "tfoot"}
)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_MARK = re.compile(r"\W{0,2}\w{0,4}\W{0,3}")
_MARK_NODES = 64
"""A footnote mark holds no more; keeps marks inside marks from being read over and over."""


def classes(tag: Tag) -> list[str]:
    """Return the classes of an element, lower-case."""
    value = tag.attrs.get("class")
    if not value:
        return []
    return [name.lower() for name in (value.split() if isinstance(value, str) else value)]


def is_block(tag: Tag) -> bool:
    """Tell whether an element stands on lines of its own."""
    return tag.name in _BLOCKS


def plain_text(tag: Tag) -> str:
    """Return what a reader sees of an element, in one line."""
    return text_of(tag.contents)


def text_of(nodes: Iterable[PageElement]) -> str:
    """Return what a reader sees of nodes that follow each other, in one line."""
    text = _INVISIBLE.sub("", "".join(_pieces(nodes)))
    text = " ".join(text.split())
    if "(" in text:
        text = re.sub(r"\(\s*[;,]*\s*\)", "", text)  # what a removed formula or sound leaves behind
        text = re.sub(r"\s{2,}", " ", text)
    return re.sub(r"\s+([,.;:!?)\]])(?=\s|$)", r"\1", text).strip()


def _pieces(nodes: Iterable[PageElement]) -> Iterator[str]:
    """Yield the texts of nodes, with a blank at the edges of blocks; iterative."""
    todo: list[PageElement | str] = list(nodes)
    todo.reverse()
    while todo:
        node = todo.pop()
        if isinstance(node, Tag):
            if not is_silent(node):
                if node.name in _BLOCKS:
                    yield " "
                    todo.append(" ")
                todo.extend(reversed(node.contents))
        elif not isinstance(node, PreformattedString):
            yield str(node)


def is_silent(tag: Tag) -> bool:
    """Tell whether an element is no part of the prose around it."""
    if tag.name in SILENT:
        return True
    attributes = tag.attrs
    if not attributes:
        return False
    if "hidden" in attributes or ("class" in attributes and _has_silent_class(tag)):
        return True
    style = attributes.get("style")
    if style and "none" in style and "display:none" in str(style).replace(" ", "").lower():
        return tag.name != "section"  # mobile pages fold whole sections
    if tag.name == "sup":
        return _is_footnote_mark(tag)
    return tag.name == "a" and _is_anchor_mark(tag)


def _has_silent_class(tag: Tag) -> bool:
    names = classes(tag)
    if not _SILENT_CLASSES.isdisjoint(names):
        return True
    return "reference" in names and tag.name != "a"  # in manuals every link is a `reference`


def _is_anchor_mark(link: Tag) -> bool:
    """Tell whether a link only shows where it stands (a pilcrow, a chain), or leads to a note."""
    if link.attrs.get("role") == "doc-noteref":
        return True
    if not str(link.attrs.get("href") or "").startswith("#") or len(link.contents) != 1:
        return False
    text = str(link.contents[0]).strip() if type(link.contents[0]) is NavigableString else "text"
    return len(text) <= 2 and not any(map(str.isalnum, text))


def _is_footnote_mark(sup: Tag) -> bool:
    nodes = list(itertools.islice(sup.descendants, _MARK_NODES + 1))
    if len(nodes) > _MARK_NODES:
        return False
    links = [str(node.get("href") or "") for node in nodes if isinstance(node, Tag)]
    text = "".join(str(node) for node in nodes if type(node) is NavigableString).strip()
    bracketed = text.startswith("[") and text.endswith("]")
    return bracketed or (any("#" in link for link in links) and bool(_MARK.fullmatch(text)))
