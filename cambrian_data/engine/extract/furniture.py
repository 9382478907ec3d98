"""What of a page is not its article: navigation, boxes, teasers of other articles, adverts."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Tag

from cambrian_data.engine.extract.outline import Outline
from cambrian_data.engine.extract.text import classes

_NAMES = frozenset({"nav", "footer", "form", "dialog", "button", "menu", "template", "head"})
_ROLES = frozenset(
    {"navigation", "banner", "contentinfo", "complementary", "search", "dialog", "menu"}
    | {"tooltip"}
)
_EXACT = frozenset(
    {
        "navbox",
        "vertical-navbox",
        "sidebar",
        "metadata",
        "ambox",
        "mbox-small",
        "hatnote",
        "rellink",
    }
    | {"dablink", "toc", "catlinks", "printfooter", "sistersitebox", "side-box", "portal", "stub"}
    | {"portalbox", "noviewer", "mw-indicators", "mw-jump-link", "sitesub", "reflist", "tochidden"}
    | {"pcs-edit-section-title-description", "mw-references-wrap", "shortdescription", "noexcerpt"}
)
_WORDS = frozenset(
    {"nav", "navbar", "navigation", "menu", "footer", "sidebar", "related", "recommended", "teaser"}
    | {"recommendations", "promo", "share", "sharing", "social", "comments", "newsletter", "popup"}
    | {"subscribe", "subscription", "breadcrumb", "breadcrumbs", "advert", "advertisement", "ads"}
    | {"sponsor", "sponsored", "cookie", "cookies", "modal", "byline", "avatar", "author", "bio"}
    | {"masthead", "pagination", "trending", "widget", "banner", "readmore", "outbrain", "taboola"}
)
_NEXT = re.compile(r"(^|[-_ ])(next|prev|previous|more|other|latest|popular)[-_]?"
                   r"(post|posts|article|articles|stories|story|news)([-_ ]|$)")  # fmt: skip
_TEASER_TITLES = ("h1", "h2", "h3", "h4", "h5", "h6", "article", "figcaption")
_WORD_EDGE = re.compile(r"[^a-z]+")


class Furniture:
    """Tells what is furniture on one page; whatever holds most of the page's prose is not."""

    def __init__(self, soup: BeautifulSoup, root: Tag, outline: Outline) -> None:
        self._outline = outline
        self._prose = outline.prose(root)
        self._article = max(outline.all(soup, "article"), key=outline.prose, default=None)

    def holds(self, tag: Tag) -> bool:
        """Tell whether an element, with all that it holds, is no part of the article."""
        if not self._looks_like_it(tag):
            return False
        return self._outline.prose(tag) <= self._prose / 2

    def _looks_like_it(self, tag: Tag) -> bool:
        names = classes(tag)
        if re.fullmatch(r"h[1-6]", tag.name) or "mw-heading" in names:
            return False  # its id is made of its words: "Related patterns" is no teaser
        if tag.name in _NAMES or str(tag.get("role") or "").lower() in _ROLES:
            return True
        if tag.name == "aside":
            return not any("infobox" in name for name in names)
        if tag.name == "header":
            return not self._outline.has(tag, "figure")
        if tag.name == "article":
            return self._is_other_article(tag)
        labels = [*names, str(tag.get("id") or "").lower()]
        return any(_is_furniture_label(label) for label in labels if label) or self._is_teaser(tag)

    def _is_other_article(self, tag: Tag) -> bool:
        main = self._article
        outline = self._outline
        if main is None or tag is main or outline.holds(main, tag) or outline.holds(tag, main):
            return self._is_teaser(tag)
        return outline.prose(tag) * 4 < outline.prose(main)

    def _is_teaser(self, tag: Tag) -> bool:
        """Tell whether an element is a link that shows picture and text of another page."""
        if tag.name != "a" or not tag.get("href") or not self._outline.has(tag, "img"):
            return False
        return self._outline.has(tag, *_TEASER_TITLES)


def _is_furniture_label(label: str) -> bool:
    if label in _EXACT:
        return True
    if label.startswith(("mw-", "wp-block-image", "pcs-", "has-", "no-", "with-")):
        return False
    return not _WORDS.isdisjoint(_WORD_EDGE.split(label)) or bool(_NEXT.search(label))
