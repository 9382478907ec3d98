from __future__ import annotations

import io

import pytest
from rich.console import Console

from cambrian_cli import output
from cambrian_data.records import RunFailed, UserError


@pytest.fixture
def screen(monkeypatch):
    """What stdout and stderr would show."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=out, width=100))
    monkeypatch.setattr(output, "err", Console(file=err, width=100))
    monkeypatch.setattr(output, "wants_json", False)
    return out, err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("no [such] thing"), 2, "no [such] thing"),
        (RunFailed("too many"), 1, "too many"),
        (OSError(28, "No space left on device", "/x/y"), 1, "/x/y"),
        (output.Interrupted(), 130, "goes on"),
        (KeyError("oops"), 1, "a bug"),
    ],
)
def test_errors_become_messages_and_codes(screen, error, code, words):
    assert output.explain(error) == code
    assert words in screen[1].getvalue()


def test_cells(screen):
    assert [output.plain(c) for c in (None, True, 1234567, 0.123456, "[b]x")] == [
        "",
        "true",
        "1,234,567",
        "0.1235",
        "[b]x",
    ]
    output.table("", ["name", "n"], [("[red]x[/]", 1)])
    assert "[red]x[/]" in screen[0].getvalue()


def test_progress_is_lines_where_there_is_no_terminal(screen):
    with output.Show() as show:
        show("fetch", 0, 3)
        show("fetch", 1, 3)
        show("fetch", 3, 3, loss=0.5)
    assert screen[1].getvalue().splitlines() == ["fetch 0/3", "fetch 3/3 loss 0.5"]


def test_an_interrupt_is_passed_on_as_one(screen):
    with pytest.raises(output.Interrupted), output.Show():
        raise KeyboardInterrupt
