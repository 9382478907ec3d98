from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cambrian_data.engine.search import SearchUnavailable
from cambrian_data.engine.topics import (
    TopicsConfig,
    Wanted,
    expand,
    plan_requests,
    unique_rows,
)
from cambrian_data.engine.topics.prompts import Place, Topics
from cambrian_data.engine.topics.rows import topic_row
from cambrian_data.llm.exchange import LlmAnswer, LlmRequest
from cambrian_data.records import table_of
from tests.reference import shared

CONFIG = TopicsConfig()
Triple = tuple[str | None, str | None, str]


class Wiki:
    """A backend that knows some subcategories."""

    name = "wiki"

    def __init__(self, *subtopics: str, fault: Exception | None = None) -> None:
        self.known, self.fault = list(subtopics), fault

    def search(self, query: str, *, limit: int) -> list[Any]:
        raise AssertionError("nothing is searched for while topics are found")

    def subtopics(self, topic: str) -> list[str]:
        if self.fault:
            raise self.fault
        return self.known


class Model:
    """Answers by rule: `rules` maps a word of the question to a value or an outcome."""

    def __init__(self, rules: dict[str, Any]) -> None:
        self.rules = rules
        self.asked: list[LlmRequest] = []

    def ask(self, requests: list[LlmRequest], on_answer: Any = None) -> list[LlmAnswer]:
        self.asked += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: LlmRequest) -> LlmAnswer:
        text = request.messages[-1]["content"]
        found = next(value for word, value in self.rules.items() if word in text)
        if isinstance(found, str):
            is_passing = found in ("over_budget", "llm_error")
            return LlmAnswer(key="k", outcome=found, detail="why", is_passing=is_passing)
        return LlmAnswer(key="k", outcome="ok", value=found)


def place(kind: str, field: str, *subfields: str) -> Place:
    return Place(kind=kind, field=field, subfields=list(subfields))


def triples(rows: list[dict[str, Any]]) -> list[Triple]:
    return [(row["field"], row["subfield"], row["topic"]) for row in rows]


# -------------------------------------------------------------------------------- no model


def test_without_a_model_the_topic_and_what_the_backend_knows_below_it():
    found = expand([Wanted("physics")], Wiki("Optics", "Waves", "optics"), None, CONFIG)
    assert triples(found.rows) == [
        ("physics", None, "Optics"),
        ("physics", None, "Waves"),
        ("physics", None, "physics"),
    ]
    assert [row["origin"] for row in found.rows] == ["wiki", "wiki", "user"]
    assert [(row["reason"], row["raw"]) for row in found.drops] == [("duplicate", "optics")]
    assert found.num_left == 0
    table_of("topics", found.rows)


def test_a_topic_with_nothing_below_it_is_no_field():
    found = expand([Wanted("simple pendulum")], Wiki(), None, CONFIG)
    assert triples(found.rows) == [(None, None, "simple pendulum")]


def test_a_backend_that_is_away_leaves_the_topic_itself_and_says_so():
    backend = Wiki(fault=SearchUnavailable("503"))
    found = expand([Wanted("physics"), Wanted("", "", "Prism")], backend, None, CONFIG)
    assert triples(found.rows) == [(None, None, "Prism"), (None, None, "physics")]
    assert found.num_left == 1 and found.drops == []


def test_subfields_of_a_file_are_topics_and_topics_stay():
    wanted = [
        Wanted("Physics", "Optics"),
        Wanted("Physics", "Waves", "Tsunami"),
        Wanted("", "", "X"),
    ]
    found = expand(wanted, Wiki("not asked"), None, CONFIG)
    assert triples(found.rows) == [
        (None, None, "X"),
        ("Physics", "Optics", "Optics"),
        ("Physics", "Waves", "Tsunami"),
    ]


def test_no_more_subtopics_than_the_recipe_allows_and_no_sentences():
    config = TopicsConfig(max_subtopics=2)
    found = expand([Wanted("x")], Wiki("x" * 101, "a", "b", "c"), None, config)
    assert [row["topic"] for row in found.rows] == ["a", "b", "x"]
    assert [row["reason"] for row in found.drops] == ["unreadable"]
    none = expand([Wanted("x")], Wiki("a"), None, TopicsConfig(max_subtopics=0))
    assert [row["topic"] for row in none.rows] == ["x"]


# ------------------------------------------------------------------------------ duplicates


def test_each_topic_is_kept_once_under_the_first_of_its_places():
    rows = [
        topic_row("Physics", "Waves", "Doppler Effect", origin="llm"),
        topic_row("Physics", "Optics", "doppler  effect", origin="llm"),
        topic_row("Astronomy", "", "Red\u2013shift", origin="llm"),
        topic_row("Astronomy", "", "Red-shift", origin="user"),
    ]
    kept, drops = unique_rows(rows)
    assert triples(kept) == [
        ("Astronomy", None, "Red-shift"),
        ("Physics", "Optics", "doppler  effect"),
    ]
    assert [row["raw"] for row in drops] == ["Red\u2013shift", "Doppler Effect"]
    assert "Physics / Optics" in drops[1]["detail"]
    assert unique_rows(reversed(rows)) == (kept, drops)


# ----------------------------------------------------------------------------- with a model


