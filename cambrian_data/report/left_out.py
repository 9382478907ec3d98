"""Rows that did not get into the mixture: by stage and reason, by source, what each source lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from cambrian_data.records import DROP_REASONS
from cambrian_data.report.inputs import Inputs
from cambrian_data.report.texts import shorten

_COUNTS = """
SELECT stage, reason, count(*) AS rows, min({'record_id': record_id, 'source': source,
  'detail': left(detail, 260), 'raw': left(raw, 300), 'file': origin.file, 'line': origin.line},
  2) AS examples
FROM drops GROUP BY ALL
"""
_BY_SOURCE = "SELECT source, stage, reason, count(*) AS rows FROM left_out GROUP BY ALL"
_TAKEN = "SELECT source, category, count(*) AS taken FROM mixture GROUP BY ALL"
UNKNOWN = "(unknown)"
"""Stands for a source or a category that was not recorded."""


def drop_counts(inputs: Inputs) -> list[dict[str, Any]]:
    """Return stage, reason, rows and up to two examples, in the order of the stages."""
    counts = inputs.tables.rows(_COUNTS)
    for row in counts:
        row["examples"] = [_example(found) for found in row["examples"]]
    counts += _shard_drops(inputs)
    return sorted(counts, key=lambda row: (place_of(row["stage"]), -row["rows"], row["reason"]))


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    example = {name: shorten(row[name], 240) or None for name in ("detail", "source", "raw")}
    return example | ({"raw": None} if example["raw"] == example["detail"] else {})


def place_of(stage: str) -> tuple[int, str]:
    """Return what sorts stages in the order in which rows pass them."""
    order = list(DROP_REASONS)
    return (order.index(stage) if stage in order else len(order), stage)


def _shard_drops(inputs: Inputs) -> list[dict[str, Any]]:
    dropped = (inputs.shards or {}).get("dropped", [])
    examples = [
        {"detail": shorten(row.get("detail"), 240), "source": None, "raw": None}
        for row in dropped[:2]
    ]
    row = {"stage": "shards", "reason": "picture_damaged", "rows": len(dropped)}
    return [row | {"examples": examples}] if dropped else []


def drops_by_source(inputs: Inputs) -> dict[str, Any]:
    """Return what curation dropped: the reasons in the order of the stages, a row for a source.

    Returns:
        `reasons` (stage, reason, rows) and `sources` (source, total, rows: one number a reason).
    """
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for row in inputs.tables.rows(_BY_SOURCE):
        counts[row["source"] or UNKNOWN][row["stage"], row["reason"]] += row["rows"]
    total: Counter[tuple[str, str]] = Counter()
    for found in counts.values():
        total.update(found)
    reasons = sorted(total, key=lambda key: (place_of(key[0]), -total[key], key[1]))
    sources = sorted(counts, key=lambda name: (-counts[name].total(), name))
    return {
        "reasons": [
            {"stage": stage, "reason": reason, "rows": total[stage, reason]}
            for stage, reason in reasons
        ],
        "sources": [
            {
                "source": name,
                "total": counts[name].total(),
                "rows": [counts[name][key] for key in reasons],
            }
            for name in sources
        ],
    }


def sources(inputs: Inputs, drops: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what became of every source: have, lost at each stage, taken; by category and size.

    Curation writes these numbers itself; where it did not, they are counted from the drops, and a
    source of several categories then stands under the one it gives most to.

    Args:
        drops: what `drops_by_source` returns.
    """
    taken = {(row["source"], row["category"]): row["taken"] for row in inputs.tables.rows(_TAKEN)}
    rows = _recorded(inputs, taken) if inputs.stats.get("sources") else _counted(drops, taken)
    return sorted(rows, key=lambda row: (row["category"], -row["have"], row["source"]))


def _recorded(inputs: Inputs, taken: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    stages = [stage["stage"] for stage in inputs.flow]
    return [
        {
            "source": row["source"],
            "category": row["category"],
            "have": row["have"],
            "lost": {stage: row[stage] for stage in stages if row.get(stage)},
            "taken": taken.get((row["source"], row["category"]), 0),
        }
        for row in inputs.stats["sources"]
    ]


def _counted(
    drops: Mapping[str, Any], taken: Mapping[tuple[str, str], int]
) -> list[dict[str, Any]]:
    lost: dict[str, Counter[str]] = defaultdict(Counter)
    for row in drops["sources"]:
        for reason, number in zip(drops["reasons"], row["rows"], strict=True):
            lost[row["source"]][reason["stage"]] += number
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    for (source, category), number in taken.items():
        parts[source][category] += number
    return [
        {
            "source": name,
            "category": min(parts[name], key=lambda c: (-parts[name][c], c), default=UNKNOWN),
            "have": lost[name].total() + parts[name].total(),
            "lost": {stage: number for stage, number in lost[name].items() if number},
            "taken": parts[name].total(),
        }
        for name in lost.keys() | parts.keys()
    ]
