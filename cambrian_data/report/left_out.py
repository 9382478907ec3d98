"""Rows that did not get into the mixture: drops by stage and reason, and duplicates."""

from __future__ import annotations

from typing import Any

from cambrian_data.records import DROP_REASONS
from cambrian_data.report.inputs import Inputs
from cambrian_data.report.texts import shorten, shown_turns

_COUNTS = "SELECT stage, reason, count(*) AS rows FROM drops GROUP BY ALL"
_EXAMPLES = """
SELECT stage, reason, detail, source, left(raw, 300) AS raw FROM drops
QUALIFY row_number() OVER (PARTITION BY stage, reason
  ORDER BY record_id, source, detail, raw, origin.file, origin.line) <= 2
ORDER BY stage, reason, record_id, source, detail, raw
"""
_CLUSTERS = """
SELECT stage, count(DISTINCT cluster) AS clusters, count(*) AS members,
  count(*) FILTER (NOT kept) AS dropped FROM clusters GROUP BY 1 ORDER BY 1
"""
# What is worth a look: copies in different sources, with pictures, in large groups.
_CLUSTER_SHOWN = """
SELECT cluster, min(c.stage) AS stage, list(DISTINCT c.sample_id) AS ids,
  count(DISTINCT c.sample_id) AS members
FROM clusters c JOIN pool p ON p.id = c.sample_id
GROUP BY cluster
ORDER BY count(DISTINCT p.source) DESC, max(len(p.images)) DESC, count(*) DESC, cluster LIMIT 1
"""
_COPIES = """
SELECT p.id, p.source, p.dataset, p.origin, p.images, p.conversations,
  EXISTS (SELECT 1 FROM drops d WHERE d.stage = ? AND d.record_id = p.id
    AND d.source IS NOT DISTINCT FROM p.source AND d.origin IS NOT DISTINCT FROM p.origin)
    AS is_dropped
FROM pool p WHERE list_contains(?, p.id)
ORDER BY is_dropped, p.id, p.source, p.dataset, p.origin.file, p.origin.line LIMIT 3
"""


def drop_counts(inputs: Inputs) -> list[dict[str, Any]]:
    """Return stage, reason, rows and up to two examples, in the order of the stages."""
    shown: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in inputs.tables.rows(_EXAMPLES):
        example = {name: shorten(row[name], 240) or None for name in ("detail", "source", "raw")}
        if example["raw"] == example["detail"]:
            example["raw"] = None
        shown.setdefault((row["stage"], row["reason"]), []).append(example)
    counts = [
        row | {"examples": shown.get((row["stage"], row["reason"]), [])}
        for row in inputs.tables.rows(_COUNTS)
    ]
    counts += _shard_drops(inputs)
    return sorted(counts, key=lambda row: (_place(row["stage"]), -row["rows"], row["reason"]))


def _place(stage: str) -> tuple[int, str]:
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


def duplicates(inputs: Inputs) -> dict[str, Any]:
    """Return clusters by stage, and the copies of one of them side by side."""
    shown = inputs.tables.rows(_CLUSTER_SHOWN)
    return {
        "stages": inputs.tables.rows(_CLUSTERS),
        "example": _copies(inputs, shown[0]) if shown else None,
    }


def _copies(inputs: Inputs, cluster: dict[str, Any]) -> dict[str, Any]:
    rows = inputs.tables.rows(_COPIES, cluster["stage"], sorted(cluster["ids"]))
    return {
        "cluster": cluster["cluster"],
        "copies": [
            {
                **{name: row[name] for name in ("id", "source", "dataset", "origin", "images")},
                "is_dropped": row["is_dropped"],
                "turns": shown_turns(row["conversations"][:2], 300),
                "more_turns": max(len(row["conversations"]) - 2, 0),
            }
            for row in rows
        ],
    }
