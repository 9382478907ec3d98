"""What a page or a picture says about being used: X-Robots-Tag, <meta name=robots>, TDM.

`noindex`, `none` and `noai` hold for pages; for pictures `noimageindex` and `noimageai` too. What
is said to another robot by its name does not count.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Literal

AGENT = "cambrian"
"""The name that we go by in robots.txt and in robots' tags."""

PAGE_WORDS = frozenset({"noai", "none", "noindex"})
PICTURE_WORDS = PAGE_WORDS | {"noimageai", "noimageindex"}
_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
_STEP = re.compile(r"<!--|<meta(?=[\s/])|<(script|style|textarea|title|xmp)\b", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"""[\s/]*([^\s=>/"']{1,100})(?:\s{0,99}=\s{0,99}(?:"([^"]{0,4000})"|'([^']{0,4000})'|([^\s>"']{1,4000})))?"""
)


def opt_out(
    headers: Mapping[str, str], body: bytes = b"", *, kind: Literal["page", "picture"]
) -> str | None:
    """Return the words by which an answer opts out of what we do, or None.

    Args:
        headers: of the answer, names in lower case.
        body: of the page. With `kind="picture"`, the page on which pictures stand speaks for them.
        kind: what is asked about: the page's text, or pictures.
    """
    words = PICTURE_WORDS if kind == "picture" else PAGE_WORDS
    if headers.get("tdm-reservation", "").strip() == "1":
        return "tdm-reservation: 1"
    for word in _for_us(headers.get("x-robots-tag", "")):
        if word in words:
            return f"X-Robots-Tag: {word}"
    for name, content in _metas(body):
        if name == "tdm-reservation" and content.strip() == "1":
            return "<meta name=tdm-reservation content=1>"
        if name in ("robots", AGENT):
            for word in _split(content):
                if word in words:
                    return f"<meta name={name} content={word}>"
    return None


def join_tags(lines: Iterable[str]) -> str:
    """Join several X-Robots-Tag lines into one, those for all robots first.

    A robot's name holds to the end of its line; so joined, it still does.
    """
    return ", ".join(sorted(lines, key=lambda line: _named(line)[0] != ""))


def _for_us(tag: str) -> Iterable[str]:
    """Yield the words of an X-Robots-Tag that hold for us."""
    robot = ""
    for part in tag.split(","):
        name, rest = _named(part)
        robot = name or robot
        if robot in ("", AGENT):
            yield from _split(rest)


def _named(part: str) -> tuple[str, str]:
    """Split `otherbot: noai` into the robot's name and the rest; "" where none is named."""
    name, colon, rest = part.partition(":")
    name = name.strip().lower()
    if name in _WITH_VALUE:
        return "", ""
    if not colon or "," in name:
        return "", part
    return name, rest


def _split(words: str) -> list[str]:
    return words.lower().replace(",", " ").split()


def _metas(body: bytes) -> Iterable[tuple[str, str]]:
    """Yield name and content of the <meta> of a page, in one pass, however broken it is."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = body.decode("utf-16", "replace")
    else:
        text = body.decode("latin-1")  # all that is looked for is ASCII
    at = 0
    while step := _STEP.search(text, at):
        at = step.end()
        if step.group(0) == "<!--":
            at = text.find("-->", step.start() + 2)
        elif step.group(1):
            close = re.compile(f"</{step.group(1)}", re.IGNORECASE).search(text, at)
            at = close.end() if close else -1
        else:
            attributes: dict[str, str] = {}
            while found := _ATTRIBUTE.match(text, at):
                value = next((group for group in found.groups()[1:] if group is not None), "")
                attributes.setdefault(found.group(1).lower(), html.unescape(value))
                at = found.end()
            yield attributes.get("name", "").strip().lower(), attributes.get("content", "")
        if at < 0:
            return
