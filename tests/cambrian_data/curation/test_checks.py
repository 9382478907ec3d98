"""Checks on samples: each fault alone, in any batch."""

from __future__ import annotations

import pytest

from cambrian_data.curation.rules.checks import ChecksConfig, verdicts
from cambrian_data.records import DROP_REASONS

CONFIG = ChecksConfig(max_turns=4, max_characters=100)


def judged(table, start=0):
    batches = table.combine_chunks().to_batches()
    reasons, details = verdicts(batches[0].slice(start), CONFIG)
    assert [detail is None for detail in details] == [reason == "" for reason in reasons]
    return list(zip(reasons.tolist(), details.tolist(), strict=True))


@pytest.mark.parametrize("start", range(9))
def test_every_fault_is_named(samples, sample, start):
    only_question, two_answers = sample("What?"), sample("What?", "This.", "And?", "That.")
    two_answers["conversations"][2]["from"] = "gpt"
    rows = [
        ("", sample("<image> What?", "This.", "And <image>?", "That.", pictures=["a", "b"])),
        ("empty_answer", sample("What?", "This.", "And?", " \n\u3000")),
        ("image_token_mismatch", sample("What?", "This.", pictures=["a"])),
        ("bad_turns", only_question),
        ("too_many_turns", sample("a?", "a", "b?", "b", "c?", "c")),
        ("too_long", sample("What?", "x" * 96)),
        ("bad_turns", two_answers),
        ("bad_turns", sample()),
        ("", sample("What?", "x" * 95)),
    ]
    found = judged(samples(*(row for _, row in rows)), start)
    assert [reason for reason, _ in found] == [reason for reason, _ in rows][start:]
    assert {reason for reason, _ in rows} == DROP_REASONS["checks"] | {""}


def test_what_was_counted_is_told(samples, sample):
    table = samples(
        sample("<image> Is it?", "x" * 100, pictures=["a", "b"]), sample("What?", "\u00e9" * 96)
    )
    assert judged(table) == [
        ("image_token_mismatch", "2 turns, 114 characters, 1 <image>, 2 pictures"),
        ("too_long", "2 turns, 101 characters, 0 <image>, 0 pictures"),
    ]


@pytest.mark.parametrize(
    ("turns", "pictures", "reason"),
    [
        (("What?", "See <image>."), ["a"], ""),  # ingest refuses it; the engine's have none
        (("<image>", "A cat."), ["a"], ""),
        (("<image><image>", "Cats."), ["a"], "image_token_mismatch"),
        (("<imag e> <Image>", "Cats."), ["a"], "image_token_mismatch"),
        (("<ima", "ge>"), [], ""),
        (("What?", "<image>"), ["a"], ""),
        (("What?", ""), [], "empty_answer"),
        (("What?", "\u200b"), [], ""),
        (("", "This."), [], ""),
    ],
)
def test_tokens_and_blanks(samples, sample, turns, pictures, reason):
    assert judged(samples(sample(*turns, pictures=pictures)))[0][0] == reason
