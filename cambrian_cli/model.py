"""Commands that ask a trained model: `cambrian generate` and `cambrian chat`."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cambrian_cli import output
from cambrian_data.optional import require
from cambrian_data.records import UserError

if TYPE_CHECKING:
    from cambrian_model.chat import Chat
    from cambrian_model.generate import Answerer

RUNTIMES = ("cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")
_PROMPT = "> "


def answer(
    model: Path,
    question: str,
    *,
    images: list[Path],
    system: str | None = None,
    runtime: str = "cpu",
    dtype: str = "auto",
    **options: Any,
) -> None:
    """Load a model and print its answer.

    Args:
        options: fields of `AnswerOptions`.
    """
    _require()
    for image in images:
        _must_exist(image)
    question = _text(question)
    if not question.strip():
        raise UserError("the question is empty")
    pictures = [_stored(image) for image in images]
    from cambrian_model.answers.questions import place_pictures
    from cambrian_model.generate import AnswerOptions

    AnswerOptions(**options)
    turns = [{"from": "human", "value": place_pictures(question, len(pictures))}]
    answerer = _load(model, runtime, dtype)
    pieces = answerer.stream(turns, pictures, system=system and _text(system), **options)
    with contextlib.closing(pieces):
        if output.wants_json:
            output.emit_json({"question": question, "answer": "".join(pieces)})
            return
        for piece in pieces:
            _write(piece)
    _write("\n")


def chat(
    model: Path,
    *,
    images: list[Path],
    system: str | None = None,
    runtime: str = "cpu",
    dtype: str = "auto",
    **options: Any,
) -> None:
    """Load a model and talk with it: lines of a terminal or of a pipe, one turn each.

    Args:
        images: shown with the first question.
        options: fields of `AnswerOptions`.
    Raises:
        UserError: a turn from a pipe cannot be asked; at a terminal it is told and the talk goes
            on, and as JSON it is the last line.
    """
    _require()
    for image in images:
        _must_exist(image)
    from cambrian_model.chat import Chat
    from cambrian_model.generate import AnswerOptions

    chosen = AnswerOptions(**options)
    answerer = _load(model, runtime, dtype)
    talk = Chat(answerer, options=chosen, system=system and _text(system), read_picture=_stored)
    at_terminal = sys.stdin.isatty()
    for image in images:
        told = talk.add_picture(image)
        if at_terminal:
            output.err.print(output.plain(told), style="dim", markup=False)
    if at_terminal:
        # Ctrl-C stops an answer and not the chat; a request to end must still end it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output.err.print("/help shows the commands, Ctrl-D ends", style="dim")
        _talk_at_terminal(talk)
    else:
        _talk_through_pipe(talk)


def _talk_at_terminal(talk: Chat) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - lets `input` edit lines and remember them
    while True:
        try:
            line = _text(input(_PROMPT))
        except EOFError:
            _write("\n")
            return
        except KeyboardInterrupt:
            output.err.print("\n/quit or Ctrl-D ends", style="dim")
            continue
        try:
            if not _take(talk, line):
                return
        except KeyboardInterrupt:
            output.err.print("\n(stopped)", style="dim")
        except UserError as error:
            output.fail(str(error), output.EXIT_USER)


def _talk_through_pipe(talk: Chat) -> None:
    for number, line in enumerate(_lines(), start=1):
        try:
            if not _take(talk, line):
                return
        except UserError as error:
            told = f"line {number}: {error}"
            if not output.wants_json:
                raise UserError(told) from None
            _emit_line({"error": told})  # a line as each turn is one
            raise typer.Exit(output.EXIT_USER) from None


def _lines() -> Iterator[str]:
    """Yield the lines of a pipe, whatever bytes they hold."""
    for line in sys.stdin.buffer:
        yield line.decode(errors="replace").rstrip("\r\n")


def _take(talk: Chat, line: str) -> bool:
    """Do what a line says; returns False at the end of the talk."""
    from cambrian_model.chat import EndOfChat, is_command, run_command

    if not line.strip():
        return True
    if is_command(line):
        try:
            told = run_command(talk, line)
        except EndOfChat:
            return False
        output.err.print(output.plain(told), style="dim", markup=False)
        return True
    names = [picture.name for picture in talk.waiting]
    pieces = talk.ask(line)
    with contextlib.closing(pieces):
        if output.wants_json:
            _emit_turn(line, names, "".join(pieces))
            return True
        for piece in pieces:
            _write(piece)
    _write("\n")
    return True


def _emit_turn(question: str, pictures: Sequence[str], text: str) -> None:
    _emit_line({"question": question, "pictures": pictures, "answer": text})


def _emit_line(value: dict[str, Any]) -> None:
    """Write one line of JSON."""
    import orjson

    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


# ------------------------------------------------------------------------------- what is given


def _require() -> None:
    require("torch", "transformers", "tokenizers", "safetensors", extra="train")


def _load(model: Path, runtime: str, dtype: str) -> Answerer:
    if runtime not in RUNTIMES:
        raise UserError(f"a model answers on {', '.join(RUNTIMES)}, not on {runtime!r}")
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype!r} is none of {', '.join(DTYPES)}")
    import torch

    from cambrian_model.generate import load
    from cambrian_model.runtime import runtime_of

    if dtype == "auto":
        dtype = "bfloat16" if runtime == "cuda" else "float32"
    place = runtime_of(runtime)
    return load(model, runtime=place, dtype=getattr(torch, dtype))


def _must_exist(image: Path) -> None:
    if not image.is_file():
        raise UserError(f"there is no picture {str(image)!r}")


def _stored(image: Path) -> bytes:
    """Return a picture as the engine stores it: upright, on white, SVG drawn."""
    from cambrian_data.engine.images import ImagesConfig, PictureError, decode_picture

    try:
        config = ImagesConfig(min_side_px=1, max_aspect=200)
        return decode_picture(image.read_bytes(), config).data
    except PictureError as error:
        raise UserError(f"{image} cannot be used as a picture: {error}") from None


def _text(given: str) -> str:
    """Return what was typed; bytes that are no text become replacement signs."""
    return given.encode(errors="surrogateescape").decode(errors="replace")


def _write(text: str) -> None:
    """Write a piece of an answer at once, to the letter but for signs that a terminal obeys."""
    sys.stdout.write(output.plain(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
