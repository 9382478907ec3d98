"""Answers of servers to outcomes."""

from __future__ import annotations

import pytest

from cambrian_data.llm.reading import read_answer, read_json, read_usage
from tests.cambrian_data.llm.servers import GOOD, QA, said


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (said(GOOD), "ok"),
        (said(None, refusal="I'm sorry"), "refusal"),
        (said(GOOD, finish_reason="content_filter"), "refusal"),
        (said("I\u2019m sorry, but I can\u2019t help with that."), "refusal"),
        (said("I cannot describe this picture."), "refusal"),
        (said("As an AI model I do not see pictures."), "refusal"),
        (said("I can see a pendulum."), "malformed"),
        (said(f"I'm sorry for the wait: {GOOD}"), "ok"),
        (said(GOOD[:30], finish_reason="length"), "cut_off"),
        (said("", finish_reason="length"), "cut_off"),
        (said(""), "empty_answer"),
        (said(" \n"), "empty_answer"),
        (said(None), "empty_answer"),
        (said(GOOD[:30]), "malformed"),
        (said("{}"), "malformed"),
        ({"choices": []}, "empty_answer"),
        ({"choices": None}, "empty_answer"),
        ({"choices": [3]}, "empty_answer"),
        ({"choices": [{"message": "text"}]}, "empty_answer"),
        ({}, "empty_answer"),
    ],
)
def test_outcomes(answer, outcome):
    found, value, detail = read_answer(answer, QA)
    assert found == outcome
    assert (value is not None) == (outcome == "ok") == (detail == "")
    assert len(detail) <= 300


def test_text_in_parts_is_read():
    parts = [{"type": "text", "text": GOOD[:10]}, {"type": "text", "text": GOOD[10:]}]
    assert read_answer(said(parts), QA)[0] == "ok"  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"a": ', b"<html>", b"\xff\xfe"])
def test_bodies_that_are_no_objects(raw):
    assert read_json(raw) is None


@pytest.mark.parametrize("usage", [None, {}, 3, {"prompt_tokens": None}, {"prompt_tokens": "9"}])
def test_usage_is_estimated_where_it_is_missing(usage):
    found = read_usage({**said("four words of text"), "usage": usage}, 77)
    assert found.is_estimated and found.prompt_tokens == 77 and found.completion_tokens == 5
