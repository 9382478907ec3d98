"""Numbers on the samples of a mixture: totals, categories, answers, questions, licences."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cambrian_data.report.inputs import Inputs
from cambrian_data.report.texts import shorten

TOP = 12
"""Entries of a list that are shown, most frequent first."""
BINS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
"""Greatest number of words of each bar of the histogram; one more bar holds what is longer."""

_ANSWERS = r"""
CREATE TEMP TABLE IF NOT EXISTS answers AS
SELECT id, category, len(regexp_extract_all(turn.value, '\S+')) AS words
FROM (SELECT id, category, unnest(conversations) AS turn FROM mixture) WHERE turn."from" = 'gpt'
"""
_OPENINGS = r"""
SELECT *, count(*) OVER () AS different, CAST(sum(questions) OVER () AS BIGINT) AS total
FROM (SELECT lower(array_to_string(list_slice(regexp_extract_all(
    replace(left(turn.value, 400), '<image>', ' '), '\S+'), 1, 3), ' ')) AS opening,
  count(*) AS questions
FROM (SELECT unnest(conversations) AS turn FROM mixture) WHERE turn."from" = 'human'
GROUP BY 1) ORDER BY questions DESC, opening LIMIT ?
"""


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
    pictures = inputs.tables.rows(
        "SELECT count(DISTINCT coalesce(image.sha256, image.path)) AS pictures "
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
    return inputs.tables.rows(
        """
        SELECT category, samples, text_only, questions, median_words
        FROM (SELECT category, count(*) AS samples,
                count(*) FILTER (len(images) = 0) AS text_only FROM mixture GROUP BY 1)
        LEFT JOIN (SELECT category, count(*) AS questions,
                     CAST(quantile_disc(words, 0.5) AS BIGINT) AS median_words
                   FROM answers GROUP BY 1) USING (category)
        ORDER BY category
        """
    )


def answers(inputs: Inputs) -> dict[str, Any]:
    """Return lengths of answers, their kinds, and the system prompts that were given."""
    inputs.tables.run(_ANSWERS)
    lengths = inputs.tables.rows(
        """
        SELECT count(*) AS count, CAST(quantile_disc(words, 0.1) AS BIGINT) AS p10,
          CAST(quantile_disc(words, 0.5) AS BIGINT) AS p50,
          CAST(quantile_disc(words, 0.9) AS BIGINT) AS p90, max(words) AS max FROM answers
        """
    )[0]
    prompts = inputs.stats.get("system_prompts", {})
    kinds: Counter[str] = Counter()
    for source in prompts.get("sources", {}).values():
        kinds.update(source.get("kinds", {}))
    return {
        "words": lengths,
        "histogram": _histogram(inputs),
        "kinds": dict(sorted(kinds.items())),
        "assigned": prompts.get("assigned", {}),
        "system_prompts": _system_prompts(inputs),
    }


def _histogram(inputs: Inputs) -> list[dict[str, Any]]:
    cases = " ".join(f"WHEN words <= {most} THEN {place}" for place, most in enumerate(BINS))
    found = inputs.tables.rows(
        f"SELECT CASE {cases} ELSE {len(BINS)} END AS bin, count(*) AS answers "
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
    """Return how questions begin: the first three words, most frequent first."""
    rows = inputs.tables.rows(_OPENINGS, TOP)
    return {
        "count": rows[0]["total"] if rows else 0,
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
