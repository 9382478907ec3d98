"""What the mixture was held against: matches by set and kind, and some with both texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cambrian_data.report.inputs import Inputs, files_of
from cambrian_data.report.texts import shorten, shown_turns

_COLUMNS = ("id", "source", "dataset", "images", "conversations")
_COUNTS = """
SELECT against, kind, count(*) AS matches, count(DISTINCT hash(sample_id)) AS samples,
  count(DISTINCT hash(matched_id)) AS matched, min(score) AS least,
  CAST(quantile_disc(score, 0.5) AS FLOAT) AS median, max(score) AS most
FROM matches GROUP BY ALL ORDER BY against, kind
"""
# The best match, the one nearest to the limit, and one that is drawn by seed.
_SHOWN = """
WITH found AS (SELECT against, kind,
  {'sample_id': sample_id, 'matched_id': matched_id, 'score': score} AS pair, score,
  md5(? || sample_id || coalesce(matched_id, '')) AS draw FROM matches)
SELECT against, kind, unnest([
  arg_max(pair, {'score': score, 'draw': draw}), arg_min(pair, {'score': score, 'draw': draw}),
  arg_min(pair, draw)]) AS pair
FROM found GROUP BY against, kind
"""
_FATES = """
SELECT record_id, min({'stage': stage, 'reason': reason, 'detail': left(detail, 260)}) AS fate
FROM left_out WHERE record_id IN (SELECT unnest(?)) AND stage = 'decontaminate' GROUP BY 1
"""


def overlap(inputs: Inputs) -> dict[str, Any]:
    """Return counts by set and kind, and examples with what they matched where it can be read."""
    shown = inputs.tables.rows(_SHOWN, str(inputs.seed))
    pairs = {
        (row["against"], row["kind"], row["pair"]["sample_id"], row["pair"]["matched_id"]): row
        for row in shown
    }
    ids = {row["pair"]["sample_id"] for row in shown}
    samples = {row["id"]: row for row in inputs.tables.fetch("pool", "id", ids, _COLUMNS)}
    fates = {row["record_id"]: row["fate"] for row in inputs.tables.rows(_FATES, sorted(ids))}
    others = _matched(inputs, shown)
    return {
        "sets": inputs.tables.rows(_COUNTS),
        "examples": [
            {
                "against": shorten(against, 160),
                "kind": kind,
                "score": row["pair"]["score"],
                "sample": _side(samples.get(sample)),
                "sample_id": sample,
                "fate": fates.get(sample),
                "matched": _side(others.get((against, matched or ""))),
                "matched_id": shorten(matched, 160),
            }
            for (against, kind, sample, matched), row in sorted(
                pairs.items(), key=lambda pair: tuple(map(str, pair[0]))
            )
        ],
    }


def _matched(inputs: Inputs, shown: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the matched rows by set and id, of sets that are in the workspace."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for row in shown:
        wanted[row["against"]].add(row["pair"]["matched_id"] or "")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, against in enumerate(sorted(wanted)):
        if folder := _folder_of(inputs, against):
            view = f"against_{number}"
            inputs.tables.add(view, "samples", files_of([folder], "samples"))
            for row in inputs.tables.fetch(view, "id", wanted[against], _COLUMNS):
                found.setdefault((against, row["id"]), row)
    hashes = {name for names in wanted.values() for name in names}
    columns = ("sha256", "path", "width", "height")
    pictures = {
        row["sha256"]: row for row in inputs.tables.fetch("images", "sha256", hashes, columns)
    }
    for against, names in wanted.items():
        for name in names & pictures.keys():
            picture: dict[str, Any] = {"id": name, "source": against, "dataset": None}
            picture |= {"conversations": [], "images": [pictures[name]]}
            found.setdefault((against, name), picture)
    return found


def _folder_of(inputs: Inputs, against: str) -> Path | None:
    """Return the data set or mixture that a name stands for, in the order curation looks."""
    area, _, name = against.rpartition(":")
    workspace = inputs.workspace
    if area in ("", "pool") and name in workspace.names("pool"):
        return workspace.pool(name)
    if area in ("", "mixture") and name in workspace.names("mixtures"):
        return workspace.mixture(name)
    return None


def _side(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what is shown of a sample; None where it cannot be read any more."""
    if row is None:
        return None
    return {
        **{name: row[name] for name in ("id", "source", "dataset")},
        "images": row["images"][:2],
        "turns": shown_turns(row["conversations"][:2], 400),
        "more_turns": max(len(row["conversations"]) - 2, 0),
    }
