"""System prompts that make the short form of an answer conditional on being asked for.

Trained on many short answers, a model answers everything in a word (the "answer machine" of
Cambrian-1, arXiv 2406.16860). Samples whose answers are all short, or all an option's letter, get a
system prompt that asks for that form, drawn by seed and id. Questions that ask for a form already,
and samples that have a system prompt, are left as they are. No text of a turn is changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from cambrian_data.curation.turns import Turns, batches_of, flags, numbers, turns_of
from cambrian_data.recipes import Config
from cambrian_data.records import SAMPLE, draw

PROMPTS_VERSION = "1"
KINDS = ("short", "choice", "chat")
"""Kinds of answers that get a prompt; the others are given, hinted and long."""

# Two lines, or two places in a line, that begin with A and B as options do.
_SENTENCE = r"[.!?][\"')\]]*\s*$"
_OPTIONS = r"(?s)(^|\s)\(?A[.):]\s*\S.*\s\(?B[.):]\s*\S"
_LETTER = r"^\s*\(?[A-Za-z][.)]?\)?\.?\s*$"


class WeightedPrompt(Config):
    """A system prompt and how often it is drawn beside the others."""

    text: str = Field(min_length=1)
    """What the system prompt says."""
    weight: float = Field(default=1.0, gt=0)
    """Its weight among the prompts of its list."""


def _prompts(*texts: str) -> list[WeightedPrompt]:
    return [WeightedPrompt(text=text) for text in texts]


class SystemPromptsConfig(Config):
    """Which samples get a system prompt, and which one."""

    max_words: int = Field(default=5, ge=1)
    """An answer with at most so many words is short."""
    short: list[WeightedPrompt] = Field(
        default_factory=lambda: _prompts(
            "Answer the question using a single word or phrase.",
            "Give a short answer: a word, a number or a few words.",
            "Reply with the answer alone, in as few words as possible.",
        )
    )
    """For samples whose answers are all short. The first is the published one."""
    choice: list[WeightedPrompt] = Field(
        default_factory=lambda: _prompts(
            "Answer with the option's letter from the given choices directly.",
            "Choose one of the options and reply with its letter only.",
        )
    )
    """For samples with options whose answers are all an option's letter."""
    chat: list[WeightedPrompt] = Field(
        default_factory=lambda: _prompts(
            "You are a helpful assistant. Answer in full sentences and explain your answer.",
        )
    )
    """For a part of the samples with long answers: whole sentences of `chat_min_words` or more."""
    chat_min_words: int = Field(default=12, ge=1)
    """A shorter answer is no proof that one explains oneself."""
    chat_share: float = Field(default=0.0, ge=0, le=1)
    """Part of the samples with long answers that get a prompt of `chat`."""
    format_hints: list[str] = Field(
        default_factory=lambda: [
            "single word or phrase",
            "single word",
            "one word",
            "short phrase",
            "short answer",
            "answer briefly",
            "option's letter",
            "letter of the correct",
            "letter of the option",
            "answer with the letter",
            "answer yes or no",
            "yes or no only",
        ]
    )
    """Words in a question, in any case, that show that it asks for a form of answer itself."""
    seed: int = 0
    """Which samples get which prompt."""

    @field_validator("format_hints")
    @classmethod
    def _no_empty_hint(cls, hints: list[str]) -> list[str]:
        if not all(hint.strip() for hint in hints):
            raise ValueError("a format hint without words would stand in every question")
        return hints


def assign(samples: pa.Table, config: SystemPromptsConfig) -> tuple[pa.Table, dict[str, Any]]:
    """Set the column `system`.

    Returns:
        The table, and by source the lengths of answers and how many samples are of which kind.
    """
    if not samples.num_rows:
        return samples, {"version": PROMPTS_VERSION, "assigned": {}, "sources": {}}
    found = [_kinds(batch, config) for batch in batches_of(samples)]
    kinds = np.concatenate([kind for kind, _ in found])
    systems, given = [], samples["system"].to_pylist()
    for kind, sample_id, system in zip(
        kinds.tolist(), samples["id"].to_pylist(), given, strict=True
    ):
        systems.append(_prompt(kind, sample_id, config) if system is None else system)
    place = SAMPLE.get_field_index("system")
    column = pa.array(systems, pa.string())
    prompted = samples.set_column(place, SAMPLE.field("system"), column)
    is_new = np.array([system is not None for system in systems]) & (kinds != "given")
    return prompted, _stats(samples, kinds, is_new, pl.concat([words for _, words in found]))


