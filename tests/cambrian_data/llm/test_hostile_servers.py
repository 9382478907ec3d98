"""The client against servers that send what no server should, and addresses where none is."""

from __future__ import annotations

import gzip
import logging
import socket

import pytest

from cambrian_data.llm.connection import list_models
from cambrian_data.records import RunFailed, UserError
from tests.cambrian_data.llm.servers import GOOD, KEY, ask_for, said

PAGE = b"<html>Welcome\x1b[2J</html>"


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def free_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def test_absurd_usage_is_not_booked(tiny, client, ledger):
    absurd = said(GOOD) | {"usage": {"prompt_tokens": 2**63, "completion_tokens": -4}}
    answer = client(tiny(lambda call, number: (200, absurd)).url).ask([ask_for("a")])[0]
    assert answer.outcome == "ok" and 0 < answer.prompt_tokens < 1_000
    assert ledger.answers(answer.key)[0].is_estimated


@pytest.mark.parametrize("body", [PAGE, b"data: {}\n\ndata: [DONE]\n", b'{"choices": [{"me', b""])
def test_what_is_no_json_is_paid_and_settled(tiny, client, body):
    server = tiny(lambda call, number: (200, body))
    asked = client(server.url)
    answer = asked.ask([ask_for("a")])[0]
    assert answer.outcome == "malformed" and "no JSON" in answer.detail and not answer.is_passing
    assert answer.detail.isprintable() and answer.prompt_tokens > 0
    assert asked.spend().answers == {"malformed": 4} and len(server.calls) == 4
    assert client(server.url).ask([ask_for("a")])[0].from_ledger
    assert len(server.calls) == 4


@pytest.mark.parametrize("half", [b"\\ud83d", b"\xff\xfe"])
def test_half_an_emoji_does_not_spoil_an_answer(tiny, client, half):
    body = b'{"id": "' + half + b'", "choices": [{"message": {"content": "%s"}}]}'
    body = body.replace(b"%s", GOOD.replace('"', '\\"').encode())
    server = tiny(lambda call, number: (200, body))
    assert client(server.url).ask([ask_for("a")])[0].outcome == "ok"
    again = client(server.url).ask([ask_for("a")])[0]
    assert again.from_ledger and again.outcome == "ok"
    assert len(server.calls) == 1


def test_a_bomb_is_not_unpacked(tiny, client, ledger):
    bomb = gzip.compress(b" " * 50_000_000)
    server = tiny(lambda call, number: (200, bomb, {"Content-Encoding": "gzip"}), models=[])
    answer = client(server.url).ask([ask_for("a")])[0]
    assert answer.outcome == "malformed" and "too long" in answer.detail
    assert len(server.calls) == 4
    assert answer.completion_tokens <= 4 * 50
    assert all(len(written.raw) < 1_000 for written in ledger.answers(answer.key))
    failing = tiny(lambda call, number: (400, b"x" * 5_000_000))
    assert client(failing.url).ask([ask_for("a")])[0].outcome == "llm_error"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(tiny, client, status):
    other = tiny(lambda call, number: (200, said(GOOD)), models=["m"])
    there = {"Location": f"{other.url}/chat/completions"}
    server = tiny(lambda call, number: (status, b"", there))
    with pytest.raises(UserError, match="set OPENAI_BASE_URL") as failure:
        client(server.url).ask([ask_for("a")])
    assert server.url in str(failure.value) and f"{other.url}:" in str(failure.value)
    assert len(server.calls) == 1 and not other.calls


def test_names_of_models_hold_nothing_that_is_not_seen(tiny):
    server = tiny(lambda call, number: (200, {}), models=["a\x1b[2J", "b"])
    assert list_models(server.url, KEY)[0] == ["a[2J", "b"]
    assert list_models(tiny(lambda call, number: (200, {})).url, KEY)[0] == []


def test_an_endless_wait_ends_the_run(tiny, client):
    server = tiny(lambda call, number: (429, {"error": {}}, {"Retry-After": "99999999999"}))
    with pytest.raises(RunFailed, match="asks to wait"):
        client(server.url).ask([ask_for("a")])
    assert len(server.calls) == 1


def test_nothing_that_listens_ends_the_run_soon(client, caplog):
    address = free_address()
    asked = client(address)
    with pytest.raises(RunFailed, match="OPENAI_BASE_URL") as failure:
        asked.ask([ask_for("a")])
    assert address in str(failure.value) and asked.spend().sent == 3
    (line,) = warnings_of(caplog)
    assert address in line and line.endswith("asked again, try 2 of 3")


def test_each_kind_of_fault_is_told_once(tiny, client, caplog):
    def answer(call, number):
        if number <= 6:
            return 503, PAGE
        if number <= 8:
            return 200, PAGE
        return 200, said(GOOD)

    server = tiny(answer)
    asked = client(server.url, settings={"max_open_calls": 2})
    assert {one.outcome for one in asked.ask([ask_for("a"), ask_for("b")])} == {"ok"}
    first, second = warnings_of(caplog)
    assert f"server at {server.url}: 503: <html>" in first and "try 2 of 8" in first
    assert "no JSON" in second and "of 4" in second
    assert first.isprintable() and second.isprintable()
