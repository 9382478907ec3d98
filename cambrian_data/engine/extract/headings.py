"""What a heading is, and which headings open no section: the title, its subtitle, furniture."""

from __future__ import annotations

import re

from bs4 import Tag

from cambrian_data.engine.extract.outline import HEADINGS

_LEVELS = {name: int(name[1]) for name in HEADINGS}
_DEFAULT_LEVEL = 2
_MIN_SUBTITLE_WORDS = 6
_MAX_CHARS = 1000
_BYLINE = re.compile(r"([Bb]y|BY|[Vv]on|[Pp]ar|[Pp]or|Di|[Dd]oor|Av|Af)(\s+[^\Wa-z]\S*){1,5}")
_SENTENCE = re.compile("[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u00bb)]*$")
_SEPARATED = re.compile(r"\s+[|\u2013\u2014\u00b7:-]+\s+")
_ASIDE = re.compile(
    r"(advertisement|anzeige|werbung|publicit\u00e9|((our|free|get the) )?newsletter|follow us"
    r"|(sign up|subscribe)( (for|to|now|today)\b.*)?|share|share (this|on|via)\b.*|comments?"
    r"|leave a (comment|reply)|about the author|(table of )?contents|inhalt|sommaire)[\W\d]*",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"((you|we) (may|might|think you).{0,20}(like|enjoy|interest).*"
    r"|(related|recommended|similar|popular|latest|recent|trending|featured|further|other|more)"
    r" (articles?|stor(y|ies)|posts?|news|content|reading|videos?|topics|links)"
    r"|related|recommended( for you)?|read (more|next|also)|more (from|on this|like this).*|up next"
    r"|(next|previous) (article|story|post)|most (read|popular|viewed|shared)"
    r"|other people are reading|don.t miss|what to read next"
    r"|das k\u00f6nnte (sie|dich) auch.*|mehr zum thema.*|lesen sie auch.*|weitere (artikel|themen)"
    r"|auch interessant|\u00e0 lire aussi|sur le m\u00eame (sujet|th\u00e8me)"
    r"|articles (li\u00e9s|similaires)|leggi anche|articoli correlati|lea tambi\u00e9n"
    r"|te puede interesar.*|noticias relacionadas|leia (tamb\u00e9m|mais)|veja tamb\u00e9m"
    r"|lees ook|meer over.*|\u0447\u0438\u0442\u0430\u0439\u0442\u0435 "
    r"\u0442\u0430\u043a\u0436\u0435|\u76f8\u5173(\u9605\u8bfb|\u65b0\u95fb|\u63a8\u8350)"
    r"|\u95a2\u9023\u8a18\u4e8b|\uad00\ub828 ?\uae30\uc0ac"
    r")\W*",
    re.IGNORECASE,
)


def level_of(tag: Tag) -> int | None:
    """Return the level of a heading, None for any other element."""
    level = _LEVELS.get(tag.name)
    if level is None and tag.attrs.get("role") == "heading":
        stated = str(tag.attrs.get("aria-level") or "")
        return int(stated) if stated in ("1", "2", "3", "4", "5", "6") else _DEFAULT_LEVEL
    return level


def titles_of(title: str) -> set[str]:
    """Return what the heading of a page may be that has this title, with or without its site."""
    parts = [title, *_SEPARATED.split(title)]
    found = {_plain(part) for part in parts if len(part.split()) > 1}
    for cut in _SEPARATED.finditer(title):
        found.add(_plain(title[: cut.start()]))
    return found - {""}


def is_title(text: str, titles: set[str]) -> bool:
    """Tell whether a heading names the page."""
    return _plain(text) in titles


def is_subtitle(text: str) -> bool:
    """Tell whether a heading above all prose is a sentence or a by-line, no section's name."""
    if len(text) > _MAX_CHARS or _BYLINE.fullmatch(text):
        return True
    return len(text.split()) >= _MIN_SUBTITLE_WORDS and bool(_SENTENCE.search(text))


def is_aside(text: str) -> bool:
    """Tell whether a heading stands over a box in the midst of an article, such as an advert."""
    return len(text) <= _MAX_CHARS and bool(_ASIDE.fullmatch(text))


def is_of_others(text: str) -> bool:
    """Tell whether a heading stands over teasers of other articles."""
    return len(text) <= _MAX_CHARS and bool(_OTHERS.fullmatch(text))


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()
