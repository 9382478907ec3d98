"""Exact duplicates: what is equal, which one is kept, and that order does not matter."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.duplicates.exact import duplicates, text_keys
from cambrian_data.curation.ingest.part import IngestConfig, ingest_part, parts_of


def keys_of(table) -> np.ndarray:
    return text_keys(table.combine_chunks().to_batches()[0])


def reference(turns) -> tuple:
    return tuple(
        (turn["from"], " ".join(unicodedata.normalize("NFC", turn["value"]).split()))
        for turn in turns
    )


def same_groups(keys: np.ndarray, wanted: list) -> bool:
    """Return whether two rows have equal keys exactly where they have equal references."""
    pairs = set(zip(map(tuple, keys.tolist()), wanted, strict=True))
    return len({a for a, _ in pairs}) == len(pairs) == len({b for _, b in pairs})


def test_equal_conversations_by_hand(samples, sample):
    table = samples(
        sample("What?", "A caf\u00e9.", source="b.json"),
        sample("What? ", "A  cafe\u0301.\n", source="a.json", pictures=["1.jpg"]),
        sample("What?", "A cafe."),
        sample("what?", "A caf\u00e9."),
        sample("<image> What?", "A caf\u00e9."),
    )
    keys = keys_of(table)
    assert keys.shape == (5, 2)
    assert keys[0].tolist() == keys[1].tolist()  # pictures are not in the key
    assert len({tuple(key) for key in keys.tolist()}) == 4


def test_roles_and_borders_of_turns_matter(samples, sample):
    swapped = sample("a", "b")
    swapped["conversations"][0]["from"], swapped["conversations"][1]["from"] = "gpt", "human"
    table = samples(
        sample("a", "b"),
        swapped,
        sample("a b", ""),
        sample("", "a b"),
        sample("b", "a"),
        sample("a"),
        sample(""),
        sample("", ""),
        sample("a", "b", "a", "b"),
        sample("a gpt", "b"),
    )
    assert len({tuple(key) for key in keys_of(table).tolist()}) == table.num_rows


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.text("ab \u00e9e\u0301\u2003\n\x85", max_size=4), max_size=3), max_size=20
    )
)
def test_keys_are_equal_exactly_where_normal_forms_are(samples, sample, rows):
    table = samples(sample("first"), *(sample(*texts) for texts in rows))
    wanted = [reference(turns) for turns in table["conversations"].to_pylist()]
    assert same_groups(keys_of(table), wanted)


def test_keys_do_not_depend_on_the_batch(samples, sample):
    table = samples(*(sample(f"q {n % 7}", f"a {n % 5} \u00e9") for n in range(50)))
    keys = keys_of(table)
    assert keys_of(table.slice(13, 20)).tolist() == keys[13:33].tolist()
    batch = table.combine_chunks().to_batches()[0]
    assert text_keys(batch.slice(0, 0)).shape == (0, 2)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_of_equal_rows_the_best_ranked_is_kept(data):
    columns = data.draw(st.integers(1, 4))
    row = st.lists(st.sampled_from([0, 1, 2**64 - 1]), min_size=columns, max_size=columns)
    rows = data.draw(st.lists(row, max_size=30))
    rank = data.draw(st.permutations(range(len(rows))))
    keys = np.array(rows, np.uint64).reshape(len(rows), columns)
    wanted = [
        min((n for n in range(len(rows)) if rows[n] == mine), key=rank.__getitem__) for mine in rows
    ]
    assert duplicates(keys, np.array(rank, np.int64)).tolist() == wanted


@pytest.mark.parametrize("num_rows", [0, 1])
def test_few_rows_keep_themselves(num_rows):
    keys = np.zeros((num_rows, 3), np.uint64)
    assert duplicates(keys, np.arange(num_rows)).tolist() == list(range(num_rows))


def test_planted_copies_are_found_and_no_other(planted):
    pool = planted("--scale", "0.001")
    copies = {line: row["of"] for line, row in pool.lines("exact").items()}
    config = IngestConfig(check_images="none")
    (lines,) = parts_of(pool.path, config)
    random.Random(1).shuffle(lines)
    part = ingest_part(lines, dataset="p", file_name="p.jsonl", images=None, config=config)
    table = part.samples
    pictures = [hash(str([i["path"] for i in row])) % 2**63 for row in table["images"].to_pylist()]
    keys = np.column_stack([keys_of(table), np.array(pictures, np.uint64)])
    kept = duplicates(keys, np.random.default_rng(1).permutation(table.num_rows))
    line = np.array([row["line"] for row in table["origin"].to_pylist()])
    dropped = set(line[kept != np.arange(len(kept))].tolist())
    groups: dict[int, set[int]] = {}
    for copy, of in copies.items():
        groups.setdefault(of, {of}).add(copy)
    assert len(dropped) == len(copies) > 100
    assert all(len(group - dropped) == 1 for group in groups.values())
    assert dropped <= set().union(*groups.values())
