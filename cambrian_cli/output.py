"""What a user sees: results and tables on stdout, progress and errors on stderr.

With `--json` stdout holds one JSON value and nothing else, errors included.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
import time
import traceback
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130
LINE_EVERY_S = 5.0
"""Seconds between two lines of progress where there is no terminal to draw on."""

out = Console(soft_wrap=True, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
MAX_NAME_CHARACTERS = 120
_NO_ASCII = re.compile(r"[^\t\n -~]")
"""Signs that are looked at one by one: a terminal may obey them."""
_LINE_BREAKS = re.compile(r"[\t\n]")
_INSTEAD = {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": "\ufffd", "Cs": "\ufffd"}
"""What is shown for a control or format sign (text direction among them), by Unicode category."""
wants_json = False
"""Set by the `--json` option; the error border needs it where no command can pass it on."""


def set_json(value: bool) -> bool:
    """Remember that the user asked for JSON."""
    global wants_json
    wants_json = wants_json or value
    return value


def set_up_logging() -> None:
    """Show warnings of the libraries on stderr, one line each."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(capture=True)


def emit_json(value: Any) -> None:
    """Write one JSON value to stdout."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    sys.stdout.write(orjson.dumps(value, default=str, option=options).decode() + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; numbers stand on the right."""
    body = [list(row) for row in rows]
    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for number, name in enumerate(columns):
        is_number = all(isinstance(row[number], int | float) for row in body) and bool(body)
        header = Text(line(name))
        drawn.add_column(header, justify="right" if is_number else "left", overflow="fold")
    for row in body:
        drawn.add_row(*(Text(line(cell)) for cell in row))
    out.print(drawn)


def plain(cell: Any) -> str:
    """Return a cell's text: thousands separated, floats short, nothing for None.

    Control and format signs are replaced; tabs and line ends stay.
    """
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.4g}"
    return _NO_ASCII.sub(_visible, str(cell))


def _visible(sign: re.Match[str]) -> str:
    return _INSTEAD.get(unicodedata.category(sign[0]), sign[0])


def line(cell: Any) -> str:
    """Return a cell's text on one line: tabs and line ends become spaces."""
    return _LINE_BREAKS.sub(" ", plain(cell))


def short(name: str) -> str:
    """Return a name from data on one line, cut where it is long."""
    cut = name if len(name) <= MAX_NAME_CHARACTERS else name[:MAX_NAME_CHARACTERS] + "..."
    return line(cut)


def fields(values: Mapping[str, Any]) -> None:
    """Print names and values, one a line; what is empty is left out."""
    values = {name: value for name, value in values.items() if value not in (None, "", {}, [])}
    lines = [(line(name), line(value)) for name, value in values.items()]
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        out.print(Text.assemble("  ", (f"{name:<{width}}", "bold"), f"  {text}"))


class Interrupted(Exception):
    """The user stopped the work with Ctrl-C, or the system with SIGTERM."""


class Show:
    """Draws progress: a bar a stage on a terminal, a line every few seconds elsewhere."""

    def __init__(self, quiet: bool = False) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line: dict[str, tuple[float, int]] = {}
        self._quiet = quiet
        if err.is_terminal and not quiet:
            self._bars = Progress(
                TextColumn("{task.description:<12}"),
                BarColumn(bar_width=32),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=err,
            )

    def __enter__(self) -> Show:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bars:
            self._bars.stop()
        if kind is KeyboardInterrupt:  # typer would end the program with a bare "Aborted!"
            raise Interrupted

    def __call__(self, stage: str, done: int, total: int | None, **numbers: float) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self._bars:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, numbers=text)
            self._bars.update(self._tasks[stage], completed=done, total=total, numbers=text)
        elif not self._quiet:
            self._line(stage, done, total, text)

    def _line(self, stage: str, done: int, total: int | None, text: str) -> None:
        now, (last, shown) = time.monotonic(), self._last_line.get(stage, (-LINE_EVERY_S, -1))
        if (now - last >= LINE_EVERY_S or done == total) and done != shown:
            self._last_line[stage] = (now, done)
            err.print(f"{stage} {done}{'' if total is None else f'/{total}'} {text}".rstrip())

    def note(self, sentence: str) -> None:
        """Tell the user something while work goes on."""
        err.print(sentence)


def fail(message: str, code: int) -> int:
    """Print an error where the user looks for it; return the exit code."""
    if wants_json:
        emit_json({"error": message, "exit_code": code})
    err.print(Text.assemble(("error:", "bold red"), f" {plain(message)}"))
    return code


_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""Base of what typer raises for a command that it cannot parse; it has no public name."""


def _explain_usage(error: Any) -> int:
    error.show()
    if wants_json:
        emit_json({"error": error.format_message(), "exit_code": error.exit_code})
    return int(error.exit_code)


def explain(error: Exception) -> int:
    """Print what went wrong and what to do; return the exit code."""
    from cambrian_data.records import RunFailed, UserError

    if isinstance(error, _USAGE_ERROR):
        return _explain_usage(error)
    if isinstance(error, Interrupted):
        message = "stopped; what was finished is kept, the same command goes on"
        return fail(message, EXIT_INTERRUPTED)
    if isinstance(error, UserError):
        return fail(str(error), EXIT_USER)
    if isinstance(error, RunFailed):
        return fail(str(error), EXIT_FAILED)
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        message = f"{error.filename or 'a file'} cannot be written or read: {error.strerror}"
        return fail(f"{message}; give another folder, for instance with --workspace", EXIT_USER)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return fail(
            f"no space left on the disk, or for this user, while writing "
            f"{error.filename or 'a file'} ({error.strerror}); free some and run the same command "
            "again",
            EXIT_FAILED,
        )
    traceback.print_exception(error, file=sys.stderr)
    return fail(
        f"unexpected {type(error).__name__}: {error} (a bug: please report it with the lines "
        "above)",
        EXIT_FAILED,
    )


def drops(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Print drops by stage and reason."""
    rows = [
        (stage, reason, count)
        for stage, reasons in counts.items()
        for reason, count in reasons.items()
    ]
    if rows:
        out.print()
        table("", ["dropped in", "reason", "rows"], rows)
