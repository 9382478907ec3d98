"""Rows of the table `topics`: each topic once, in one order, however they were come by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cambrian_data.engine.topics.names import key_of
from cambrian_data.records import drop, topic_id


def topic_row(field: str, subfield: str, topic: str, *, origin: str) -> dict[str, Any]:
    """Return one row of the table `topics`."""
    return {
        "id": topic_id(field, subfield, topic),
        "field": field or None,
        "subfield": subfield or None,
        "topic": topic,
        "origin": origin,
    }


def unique_rows(
    rows: Iterable[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows sorted by field, subfield and topic, each topic once, and drops for the others.

    A topic that stands under several subfields would be searched for, and paid for, twice: it
    stays under the first.
    """
    kept: dict[str, dict[str, Any]] = {}
    drops: list[dict[str, Any]] = []
    for row in sorted(rows, key=_order):
        first = kept.setdefault(key_of(row["topic"]), row)
        if first is not row:
            place = " / ".join(filter(None, (first["field"], first["subfield"], first["topic"])))
            drops.append(
                drop("topics", row["id"], "duplicate", detail=f"as {place}", raw=row["topic"])
            )
    return list(kept.values()), drops


def _order(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return row["field"] or "", row["subfield"] or "", row["topic"], row["origin"]
