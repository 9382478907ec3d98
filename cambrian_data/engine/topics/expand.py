"""From what is wanted to rows of the table `topics`.

With a language model fields fall into subfields and these into topics. Without one a field's name
is a topic, beside the narrower ones that the search backend knows, and so is a subfield's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cambrian_data.engine.search import SearchBackend, SearchUnavailable
from cambrian_data.engine.topics.asking import (
    Findings,
    ask_subfields,
    ask_topics,
    expected_requests,
)
from cambrian_data.engine.topics.config import TopicsConfig
from cambrian_data.engine.topics.names import MAX_NAME, clean_names, key_of
from cambrian_data.engine.topics.rows import unique_rows
from cambrian_data.engine.topics.wanted import Wanted
from cambrian_data.llm.exchange import Asks, LlmRequest


class Expanded(NamedTuple):
    """The topics of a run."""

    rows: list[dict[str, Any]]
    drops: list[dict[str, Any]]
    num_left: int
    """Fields and subfields that a later run may find more of: budget used up, nobody there."""


def expand(
    wanted: Iterable[Wanted],
    backend: SearchBackend,
    llm: Asks | None,
    config: TopicsConfig,
) -> Expanded:
    """Return the topics of what is wanted, each once, sorted.

    Args:
        wanted: fields, subfields and topics, as `wanted_of_topic` and `read_wanted` give them.
        backend: asked for narrower topics where there is no language model.
        llm: takes fields and subfields apart; None: none.
        config: the recipe's section `topics`.
    """
    fields, subfields, topics = _sorted_out(wanted)
    found = Findings()
    for topic in topics:
        found.add(topic, "user")
    if llm is not None:
        named = ask_subfields(fields, llm, config, found) if fields else []
        subfields = _once([*subfields, *named])
        if subfields:
            ask_topics(subfields, llm, config, found)
    else:
        for subfield in subfields:
            found.add(subfield._replace(topic=subfield.subfield), "user")
        for field in fields:
            _take_subtopics(field.field, backend, config, found)
    rows, doubles = unique_rows(found.rows)
    return Expanded(rows, found.drops + doubles, found.num_left)


def plan_requests(wanted: Iterable[Wanted], config: TopicsConfig) -> list[LlmRequest]:
    """Return what `expand` would ask a language model, for an estimate.

    The subfields that a model will name are not known yet: requests of their length stand for
    them, as many as the recipe asks for.
    """
    fields, subfields, _ = _sorted_out(wanted)
    return expected_requests(fields, subfields, config)


def _sorted_out(wanted: Iterable[Wanted]) -> tuple[list[Wanted], list[Wanted], list[Wanted]]:
    """Return fields, subfields and topics; fields and subfields each once."""
    wanted = list(wanted)
    topics = [item for item in wanted if item.topic]
    subfields = [item for item in wanted if item.subfield and not item.topic]
    fields = [item for item in wanted if item.field and not item.subfield and not item.topic]
    return _once(fields), _once(subfields), topics


def _once(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Return each once: asking twice is paid twice."""
    known: dict[tuple[str, ...], Wanted] = {}
    for item in wanted:
        known.setdefault(tuple(key_of(name) for name in item), item)
    return list(known.values())


def _take_subtopics(
    name: str, backend: SearchBackend, config: TopicsConfig, found: Findings
) -> None:
    """Add a name as a topic, and the narrower ones that the backend knows."""
    try:
        below = backend.subtopics(name) if config.max_subtopics else []
    except SearchUnavailable:
        found.num_left += 1
        below = []
    field = name if below else ""  # a name with nothing below it is a topic, not a field
    found.add(Wanted(field, "", name), "user")
    names = clean_names(below)
    for text, topic in zip(below, names, strict=True):
        if not topic or len(topic) > MAX_NAME:
            found.refuse(Wanted(name, "", text), "unreadable", "a name that is none", raw=text)
    usable = [topic for topic in names if topic and len(topic) <= MAX_NAME]
    for topic in usable[: config.max_subtopics]:
        found.add(Wanted(field, "", topic), backend.name)
