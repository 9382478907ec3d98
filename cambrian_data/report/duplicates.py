"""Groups of duplicates: how many, how large, and some of them with their copies side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from cambrian_data.report.inputs import Inputs
from cambrian_data.report.left_out import place_of
from cambrian_data.report.texts import shorten, shown_text, shown_turns
from cambrian_data.report.word_changes import changes

MAX_COPIES = 3
"""Copies of a group that are shown: the one that stayed, and two others."""
_SHOWN_TURNS = 2
_COLUMNS = ("id", "source", "dataset", "origin", "images", "conversations")
_GROUPS = """
CREATE TEMP TABLE IF NOT EXISTS groups AS
SELECT stage, cluster, count(*) AS members, count(*) FILTER (NOT kept) AS dropped,
  min(similarity) FILTER (NOT kept) AS least
FROM clusters GROUP BY ALL
"""
_STAGES = """
SELECT stage, count(*) AS clusters, CAST(sum(members) AS BIGINT) AS members,
  CAST(sum(dropped) AS BIGINT) AS dropped, max(members) AS largest,
  count(*) FILTER (members = 2) AS pairs, count(*) FILTER (members > 10) AS above_ten
FROM groups GROUP BY stage
"""
# What is worth a look: the largest group, those that are least alike, and two drawn by seed.
_SHOWN = """
SELECT stage, arg_max(cluster, {'n': members, 'cluster': cluster}, 1) AS largest,
  arg_min(cluster, {'least': least, 'cluster': cluster}, 2) FILTER (least < 1) AS doubtful,
  arg_min(cluster, {'at': md5(? || cluster), 'cluster': cluster}, 2) AS drawn
FROM groups GROUP BY stage
"""
_MEMBERS = f"""
SELECT stage, cluster, min({{'dropped': NOT kept, 'id': sample_id, 'similarity': similarity}},
  {MAX_COPIES}) AS copies FROM clusters SEMI JOIN shown USING (stage, cluster) GROUP BY ALL
"""
_FATES = """
SELECT record_id, source, origin.file AS file, origin.line AS line, stage, reason
FROM left_out WHERE record_id IN (SELECT unnest(?)) ORDER BY ALL
"""


def duplicates(inputs: Inputs) -> dict[str, Any]:
    """Return groups by stage, and some of them with their copies side by side."""
    inputs.tables.run(_GROUPS)
    stages = sorted(inputs.tables.rows(_STAGES), key=lambda row: place_of(row["stage"]))
    chosen = _chosen(inputs)
    ids = {copy["id"] for group in chosen for copy in group["copies"]}
    samples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in inputs.tables.fetch("pool", "id", ids, _COLUMNS):
        samples[row["id"]].append(row)
    pictures = inputs.tables.fetch(
        "images", "sha256", ids - samples.keys(), ("sha256", "path", "width", "height")
    )
    by_hash = {row["sha256"]: row for row in pictures}
    fates = _fates(inputs, ids)
    groups = [_group(group, samples, by_hash, fates) for group in chosen]
    return {
        "stages": stages,
        "pictures": inputs.stats.get("pictures") or {},
        "examples": [group for group in groups if len(group["copies"]) > 1],
    }


def _chosen(inputs: Inputs) -> list[dict[str, Any]]:
    """Return groups of every stage with up to `MAX_COPIES` members, kept ones first."""
    rows = inputs.tables.rows(_SHOWN, str(inputs.seed))
    wanted: dict[tuple[str, str], str] = {}
    for row in rows:
        for why in ("largest", "doubtful", "drawn"):
            for cluster in row[why] or ():
                wanted.setdefault((row["stage"], cluster), why)
    inputs.tables.run(
        "CREATE OR REPLACE TEMP TABLE shown AS SELECT unnest(?) AS stage, unnest(?) AS cluster",
        [stage for stage, _ in wanted],
        [cluster for _, cluster in wanted],
    )
    found = {(row["stage"], row["cluster"]): row for row in inputs.tables.rows(_MEMBERS)}
    order = sorted(wanted, key=lambda key: (place_of(key[0]), list(wanted).index(key)))
    return [found[key] | {"why": wanted[key]} for key in order]


def _fates(inputs: Inputs, ids: Iterable[str]) -> dict[tuple[Any, ...], dict[str, str]]:
    """Return by id, source and place where and why a row was dropped."""
    return {
        (row["record_id"], row["source"], row["file"], row["line"]): {
            "stage": row["stage"],
            "reason": row["reason"],
        }
        for row in inputs.tables.rows(_FATES, sorted(ids))
    }


def _group(
    group: Mapping[str, Any],
    samples: Mapping[str, list[dict[str, Any]]],
    pictures: Mapping[str, dict[str, Any]],
    fates: Mapping[tuple[Any, ...], dict[str, str]],
) -> dict[str, Any]:
    """Return a group with its copies; the words that set them apart from the first are marked."""
    similar = {copy["id"]: copy["similarity"] for copy in group["copies"]}
    rows = [row for sample in similar for row in samples.get(sample, ())]
    copies = [_copy(row, fates, similar) for row in rows]
    copies.sort(key=lambda copy: (copy["is_dropped"], copy["fate"] is not None))
    copies = copies[:MAX_COPIES]
    _mark(copies)
    for copy in group["copies"]:
        if copy["id"] in pictures and len(copies) < MAX_COPIES:
            copies.append(_picture(pictures[copy["id"]], copy))
    about = {name: group[name] for name in ("stage", "cluster", "why")}
    return about | {"copies": copies}


def _copy(
    row: Mapping[str, Any],
    fates: Mapping[tuple[Any, ...], dict[str, str]],
    similar: Mapping[str, float | None],
) -> dict[str, Any]:
    origin = row["origin"] or {}
    fate = fates.get((row["id"], row["source"], origin.get("file"), origin.get("line")))
    return {
        **{name: row[name] for name in ("id", "source", "dataset", "origin", "images")},
        "fate": fate,
        "is_dropped": fate is not None and fate["stage"].endswith("_dedup"),
        "similarity": similar[row["id"]],
        "texts": [turn["value"] for turn in row["conversations"]],
        "turns": shown_turns(row["conversations"][:_SHOWN_TURNS], 0),
        "more_turns": max(len(row["conversations"]) - _SHOWN_TURNS, 0),
    }


def _mark(copies: list[dict[str, Any]]) -> None:
    """Give every copy's turns their pieces, and take the whole texts away again."""
    if not copies:
        return
    first = copies[0]["texts"]
    for copy in copies[1:] or copies:
        for place, turn in enumerate(copy["turns"]):
            theirs = shown_text(first[place]) if place < len(first) else ""
            left, turn["pieces"] = changes(theirs, shown_text(copy["texts"][place]))
            if copy is copies[min(1, len(copies) - 1)] and place < len(copies[0]["turns"]):
                copies[0]["turns"][place]["pieces"] = left
    for place, turn in enumerate(copies[0]["turns"]):
        turn.setdefault("pieces", changes("", shown_text(first[place]))[1])
    for copy in copies:
        del copy["texts"]


def _picture(image: Mapping[str, Any], copy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy that is a picture and no sample."""
    return {
        "id": copy["id"],
        "source": shorten(image["path"], 120),
        "dataset": None,
        "origin": None,
        "images": [dict(image)],
        "fate": None,
        "is_dropped": copy["dropped"],
        "similarity": copy["similarity"],
        "turns": [],
        "more_turns": 0,
    }
