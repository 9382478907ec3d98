"""Fates of rows, decided on numbers: made by hand here, so that every rule can be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cambrian_data.curation.decide import (
    STAGES,
    Fates,
    alarms,
    clusters_of,
    exact_keepers,
    near_candidates,
    picture_sets,
    rank_of,
)
from cambrian_data.curation.duplicates.dedup import DedupConfig
from cambrian_data.curation.index import INDEX, Rows, index_bytes, load_rows


def rows_of(tmp_path: Path, *parts: list[dict]) -> Rows:
    """Write parts as index files and load them; a row names only what matters to it."""
    files = []
    for number, part in enumerate(parts):
        table = pa.Table.from_pylist([full(number, at, row) for at, row in enumerate(part)])
        columns = [table[name].combine_chunks() for name in INDEX.names]
        cast = [
            column.cast(pa.string()).dictionary_encode().cast(field.type)
            if pa.types.is_dictionary(field.type)
            else column.cast(field.type)
            for column, field in zip(columns, INDEX, strict=True)
        ]
        file = tmp_path / f"{number}.arrow"
        file.write_bytes(index_bytes(pa.Table.from_arrays(cast, schema=INDEX)))
        files.append(file)
    return load_rows(files)


def full(part: int, at: int, row: dict) -> dict:
    number = 1000 * part + at + 1
    return {
        "id": f"{number:064x}",
        "id_hi": 0,
        "id_lo": number,
        "text_hi": number,
        "text_lo": number,
        "pictures": [],
        "opening": 0,
        "answer": 10,
        "score": float("nan"),
        "source": "a",
        "category": "general",
        "stage": None,
        "reason": None,
        "detail": None,
        **row,
    }


def test_names_become_numbers_in_the_order_of_the_names(tmp_path):
    rows = rows_of(tmp_path, [{"source": "b"}, {"source": "a"}], [{"source": "c"}])
    assert rows.sources == ["a", "b", "c"]
    assert rows.source.tolist() == [1, 0, 2]
    assert rows.starts.tolist() == [0, 2, 3]
    assert rows.ids(np.array([2, 0])) == [f"{1001:064x}", f"{1:064x}"]


def test_rows_go_for_the_first_reason_and_all_are_counted(tmp_path):
    rows = rows_of(
        tmp_path,
        [{"stage": "checks", "reason": "too_long"}, {"stage": "quality", "reason": "language"}, {}],
        [{"stage": "quality", "reason": "language"}, {}],
    )
    fates = Fates.of(rows)
    fates.drop_explained("decontaminate", {0: ("text_match", "x"), 2: ("text_match", "y")})
    flow = {step["stage"]: step for step in fates.flow()}
    assert flow["checks"]["drops"] == {"too_long": 1}
    assert flow["quality"] == {"stage": "quality", "in": 4, "out": 2, "drops": {"language": 2}}
    assert flow["decontaminate"]["drops"] == {"text_match": 1}
    assert flow["near_dedup"]["out"] == 1
    assert [row["have"] for row in fates.by_source()] == [5]


def test_longer_answers_rank_first_then_the_source_then_the_id(tmp_path):
    rows = rows_of(
        tmp_path,
        [{"answer": 5}, {"answer": 9, "source": "z"}, {"answer": 9, "source": "liked"}],
        [{"answer": 9, "source": "z", "id_lo": 1}],
    )
    rank = rank_of(rows, DedupConfig(prefer_sources=["lik*"]))
    assert rank.tolist() == [3, 2, 0, 1]


def test_equal_samples_of_two_sources_rank_by_the_source_not_by_their_place(tmp_path):
    same = {"id_lo": 7}
    one = rows_of(tmp_path, [{**same, "source": "a"}, {**same, "source": "b"}])
    other = rows_of(tmp_path, [{**same, "source": "b"}, {**same, "source": "a"}])
    assert rank_of(one, DedupConfig()).tolist() == [0, 1]
    assert rank_of(other, DedupConfig()).tolist() == [1, 0]


def test_one_text_about_other_pictures_is_another_sample(tmp_path):
    same = {"text_hi": 7, "text_lo": 7}
    rows = rows_of(
        tmp_path,
        [{**same, "pictures": [4]}, {**same, "pictures": [8]}, {**same, "pictures": [4, 8]}],
        [{**same, "pictures": [8, 4]}, {**same, "pictures": [4]}, same],
    )
    sets = picture_sets(rows, None)
    keeper = exact_keepers(rows, np.ones(6, bool), sets, np.arange(6))
    assert keeper.tolist() == [0, 1, 2, 3, 0, 5]
    assert sets[5] == 0 and len(set(sets.tolist())) == 5


def test_look_alikes_count_as_one_picture_where_asked_for(tmp_path):
    rows = rows_of(tmp_path, [{"pictures": [4]}, {"pictures": [6]}, {"pictures": [9]}])
    known = np.array([4, 6, 9], dtype=np.uint64)
    sets = picture_sets(rows, (known, np.array([4, 4, 9], dtype=np.uint64)))
    assert sets[0] == sets[1] != sets[2]
    assert near_candidates(np.ones(3, bool), sets).tolist() == [0, 1]
    assert near_candidates(np.array([True, False, True]), sets).tolist() == []


def test_clusters_name_the_row_that_was_kept(tmp_path):
    rows = rows_of(tmp_path, [{}, {}], [{}, {}])
    fates = Fates.of(rows)
    keeper = np.array([0, 0, 2, 0])
    fates.drop_copies("near_dedup", keeper, np.array([1, 0.9, 1, 0.8], dtype=np.float32))
    found = [row for table in clusters_of(fates, "near_dedup") for row in table.to_pylist()]
    ids = rows.ids(np.arange(4))
    assert {row["cluster"] for row in found} == {ids[0]}
    assert [(row["sample_id"], row["kept"]) for row in found] == [
        (ids[0], True),
        (ids[1], False),
        (ids[3], False),
    ]
    assert found[2]["similarity"] == pytest.approx(0.8)


def test_a_source_that_loses_much_raises_an_alarm():
    empty = dict.fromkeys(STAGES, 0)
    sources = [
        {**empty, "source": "a", "have": 10, "near_dedup": 4, "exact_dedup": 2},
        {**empty, "source": "b", "have": 10, "near_dedup": 1, "quality": 9},
    ]
    assert [(row["source"], row["share"]) for row in alarms(sources, 0.5)] == [("a", 0.6)]
