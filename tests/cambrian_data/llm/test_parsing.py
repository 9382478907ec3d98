"""JSON out of what models write."""

from __future__ import annotations

import pytest
from pydantic import create_model

from cambrian_data.llm.parsing import objects, parse
from tests.cambrian_data.llm.servers import GOOD, QA


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\ufeff\n{GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"Sure! Here it is:\n```\n{GOOD}\n```\nHope this helps {{}}.",
        f"The answer is {GOOD} as you can see.",
        f"[{GOOD}]",
        GOOD.replace("}", ",}"),
        f'<think>maybe {{"question": "no"}} or {GOOD.replace("This", "Draft")}</think>{GOOD}',
        f"An example: {GOOD.replace('This', 'Else')}. And the answer: {GOOD}",
        f"thinking without a start </think> {GOOD}",
        f"In set notation {{x}} it reads: {GOOD}",
        GOOD.replace(", ", ",\n\t"),
        'Set {a, "b"} then ' + GOOD,
    ],
)
def test_what_is_forgiven(text):
    value, fault = parse(text, QA)
    assert fault == "" and value == QA.model_validate_json(GOOD)


def test_strings_keep_what_looks_like_syntax():
    text = 'x {"question": "a } , ] \\" {", "answer": "b,}\n", "grounded": false,} y'
    value, _ = parse(text, QA)
    assert value == QA(question='a } , ] " {', answer="b,}\n", grounded=False)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("no JSON here", ""),
        (GOOD[: len(GOOD) // 2], ""),
        ('{"question": "a", "answer": "b"}', "grounded: Field required"),
        (GOOD.replace("true", '"yes"'), "grounded: Input should be a valid boolean"),
        (GOOD.replace('"This."', "3"), "answer: Input should be a valid string"),
        (GOOD.replace('"This."', "NaN"), "Out of range"),
        (GOOD.replace("This.", "\\ud83d"), "Invalid JSON"),
        ("[1, 2]", ""),
        ('{"outer": ' + GOOD, ""),
        (f"<think>so it is {GOOD}", ""),
    ],
)
def test_what_is_not(text, fault):
    value, said = parse(text, QA)
    assert value is None
    assert fault in said and bool(fault) == bool(said)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 200_000,
        '{"a":' * 100_000,
        "{x" * 200_000,
        '"' * 200_001,
        "[" * 200_000,
        "```\n" * 50_000,
        "<think>" * 50_000,
        "{}" * 100_000,
        '{"a" ' * 100_000,
        '{"a":"' + '\\"' * 1_000_000,
        '{"a":"' + '\\"' * 1_000_000 + "\\",
        "{" * 10_000_000,
        "text {x} " + '{"a":"' + '\\"' * 9_000,
    ],
)
def test_hostile_text_takes_no_time(text):
    assert parse(text, QA)[0] is None
    assert all(not value for value in objects(text))


def test_only_the_beginning_of_a_long_text_is_searched():
    assert parse("x" * 1_000 + GOOD, QA)[0] is not None
    assert parse("x" * 1_000_000 + GOOD, QA)[0] is None
    long = GOOD.replace("This.", "y" * 50_000)
    assert parse(long, QA)[0] is not None
    assert parse("<think>" + "x" * 1_000_000 + "</think>" + GOOD, QA)[0] is not None


def test_a_thousand_faults_are_counted_and_not_told():
    _, fault = parse('{"question": {' + ",".join(f'"{i}": {{}}' for i in range(9)) + "}}", QA)
    assert "question" in fault
    many = create_model("Many", items=(list[QA], ...))
    assert parse('{"items": [' + "3," * 999 + "3]}", many)[1] == (
        "the object does not fit in 1000 places"
    )
