from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from cambrian_data import pool
from cambrian_data.pool import PoolError, dataset_manifests, dataset_names
from cambrian_data.records import table_of
from cambrian_data.workspace import WorkspaceError
from tests.trees import put_dataset, read_datasets

TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def samples(*ids: str):
    rows = [
        {
            "id": i,
            "source": "s",
            "dataset": "x",
            "category": "ocr",
            "images": [],
            "conversations": TURNS,
        }
        for i in ids
    ]
    return table_of("samples", rows)


def test_data_sets_are_written_in_parts_and_read_in_order(workspace, monkeypatch):
    monkeypatch.setattr(pool, "ROWS_PER_PART", 2)
    put_dataset(workspace, "one", "k" * 20, samples("c", "a", "b"), made_by="test")
    assert len(list((workspace.pool("one") / "samples").iterdir())) == 2
    table = read_datasets(workspace, ["one"])
    assert sorted(table["id"].to_pylist()) == ["a", "b", "c"]
    assert set(table["dataset"].to_pylist()) == {"one"}
    about = dataset_manifests(workspace, ["one"])["one"]["about"]
    assert about == {"samples": 3, "made_by": "test"}


def test_a_new_key_replaces_a_data_set(workspace):
    put_dataset(workspace, "one", "k" * 20, samples("a", "b"))
    put_dataset(workspace, "one", "l" * 20, samples("c"))
    assert read_datasets(workspace, ["one"])["id"].to_pylist() == ["c"]


def test_an_empty_data_set_is_one(workspace):
    put_dataset(workspace, "none", "k" * 20, samples())
    assert dataset_names(workspace, ["*"]) == ["none"]
    assert len(read_datasets(workspace, ["none"])) == 0


def test_names_are_looked_up(workspace):
    with pytest.raises(PoolError, match="is empty"):
        dataset_names(workspace, ["*"])
    for name in ("b", "a"):
        put_dataset(workspace, name, "k" * 20, samples(name))
    assert dataset_names(workspace, ["*"]) == ["a", "b"]
    assert dataset_names(workspace, ["b", "b"]) == ["b"]
    with pytest.raises(PoolError, match=r"'c' \(it has: a, b\)"):
        dataset_names(workspace, ["c"])


def test_damage_is_named(workspace):
    put_dataset(workspace, "one", "k" * 20, samples("a"))
    victim = next((workspace.pool("one") / "samples").iterdir())
    victim.unlink()
    with pytest.raises(WorkspaceError, match=victim.name):
        dataset_manifests(workspace, ["one"])


def test_a_sample_that_several_parts_hold_is_kept_once(workspace):
    parts = []
    for number, ids in enumerate((("b", "a"), ("c", "b"))):
        parts.append(workspace.root / f"{number}.parquet")
        pq.write_table(samples(*ids), parts[-1])
    made = pool.write_dataset(workspace, "one", "k" * 20, parts, {})
    assert made == (3, 1)
    assert read_datasets(workspace, ["one"])["id"].to_pylist() == ["a", "b", "c"]
    (drop,) = pq.read_table(workspace.pool("one") / "drops").to_pylist()
    assert (drop["record_id"], drop["reason"]) == ("b", "duplicate")
