from __future__ import annotations

import io

import pytest
from rich.console import Console

from cambrian_cli import output
from cambrian_cli.data import show_ingest
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


def test_signs_that_a_terminal_would_obey_are_replaced(screen):
    odd = "a\nb\tc\u202ed\x1be\u2028f"
    assert output.line(odd) == "a b c\ufffdd e f"
    assert output.short("x" * 500) == "x" * 120 + "..."
    output.table("", [odd], [(odd,)])
    output.fields({odd: odd})
    shown = screen[0].getvalue()
    assert shown.count("a b c\ufffdd e f") == 4 and len(shown.splitlines()) == 3


def test_some_unknown_sources_are_named_and_the_others_counted(screen):
    unknown = {f"s{number:02}" + "x" * 200: 1 for number in range(23)}
    about = {"dataset": "d", "rows": 1, "samples": 1, "pictures": 0, "mended": {}, "drops": {}}
    show_ingest({**about, "unknown_sources": unknown})
    shown = "".join(screen[0].getvalue().split())
    assert "s19" + "x" * 117 + "...1and3more" in shown and "s20" not in shown


def test_progress_is_lines_where_there_is_no_terminal(screen):
    with output.Show() as show:
        show("fetch", 0, 3)
        show("fetch", 1, 3)
        show("fetch", 3, 3, loss=0.5)
    assert screen[1].getvalue().splitlines() == ["fetch 0/3", "fetch 3/3 loss 0.5"]


def test_an_interrupt_is_passed_on_as_one(screen):
    with pytest.raises(output.Interrupted), output.Show():
        raise KeyboardInterrupt
