"""Answers of servers to outcomes."""

from __future__ import annotations

import orjson
import pytest

from cambrian_data.llm.reading import USELESS, read_answer, read_json, read_to_keep, read_usage
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


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"a": ', b"<html>", b"\xff\xfe", b'{"a": ' * 300])
def test_bodies_that_are_no_objects(raw):
    assert read_json(raw) is None


@pytest.mark.parametrize("usage", [None, {}, 3, {"prompt_tokens": None}, {"prompt_tokens": "9"}])
def test_usage_is_estimated_where_it_is_missing(usage):
    found = read_usage({**said("four words of text"), "usage": usage}, 77)
    assert found.is_estimated and found.prompt_tokens == 77 and found.completion_tokens == 5


@pytest.mark.parametrize("absurd", [2**63, 10**8 + 1, -1, True, 1.5])
def test_absurd_usage_is_estimated(absurd):
    answer = said("four words of text")
    for usage in (
        {"prompt_tokens": absurd, "completion_tokens": 5},
        {"prompt_tokens": 9, "completion_tokens": absurd},
    ):
        found = read_usage({**answer, "usage": usage}, 77)
        assert found.is_estimated and (found.prompt_tokens, found.completion_tokens) == (77, 5)


@pytest.mark.parametrize(
    ("cached", "believed"), [(6, 6), (99, 10), (-5, 0), (True, 0), (2**63, 0), (None, 0)]
)
def test_no_more_is_cached_than_was_sent(cached, believed):
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    usage["prompt_tokens_details"] = {"cached_tokens": cached}
    found = read_usage({"usage": usage}, 77)
    assert (found.cached_tokens, found.is_estimated) == (believed, False)


def test_what_is_long_is_estimated_from_its_beginning():
    assert read_usage(said("word " * 1_000_000) | {"usage": None}, 1).completion_tokens == 1_250_000


@pytest.mark.parametrize(
    "raw",
    [b'{"a": "x\\ud83d"}', b'{"a": "x\xff"}', b'\xef\xbb\xbf{"a": "x?"}', b'{"a": "x?", "b": NaN}'],
)
def test_bodies_are_mended_and_kept_as_json(raw):
    answer, kept = read_to_keep(raw)
    assert read_json(raw) == answer == orjson.loads(kept)
    assert answer["a"] in ("x?", "x\ufffd")


@pytest.mark.parametrize(
    "raw",
    [b"<html>\x1b[2J", b"data: {}\n\ndata: [DONE]", b'{"a":[' + b"[]," * 60_000 + b"1]}", b"[]"],
)
def test_what_is_no_json_is_a_malformed_answer(raw):
    answer, kept = read_to_keep(raw)
    assert USELESS in answer and orjson.loads(kept) == answer
    outcome, _, detail = read_answer(answer, QA)
    assert outcome == "malformed" and "no JSON" in detail and detail.isprintable()
    assert read_usage(answer, 5).completion_tokens == len(raw) // 4


def test_what_is_nested_too_deeply_to_be_kept_is_no_answer():
    deep = b'{"b": "\\ud83d", "a": ' + b"[" * 400 + b"]" * 400 + b"}"
    assert "nested" in read_to_keep(deep)[0][USELESS]


def test_details_hold_nothing_that_is_not_seen():
    hidden = "No\x1b[31m \u202ethis\x00\nis"
    for answer in (said(None, refusal=hidden), said("I'm sorry " + hidden), said(hidden)):
        assert read_answer(answer, QA)[2].isprintable()
