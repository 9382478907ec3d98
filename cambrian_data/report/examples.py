"""The samples that a report shows: twelve a category, spread over sources and kinds, by seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from cambrian_data.records import SAMPLE, draw
from cambrian_data.report.inputs import Inputs
from cambrian_data.report.texts import shorten, shown_turns, web_address

NUM_EXAMPLES = 12
"""Samples that are shown of each category."""
MAX_CATEGORIES = 16
"""Categories that are shown; more of them would make the page too heavy to open."""
_SHOWN_TURNS = 4
_SHOWN_PICTURES = 4
# A few of every kind are enough to choose from; md5 alone orders them, the same everywhere.
_CANDIDATES = f"""
SELECT category, unnest(arg_min({{'id': id, 'source': source, 'dataset': dataset,
    'pictures': least(len(images), 2), 'picture': coalesce(images[1].sha256, images[1].path)}},
  md5(? || id), {NUM_EXAMPLES})) AS found
FROM mixture GROUP BY category, source, least(len(images), 2)
"""
_SPREAD = ("category", "pictures", "source", "dataset")


def examples(inputs: Inputs) -> list[dict[str, Any]]:
    """Return samples by category with all that is known of them, their texts shortened."""
    rows = [
        {"category": row["category"], **row["found"]}
        for row in inputs.tables.rows(_CANDIDATES, str(inputs.seed))
    ]
    by_category: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_category[row["category"]].append(row)
    largest = sorted(by_category, key=lambda name: (-len(by_category[name]), name))
    ids = [
        found
        for name in sorted(largest[:MAX_CATEGORIES])
        for found in choose(by_category[name], inputs.seed)
    ]
    fetched = inputs.tables.fetch("mixture", "id", set(ids), SAMPLE.names)
    by_id = {row["id"]: row for row in reversed(fetched)}  # of copies, the first
    return [_example(by_id[found]) for found in ids]


def choose(candidates: list[dict[str, Any]], seed: int, number: int = NUM_EXAMPLES) -> list[str]:
    """Return ids: each time one of what was shown least, a tie is broken by seed and id."""
    left = {row["id"]: row for row in candidates}
    seen: Counter[tuple[str, Any]] = Counter()
    chosen: list[str] = []
    while left and len(chosen) < number:
        row = min(left.values(), key=lambda row: _order(row, seen, seed))
        del left[row["id"]]
        chosen.append(row["id"])
        seen.update((name, row[name]) for name in (*_SPREAD, "picture"))
    return chosen


def _order(row: dict[str, Any], seen: Counter[tuple[str, Any]], seed: int) -> tuple[Any, ...]:
    is_seen = seen["picture", row["picture"]] if row["picture"] else 0
    shown = (seen[name, row[name]] for name in _SPREAD)
    return (is_seen, *shown, draw(seed, "report", row["id"]), row["id"])


def _example(row: dict[str, Any]) -> dict[str, Any]:
    known = row["provenance"] or {}
    origin = row["origin"] or {}
    turns = row["conversations"]
    return {
        **{name: row[name] for name in ("id", "source", "dataset", "category")},
        "images": row["images"][:_SHOWN_PICTURES],
        "more_images": max(len(row["images"]) - _SHOWN_PICTURES, 0),
        "system": shorten(row["system"], 400),
        "turns": shown_turns(turns[:_SHOWN_TURNS], 560),
        "more_turns": max(len(turns) - _SHOWN_TURNS, 0),
        "original": shorten(row["original"], 400),
        "caption": shorten(known.get("caption"), 500),
        "section": [shorten(part, 80) for part in known.get("section") or []],
        "page_title": shorten(known.get("page_title"), 160),
        "page_url": shorten(known.get("page_url"), 300),
        "page_link": web_address(known.get("page_url")),
        **{name: shorten(known.get(name), 120) for name in ("license", "author", "topic")},
        "generator": shorten(known.get("generator"), 80),
        "prompt_version": shorten(known.get("prompt_version"), 80),
        "line": _line(origin),
    }


def _line(origin: dict[str, Any]) -> str:
    """Return where in its file a sample stood, counted from 1 as editors do."""
    if not origin.get("file"):
        return ""
    line = f", line {origin['line'] + 1:,}" if origin.get("line") is not None else ""
    return shorten(origin["file"], 120) + line
