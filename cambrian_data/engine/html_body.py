"""Is a body HTML, and in which encoding: by content first, since headers are often wrong.

`refusal` tells why a body is no page, `readable` hands the encoding of the HTTP header on to the
parser (the HTML standard: a byte order mark first, then the header, then the page). Pure; looks at
the beginning of a body, and decodes the whole only where the header names another encoding.
"""

from __future__ import annotations

import codecs
import re

import orjson
from bs4.dammit import EncodingDetector

_WINDOW = 65_536
_DECLARED_WINDOW = 8192
"""Bytes in which the parser looks for the page's own encoding."""
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ROOTS = frozenset({"html", "head", "body"})
_PARTS = frozenset(
    {"title", "meta", "link", "script", "style", "base", "noscript", "iframe", "div", "p", "span"}
    | {"h1", "h2", "h3", "a", "b", "br", "font", "img", "table", "center", "ul", "ol", "form"}
    | {"article", "main", "header", "section", "nav", "figure"}
)
_BINARY = (b"%PDF-", b"GIF8", b"\xff\xd8\xff", b"\x89PNG", b"PK\x03\x04", b"\x1f\x8b", b"RIFF")
_OTHER_ROOTS = frozenset({"svg", "rss", "feed", "rdf", "urlset", "sitemapindex", "wml"})
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;,\"']+)", re.IGNORECASE)
_OPENING = re.compile(r"\s*+(<!--|<\?)?")
_ELEMENT = re.compile(r"<(?:!doctype\s+)?([a-z][\w:-]{0,30})")
_CODECS = re.compile(
    r"utf-8|utf-16(-[lb]e)?|ascii|cp125\d|cp(866|874|932|949)|iso8859-\d+|koi8-[ru]|gbk?|gb2312"
    r"|gb18030|big5|big5hkscs|euc_(jp|kr)|shift_jis|iso2022_jp|mac-(roman|cyrillic)|tis-620|hz"
)
"""What is decoded: the encodings of the web, no others of Python (some take hours)."""
_WEB_NAMES = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
"""What browsers take these names to mean (WHATWG Encoding Standard)."""
_MAX_UNREADABLE = 0.1
"""Share of undecodable characters among those beyond ASCII up to which the header is believed."""


def content_type(header: str) -> tuple[str, str]:
    """Return media type and charset of a Content-Type header, lower-case, empty where not said."""
    charset = _CHARSET.search(header)
    return header.partition(";")[0].strip().lower(), charset[1].lower() if charset else ""


def first_element(body: bytes) -> str:
    """Return the local name of the first element or doctype, empty where there is none."""
    head = body[:_WINDOW]
    is_wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = head.decode("utf-16" if is_wide else "utf-8", "replace").lower().removeprefix("\ufeff")
    at = 0
    while (opening := _OPENING.match(text, at)) and opening[1]:  # comments and <?...?> go first
        end = text.find("-->" if opening[1] == "<!--" else ">", opening.end())
        if end < 0:
            return ""
        at = text.index(">", end) + 1
    found = _ELEMENT.match(text, opening.end() if opening else at)
    return found[1].rpartition(":")[2] if found else ""


def looks_like_html(body: bytes) -> bool:
    """Tell whether a body begins like a page, whatever its header says."""
    return first_element(body) in _ROOTS | _PARTS


def looks_like_json(body: bytes) -> bool:
    """Tell whether a body is JSON: an object or a list."""
    if body.removeprefix(codecs.BOM_UTF8).lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        orjson.loads(body.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError:
        return False
    return True


def refusal(body: bytes, header: str) -> str | None:
    """Return what a body is instead of HTML, None where it is HTML.

    Args:
        body: the body, already handed through `readable`.
        header: its Content-Type, which may be empty or wrong.
    """
    kind, _ = content_type(header)
    element = first_element(body)
    is_called_html = kind in _HTML_TYPES
    if element in _ROOTS:
        return None
    if not body.strip():
        return "an empty body"
    is_binary = body.startswith(_BINARY) or (b"\0" in body[:1024] and not body.startswith(_BOMS))
    if is_binary or looks_like_json(body):
        content = "binary data" if is_binary else "JSON"
        return f"{content}, sent as {kind}" if is_called_html else kind or content
    if is_called_html:
        return f"<{element}>, sent as {kind}" if element in _OTHER_ROOTS else None
    if not kind and element in _PARTS:
        return None
    return kind or "text of no known type"


def readable(body: bytes, header: str) -> bytes:
    """Return a body that the parser reads in the encoding that the HTTP header names.

    A byte order mark stands above the header. A header is not believed that makes a tenth of the
    foreign characters unreadable, nor against a page that is valid UTF-8 and says that it is.
    """
    codec = _codec(content_type(header)[1])
    if codec is None or body.startswith(_BOMS):
        return body
    named = EncodingDetector.find_declared_encoding(body[:_DECLARED_WINDOW], is_html=True)
    declared = _codec(named or "")
    if declared == codec or (declared == "utf-8" and _is_utf8(body)):
        return body
    if codec == "utf-8" and not named and _is_utf8(body):
        return body  # the parser finds UTF-8 by itself
    text = body.decode(codec, "replace")
    num_foreign = len(text) - len(text.encode("ascii", "ignore"))
    if text.count("\ufffd") > _MAX_UNREADABLE * num_foreign:
        return body
    return utf8_body(text)


def utf8_body(text: str) -> bytes:
    """Return text as UTF-8, with a byte order mark where the page names another encoding."""
    body = text.encode("utf-8", "replace")
    named = EncodingDetector.find_declared_encoding(body[:_DECLARED_WINDOW], is_html=True)
    is_plain = named is None or _codec(named) == "utf-8"
    return body if is_plain else codecs.BOM_UTF8 + body


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _codec(name: str) -> str | None:
    """Return Python's name of an encoding as browsers understand it, None for unknown ones."""
    try:
        found = codecs.lookup(name).name if name else ""
    except (LookupError, ValueError):
        return None
    return _WEB_NAMES.get(found, found) if _CODECS.fullmatch(found) else None
