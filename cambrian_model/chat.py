"""A conversation with a model: turns with their history, pictures at any of them, commands.

Nothing here reads a terminal or writes to one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cambrian_data.records import IMAGE_TOKEN, UserError
from cambrian_model.answers.questions import place_pictures
from cambrian_model.generate import Answerer, AnswerOptions, QuestionError
from cambrian_model.vision import Pictures

HELP = """\
/image FILE   show a picture with the next question; may be repeated
/system TEXT  another system prompt; without text none
/reset        forget all turns and pictures
/save FILE    write the conversation as JSON
/help         show this
/quit         end, as Ctrl-D does
A question may say <image> where each new picture stands; else they come first.
Ctrl-C stops an answer."""


class EndOfChat(Exception):
    """The user wants to end."""


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture of the conversation."""

    name: str
    seen: Pictures


@dataclass(slots=True)
class Turn:
    """A question and its answer."""

    question: str
    """With `<image>` where each of its pictures stands."""
    answer: str
    pictures: tuple[ShownPicture, ...]
    is_whole: bool
    """False: the answer was stopped."""


@dataclass(slots=True)
class Chat:
    """The turns so far, and what the next one shows."""

    answerer: Answerer
    options: AnswerOptions = field(default_factory=AnswerOptions)
    system: str | None = None
    """Replaces the model's own system prompt; empty for none."""
    read_picture: Callable[[Path], bytes] = Path.read_bytes
    turns: list[Turn] = field(default_factory=list)
    waiting: list[ShownPicture] = field(default_factory=list)
    """Pictures of the next question."""

    def add_picture(self, path: Path) -> str:
        """Show a picture with the next question; returns what to tell the user.

        Raises:
            UserError: it is not there or cannot be read.
        """
        if not path.is_file():
            raise UserError(f"there is no picture {str(path)!r}")
        try:
            data = self.read_picture(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        try:
            seen = self.answerer.look(data)
        except QuestionError as error:
            raise UserError(f"{path}: {error}") from None
        self.waiting.append(ShownPicture(str(path), seen))
        width, height = seen.sizes[0]
        more = f", one of {len(self.waiting)}" if len(self.waiting) > 1 else ""
        return f"{path} ({width} x {height}) goes with the next question{more}"

    def ask(self, question: str) -> Generator[str]:
        """Ask the next question; yields pieces of the answer.

        What was written when the iterator is closed or interrupted stays as the answer; without a
        single piece the question is taken back.

        Raises:
            QuestionError: it does not fit the pictures, or the conversation is too long.
        """
        pictures = tuple(self.waiting)
        if IMAGE_TOKEN in question and not pictures:
            raise QuestionError(
                f"the question names {IMAGE_TOKEN} and no new picture is there; show it first "
                "with /image FILE"
            )
        turn = Turn(place_pictures(question, len(pictures)), "", pictures, is_whole=False)
        turns = [*self.turns, turn]
        shown = [picture.seen for asked in turns for picture in asked.pictures]
        written = _as_turns(turns, self.answerer.template.special_tokens)[:-1]
        pieces = self.answerer.stream(written, shown, system=self.system, **asdict(self.options))
        return self._written(turn, pieces)

    def _written(self, turn: Turn, pieces: Generator[str]) -> Generator[str]:
        try:
            with closing(pieces):
                for piece in pieces:
                    turn.answer += piece
                    yield piece
            turn.is_whole = True
        finally:
            if turn.is_whole or turn.answer:
                self.turns.append(turn)
                self.waiting.clear()

    def reset(self) -> None:
        """Forget all turns and pictures; the system prompt stays."""
        self.turns.clear()
        self.waiting.clear()

    def save(self, path: Path) -> None:
        """Write the conversation as JSON: turns as in records, names of the pictures.

        Raises:
            UserError: there is such a file, or it cannot be written.
        """
        system = self.answerer.model.config.system if self.system is None else self.system
        content: dict[str, Any] = {
            "system": system,
            "conversations": _as_turns(self.turns),
            "images": [picture.name for turn in self.turns for picture in turn.pictures],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise UserError(f"there is a file {path} already; give another name") from None
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None


def _as_turns(turns: Sequence[Turn], special: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return turns as in records.

    Args:
        special: what no answer may hold in a prompt, beside `<image>`; it is broken up there.
    """
    written = []
    for turn in turns:
        answer = turn.answer
        for token in (IMAGE_TOKEN, *special) if special else ():
            answer = answer.replace(token, f"{token[0]} {token[1:]}")
        written += [{"from": "human", "value": turn.question}, {"from": "gpt", "value": answer}]
    return written


def is_command(line: str) -> bool:
    """Return whether a line is for the chat and not for the model."""
    return line.startswith("/")


def run_command(chat: Chat, line: str) -> str:
    """Do what a line that begins with `/` says; returns what to tell the user.

    Raises:
        EndOfChat: it says so.
        UserError: there is no such command, or it cannot be done.
    """
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if name in ("/image", "/save") and not rest:
        raise UserError(f"{name} needs a file: {name} FILE")
    match name:
        case "/image":
            return chat.add_picture(_path(rest))
        case "/system":
            chat.system = rest
            return "another system prompt from here on" if rest else "no system prompt"
        case "/reset":
            chat.reset()
            return "all turns and pictures are forgotten"
        case "/save":
            chat.save(_path(rest))
            return f"saved to {rest}"
        case "/help":
            return HELP
        case "/quit" | "/exit":
            raise EndOfChat
    raise UserError(
        f"there is no command {name}; /help shows them. To ask something that begins with /, put "
        "a space before it"
    )


def _path(text: str) -> Path:
    """Return a path as it is typed or dropped into a terminal, with quotes or without."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return Path(text).expanduser()
