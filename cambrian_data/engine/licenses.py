"""Licences as pages state them: `rel=license` links, rights in metadata, names from addresses.

A licence of Creative Commons gets the short name that Wikimedia Commons uses (`CC BY-SA 4.0`), so
that one spelling can be asked for in a recipe; any other one keeps the words or the address that
the page gives. Pure; reads tags by bounded patterns, since a footer can stand at the far end.
"""

from __future__ import annotations

import html
import itertools
import re
from typing import NamedTuple

_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/(licenses|publicdomain)/([a-z+-]{2,20})"
    r"(?:/(\d\.\d))?(?:/([a-z]{2,5})(?=[/?#]|$))?",
    re.IGNORECASE,
)
_TAG = re.compile(rb"<(a|link|meta)\s([^<>]{1,2000})>", re.IGNORECASE)
_HINT = re.compile(rb"licen[cs]e|rights", re.IGNORECASE)
_ABOUT_RIGHTS = re.compile(
    r"licen[cs]|rights|copyright|\u00a9|public domain|creative ?commons|\bcc\b", re.IGNORECASE
)
"""Words of a licence; metadata often name the owner alone."""
_MAX_TAGS = 200
_ATTRIBUTE = re.compile(r"""([\w:.-]{1,40})\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_LINKS = frozenset({"license", "cc:license", "dc:license", "dct:license", "dcterms:license"})
_METADATA = _LINKS | {"dc.rights", "dc.rights.license", "dcterms.license", "dcterms.rights"}
_MAX_CHARS = 300


class License(NamedTuple):
    """A licence: its name, and its address where that is known."""

    name: str | None = None
    url: str | None = None


def license_of(text: str, url: str = "") -> License:
    """Return a licence by its words and its address, either of which may be empty."""
    text = " ".join(html.unescape(text).split())[:_MAX_CHARS]
    url = _absolute(url) or next((word for word in text.split() if "://" in word), "")
    return License(_short_name(url) or text or url or None, url or None)


def page_license(body: bytes) -> License:
    """Return the licence that a page states for itself.

    A `link` stands above links in the text, these above metadata. A page that names several
    licences, such as one for each picture, states none.
    """
    found: dict[str, dict[str | None, License]] = {"link": {}, "a": {}, "meta": {}}
    tags = (tag for tag in _TAG.finditer(body) if _HINT.search(tag[2]))
    for tag in itertools.islice(tags, _MAX_TAGS):
        kind = tag[1].decode().lower()
        given = {
            name.lower(): html.unescape(double or single or bare)
            for name, double, single, bare in _ATTRIBUTE.findall(tag[2].decode("utf-8", "replace"))
        }
        license = License()
        if kind == "meta":
            text = given.get("content", "")
            names = {given.get("name", "").lower(), given.get("property", "").lower()}
            if names & _METADATA and _ABOUT_RIGHTS.search(text):
                license = license_of(text)
        elif not _LINKS.isdisjoint(given.get("rel", "").lower().split()):
            license = license_of("", given.get("href", ""))
        if license.name:
            found[kind].setdefault(license.name, license)
    stated = next((licenses for licenses in found.values() if licenses), {})
    return next(iter(stated.values())) if len(stated) == 1 else License()


def _short_name(url: str) -> str | None:
    """Return the short name of a licence of Creative Commons, None for others."""
    found = _CREATIVE_COMMONS.search(url)
    if found is None:
        return None
    kind, name, version, place = (part or "" for part in found.groups())
    if kind.lower() == "publicdomain":
        return {"zero": "CC0", "mark": "Public domain"}.get(name.lower())
    place = "" if place.lower() == "deed" else place.upper()
    return " ".join(part for part in ("CC", name.upper(), version, place) if part)


def _absolute(url: str) -> str:
    url = url.strip()[:_MAX_CHARS]
    return f"https:{url}" if url.startswith("//") else url
