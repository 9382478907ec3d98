"""Rows whose turns stand elsewhere, and the rules for picture paths."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.curation.ingest.shapes import CAPTION_QUESTION, SHAPE_MENDS, reshape


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("row", "expected", "mend"),
    [
        ({"texts": [{"user": "q", "assistant": "a"}]}, turns("q", "a"), "texts_key"),
        (
            {"texts": [{"user": "q", "assistant": "a"}] * 2, "images": ["x", "y"]},
            turns("<image>\n<image>\nq", "a", "q", "a"),
            "texts_key",
        ),
        (
            {"texts": [{"user": "see <image>", "assistant": "a"}], "images": ["x"]},
            turns("see <image>", "a"),
            "texts_key",
        ),
        (
            {"question": "q", "answer": "a", "image": "x"},
            turns("<image>\nq", "a"),
            "question_answer",
        ),
        ({"query": "q", "label": ["a"]}, turns("q", "a"), "question_answer"),
        ({"question": "q", "answers": ["a", "a"]}, turns("q", "a"), "question_answer"),
        (
            {"caption": "a cat", "image": "x"},
            turns(f"<image>\n{CAPTION_QUESTION}", "a cat"),
            "caption_question",
        ),
    ],
)
def test_turns_are_made(row, expected, mend):
    found = reshape(row)
    assert found is not None
    assert found[0]["conversations"] == expected
    assert found[1] == {mend}
    assert mend in SHAPE_MENDS


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"texts": []},
        {"texts": ["q"]},
        {"question": "q"},
        {"question": "q", "answers": ["a", "b"]},
        {"question": "q", "answer": 3},
        {"caption": "a cat"},
        {"caption": "a cat", "image": None},
        {"question": "q", "text": "t", "image": "x"},
        {"text": ["a"], "image": "x"},
    ],
)
def test_other_rows_are_left_alone(row):
    assert reshape(row) is None


def test_a_source_and_a_system_prompt_of_the_texts_are_taken():
    text = {"user": "q", "assistant": "a", "source": "tally", "system": "Be brief."}
    found = reshape({"texts": [text]})
    assert found is not None
    assert (found[0]["source"], found[0]["system"]) == ("tally", "Be brief.")
    found = reshape({"texts": [text], "source": "own"})
    assert found is not None
    assert found[0]["source"] == "own"


def test_what_no_turn_can_be_stays_for_the_reader_to_refuse():
    found = reshape({"texts": [{"user": None, "assistant": "a"}], "images": ["x"]})
    assert found is not None
    assert found[0]["conversations"][0]["value"] is None


# ------------------------------------------------------------------------------------ paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/mnt/disks/data/coco/1.jpg", "coco/1.jpg"),
        ("mnt/disks/data/sbu558k/1.jpg", "sbu/1.jpg"),
        ("mnt/disks/database/1.jpg", "mnt/disks/database/1.jpg"),
        ("sbu558k/a/b.jpg", "sbu/a/b.jpg"),
        ("sbu558k.jpg", "sbu558k.jpg"),
        ("other/sbu558k/1.jpg", "other/sbu558k/1.jpg"),
        ("extra/coco/1.jpg", "coco/1.jpg"),
        ("/etc/passwd", "/etc/passwd"),
        ("mnt/disks/data/", "mnt/disks/data/"),
    ],
)
def test_prefixes_and_folders(path, expected):
    rules = PathRules(
        strip_prefixes=["/mnt/disks/data/", "x"], renames={"sbu558k": "sbu", "extra/": ""}
    )
    assert rules.apply(path) == expected


def test_stripping_does_not_make_a_path_safe():
    rules = PathRules(strip_prefixes=["mnt"])
    assert rules.apply("mnt/../../etc/passwd") == "../../etc/passwd"
    assert rules.apply("/mnt//etc/passwd") == "/etc/passwd"


@pytest.mark.parametrize(
    "given",
    [
        {"extensions": ["jpg"]},
        {"extensions": [".a/b"]},
        {"strip_prefixes": ["/"]},
        {"renames": {"": "a"}},
        {"renames": {"a": "../b"}},
        {"renames": {"a": "/b"}},
    ],
)
def test_rules_that_cannot_hold_are_refused(given: dict[str, Any]):
    with pytest.raises(ValidationError):
        PathRules(**given)
