"""Fields and subfields taken apart by a language model: structured answers, faults counted.

One call says what a name is and names its subfields; one call a subfield names its topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cambrian_data.engine.topics.config import TopicsConfig
from cambrian_data.engine.topics.names import MAX_NAME, clean_name, clean_names, key_of
from cambrian_data.engine.topics.prompts import Place, Topics, place_messages, topics_messages
from cambrian_data.engine.topics.rows import topic_row
from cambrian_data.engine.topics.wanted import Wanted
from cambrian_data.llm.exchange import Asks, LlmAnswer, LlmRequest
from cambrian_data.records import drop, topic_id

_PLACEHOLDER = "subfield number {number}"


@dataclass(slots=True)
class Findings:
    """Rows of topics as they are found, drops, and what is left for a later run."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    drops: list[dict[str, Any]] = field(default_factory=list)
    num_left: int = 0

    def add(self, wanted: Wanted, origin: str) -> None:
        """Add a topic."""
        self.rows.append(topic_row(*wanted, origin=origin))

    def refuse(self, wanted: Wanted, reason: str, detail: str, raw: str | None = None) -> None:
        """Add a drop."""
        self.drops.append(drop("topics", topic_id(*wanted), reason, detail=detail, raw=raw))


def place_request(wanted: Wanted, config: TopicsConfig) -> LlmRequest:
    """Return the request that asks what a name is and what it falls into."""
    return LlmRequest(
        messages=place_messages(wanted.field, config.subfields_per_field, config.language),
        schema=Place,
        max_tokens=config.max_tokens,
        about=topic_id(*wanted),
    )


def topics_request(wanted: Wanted, config: TopicsConfig) -> LlmRequest:
    """Return the request that asks for the topics of a subfield."""
    return LlmRequest(
        messages=topics_messages(
            wanted.field, wanted.subfield, config.topics_per_subfield, config.language
        ),
        schema=Topics,
        max_tokens=config.max_tokens,
        about=topic_id(*wanted),
    )


def expected_requests(
    fields: Sequence[Wanted], subfields: Sequence[Wanted], config: TopicsConfig
) -> list[LlmRequest]:
    """Return the requests that are known, and for those that follow from answers ones like them."""
    unknown = [
        Wanted(wanted.field, _PLACEHOLDER.format(number=number))
        for wanted in fields
        for number in range(1, config.subfields_per_field + 1)
    ]
    return [place_request(wanted, config) for wanted in fields] + [
        topics_request(wanted, config) for wanted in (*subfields, *unknown)
    ]


def ask_subfields(
    fields: Sequence[Wanted], llm: Asks, config: TopicsConfig, found: Findings
) -> list[Wanted]:
    """Return the subfields of fields; a name that turns out to be a topic goes to `found`."""
    subfields: list[Wanted] = []
    answers = llm.ask([place_request(wanted, config) for wanted in fields])
    for wanted, answer in zip(fields, answers, strict=True):
        place = answer.value
        if not isinstance(place, Place):
            _take_name(wanted, answer, found)
            continue
        names = _names(place.subfields, config.subfields_per_field, wanted, found)
        home = clean_name(place.field)[:MAX_NAME]
        is_own = key_of(home) == key_of(wanted.field)
        if place.kind == "field" and names:
            subfields += [Wanted(home if is_own else wanted.field, name) for name in names]
        elif place.kind == "topic":
            found.add(Wanted(home, "", wanted.field), "llm")
        else:
            subfields.append(Wanted("" if is_own else home, wanted.field))
    return subfields


def ask_topics(
    subfields: Sequence[Wanted], llm: Asks, config: TopicsConfig, found: Findings
) -> None:
    """Find the topics of subfields."""
    answers = llm.ask([topics_request(wanted, config) for wanted in subfields])
    for wanted, answer in zip(subfields, answers, strict=True):
        value = answer.value
        if not isinstance(value, Topics):
            _take_name(wanted, answer, found)
            continue
        names = _names(value.topics, config.topics_per_subfield, wanted, found)
        if not names:
            found.refuse(wanted, "empty_answer", "the answer has no topic")
            found.add(_as_topic(wanted), "user")
        for name in names:
            found.add(wanted._replace(topic=name), "llm")


def _take_name(wanted: Wanted, answer: LlmAnswer, found: Findings) -> None:
    """Count a call without an answer; the name itself is searched for in its stead.

    Not so where the budget is used up: then a later run asks, and searches for what it is told.
    """
    found.num_left += answer.outcome == "over_budget" or answer.is_passing
    if answer.outcome == "over_budget":
        return
    reason = "malformed" if answer.outcome == "ok" else answer.outcome
    found.refuse(wanted, reason, answer.detail)
    found.add(_as_topic(wanted), "user")


def _as_topic(wanted: Wanted) -> Wanted:
    """Return a field or subfield as a topic of its own."""
    if wanted.subfield:
        return wanted._replace(topic=wanted.subfield)
    return Wanted("", "", wanted.field)


def _names(texts: Sequence[str], number: int, wanted: Wanted, found: Findings) -> list[str]:
    """Return the first `number` names of an answer; sentences and empty ones are dropped."""
    names = []
    for text, name in zip(texts, clean_names(texts), strict=True):
        if not name or len(name) > MAX_NAME:
            found.refuse(
                wanted._replace(topic=text), "unreadable", "an answer that is no name", raw=text
            )
        else:
            names.append(name)
    return names[:number]
