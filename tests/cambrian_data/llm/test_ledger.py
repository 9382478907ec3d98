"""The ledger: what stands in it, and what happens to a file that is no good."""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
from pathlib import Path

import pytest

from cambrian_data.llm.bodies import Encoder
from cambrian_data.llm.config import LlmConfig
from cambrian_data.llm.exchange import LlmRequest
from cambrian_data.llm.ledger import Ledger
from cambrian_data.llm.prices import PictureRule
from cambrian_data.records import UserError
from tests.cambrian_data.llm.servers import QA, ask_for

RAW = json.dumps({"choices": []}).encode()


def encoded(text: str = "a"):
    encoder = Encoder(LlmConfig(), model="m", base_url="http://x/v1", rule=PictureRule())
    return encoder.encode(ask_for(text))


def pay(ledger: Ledger, text: str, outcome: str = "ok", cost_usd: float | None = 0.5) -> str:
    call = encoded(text)
    [sending] = ledger.write(ledger.sending(call))
    ledger.write(
        ledger.answer(
            sending,
            outcome=outcome,
            status=200,
            raw=RAW,
            prompt_tokens=10,
            completion_tokens=5,
            cost_usd=cost_usd,
            seconds=1.5,
        )
    )
    return call.key


def test_a_sending_without_a_word_is_a_repeat_the_next_time(ledger):
    call = encoded()
    [first] = ledger.write(ledger.sending(call))
    assert (first.number, first.is_repeat) == (1, False)
    [second] = ledger.write(ledger.sending(call))
    assert (second.number, second.is_repeat) == (2, True)
    ledger.write(ledger.fault(second, "500"))
    [third] = ledger.write(ledger.sending(call))
    assert not third.is_repeat
    ledger.write(ledger.answer(third, outcome="refusal", status=200, raw=RAW))
    [fourth] = ledger.write(ledger.sending(call))
    assert not fourth.is_repeat
    assert [answer.outcome for answer in ledger.answers(call.key)] == ["refusal"]


def test_costs_are_summed_over_all_answers(tmp_path):
    path = tmp_path / "llm.sqlite"
    with Ledger(path, now=lambda: "2025-01-02T03:04:05Z") as ledger:
        key = pay(ledger, "a", "refusal")
        pay(ledger, "a")
        other = pay(ledger, "b", cost_usd=None)
    with Ledger(path, read_only=True) as ledger:
        rows = ledger.calls([other, key, "unknown"])
        assert [row["key"] for row in rows] == sorted([key, other])
        row = next(row for row in rows if row["key"] == key)
        assert row == {
            "key": key,
            "model": "m",
            "status": "ok",
            "prompt_tokens": 20,
            "completion_tokens": 10,
            "cost_usd": 1.0,
            "seconds": 3.0,
            "at": "2025-01-02T03:04:05Z",
        }
        assert next(row for row in rows if row["key"] == other)["cost_usd"] is None
        shown = ledger.cost_of(key)
        assert shown is not None
        assert (shown["num_answers"], shown["num_sent"], shown["cost_usd"]) == (2, 2, 1.0)
        assert shown["prompt"] == "user: a" and shown["about"] == "a"
        assert ledger.cost_of("unknown") is None


def test_pictures_are_kept_as_hashes(ledger):
    data = "data:image/png;base64," + "A" * 100_000
    picture = {"type": "image_url", "image_url": {"url": data}}
    content = [{"type": "text", "text": "what is it"}, picture]
    encoder = Encoder(LlmConfig(), model="m", base_url="http://x/v1", rule=PictureRule())
    request = LlmRequest(messages=[{"role": "user", "content": content}], schema=QA, max_tokens=9)
    call = encoder.encode(request)
    ledger.write(ledger.sending(call))
    shown = ledger.cost_of(call.key)
    assert shown is not None and "what is it" in shown["prompt"]
    assert "sha256:" in shown["prompt"] and len(shown["prompt"]) < 200
    assert ledger.path.stat().st_size < 100_000


def test_many_ledgers_on_one_file(tmp_path):
    path = tmp_path / "deep" / "llm.sqlite"

    def work(worker: int) -> None:
        with Ledger(path) as ledger:
            for i in range(20):
                pay(ledger, f"{worker}/{i}")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Ledger(path) as ledger:
        keys = [encoded(f"{worker}/{i}").key for worker in range(6) for i in range(20)]
        assert len(ledger.calls(keys)) == 120
    assert [file.name for file in path.parent.iterdir()] == ["llm.sqlite"]


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100])
def test_a_file_that_is_no_ledger_is_an_error_and_stays(tmp_path, content):
    path = tmp_path / "llm.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match="holds what was paid for") as failure:
        Ledger(path)
    assert str(path) in str(failure.value)
    assert path.read_bytes() == content


def test_a_ledger_with_broken_pages_is_an_error(tmp_path):
    path = tmp_path / "llm.sqlite"
    with Ledger(path) as ledger:
        keys = [pay(ledger, f"{i} " * 200) for i in range(50)]
    data = bytearray(path.read_bytes())
    for start in range(4_096, len(data), 4_096):
        data[start : start + 2_000] = b"\xff" * 2_000
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged"), Ledger(path) as ledger:
        for key in keys:
            ledger.answers(key)


def test_a_lost_file_beside_its_log_is_an_error(tmp_path):
    (tmp_path / "llm.sqlite-wal").write_bytes(b"what was paid for")
    with pytest.raises(UserError, match="move that file away"):
        Ledger(tmp_path / "llm.sqlite")
    assert not (tmp_path / "llm.sqlite").exists()


def test_ledgers_of_newer_versions_are_left_alone(tmp_path):
    path = tmp_path / "llm.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UserError, match="newer version"):
        Ledger(path)


def test_reading_makes_no_file(tmp_path: Path):
    with pytest.raises(UserError, match="no ledger"):
        Ledger(tmp_path / "llm.sqlite", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_what_servers_lack_is_kept_by_server_and_model(ledger):
    ledger.learn("http://a", "m", "no_seed")
    ledger.learn("http://a", "m", "no_seed")
    assert ledger.traits("http://a", "m") == {"no_seed"}
    assert ledger.traits("http://a", "n") == ledger.traits("http://b", "m") == set()


def test_nothing_is_asked_where_its_answer_might_not_fit(ledger, monkeypatch):
    """Answers to what is open must find room, since they are paid for."""
    with monkeypatch.context() as context:
        context.setattr("cambrian_data.llm.ledger.MIN_FREE_BYTES", 2**80)
        with pytest.raises(OSError) as met:
            ledger.sending(encoded("later"))
    assert met.value.errno == errno.ENOSPC and met.value.filename == str(ledger.path)
    ledger.sending(encoded("later"))
