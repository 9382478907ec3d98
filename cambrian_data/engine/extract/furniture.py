"""What of a page is not its article: navigation, boxes, teasers of other articles, adverts."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Tag

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
_WORD_EDGE = re.compile(r"[^a-z]+")


class Furniture:
    """Tells what is furniture on one page; whatever holds most of the page's prose is not."""

    def __init__(self, soup: BeautifulSoup, root: Tag) -> None:
        self._prose = sum(len(p.get_text()) for p in root.find_all("p"))
        self._article = max(soup.find_all("article"), key=_prose_of, default=None)

    def holds(self, tag: Tag) -> bool:
        """Tell whether an element, with all that it holds, is no part of the article."""
        if not self._looks_like_it(tag):
            return False
        return _prose_of(tag) <= self._prose / 2

    def _looks_like_it(self, tag: Tag) -> bool:
        names = classes(tag)
        if tag.name in _NAMES or str(tag.get("role") or "").lower() in _ROLES:
            return True
        if tag.name == "aside":
            return not any("infobox" in name for name in names)
        if tag.name == "header":
            return tag.find("figure") is None
        if tag.name == "article":
            return self._is_other_article(tag)
        labels = [*names, str(tag.get("id") or "").lower()]
        return any(_is_furniture_label(label) for label in labels if label) or is_teaser(tag)

    def _is_other_article(self, tag: Tag) -> bool:
        main = self._article
        if main is None or tag is main or main in tag.parents or tag in main.parents:
            return is_teaser(tag)
        return _prose_of(tag) * 4 < _prose_of(main)


def is_teaser(tag: Tag) -> bool:
    """Tell whether an element is a link that shows picture and text of another page."""
    if tag.name != "a" or not tag.get("href") or tag.find("img") is None:
        return False
    return tag.find(["h1", "h2", "h3", "h4", "h5", "h6", "article", "figcaption"]) is not None


def _is_furniture_label(label: str) -> bool:
    if label in _EXACT:
        return True
    if label.startswith(("mw-", "wp-block-image", "pcs-", "has-", "no-", "with-")):
        return False
    return not _WORDS.isdisjoint(_WORD_EDGE.split(label)) or bool(_NEXT.search(label))


def _prose_of(tag: Tag) -> int:
    return sum(len(p.get_text()) for p in tag.find_all("p"))
