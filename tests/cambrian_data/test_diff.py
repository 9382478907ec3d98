"""What two mixtures differ in."""

from __future__ import annotations

import json

import pytest

from cambrian_data.diff import IN_MIXTURE, NOT_THERE, diff_mixtures, diff_tables
from cambrian_data.records import UserError
from cambrian_data.runs import RunRecord
from cambrian_data.workspace import Workspace
from tests.mixtures import left_out, make_sample, put_mixture

A = {"seed": 0, "mixture": {"size": 6, "ratios": {"ocr": 1.0}}, "datasets": ["d"]}
B = {"seed": 0, "mixture": {"size": 8, "ratios": {"ocr": 1.0, "math": 2.0}}, "datasets": ["d"]}


@pytest.fixture
def two(workspace: Workspace) -> Workspace:
    """Two mixtures of one pool of ten rows, and in the second one row more, twice."""
    rows = [make_sample(n, ("ocr", "math")[n % 2]) for n in range(10)]
    drops = [left_out(row, "mixture", "over_cap") for row in rows[6:9]]
    drops.append(left_out(rows[9], "checks", "bad_turns"))
    put_mixture(workspace, "a", rows[:6], drops, recipe=A)
    drops = [left_out(row, "near_dedup", "near_duplicate") for row in rows[:2]]
    drops.append(left_out(rows[9], "mixture", "over_cap"))
    new = make_sample(30, "math", source="new.json:x")
    put_mixture(workspace, "b", [*rows[2:9], new, new], drops, recipe=B)
    return workspace


def test_samples_are_compared_by_id(two):
    diff = diff_mixtures(two, "a", "b")
    assert diff["samples"] == {"only_a": 2, "only_b": 4, "both": 4, "other_copies": 0}
    assert (diff["a"]["samples"], diff["b"]["samples"]) == (6, 9)
    assert diff["categories"] == [
        {"category": "math", "a": 3, "b": 5, "only_a": 1, "only_b": 2, "both": 2},
        {"category": "ocr", "a": 3, "b": 4, "only_a": 1, "only_b": 2, "both": 2},
    ]
    new = next(row for row in diff["sources"] if row["source"] == "new.json:x")
    assert (new["a"], new["b"], new["only_b"]) == (0, 2, 1)


def test_rows_that_fared_differently_are_counted_with_examples(two):
    diff = diff_mixtures(two, "a", "b")
    changes = {(row["a"], row["b"]): row for row in diff["changes"]}
    assert {key: row["rows"] for key, row in changes.items()} == {
        ("mixture: over_cap", IN_MIXTURE): 3,
        (IN_MIXTURE, "near_dedup: near_duplicate"): 2,
        ("checks: bad_turns", "mixture: over_cap"): 1,
        (NOT_THERE, IN_MIXTURE): 1,
    }
    bad = changes["checks: bad_turns", "mixture: over_cap"]
    assert bad["examples"] == [make_sample(9, "math")["id"]]
    assert len(changes["mixture: over_cap", IN_MIXTURE]["examples"]) == 3
    assert {(row["stage"], row["reason"]): (row["a"], row["b"]) for row in diff["drops"]} == {
        ("checks", "bad_turns"): (1, 0),
        ("near_dedup", "near_duplicate"): (0, 2),
        ("mixture", "over_cap"): (3, 1),
    }


def test_recipes_are_compared_field_by_field(two):
    assert diff_mixtures(two, "a", "b")["recipe"] == [
        {"field": "mixture.ratios.math", "a": None, "b": 2.0},
        {"field": "mixture.size", "a": 6, "b": 8},
    ]


def test_a_mixture_does_not_differ_from_itself(two):
    diff = diff_mixtures(two, "a", "a")
    assert diff["changes"] == [] and diff["recipe"] == []
    assert diff["samples"] == {"only_a": 0, "only_b": 0, "both": 6, "other_copies": 0}
    assert all(row["a"] == row["b"] for row in diff["drops"])
    assert list(two.tmp.iterdir()) == []


def test_one_row_for_all_of_its_copies(workspace):
    """A copy of a row that stayed is no change, whichever of the copies stayed."""
    row = make_sample(1)
    copy = row | {"source": "copy.json:x", "origin": None}
    put_mixture(workspace, "a", [row], [left_out(copy, "exact_dedup", "exact_duplicate")])
    put_mixture(workspace, "b", [copy, copy], [left_out(row, "exact_dedup", "exact_duplicate")])
    diff = diff_mixtures(workspace, "a", "b")
    assert diff["changes"] == []
    assert diff["samples"] == {"only_a": 0, "only_b": 0, "both": 1, "other_copies": 1}
    counts = {row["source"]: (row["a"], row["b"]) for row in diff["sources"]}
    assert counts == {"set.json:general": (1, 0), "copy.json:x": (0, 2)}


def test_recipes_come_from_the_runs_or_are_missing(workspace):
    for name in ("a", "b"):
        put_mixture(workspace, name, [make_sample(1)])
    diff = diff_mixtures(workspace, "a", "b")
    assert diff["recipe"] is None and diff["recipe_missing"] == ["a", "b"]
    for name, size in (("a", 1), ("b", 2)):
        record = RunRecord(workspace, f"curate-{name}", kind="curate", seed=0, inputs={})
        record.data["recipe"] = {"mixture": {"size": size}}
        record.finish("done", outputs={"name": name})
    assert diff_mixtures(workspace, "a", "b")["recipe"] == [
        {"field": "mixture.size", "a": 1, "b": 2}
    ]


def test_it_is_json_and_tables(two):
    diff = diff_mixtures(two, "a", "b")
    assert json.loads(json.dumps(diff)) == diff
    tables = {table.title: table for table in diff_tables(diff)}
    assert tables["categories"].columns[-3:] == ["only a", "only b", "both"]
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows)
    text = json.dumps([table.rows for table in tables.values()])
    assert "mixture.ratios.math" in text and "near_dedup: near_duplicate" in text
    assert "new.json:x" in text


def test_mixtures_that_are_not_there_are_named(two):
    with pytest.raises(UserError, match=r"there is no mixture 'c' .*it has a, b"):
        diff_mixtures(two, "a", "c")
