"""Exact duplicates: what is equal, which one is kept, and that order does not matter."""

from __future__ import annotations

import random

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.dedup import DedupConfig, exact_dedup
from cambrian_data.curation.ingest import IngestConfig, ingest_part, parts_of
from cambrian_data.records import CLUSTER, DROP

CONFIG = DedupConfig()


def test_equal_samples_by_hand(samples, sample):
    table = samples(
        sample("What?", "A caf\u00e9.", source="b.json"),
        sample("What? ", "A  cafe\u0301.\n", source="a.json"),
        sample("What?", "A cafe.", source="a.json"),
        sample("<image> What?", "A caf\u00e9.", pictures=["1.jpg"]),
        sample("<image> What?", "A caf\u00e9.", pictures=["2.jpg"]),
    )
    result, clusters = exact_dedup(table, CONFIG)
    assert result.kept.equals(table.take([1, 2, 3, 4]))  # its answer is longer as it is written
    (drop,) = result.drops.to_pylist()
    assert (drop["reason"], drop["record_id"]) == ("exact_duplicate", table["id"][0].as_py())
    assert drop["detail"] == f"equals {table['id'][1].as_py()} of a.json"
    assert [(row["sample_id"], row["kept"]) for row in clusters.to_pylist()] == [
        (table["id"][1].as_py(), True),
        (table["id"][0].as_py(), False),
    ]
    assert (clusters.schema, result.drops.schema) == (CLUSTER, DROP)
    assert result.stats["clusters"] == 1


def test_preferred_source_is_kept(samples, sample):
    table = samples(
        sample("What?", "A  cat.", source="c.json"),
        sample("What?", "A cat.", source="b.json:coco"),
        sample("What?", "A cat.", source="a.json"),
    )
    config = DedupConfig(prefer_sources=["x.json", "b.json:*", "c.json"])
    result, _ = exact_dedup(table, config)
    assert result.kept["source"].to_pylist() == ["b.json:coco"]


def test_roles_and_borders_of_turns_matter(samples, sample):
    swapped = sample("a", "b")
    swapped["conversations"][0]["from"], swapped["conversations"][1]["from"] = "gpt", "human"
    table = samples(
        sample("a", "b"),
        swapped,
        sample("a b", ""),
        sample("", "a b"),
        sample("a", "gpt b"),
        sample("a gpt", "b"),
    )
    result, clusters = exact_dedup(table, CONFIG)
    assert (result.kept.num_rows, clusters.num_rows) == (6, 0)


def test_pictures_are_compared_in_order(samples, sample):
    table = samples(
        sample("<image><image>", "x", pictures=["1", "2"]),
        sample("<image><image>", "x", pictures=["2", "1"]),
    )
    assert exact_dedup(table, CONFIG)[0].kept.num_rows == 2


def test_switched_off_it_keeps_all(samples, sample):
    table = samples(sample("a", "b"), sample("a", "b"))
    result, clusters = exact_dedup(table, DedupConfig(exact=False))
    assert result.kept.equals(table)
    assert (result.drops.num_rows, clusters.num_rows) == (0, 0)


def key_of(row: dict) -> tuple:
    return row["id"], row["source"], row["origin"]["line"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_order_makes_no_difference_and_twice_is_once(samples, sample, data):
    texts = st.sampled_from(["a", "a ", " a", "b", "\u00e9", "e\u0301"])
    rows = data.draw(st.lists(st.tuples(texts, texts, st.sampled_from("xyz")), max_size=12))
    table = samples(
        *(
            sample(question, answer, source=source, origin={"file": "f", "line": n, "id": None})
            for n, (question, answer, source) in enumerate(rows)
        )
    )
    order = data.draw(st.permutations(range(len(rows))))
    config = DedupConfig(prefer_sources=["z"])
    result, clusters = exact_dedup(table, config)
    shuffled, shuffled_clusters = exact_dedup(table.take(pa.array(order, pa.int64())), config)
    kept = sorted(map(key_of, result.kept.to_pylist()))
    assert kept == sorted(map(key_of, shuffled.kept.to_pylist()))
    assert clusters.equals(shuffled_clusters)
    assert result.kept.num_rows + result.drops.num_rows == len(rows)
    again, none = exact_dedup(result.kept, config)
    assert again.kept.equals(result.kept)
    assert none.num_rows == 0


def test_planted_copies_are_found_and_no_other(planted):
    pool = planted("--scale", "0.001")
    copies = {line: row["of"] for line, row in pool.lines("exact").items()}
    config = IngestConfig(check_images="none")
    (lines,) = parts_of(pool.path, config)
    random.Random(1).shuffle(lines)
    part = ingest_part(lines, dataset="p", file_name="p.jsonl", images=None, config=config)
    result, _ = exact_dedup(part.samples, CONFIG)
    groups: dict[int, set[int]] = {}
    for line, of in copies.items():
        groups.setdefault(of, {of}).add(line)
    dropped = {row["origin"]["line"] for row in result.drops.to_pylist()}
    assert result.drops.num_rows == len(copies) > 100
    assert all(len(group - dropped) == 1 for group in groups.values())
    assert dropped <= set().union(*groups.values())
