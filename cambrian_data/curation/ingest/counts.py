"""The counts of parts of a data set, added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MORE = "(more sources)"
"""Stands in counts for sources beyond those that are counted one by one."""
_MAX_UNKNOWN = 1_000
"""Names of sources without a category that are counted one by one; a set may give each row one."""


def most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts by name, of at most a thousand names; the others stand under one name."""
    if len(counts) <= _MAX_UNKNOWN:
        return dict(sorted(counts.items()))
    order = sorted(counts.items(), key=lambda item: (item[0] == MORE, -item[1], item[0]))
    first = dict(order[: _MAX_UNKNOWN - 1])
    return dict(sorted(first.items())) | {
        MORE: sum(count for _, count in order[_MAX_UNKNOWN - 1 :])
    }


def merge_stats(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the counts of parts, nested ones too."""
    total: dict[str, Any] = {}
    for stats in parts:
        for key, value in stats.items():
            if isinstance(value, Mapping):
                total[key] = most_frequent(merge_stats([total.get(key, {}), value]))
            else:
                total[key] = total.get(key, 0) + value
    return dict(sorted(total.items()))
