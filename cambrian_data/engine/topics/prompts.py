"""What a language model is asked when topics are wanted, and the shape of its answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

TOPICS_PROMPT_VERSION = "1"
"""Raised with every change of a prompt or a shape below; part of what a topics unit is keyed by."""

_ROLE = (
    "You choose what to look up in an encyclopedia in order to collect figures with captions: "
    "diagrams, plots, maps, micrographs, photographs of apparatus and specimens. You answer with "
    "names of established things, as an encyclopedia would title its articles, in the language "
    "with the code {language}. Names are short noun phrases without numbering or explanation, "
    "and no two of them mean the same."
)
_PLACE = (
    "Someone wants material on: {name}\n\n"
    "Say whether this is a whole field of knowledge (`field`), a part of one (`subfield`), or "
    "already so narrow that one or two articles cover it (`topic`). Name the field that it belongs "
    "to; where it is a field itself, repeat its name. If it is a field, list the {number} "
    "subfields of it which together cover it best and are rich in figures; otherwise leave the "
    "list empty."
)
_TOPICS = (
    "{place}\n\n"
    "List {number} topics of this subfield: concepts, phenomena, structures, instruments, methods "
    "or objects that have an article of their own and are usually explained with figures. Go from "
    "the most basic to the more special. Leave out people, institutions, history and lists."
)


class Place(BaseModel):
    """Where something belongs, and what it falls into."""

    kind: Literal["field", "subfield", "topic"]
    field: str = Field(description="the field of knowledge it belongs to")
    subfields: list[str] = Field(description="names of subfields, if it is a field")


class Topics(BaseModel):
    """Topics of a subfield."""

    topics: list[str] = Field(description="names of topics")


def place_messages(name: str, number: int, language: str) -> list[dict[str, str]]:
    """Return the messages that ask what a name is and which subfields it has."""
    return _messages(_PLACE.format(name=name, number=number), language)


def topics_messages(field: str, subfield: str, number: int, language: str) -> list[dict[str, str]]:
    """Return the messages that ask for the topics of a subfield."""
    place = f"Field: {field}\nSubfield: {subfield}" if field else f"Subfield: {subfield}"
    return _messages(_TOPICS.format(place=place, number=number), language)


def _messages(task: str, language: str) -> list[dict[str, str]]:
    role = _ROLE.format(language=language or "en")
    return [{"role": "system", "content": role}, {"role": "user", "content": task}]
