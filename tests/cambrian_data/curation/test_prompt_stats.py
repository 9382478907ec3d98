"""What is counted of system prompts: against plain Python, in parts, and within bounds."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from cambrian_data.curation import prompt_stats
from cambrian_data.curation.prompt_stats import (
    BINS,
    Kinds,
    add_counts,
    bin_labels,
    count_prompts,
    merge_prompt_stats,
)


def part_of(rows):
    """Count rows of (source, kind, is_new, words of each answer)."""
    answers = [(n, words) for n, row in enumerate(rows) for words in row[3]]
    return count_prompts(
        pa.array([row[0] for row in rows], pa.string()),
        np.array([row[1] for row in rows], dtype=np.int8),
        np.array([row[2] for row in rows], dtype=bool),
        answer_row=np.array([row for row, _ in answers], dtype=np.int64),
        words=np.array([words for _, words in answers], dtype=np.int64),
    )


def made_up(count, seed):
    rng = random.Random(seed)
    return [
        (
            rng.choice("abc"),
            kind := rng.choice(list(Kinds)),
            kind in (Kinds.CHOICE, Kinds.SHORT) or (kind == Kinds.LONG and rng.random() < 0.5),
            [rng.choice([0, 1, 3, 40, 64, 1000]) for _ in range(rng.randrange(4))],
        )
        for _ in range(count)
    ]


def test_counts_are_those_of_python():
    rows = made_up(500, seed=0)
    merged = merge_prompt_stats([part_of(rows)])
    new = Counter(
        kind.name.lower().replace("long", "chat") for _, kind, is_new, _ in rows if is_new
    )
    assert merged["assigned"] == dict(sorted(new.items()))
    for source, got in merged["sources"].items():
        own = [row for row in rows if row[0] == source]
        assert got["samples"] == len(own)
        assert got["assigned"] == sum(is_new for _, _, is_new, _ in own)
        assert got["kinds"] == Counter(kind.name.lower() for _, kind, _, _ in own)
        free = [row for row in own if row[1] not in (Kinds.GIVEN, Kinds.HINTED)]
        for key, chosen in (
            ("answer_words", own),
            ("unprompted_before", free),
            ("unprompted_after", [row for row in free if not row[2]]),
        ):
            words = sorted(n for row in chosen for n in row[3])
            assert got[key]["max"] == words[-1]
            for name, share in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
                exact = words[int(share * (len(words) - 1))]
                assert exact - exact / 16 <= got[key][name] <= exact
            if key != "answer_words":
                bars = np.bincount(np.searchsorted(BINS, words), minlength=len(BINS) + 1)
                assert got[key]["histogram"] == bars.tolist()
                assert got[key]["answers"] == len(words)


def test_parts_add_up_in_any_order_and_through_json():
    rows = made_up(400, seed=1)
    parts = [part_of(rows[n : n + 30]) for n in range(0, 400, 30)]
    whole = merge_prompt_stats([part_of(rows)])
    assert merge_prompt_stats(iter(parts[::-1])) == whole
    assert merge_prompt_stats(json.loads(json.dumps(parts))) == whole
    assert merge_prompt_stats([add_counts(parts[:5]), add_counts(parts[5:])]) == whole
    before = json.dumps(parts[0])
    merge_prompt_stats(parts)
    assert json.dumps(parts[0]) == before


def test_a_part_is_bounded_by_its_sources():
    rows = [("a", Kinds.LONG, False, [words]) for words in range(60_000)]
    assert len(json.dumps(part_of(rows))) < 20_000


@pytest.mark.parametrize("words", [0, 63, 64, 65, 127, 128, 1000, 10**6, 2**31])
def test_a_bin_begins_a_sixteenth_below_at_most(words):
    (place,) = prompt_stats._bins(np.array([words]))
    low = prompt_stats._low(int(place))
    assert words - words / 16 <= low <= words


def test_bins_rise_with_the_words():
    places = prompt_stats._bins(np.arange(100_000))
    assert set(np.diff(places).tolist()) == {0, 1}


def test_labels():
    assert bin_labels()[:5] == ["1", "2", "3", "4-5", "6-10"]
    assert bin_labels()[-1] == "> 500"
    assert len(bin_labels()) == len(BINS) + 1
