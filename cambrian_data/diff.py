"""What sets two mixtures apart: sizes, sources, samples, fates of rows, recipes.

Everything is counted in DuckDB over the Parquet parts. A sample is its id; an id stands there as
128 bits of its hash, so ten million rows of each mixture take a few hundred megabytes, and what is
more goes to the disk. A row's fate is that it is in the mixture, or the last stage that dropped it
and why; of copies with one id, the one that got furthest counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cambrian_data.build import published
from cambrian_data.export.card import recorded_recipe
from cambrian_data.records import DROP_REASONS
from cambrian_data.report.inputs import files_of, mixture_folder, read_json
from cambrian_data.report.tables import Tables
from cambrian_data.workspace import Workspace

MAX_EXAMPLES = 3
"""Ids that are named for each change of fate."""
IN_MIXTURE = "in the mixture"
NOT_THERE = "not in its pool"

_STAGES = {stage: number for number, stage in enumerate(DROP_REASONS)}
_SAMPLES = """
CREATE TEMP TABLE {side}_ids AS
SELECT md5_number(id) AS key, min({{'source': source, 'category': category}}) AS place,
  count(*) AS copies FROM {side} GROUP BY md5_number(id)
"""
_JOINED = """
CREATE TEMP TABLE joined AS
SELECT a.place AS a_place, b.place AS b_place, a.copies <> b.copies AS is_other, count(*) AS ids
FROM a_ids a FULL JOIN b_ids b USING (key) GROUP BY ALL
"""
# An id that stands in both counts for its source in a: another copy of it may have stayed in b.
_COUNTED = """
SELECT {columns}, CAST(sum(a) AS BIGINT) AS a, CAST(sum(b) AS BIGINT) AS b,
  CAST(sum(only_a) AS BIGINT) AS only_a, CAST(sum(only_b) AS BIGINT) AS only_b,
  CAST(sum("both") AS BIGINT) AS "both" FROM (
    SELECT source, category, count(*) AS a, 0 AS b, 0 AS only_a, 0 AS only_b, 0 AS "both"
    FROM a GROUP BY ALL
    UNION ALL SELECT source, category, 0, count(*), 0, 0, 0 FROM b GROUP BY ALL
    UNION ALL SELECT coalesce(a_place, b_place).source, coalesce(a_place, b_place).category, 0, 0,
      if(b_place IS NULL, ids, 0), if(a_place IS NULL, ids, 0),
      if(a_place IS NOT NULL AND b_place IS NOT NULL, ids, 0) FROM joined)
GROUP BY {columns} ORDER BY {columns}
"""
_OTHER_COPIES = "SELECT CAST(coalesce(sum(ids), 0) AS BIGINT) AS n FROM joined WHERE is_other"
# A stage and its reason in one number, the further on the larger; the mixture itself is largest.
_FATES = """
CREATE TEMP TABLE {side}_fates AS
SELECT key, max(fate) AS fate FROM (
  SELECT md5_number(record_id) AS key, fates.number AS fate
  FROM {side}_drops JOIN fates USING (stage, reason)
  UNION ALL SELECT key, {inside} FROM {side}_ids)
GROUP BY key
"""
_CHANGES = """
SELECT a.fate AS a, b.fate AS b, count(*) AS rows, min(key, {examples}) AS keys
FROM a_fates a FULL JOIN b_fates b USING (key)
WHERE a.fate IS DISTINCT FROM b.fate GROUP BY ALL
"""
_NAMES = """
SELECT DISTINCT md5_number(id)::VARCHAR AS key, id FROM (
  SELECT id FROM a UNION ALL SELECT id FROM b
  UNION ALL SELECT record_id FROM a_drops UNION ALL SELECT record_id FROM b_drops)