def _kinds(batch: pa.RecordBatch, config: SystemPromptsConfig) -> tuple[np.ndarray, pl.DataFrame]:
    """Return the kind of every sample, and (source, words) of every answer."""
    turns = turns_of(batch)
    words = numbers(pc.count_substring_regex(turns.text, r"\S+"))
    is_answer = ~turns.is_human
    is_long = words >= config.chat_min_words
    is_kind = {
        "given": flags(pc.is_valid(batch.column("system"))),
        "hinted": turns.any(turns.is_human & _matches(turns.text, _any_of(config.format_hints))),
        "choice": _is_choice(turns),
        "short": ~turns.any(is_answer & (words > config.max_words)),
        "medium": turns.any(is_answer & ~(_matches(turns.text, _SENTENCE) & is_long)),
    }
    kinds = np.select(list(is_kind.values()), list(is_kind), default="long")
    sources = np.array(batch.column("source").to_pylist(), dtype=object)
    answers = pl.DataFrame(
        {
            "source": pl.Series(sources[turns.row[is_answer]].tolist(), dtype=pl.String),
            "words": words[is_answer],
        }
    )
    return kinds, answers


def _is_choice(turns: Turns) -> np.ndarray:
    """Return for every sample whether it shows options and is answered by letters alone."""
    has_options = turns.any(turns.is_human & _matches(turns.text, _OPTIONS))
    has_other_answer = turns.any(~turns.is_human & ~_matches(turns.text, _LETTER))
    return has_options & ~has_other_answer


def _matches(text: pa.Array, pattern: str) -> np.ndarray:
    return flags(pc.match_substring_regex(text, pattern))


def _any_of(hints: Sequence[str]) -> str:
    """Return a pattern for any of the hints in any case; one that matches nothing for none."""
    return "(?i)" + "|".join(map(re.escape, hints)) if hints else r"[^\s\S]"


def _prompt(kind: str, sample_id: str, config: SystemPromptsConfig) -> str | None:
    if kind == "long":
        is_chat = draw(config.seed, "chat_share", sample_id) < config.chat_share
        kind = "chat" if is_chat else kind
    if kind not in KINDS:
        return None
    prompts: list[WeightedPrompt] = getattr(config, kind)
    at = draw(config.seed, "system_prompt", sample_id) * sum(prompt.weight for prompt in prompts)
    for prompt in prompts:
        at -= prompt.weight
        if at < 0:
            return prompt.text
    return prompts[-1].text if prompts else None


def _stats(
    samples: pa.Table, kinds: np.ndarray, is_new: np.ndarray, answers: pl.DataFrame
) -> dict[str, Any]:
    frame = pl.DataFrame(
        {
            "source": pl.Series(samples["source"].to_pylist(), dtype=pl.String),
            "kind": kinds.tolist(),
            "new": is_new,
        }
    )
    lengths = answers.group_by("source").agg(
        *(
            pl.col("words").quantile(q, "lower").cast(pl.Int64).alias(name)
            for name, q in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))
        ),
        pl.col("words").max().alias("max"),
    )
    sources: dict[str, Any] = {
        row["source"]: {"answer_words": {k: row[k] for k in ("p10", "p50", "p90", "max")}}
        for row in lengths.sort("source").to_dicts()
    }
    for source, group in frame.sort("source").group_by("source", maintain_order=True):
        sources.setdefault(str(source[0]), {}).update(
            samples=group.height, assigned=int(group["new"].sum()), kinds=_tally(group["kind"])
        )
    return {
        "version": PROMPTS_VERSION,
        "assigned": _tally(frame.filter("new")["kind"].replace("long", "chat")),
        "sources": sources,
    }


def _tally(kinds: pl.Series) -> dict[str, int]:
    return {row["kind"]: row["count"] for row in kinds.value_counts().sort("kind").to_dicts()}
