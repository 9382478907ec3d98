"""What of a page is not its article: navigation, boxes, teasers of other articles, adverts."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Tag

from cambrian_data.engine.extract.address import PICTURE_FILE
from cambrian_data.engine.extract.outline import HEADINGS, Outline
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
    | {"bookmark"}
)
_LOUD_WORDS = frozenset(
    {"related", "recommended", "recommendations", "teaser", "promo", "advert", "advertisement"}
    | {"ads", "sponsor", "sponsored", "avatar", "author", "outbrain", "taboola", "bookmark"}
)
"""Those that say what a picture itself is; the others on it say what a click does (`popup`)."""
_PICTURE_NAMES = frozenset({"a", "figure", "span", "img", "picture", "amp-img"})
_OTHERS = re.compile(
    r"(^|[^a-z])((next|prev|previous|more|other|latest|popular|recent|similar|trending)[-_]?"
    r"(posts?|articles?|stor(y|ies)|news)|up[-_]?next|(read|see)[-_]?also"
    r"|(also|you[-_]?(may|might))[-_]?like)([^a-z]|$)"
    r"|most[-_]?(read|popular|viewed|shared|commented|emailed)|(read|watch)[-_]?next"
    r"|(related|recommended|suggested)[-_]?(posts?|articles?|stor(y|ies)|news|content|reads?|links)"
)
"""Names of boxes with teasers, also where they are written as one word (`relatedposts`)."""
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
        name, attributes = tag.name, tag.attrs
        if name in _NAMES:
            return True
        if name in HEADINGS:
            return False  # its id is made of its words: "Related patterns" is no teaser
        if name == "aside":
            return not self._is_aside_of_article(tag)
        if name == "header":
            return not self._is_of_article(tag) and not self._outline.has(tag, "figure")
        if not attributes:
            return False
        if "role" in attributes and str(attributes["role"] or "").lower() in _ROLES:
            return True
        if name == "article":
            return self._is_other_article(tag)
        names = classes(tag)
        if "mw-heading" in names:
            return False
        if any(_is_furniture_label(label, name) for label in names):
            return True
        label = str(attributes.get("id") or "").lower()
        return (bool(label) and _is_furniture_label(label, name)) or self._is_teaser(tag)

    def _is_aside_of_article(self, aside: Tag) -> bool:
        """Tell whether an aside is an infobox, or a picture with its caption and no more."""
        outline = self._outline
        if outline.is_a(aside, "infobox"):
            return True
        is_plain = not outline.has(aside, "li", "article", *HEADINGS)
        return is_plain and outline.has(aside, "caption") and outline.count(aside, "p") <= 2

    def _is_of_article(self, header: Tag) -> bool:
        """Tell whether a header is that of an article or of a section, and not of the page."""
        return any(self._outline.around(header, kind) for kind in ("article", "main", "section"))

    def _is_other_article(self, tag: Tag) -> bool:
        main = self._article
        outline = self._outline
        if main is None or tag is main or outline.holds(main, tag) or outline.holds(tag, main):
            return self._is_teaser(tag)
        return outline.prose(tag) * 4 < outline.prose(main)

    def _is_teaser(self, tag: Tag) -> bool:
        """Tell whether an element is a link that shows picture and text of another page."""
        if tag.name != "a" or not self._outline.has(tag, "image"):
            return False
        href = str(tag.attrs.get("href") or "")
        if not href or href.startswith("#") or PICTURE_FILE.search(href):
            return False
        return self._outline.has(tag, *_TEASER_TITLES)


def _is_furniture_label(label: str, name: str) -> bool:
    if label in _EXACT:
        return True
    if label.startswith(("mw-", "wp-block-image", "pcs-", "has-", "no-", "with-")):
        return False
    words = _WORD_EDGE.split(label)
    if words[0] == "elementor":  # every block of this page builder is a "widget"
        words.remove("elementor")
        words = [word for word in words if word != "widget"]
    known = _LOUD_WORDS if name in _PICTURE_NAMES else _WORDS
    return not known.isdisjoint(words) or bool(_OTHERS.search(label))
