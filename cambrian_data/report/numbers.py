"""Numbers on the samples of a mixture: totals, categories, answers, questions, licences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cambrian_data.report.inputs import Inputs
from cambrian_data.report.texts import shorten

TOP = 12
"""Entries of a list that are shown, most frequent first."""
BINS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
"""Greatest number of words of each bar of the histogram; one more bar holds what is longer."""

# White space of any kind first becomes spaces: splitting at one sign is several times as fast as a
# regular expression over the answers of millions of samples. Kept are counts, never the texts.
_ANSWERS = """
CREATE TEMP TABLE IF NOT EXISTS answers AS
SELECT category, len(list_filter(string_split(replace(replace(replace(
    turn.value, chr(10), ' '), chr(9), ' '), chr(13), ' '), ' '), lambda word: word <> ''))
  AS words,
  count(*) AS answers
FROM (SELECT category, unnest(conversations) AS turn FROM mixture)
WHERE turn."from" = 'gpt' GROUP BY ALL
"""
_QUANTILES = """
SELECT {by} AS category, CAST(sum(answers) AS BIGINT) AS count, max(words) AS max, {at}
FROM (SELECT *, sum(answers) OVER (PARTITION BY {by} ORDER BY words) AS up_to,
  sum(answers) OVER (PARTITION BY {by}) AS total FROM answers) GROUP BY {by}
"""
_OPENINGS = """
SELECT *, count(*) OVER () AS different, CAST(sum(questions) OVER () AS BIGINT) AS total
FROM (SELECT lower(array_to_string(list_slice(list_filter(string_split(replace(replace(replace(
    left(turn.value, 200), '<image>', ' '), chr(10), ' '), chr(9), ' '), ' '),
    lambda word: word <> ''), 1, 3), ' ')) AS opening,
  count(*) AS questions
FROM (SELECT unnest(conversations) AS turn FROM mixture WHERE id < ?)
WHERE turn."from" = 'human'
GROUP BY 1) ORDER BY questions DESC, opening LIMIT ?
"""
MAX_OPENED = 1_000_000
"""Samples whose questions' beginnings are counted; of more, those with the smallest ids."""


def summary(inputs: Inputs) -> dict[str, Any]:
    """Return the totals: samples, pictures, turns, shards."""
    totals = inputs.tables.rows(
        """
        SELECT count(*) AS samples,
          count(*) FILTER (len(images) = 0) AS text_only,
          count(*) FILTER (len(images) > 1) AS with_several_pictures,
          count(*) FILTER (len(conversations) > 2) AS with_several_questions,
          count(*) FILTER (system IS NOT NULL) AS with_system_prompt,
          CAST(coalesce(sum(len(images)), 0) AS BIGINT) AS picture_places
        FROM mixture
        """
    )[0]
    # Counted by hash: eight bytes a picture instead of the sixty-four of its name.
    pictures = inputs.tables.rows(
        "SELECT count(DISTINCT hash(coalesce(image.sha256, image.path))) AS pictures "
        "FROM (SELECT unnest(images) AS image FROM mixture)"
    )[0]
    index = inputs.shards or {}
    return {
        **totals,
        **pictures,
        "shards": len(index.get("shards", ())),
        "shard_samples": index.get("samples"),
        "shard_bytes": index.get("bytes"),
    }


def by_category(inputs: Inputs) -> list[dict[str, Any]]:
    """Return a row for every category: samples, text-only ones, answers and their median length."""
    inputs.tables.run(_ANSWERS)
    samples = inputs.tables.rows(
        "SELECT category, count(*) AS samples, count(*) FILTER (len(images) = 0) AS text_only "
        "FROM mixture GROUP BY 1 ORDER BY 1"
    )
    found = {row["category"]: row for row in _quantiles(inputs, "category", p50=0.5)}
    return [
        row
        | {
            "questions": found.get(row["category"], {}).get("count"),
            "median_words": found.get(row["category"], {}).get("p50"),
        }
        for row in samples
    ]


def _quantiles(inputs: Inputs, by: str, **shares: float) -> list[dict[str, Any]]:
    """Return number, greatest length and quantiles of the lengths of answers, by a column."""
    at = ", ".join(
        f"min(words) FILTER (up_to >= ceil({share} * total)) AS {name}"
        for name, share in shares.items()
    )
    return inputs.tables.rows(_QUANTILES.format(at=at, by=by))


