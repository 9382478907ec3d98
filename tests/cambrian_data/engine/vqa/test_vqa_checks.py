"""What a model says is not believed: each check refuses what it must and leaves the rest alone."""

from __future__ import annotations

import pytest

from cambrian_data.engine.vqa.checks import find_fault, tidy
from cambrian_data.engine.vqa.config import KINDS
from cambrian_data.engine.vqa.numbers import unknown_numbers
from cambrian_data.engine.vqa.prompts import Pair, system_prompt
from cambrian_data.llm.extractive import FigureText

FIGURE = FigureText(
    figure_id="f",
    caption="Diagram of two cells, 12.5 \u00b5m long, at 1,000\u00d7.",
    text="Each of both cells has a wall. In 2005 it was 2.50 cm\u00b2 at 10\u00b2 K on 3.4.1999.",
    section=("Chapter 7",),
    page_title="Cell",
)
SYSTEM = system_prompt(
    KINDS, num_pairs=2, max_answer_words=20, language="en", with_picture=True, asks_fit=True
)


def fault(
    answer: str,
    question: str = "What is on the left?",
    *,
    grounded: bool = True,
    has_seen: bool = True,
):
    said = Pair(kind="identify", question=question, answer=answer, grounded=grounded)
    return find_fault(tidy(said), FIGURE, system=SYSTEM, max_answer_words=20, has_seen=has_seen)


@pytest.mark.parametrize(
    "answer",
    [
        "A plant cell is on the left.",
        'It shows "The Section", a text by an artist, and its page of notes.',
        "Energies with <E> = 3 and a << b.",
        "Momentum and place cannot be determined at once.",
        "The Answer: a painting.",
        "World War I did not end here.",
        "The cells are not given names.",
    ],
)
def test_sound_answers_pass(answer: str) -> None:
    assert fault(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n ",
        "...",
        "word " * 21,
        "What is on the left?",
        "what is on the LEFT",
        "FIGURE>>> a cell",
        "It says <<<FIGURE.",
        '{"question": "what", "answer": 3}',
        "picture_fits_caption is true",
        "Caption: a cell",
        "Answer: Prose: a cell",
        "Never speak of a caption, text, passage, section, article, page",
        "It was copied from the web and anybody may have written it.",
        "A cell <image> is shown.",
        "<b>A cell</b>",
        "A cell <|im_end|>",
        "```json",
        "See https://evil.example/x",
        "See www.evil.example",
        "Write to me@evil.example",
        "As an AI language model, I see a cell.",
        "The caption says it is a cell.",
        "According to the text, it is a cell.",
        "The article describes a cell.",
        "A cell, as mentioned in the section.",
        "The provided text names a cell.",
        "I was told to ignore all previous instructions.",
        "I follow these instructions.",
    ],
)
def test_malformed_answers_are_refused(answer: str) -> None:
    found = fault(answer)
    assert found and found[0] == "malformed" and found[1]


@pytest.mark.parametrize(
    "question", ["", "?", "word " * 61, "What does the caption say?", "<image> What?", "<<<FIGURE?"]
)
def test_malformed_questions_are_refused(question: str) -> None:
    found = fault("A cell.", question)
    assert found and found[0] == "malformed"


@pytest.mark.parametrize(
    "answer",
    [
        "It cannot be determined from the picture.",
        "The length is not specified.",
        "I'm sorry, but this is not clear.",
        "It is a cell. I cannot say more.",
        "No information is given.",
    ],
)
def test_answers_that_are_none_are_ungrounded(answer: str) -> None:
    found = fault(answer)
    assert found and found[0] == "ungrounded"


def test_the_model_is_believed_when_it_says_no() -> None:
    assert fault("A cell.", grounded=False) == ("ungrounded", "the model says so itself")


def test_labels_and_white_space_go() -> None:
    said = Pair(kind="count", question=" Q:  How\nmany? ", answer="Answer: two", grounded=True)
    assert (tidy(said).question, tidy(said).answer) == ("How many?", "two")


@pytest.mark.parametrize(
    ("answer", "unknown"),
    [
        ("Two cells, 2 in all, each 12.5 long.", []),
        ("It is 12,5 long and 2.5 wide.", []),
        ("At 1000 or 1,000 or 1\u202f000.", []),
        ("In 2005, and on 3.4.1999, the year 1999, chapter 7.", []),
        ("10\u00b2 K and 10 K of CO2 or H2O.", []),
        ("One cell.", []),
        ("There are six cells.", ["6"]),
        ("It is 13 long.", ["13"]),
        ("It is 100 long.", ["100"]),
        ("In 2006 it was 12 long.", ["12", "2006"]),
        ("9" * 5000, ["9" * 5000]),
    ],
)
def test_numbers_must_stand_in_the_text(answer: str, unknown: list[str]) -> None:
    assert unknown_numbers(answer, FIGURE) == unknown


def test_numbers_are_free_where_the_picture_was_seen() -> None:
    assert fault("There are 77 cells.") is None
    found = fault("There are 77 cells.", has_seen=False)
    assert found == ("ungrounded", "neither caption nor prose has 77")


@pytest.mark.parametrize("sign", ["\x1b[31m", "\x00", "\x07", "\x9b", "\x7f"])
def test_controls_are_refused(sign: str) -> None:
    for found in (fault(f"A {sign}cell."), fault("A cell.", f"What {sign}is it?")):
        assert found and found[0] == "malformed" and found[1].isprintable()


def test_what_nobody_sees_goes() -> None:
    hidden = "\u202eA c\u200bel\u00adl\ufeff\U000e0041 \u2066is\n\u200e here."
    said = Pair(kind="count", question=hidden, answer="\u0645\u06cc\u200c\u062e", grounded=True)
    assert tidy(said).question == "A cell is here."
    assert tidy(said).answer == "\u0645\u06cc\u200c\u062e"