def test_a_field_falls_into_subfields_and_these_into_topics():
    model = Model(
        {
            "material on: physics": place("field", "Physics", "1. Optics", "2. Waves"),
            "Subfield: Optics": Topics(topics=["Lens", "Doppler effect"]),
            "Subfield: Waves": Topics(topics=["**Tsunami**", "Doppler Effect", ""]),
        }
    )
    found = expand([Wanted("physics")], Wiki("not asked"), model, CONFIG)
    assert triples(found.rows) == [
        ("Physics", "Optics", "Doppler effect"),
        ("Physics", "Optics", "Lens"),
        ("Physics", "Waves", "Tsunami"),
    ]
    assert [row["reason"] for row in found.drops] == ["unreadable", "duplicate"]
    assert len(model.asked) == 3
    assert "8" in model.asked[0].messages[-1]["content"]
    assert "20" in model.asked[1].messages[-1]["content"]


def test_a_subfield_is_filled_at_once_and_a_topic_stays_one():
    model = Model(
        {
            "material on: optics": place("subfield", "Physics", "ignored"),
            "material on: lens": place("topic", "Optics"),
            "material on: odd": place("field", "Odd"),
            "Field: Physics\nSubfield: optics": Topics(topics=["Prism"]),
            "Subfield: odd": Topics(topics=["Odd thing"]),
        }
    )
    found = expand([Wanted("optics"), Wanted("lens"), Wanted("odd")], Wiki(), model, CONFIG)
    assert triples(found.rows) == [
        (None, "odd", "Odd thing"),
        ("Optics", None, "lens"),
        ("Physics", "optics", "Prism"),
    ]


def test_what_is_named_already_is_not_asked_for():
    model = Model({"Subfield: Optics": Topics(topics=["Lens"])})
    wanted = [Wanted("P", "Optics"), Wanted("p", "OPTICS"), Wanted("P", "Waves", "Tsunami")]
    found = expand(wanted, Wiki(), model, CONFIG)
    assert triples(found.rows) == [("P", "Optics", "Lens"), ("P", "Waves", "Tsunami")]
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    "outcome", ["refusal", "cut_off", "empty_answer", "malformed", "llm_error"]
)
def test_a_call_without_an_answer_is_a_drop_and_the_name_is_searched_for(outcome):
    model = Model({"material on": outcome, "Subfield: Optics": outcome})
    found = expand([Wanted("physics"), Wanted("P", "Optics")], Wiki(), model, CONFIG)
    assert triples(found.rows) == [(None, None, "physics"), ("P", "Optics", "Optics")]
    assert [row["reason"] for row in found.drops] == [outcome] * 2
    assert found.num_left == (2 if outcome == "llm_error" else 0)
    table_of("drops", found.drops)


def test_an_answer_without_names_counts_as_empty():
    model = Model({"Subfield: Optics": Topics(topics=["...", "x" * 101])})
    found = expand([Wanted("P", "Optics")], Wiki(), model, CONFIG)
    assert triples(found.rows) == [("P", "Optics", "Optics")]
    assert [row["reason"] for row in found.drops] == ["unreadable", "unreadable", "empty_answer"]


def test_what_the_budget_does_not_allow_is_left_for_a_later_run():
    model = Model({"Subfield: Optics": Topics(topics=["Lens"]), "Subfield: Waves": "over_budget"})
    found = expand([Wanted("P", "Optics"), Wanted("P", "Waves")], Wiki(), model, CONFIG)
    assert triples(found.rows) == [("P", "Optics", "Lens")]
    assert found.num_left == 1 and found.drops == []


def test_a_model_that_names_too_many_is_cut():
    model = Model({"Subfield": Topics(topics=[f"Topic of note {n}x" for n in range(500)])})
    found = expand([Wanted("P", "Optics")], Wiki(), model, TopicsConfig(topics_per_subfield=5))
    assert len(found.rows) == 5 and found.drops == []


def test_the_plan_holds_the_calls_that_are_known_and_stands_in_for_the_others():
    config = TopicsConfig(subfields_per_field=3)
    wanted = [Wanted("physics"), Wanted("P", "Optics"), Wanted("", "", "Lens")]
    requests = plan_requests(wanted, config)
    assert [request.schema for request in requests] == [Place, *[Topics] * 4]
    model = Model({"Subfield: Optics": Topics(topics=["x"])})
    expand(wanted[1:], Wiki(), model, config)
    assert model.asked[0] == requests[1]


# ---------------------------------------------------------------------------- a real client


@pytest.fixture
def server(tmp_path: Path):
    """A server in the likeness of OpenAI's, and the log of its calls."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "calls.jsonl"
    tool = shared("tools") / "fake_openai.py"
    command = [sys.executable, str(tool), "--port", str(port), "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip(), log
    finally:
        process.terminate()
        process.wait()


def test_over_a_real_client_and_again_from_its_ledger(server, tmp_path):
    from cambrian_data.llm.client import LlmClient, LlmConfig
    from cambrian_data.llm.ledger import Ledger

    url, log = server
    ledger = Ledger(tmp_path / "llm.sqlite")
    rows = []
    for _ in range(2):
        with LlmClient(
            LlmConfig(), ledger, model="fake-vision", base_url=url, api_key="k"
        ) as client:
            rows.append(expand([Wanted("physics")], Wiki(), client, CONFIG).rows)
    ledger.close()
    assert rows[0] == rows[1] and rows[0]
    assert {row["origin"] for row in rows[0]} <= {"llm", "user"}
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(calls) == len({call["key"] for call in calls}) >= 2
