"""Checks on samples: each fault alone, in any batch."""

from __future__ import annotations

import pytest

from cambrian_data.curation import turns
from cambrian_data.curation.checks import ChecksConfig, check
from cambrian_data.records import DROP, DROP_REASONS

CONFIG = ChecksConfig(max_turns=4, max_characters=100)


@pytest.mark.parametrize("batch_rows", [1, 3, 50_000])
def test_every_fault_is_named(samples, sample, monkeypatch, batch_rows):
    monkeypatch.setattr(turns, "BATCH_ROWS", batch_rows)
    only_question, two_answers = sample("What?"), sample("What?", "This.", "And?", "That.")
    two_answers["conversations"][2]["from"] = "gpt"
    rows = {
        "good": sample("<image> What?", "This.", "And <image>?", "That.", pictures=["a", "b"]),
        "empty_answer": sample("What?", "This.", "And?", " \n\u3000"),
        "image_token_mismatch": sample("What?", "This.", pictures=["a"]),
        "bad_turns": only_question,
        "too_many_turns": sample("a?", "a", "b?", "b", "c?", "c"),
        "too_long": sample("What?", "x" * 96),
        "two answers": two_answers,
        "no turn": sample(),
        "also good": sample("What?", "x" * 95),
    }
    result = check(samples(*rows.values()), CONFIG)
    assert result.kept["id"].to_pylist() == [rows["good"]["id"], rows["also good"]["id"]]
    assert result.drops["reason"].to_pylist() == [
        "empty_answer",
        "image_token_mismatch",
        "bad_turns",
        "too_many_turns",
        "too_long",
        "bad_turns",
        "bad_turns",
    ]
    assert set(result.drops["reason"].to_pylist()) == DROP_REASONS["checks"]
    assert result.drops.schema == DROP
    assert result.stats["dropped"]["bad_turns"] == 3
    assert result.stats["rows"] == 9
    assert result.drops["detail"].to_pylist()[4] == (
        "2 turns, 101 characters, 0 <image>, 0 pictures"
    )


def test_token_in_an_answer_counts_as_one(samples, sample):
    result = check(samples(sample("What?", "See <image>.", pictures=["a"])), CONFIG)
    assert result.kept.num_rows == 1  # ingest refuses it; the engine's samples have none


def test_drops_keep_source_and_origin(samples, sample):
    origin = {"file": "f.jsonl", "line": 3, "id": "x"}
    result = check(samples(sample("What?", "", source="s.json", origin=origin)), CONFIG)
    (drop,) = result.drops.to_pylist()
    assert (drop["source"], drop["origin"], drop["stage"]) == ("s.json", origin, "checks")


def test_sliced_table_is_read_from_its_slice(samples, sample):
    table = samples(sample("What?", ""), sample("What?", "This."), sample("Who?", "Me."))
    assert check(table.slice(1), CONFIG).kept.equals(table.slice(1))


def test_nothing_stays_nothing(samples):
    result = check(samples(), CONFIG)
    assert (result.kept.num_rows, result.drops.num_rows) == (0, 0)
