"""`cambrian generate` and `cambrian chat`: pipes, a terminal, JSON, and what users get wrong."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cambrian_cli import model, output
from cambrian_data.records import UserError
from tests.cambrian_model.tiny_answerer import picture, tiny_model

TALK = """
import sys
from pathlib import Path
from cambrian_cli.model import chat
chat(Path(sys.argv[1]), images=[], max_new_tokens=int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a model that has much to say."""
    path = tmp_path_factory.mktemp("model")
    made, tokenizer = tiny_model(context=20_000)
    made.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(picture("red"))
    return path


@pytest.fixture
def as_json(monkeypatch):
    monkeypatch.setattr(output, "wants_json", True)


@pytest.fixture
def piped(monkeypatch):
    """Return a function that gives lines to the next command's standard input."""

    def give(text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return give


def test_generate_writes_what_the_library_answers(folder, red, capsys):
    from cambrian_model.generate import load

    expected = load(folder).answer("What?", [red], max_new_tokens=20)
    assert expected
    model.answer(folder, "What?", images=[red], max_new_tokens=20)
    assert capsys.readouterr().out == expected + "\n"
    model.answer(folder, "What?", images=[red], max_new_tokens=20, system="At length.")
    assert capsys.readouterr().out != expected + "\n"


def test_generate_takes_several_pictures_and_prints_json(folder, red, tmp_path, capsys, as_json):
    blue = tmp_path / "blue.png"
    blue.write_bytes(picture("blue", (90, 30)))
    question = "From <image> to <image>?"
    model.answer(folder, question, images=[red, blue], max_new_tokens=20, num_beams=2)
    done = json.loads(capsys.readouterr().out)
    assert done["question"] == question and done["answer"]


@pytest.mark.parametrize(
    ("question", "given", "message"),
    [
        ("  ", {}, "the question is empty"),
        ("What?", {"images": [Path("gone.png")]}, "no picture 'gone.png'"),
        ("What is in <image>?", {}, "names 1 pictures.*0 are given"),
        ("What?", {"temperature": -1.0}, "temperature is -1"),
        ("What?", {"runtime": "xla"}, "cpu, cuda, mps, not on 'xla'"),
        ("What?", {"dtype": "int8"}, "'int8' is none of auto"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(question, given, message, tmp_path):
    with pytest.raises(UserError, match=message):
        model.answer(tmp_path / "no model", question, **({"images": []} | given))


@pytest.mark.parametrize("name", ["gone", "empty", "file", "other"])
def test_folders_that_hold_no_model_are_told(name, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=str(tmp_path / name)):
        model.answer(tmp_path / name, "What?", images=[])


def test_what_cannot_be_read_as_a_picture_is_told(folder, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(UserError, match=r"text\.png cannot be used as a picture"):
        model.answer(folder, "What?", images=[text])


# ---------------------------------------------------------------------------------------- pipes


def test_each_line_of_a_pipe_is_a_turn(folder, red, piped, capsys, as_json):
    piped(f"What?\n\n/image {red}\nAnd this?\n/reset\nWhat?\n/quit\nNever asked.\n")
    model.chat(folder, images=[], max_new_tokens=15)
    turns = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [turn["question"] for turn in turns] == ["What?", "And this?", "What?"]
    assert [turn["pictures"] for turn in turns] == [[], [str(red)], []]
    assert turns[0]["answer"] == turns[2]["answer"] != turns[1]["answer"]


def test_pictures_of_the_command_go_with_the_first_question(folder, red, piped, capsys, as_json):
    piped("What?\nAnd now?")
    model.chat(folder, images=[red, red], max_new_tokens=5)
    turns = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [turn["pictures"] for turn in turns] == [[str(red)] * 2, []]


def test_answers_alone_are_written_without_json(folder, piped, capsys):
    from cambrian_model.generate import load

    expected = load(folder).answer("What?", max_new_tokens=15)
    piped("What?\r\n")
    model.chat(folder, images=[], max_new_tokens=15)
    assert capsys.readouterr().out == expected + "\n"


def test_a_line_that_cannot_be_asked_is_named(folder, piped):
    piped("What?\n/imag x\n")
    with pytest.raises(UserError, match="line 2: there is no command /imag"):
        model.chat(folder, images=[], max_new_tokens=2)
    piped("What is in <image>?\n")
    with pytest.raises(UserError, match="line 1: .*show it first"):
        model.chat(folder, images=[], max_new_tokens=2)


def test_bytes_that_are_no_text_do_not_end_a_talk(folder, piped, capsys, as_json):
    piped(b"What \xff\xfe?\n")
    model.chat(folder, images=[], max_new_tokens=2)
    assert "\ufffd" in json.loads(capsys.readouterr().out)["question"]
    surrogate = os.fsdecode(b"What \xff?")
    model.answer(folder, surrogate, images=[], max_new_tokens=2)


# ------------------------------------------------------------------------------------- a terminal


class _Terminal:
    """A program at a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self.ours, theirs = pty.openpty()
        self.program = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(theirs)
        self.text = ""

    def wait_for(self, expected: str, timeout_s: float = 60) -> str:
        """Read until a text is there; returns all since the last call."""
        end = time.monotonic() + timeout_s
        while expected not in self.text:
            left = end - time.monotonic()
            assert left > 0, f"{expected!r} did not come; there is {self.text!r}"
            if select.select([self.ours], [], [], left)[0]:
                try:
                    self.text += os.read(self.ours, 65536).decode(errors="replace")
                except OSError:  # the program has closed its side
                    assert expected in self.text, self.text
        before, _, self.text = self.text.partition(expected)
        return before

    def wait_for_anything(self, timeout_s: float = 60) -> None:
        """Read until there is something."""
        end = time.monotonic() + timeout_s
        while not self.text.strip():
            assert time.monotonic() < end, "nothing came"
            if select.select([self.ours], [], [], 1)[0]:
                self.text += os.read(self.ours, 65536).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def end(self) -> int:
        try:
            return self.program.wait(30)
        finally:
            self.program.kill()
            os.close(self.ours)


def _own_terminal() -> None:
    """Make the terminal that of the new session, so that Ctrl-C is a signal there."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_ctrl_c_stops_the_answer_and_not_the_chat_and_ctrl_d_ends(folder):
    terminal = _Terminal(sys.executable, "-c", TALK, str(folder), "15000")
    terminal.wait_for("Ctrl-D ends")
    terminal.wait_for("> ")
    terminal.type("What?\n")
    terminal.wait_for("What?\r\n")
    terminal.wait_for_anything()  # the answer has begun
    terminal.type("\x03")
    terminal.wait_for("(stopped)")
    terminal.wait_for("> ")
    terminal.type("/nothing\n")
    terminal.wait_for("there is no command /nothing")
    terminal.wait_for("> ")
    terminal.type("\x03")
    terminal.wait_for("/quit or Ctrl-D ends")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_terminal_gets_no_signs_that_it_obeys(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    model._write("a\x1b[31mb\tc\n")
    assert capsys.readouterr().out == "a [31mb\tc\n"