SEMI JOIN examples ON md5_number(id) = examples.key
"""


@dataclass(frozen=True, slots=True)
class DiffTable:
    """A table to be shown: a title, names of columns, rows of cells."""

    title: str
    columns: list[str]
    rows: list[list[Any]]


def diff_mixtures(workspace: Workspace, a: str, b: str) -> dict[str, Any]:
    """Return what sets two mixtures apart, as JSON data.

    Returns:
        a, b (name, recipe, seed, samples, datasets, plan in a sentence), samples (only_a, only_b,
        both, other_copies: ids that stand in both, but not equally often), categories, sources,
        drops (stage, reason, a, b), changes (rows that fared differently: a, b, rows, examples),
        recipe (field, a, b) or null where one was not recorded, recipe_missing (names).
    Raises:
        UserError: there is no such mixture, or it is unfinished or damaged.
    """
    folders = {"a": mixture_folder(workspace, a), "b": mixture_folder(workspace, b)}
    about = {side: published(folder)["about"] for side, folder in folders.items()}
    parts = {side: ("samples", files_of([folder], "samples")) for side, folder in folders.items()}
    parts |= {f"{side}_drops": ("drops", files_of([f], "drops")) for side, f in folders.items()}
    names = {"a": a, "b": b}
    recipes = {
        side: about[side].get("config") or recorded_recipe(workspace, name)
        for side, name in names.items()
    }
    with Tables(workspace, parts) as tables:
        for side in folders:
            tables.run(_SAMPLES.format(side=side))
        tables.run(_JOINED)
        categories = tables.rows(_COUNTED.format(columns="category"))
        samples = {
            name: sum(row[name] for row in categories) for name in ("only_a", "only_b", "both")
        }
        other_copies = tables.rows(_OTHER_COPIES)[0]["n"]
        return {
            **{
                side: _side(name, about[side], read_json(folders[side] / "plan.json") or {})
                for side, name in names.items()
            },
            "samples": samples | {"other_copies": other_copies},
            "categories": categories,
            "sources": tables.rows(_COUNTED.format(columns="category, source")),
            "drops": _drops(tables),
            "changes": _changes(tables),
            "recipe": _recipe_changes(recipes["a"], recipes["b"]),
            "recipe_missing": [names[side] for side, recipe in recipes.items() if not recipe],
        }


def _side(name: str, about: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "recipe": about.get("recipe"),
        "seed": plan.get("seed"),
        "samples": about["samples"],
        "datasets": about.get("datasets"),
        "explained": about.get("explained"),
    }


def _drops(tables: Tables) -> list[dict[str, Any]]:
    rows = tables.rows(
        "SELECT stage, reason, coalesce(a.n, 0) AS a, coalesce(b.n, 0) AS b "
        "FROM (SELECT stage, reason, count(*) AS n FROM a_drops GROUP BY ALL) a "
        "FULL JOIN (SELECT stage, reason, count(*) AS n FROM b_drops GROUP BY ALL) b "
        "USING (stage, reason)"
    )
    return sorted(rows, key=lambda row: (_place(row["stage"]), row["reason"]))


def _place(stage: str) -> tuple[int, str]:
    return _STAGES.get(stage, len(_STAGES)), stage


def _changes(tables: Tables) -> list[dict[str, Any]]:
    """Return rows that fared differently, by both fates, most frequent first."""
    found = tables.rows(
        "SELECT DISTINCT stage, reason FROM (FROM a_drops UNION ALL BY NAME FROM b_drops)"
    )
    fates = sorted(
        {(row["stage"], row["reason"]) for row in found}, key=lambda f: (_place(f[0]), f)
    )
    said = [f"{stage}: {reason}" for stage, reason in fates] + [IN_MIXTURE]
    tables.run(
        "CREATE TEMP TABLE fates AS SELECT unnest(?::VARCHAR[]) AS stage, "
        "unnest(?::VARCHAR[]) AS reason, unnest(?::USMALLINT[]) AS number",
        [stage for stage, _ in fates],
        [reason for _, reason in fates],
        list(range(len(fates))),
    )
    for side in ("a", "b"):
        tables.run(_FATES.format(side=side, inside=f"{len(fates)}::USMALLINT"))
    tables.run(f"CREATE TEMP TABLE changes AS {_CHANGES.format(examples=MAX_EXAMPLES)}")
    tables.run("CREATE TEMP TABLE examples AS SELECT unnest(keys) AS key FROM changes")
    ids = {row["key"]: row["id"] for row in tables.rows(_NAMES)}
    rows = tables.rows(
        "SELECT a, b, rows, list_transform(keys, lambda k: k::VARCHAR) AS keys FROM changes"
    )
    changes = [
        {
            "a": NOT_THERE if row["a"] is None else said[row["a"]],
            "b": NOT_THERE if row["b"] is None else said[row["b"]],
            "rows": row["rows"],
            "examples": sorted(ids[key] for key in row["keys"]),
        }
        for row in rows
    ]
    return sorted(changes, key=lambda change: (-change["rows"], change["a"], change["b"]))


def _recipe_changes(
    a: Mapping[str, Any] | None, b: Mapping[str, Any] | None
) -> list[dict[str, Any]] | None:
    """Return the fields in which two recipes differ, by their paths; None without one of them."""
    if not a or not b:
        return None
    left, right = _flat(a), _flat(b)
    return [
        {"field": name, "a": left.get(name), "b": right.get(name)}
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name) or (name in left) != (name in right)
    ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted paths; lists are leaves."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    return {
        name: leaf
        for key in value
        for name, leaf in _flat(value[key], f"{path}.{key}" if path else str(key)).items()
    }


# -------------------------------------------------------------------------------- for reading


def diff_tables(diff: Mapping[str, Any]) -> list[DiffTable]:
    """Return what `diff_mixtures` found as tables for a terminal; those without rows left out."""
    a, b = diff["a"], diff["b"]
    names = [f"a: {a['name']}", f"b: {b['name']}"]
    fields = ("recipe", "seed", "samples", "datasets", "explained")
    about = [[field, _cell(a[field]), _cell(b[field])] for field in fields]
    samples = diff["samples"]
    counted = [
        ["only in a", samples["only_a"]],
        ["only in b", samples["only_b"]],
        ["in both", samples["both"]],
        ["in both, but not equally often", samples["other_copies"]],
    ]
    columns = [*names, "b - a", "only a", "only b", "both"]
    tables = [
        DiffTable("mixtures", ["", *names], about),
        DiffTable("samples, each id once", ["", "samples"], counted),
        DiffTable(
            "categories",
            ["category", *columns],
            [[row["category"], *_counts(row)] for row in diff["categories"]],
        ),
        DiffTable(
            "sources that differ",
            ["source", "category", *columns],
            [
                [row["source"], row["category"], *_counts(row)]
                for row in diff["sources"]
                if row["only_a"] or row["only_b"] or row["a"] != row["b"]
            ],
        ),
        DiffTable(
            "dropped rows",
            ["stage", "reason", *names, "b - a"],
            [
                [row["stage"], row["reason"], row["a"], row["b"], row["b"] - row["a"]]
                for row in diff["drops"]
            ],
        ),
        DiffTable(
            "rows that fared differently",
            ["in a", "in b", "rows", "for example"],
            [[row["a"], row["b"], row["rows"], row["examples"][0][:16]] for row in diff["changes"]],
        ),
        DiffTable(
            "recipes",
            ["field", *names],
            [[row["field"], _cell(row["a"]), _cell(row["b"])] for row in diff["recipe"] or ()],
        ),
    ]
    return [table for table in tables if table.rows]


def _counts(row: Mapping[str, Any]) -> list[int]:
    return [row["a"], row["b"], row["b"] - row["a"], row["only_a"], row["only_b"], row["both"]]


def _cell(value: Any) -> str:
    """Return a value as a cell that fits."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = ", ".join(value)
    text = "-" if value is None else f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= 200 else text[:200] + "..."
