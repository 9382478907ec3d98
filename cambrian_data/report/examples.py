"""The samples that a report shows: spread over categories, data sets and kinds, by seed and id."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cambrian_data.records import draw
from cambrian_data.report.inputs import Inputs
from cambrian_data.report.texts import shorten, shown_turns, web_address

NUM_EXAMPLES = 12
_SHOWN_TURNS = 4
_SHOWN_PICTURES = 4
# A few of every kind are enough to choose from; md5 alone orders them, the same everywhere.
_CANDIDATES = """
SELECT id, category, dataset, least(len(images), 2) AS pictures,
  coalesce(images[1].sha256, images[1].path) AS picture
FROM mixture
QUALIFY row_number() OVER (PARTITION BY category, dataset, least(len(images), 2)
  ORDER BY md5(? || id), id) <= 24
ORDER BY id
"""
_CHOSEN = "SELECT * FROM mixture WHERE list_contains(?, id) ORDER BY id, dataset, source"


def examples(inputs: Inputs) -> list[dict[str, Any]]:
    """Return samples with all that is known of them, their texts shortened."""
    candidates = inputs.tables.rows(_CANDIDATES, str(inputs.seed))
    ids = choose(candidates, inputs.seed)
    rows = inputs.tables.rows(_CHOSEN, ids)
    by_id = {row["id"]: row for row in rows}
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
        seen.update((name, row[name]) for name in ("category", "dataset", "pictures", "picture"))
    return chosen


def _order(row: dict[str, Any], seen: Counter[tuple[str, Any]], seed: int) -> tuple[Any, ...]:
    is_seen = seen["picture", row["picture"]] if row["picture"] else 0
    shown = (seen[name, row[name]] for name in ("category", "pictures", "dataset"))
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
