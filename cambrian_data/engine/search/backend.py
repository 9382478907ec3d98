"""What every search backend has in common: the protocol, hits, the config, the faults.

A backend answers a query with hits in order. A query that has no hits is an ordinary answer; a
backend that cannot answer says so with `SearchUnavailable`, a user's mistake is a `UserError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from cambrian_data.recipes import Config

_SITE = re.compile(r"[a-z0-9.-]+\.[a-z0-9-]+(:\d+)?(/\S*)?|localhost(:\d+)?(/\S*)?", re.IGNORECASE)
_PLACEHOLDERS = ("{topic}", "{field}", "{subfield}")


class SearchConfig(Config):
    """What is searched for, and where."""

    hits_per_topic: int = Field(default=3, ge=1, le=100)
    """Hits that are taken of each topic, best first."""
    language: str = Field(default="en", pattern=r"^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$")
    """Language of the pages, as `en` or `pt-br`; chooses the Wikipedia too. Empty: any."""
    site: str = ""
    """Take hits of this site and those below it alone: `nasa.gov`, or `nasa.gov/earth`."""
    query: str = "{topic}"
    """What is sent for a topic; `{field}` and `{subfield}` may tell topics of one name apart."""

    @field_validator("site")
    @classmethod
    def _check_site(cls, site: str) -> str:
        bare = re.sub(r"^https?://", "", site.strip(), flags=re.IGNORECASE).rstrip("/")
        if bare and not _SITE.fullmatch(bare):
            raise ValueError("a site is a host, with a path where wanted: nasa.gov/earth")
        return bare

    @field_validator("query")
    @classmethod
    def _check_query(cls, query: str) -> str:
        unknown = set(re.findall(r"\{[^{}]*\}", query)) - set(_PLACEHOLDERS)
        if "{topic}" not in query or unknown:
            raise ValueError(
                "the query is made of words and {topic}, {field}, {subfield}; {topic} is needed"
            )
        return query

    def query_of(self, topic: str, field: str = "", subfield: str = "") -> str:
        """Return the query for a topic: the template filled in, spaces tidied."""
        words = [_plain_words(text) for text in (topic, field, subfield)]
        values = dict(zip(_PLACEHOLDERS, words, strict=True))
        filled = re.sub(
            "|".join(map(re.escape, values)), lambda found: values[found[0]], self.query
        )
        return " ".join(filled.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One answer to a query; `rank` counts from 1."""

    rank: int
    url: str
    title: str
    snippet: str
    refused: str = ""
    """Why the address cannot be fetched. Such a hit has rank 0 and is there to be counted."""


@runtime_checkable
class SearchBackend(Protocol):
    """Whatever can answer a query."""

    name: str

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return at most `limit` hits, best first, beside those that are `refused`.

        Raises:
            SearchUnavailable: the backend cannot answer now.
            UserError: it will not answer before the user mends something, such as a key.
        """
        ...

    def subtopics(self, topic: str) -> list[str]:
        """Return the narrower topics that the backend knows below one; none is ordinary.

        Raises:
            SearchUnavailable: the backend cannot answer now.
            UserError: it will not answer before the user mends something.
        """
        ...


class SearchUnavailable(Exception):
    """A backend that cannot answer now; a later run may fare better."""

    def __init__(self, detail: str, *, is_quota: bool = False) -> None:
        """Say why, without secrets; `is_quota`: the allowance is used up."""
        super().__init__(detail)
        self.detail, self.is_quota = detail, is_quota


def _plain_words(text: str) -> str:
    """Return a topic without what search engines take for an order: `NOT gate`, `-40 degrees`.

    Orders that stand in the recipe's template are meant, and stay.
    """
    text = re.sub(r"(?:^|(?<=\s))[-+!~:]+(?=\w)", "", text)
    return re.sub(r"\b(?:AND|OR|NOT)\b", lambda found: found[0].lower(), text)


def primary_language(language: str) -> str:
    """Return the language without region and script: `pt` of `pt-BR`."""
    return language.split("-")[0].lower()


def is_on_site(url: str, site: str) -> bool:
    """Return whether an address lies on a site (`host`, `host:port`, `host/path`) or below it."""
    if not site:
        return True
    wanted, here = urlsplit(f"//{site}"), urlsplit(url)
    host, known = (here.hostname or "").lower(), (wanted.hostname or "").lower()
    if host != known and not host.endswith(f".{known}"):
        return False
    if wanted.port is not None and here.port != wanted.port:
        return False
    return f"{here.path}/".startswith(f"{wanted.path.rstrip('/')}/")
