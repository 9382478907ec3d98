"""Talking: history, pictures at any turn, commands, and answers that were stopped."""

from __future__ import annotations

import json

import pytest

from cambrian_data.records import UserError
from cambrian_model.chat import HELP, Chat, EndOfChat, run_command
from cambrian_model.generate import AnswerOptions, QuestionError
from tests.cambrian_model.tiny_answerer import picture, tiny_answerer


@pytest.fixture(scope="module")
def answerer():
    return tiny_answerer()


@pytest.fixture
def chat(answerer):
    return Chat(answerer, options=AnswerOptions(max_new_tokens=12))


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "a red one.png"
    path.write_bytes(picture("red"))
    return path


def _ask(chat, text):
    return "".join(chat.ask(text))


def test_a_turn_is_asked_with_those_before(chat, answerer, red):
    first = _ask(chat, "What does the figure show?")
    run_command(chat, f"/image {red}")
    second = _ask(chat, "And this?")
    turns = [
        {"from": "human", "value": "What does the figure show?"},
        {"from": "gpt", "value": first},
        {"from": "human", "value": "<image>\nAnd this?"},
    ]
    expected = answerer.stream(turns, [red.read_bytes()], max_new_tokens=12)
    assert second == "".join(expected)
    assert [turn.is_whole for turn in chat.turns] == [True, True]


def test_pictures_stand_where_the_question_names_them(chat, red, tmp_path):
    blue = tmp_path / "blue.png"
    blue.write_bytes(picture("blue", (90, 30)))
    assert "goes with the next question" in run_command(chat, f"/image '{red}'")
    assert "one of 2" in run_command(chat, f"/image {blue}")
    _ask(chat, "From <image> to <image>?")
    (turn,) = chat.turns
    assert turn.question == "From <image> to <image>?"
    assert [shown.name for shown in turn.pictures] == [str(red), str(blue)]
    assert chat.waiting == []


def test_a_picture_is_named_that_is_not_there(chat, red):
    with pytest.raises(QuestionError, match="show it first with /image FILE"):
        chat.ask("<image> What?")
    run_command(chat, f"/image {red}")
    with pytest.raises(QuestionError, match="names 2 pictures"):
        chat.ask("<image> and <image>?")
    assert len(chat.waiting) == 1 and chat.turns == []


def test_reset_and_system(chat, answerer):
    brief = _ask(chat, "What?")
    chat.reset()
    assert chat.turns == []
    assert _ask(chat, "What?") == brief
    chat.reset()
    assert "another" in run_command(chat, "/system You answer at length.")
    other = _ask(chat, "What?")
    asked = {"question": "What?", "max_new_tokens": 12}
    assert other == answerer.answer(system="You answer at length.", **asked)
    chat.reset()
    assert run_command(chat, "/system") == "no system prompt"
    assert _ask(chat, "What?") == answerer.answer(system="", **asked)


def test_a_stopped_answer_stays_and_the_talk_goes_on(chat):
    pieces = chat.ask("What?")
    first = next(pieces)
    pieces.close()
    (turn,) = chat.turns
    assert (turn.answer, turn.is_whole) == (first, False)
    _ask(chat, "Go on.")
    assert len(chat.turns) == 2


def test_an_interrupt_before_the_first_piece_takes_the_question_back(chat, red, monkeypatch):
    run_command(chat, f"/image {red}")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(type(chat.answerer), "stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(chat.ask("What?"))
    assert chat.turns == [] and len(chat.waiting) == 1


def test_an_answer_that_looks_like_a_template_does_not_end_the_talk(chat):
    _ask(chat, "What?")
    chat.turns[0].answer = "<image> and <|eot_id|>, it says"
    _ask(chat, "And now?")
    assert len(chat.turns) == 2
    assert chat.turns[0].answer == "<image> and <|eot_id|>, it says"


def test_saving(chat, red, tmp_path):
    run_command(chat, f"/image {red}")
    answer = _ask(chat, "What?")
    path = tmp_path / "talk.json"
    assert run_command(chat, f"/save {path}") == f"saved to {path}"
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "system": "Be brief.",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat?"},
            {"from": "gpt", "value": answer},
        ],
        "images": [str(red)],
    }
    with pytest.raises(UserError, match="there is a file .*another name"):
        run_command(chat, f"/save {path}")
    with pytest.raises(UserError, match="cannot be written"):
        run_command(chat, f"/save {tmp_path / 'gone' / 'talk.json'}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/imag x", "no command /imag; /help"),
        ("/", "no command /"),
        ("/image", "/image needs a file"),
        ("/image   ", "/image needs a file"),
        ("/image gone.png", "no picture 'gone.png'"),
        ("/save", "/save needs a file"),
    ],
)
def test_commands_that_cannot_be_done(chat, line, message):
    with pytest.raises(UserError, match=message):
        run_command(chat, line)


def test_what_is_no_picture_is_named(chat, tmp_path):
    path = tmp_path / "text.png"
    path.write_text("no picture")
    with pytest.raises(UserError, match=r"text\.png: .*cannot decode"):
        run_command(chat, f"/image {path}")
    assert chat.waiting == []


def test_help_names_every_command_and_quit_ends(chat):
    assert run_command(chat, "/help") == HELP
    for line in ("/quit", "/exit"):
        with pytest.raises(EndOfChat):
            run_command(chat, line)


def test_a_talk_that_grows_too_long_is_told_and_can_be_reset(chat):
    with pytest.raises(QuestionError, match="context 600"):
        chat.ask("What? " * 400)
    assert chat.turns == []
    assert _ask(chat, "What?") is not None