def answers(inputs: Inputs) -> dict[str, Any]:
    """Return lengths of answers, their kinds, and the system prompts that were given."""
    inputs.tables.run(_ANSWERS)
    whole = _quantiles(inputs, "'all'", p10=0.1, p50=0.5, p90=0.9)
    prompts = inputs.stats.get("system_prompts") or {}
    kinds: Counter[str] = Counter()
    for source in prompts.get("sources", {}).values():
        kinds.update(source.get("kinds", {}))
    empty = {"count": 0, "p10": None, "p50": None, "p90": None, "max": None}
    return {
        "words": {name: (whole[0] if whole else empty)[name] for name in empty},
        "histogram": _histogram(inputs),
        "kinds": dict(sorted(kinds.items())),
        "assigned": prompts.get("assigned", {}),
        "system_prompts": _system_prompts(inputs),
        "bins": prompts.get("bins", []),
        "sources": lengths_by_source(prompts),
    }


def lengths_by_source(prompts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, most answers first, the lengths that a source teaches before and after prompts.

    Before: of all answers to questions that ask for no form. After: of those among them that got
    no system prompt, which is what a model learns as its own way to answer.
    """
    found = []
    for name, source in prompts.get("sources", {}).items():
        before, after = source.get("unprompted_before"), source.get("unprompted_after")
        if before and after and before.get("histogram"):
            numbers = {"source": name, "before": before, "after": after}
            found.append(numbers | {key: source.get(key) for key in ("samples", "assigned")})
    return sorted(found, key=lambda row: (-(row["samples"] or 0), row["source"]))


def _histogram(inputs: Inputs) -> list[dict[str, Any]]:
    cases = " ".join(f"WHEN words <= {most} THEN {place}" for place, most in enumerate(BINS))
    found = inputs.tables.rows(
        f"SELECT CASE {cases} ELSE {len(BINS)} END AS bin, CAST(sum(answers) AS BIGINT) AS answers "
        "FROM answers GROUP BY 1"
    )
    counts = {row["bin"]: row["answers"] for row in found}
    lows = [1, *(most + 1 for most in BINS)]
    labels = [
        str(most) if low == most else f"{low}-{most}" for low, most in zip(lows, BINS, strict=False)
    ]
    labels.append(f"> {BINS[-1]}")
    return [{"words": label, "answers": counts.get(n, 0)} for n, label in enumerate(labels)]


def _system_prompts(inputs: Inputs) -> list[dict[str, Any]]:
    rows = inputs.tables.rows(
        "SELECT system AS text, count(*) AS samples FROM mixture GROUP BY 1 "
        "ORDER BY samples DESC, text NULLS FIRST LIMIT 50"
    )
    return [row | {"text": row["text"] and shorten(row["text"], 400)} for row in rows]


def questions(inputs: Inputs) -> dict[str, Any]:
    """Return how questions begin: the first three words, most frequent first.

    Ids are hashes, so those below a bound are a fair part of all, the same part every time.
    """
    total = inputs.tables.rows(
        "SELECT count(*) AS samples, "
        "CAST(coalesce(sum((len(conversations) + 1) // 2), 0) AS BIGINT) AS questions FROM mixture"
    )[0]
    share = min(1.0, MAX_OPENED / max(total["samples"], 1))
    bound = "g" if share == 1 else f"{int(share * 16**8):08x}"  # "g": after every hex digit
    rows = inputs.tables.rows(_OPENINGS, bound, TOP)
    return {
        "count": total["questions"],
        "counted": rows[0]["total"] if rows else 0,
        "different_openings": rows[0]["different"] if rows else 0,
        "openings": [
            {"opening": shorten(row["opening"], 60), "questions": row["questions"]} for row in rows
        ],
    }


def provenance(inputs: Inputs) -> dict[str, Any]:
    """Return samples by licence, generator and author, and where no licence is stated."""
    found: dict[str, Any] = {
        name: _tally(inputs, f"provenance.{name}") for name in ("license", "generator", "author")
    }
    found["without_license"] = inputs.tables.rows(
        "SELECT dataset, source, count(*) AS samples FROM mixture "
        "WHERE provenance.license IS NULL GROUP BY ALL ORDER BY samples DESC, dataset, source"
    )
    return found


def _tally(inputs: Inputs, expression: str) -> list[dict[str, Any]]:
    """Return the most frequent values, and the rest in one row."""
    rows = inputs.tables.rows(
        f"SELECT {expression} AS value, count(*) AS samples FROM mixture "
        "GROUP BY 1 ORDER BY samples DESC, value NULLS LAST"
    )
    shown = [row | {"value": row["value"] and shorten(row["value"], 120)} for row in rows[:TOP]]
    if rest := rows[TOP:]:
        more = sum(row["samples"] for row in rest)
        shown.append({"value": f"{len(rest):,} others", "samples": more})
    return shown
