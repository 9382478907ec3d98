"""Plain text of a piece of HTML: no formulas, footnote marks, edit links, styles or scripts."""

from __future__ import annotations

import re

from bs4 import NavigableString, Tag
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


def classes(tag: Tag) -> list[str]:
    """Return the classes of an element, lower-case."""
    value = tag.get("class") or []
    return [name.lower() for name in (value.split() if isinstance(value, str) else value)]


def plain_text(tag: Tag) -> str:
    """Return what a reader sees of an element, in one line."""
    parts: list[str] = []
    _collect(tag, parts)
    text = _INVISIBLE.sub("", "".join(parts))
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\(\s*[;,]*\s*\)", "", text)  # what a removed formula or sound leaves behind
    return re.sub(r"\s+([,.;:!?)\]])(?=\s|$)", r"\1", re.sub(r"\s{2,}", " ", text))


def _collect(tag: Tag, parts: list[str]) -> None:
    for child in tag.children:
        if isinstance(child, Tag):
            if not is_silent(child):
                edge = " " if child.name in _BLOCKS else ""
                parts.append(edge)
                _collect(child, parts)
                parts.append(edge)
        elif isinstance(child, NavigableString) and not isinstance(child, PreformattedString):
            parts.append(str(child))


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
    links = sup.find_all("a", href=True)
    inner = [link for link in links if "#" in str(link["href"])]
    text = sup.get_text().strip()
    bracketed = text.startswith("[") and text.endswith("]")
    return bracketed or (bool(inner) and bool(_MARK.fullmatch(text)))
