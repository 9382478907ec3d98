"""System prompts that make the short form of an answer conditional on being asked for.

Trained on many short answers, a model answers everything in a word (the "answer machine" of
Cambrian-1, arXiv 2406.16860). Samples whose answers are all short, or all an option's letter, get a
system prompt that asks for that form, drawn by seed and id. Questions that ask for a form already,
and samples that have a system prompt, are left as they are. No text of a turn is changed.
Works on whole columns, some microseconds a sample; what is counted is in `prompt_stats`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from cambrian_data.curation.draws import draw_all, id_numbers
from cambrian_data.curation.prompt_stats import (
    PROMPTED,
    Kinds,
    add_counts,
    count_prompts,
    merge_prompt_stats,
)
from cambrian_data.curation.rules.text_counts import TextCounts, counts_of
from cambrian_data.curation.turns import Turns, batches_of, flags, turns_of
from cambrian_data.recipes import Config
from cambrian_data.records import SAMPLE

__all__ = ["SystemPromptsConfig", "WeightedPrompt", "assign", "merge_prompt_stats"]

# Two lines, or two places in a line, that begin with A and B as options do.
_OPTIONS = r"(?s)(^|\s)\(?A[.):]\s*\S.*\s\(?B[.):]\s*\S"
_LETTER = r"^\s*\(?[A-Za-z][.)]?\)?\.?\s*$"
_SENTENCE_ENDS = ".!?\u2026\u3002\uff01\uff1f\u0964"
"""Signs that end a sentence: also those of Chinese, Japanese and Hindi."""
_QUOTES = "\"')]}*_\u2019\u201d\u00bb\u300d"
"""What may stand behind the end of a sentence: quotes, brackets, marks of bold type."""
_APOSTROPHE = "['\u2019]"


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
            "one-sentence caption",
            "one sentence caption",
            "short description",
            "brief description",
            "in a few words",
            "as few words as possible",
        ]
    )
    """Words in a question that show that it asks for a form of answer itself; in any case, with any
    white space between them and either form of apostrophe. The prompts above are hints, too."""
    seed: int = 0
    """Which samples get which prompt."""

    @field_validator("format_hints")
    @classmethod
    def _no_empty_hint(cls, hints: list[str]) -> list[str]:
        if not all(hint.strip() for hint in hints):
            raise ValueError("a format hint without words would stand in every question")
        return hints


def assign(
    samples: pa.Table | pa.RecordBatch, config: SystemPromptsConfig
) -> tuple[pa.Table, dict[str, Any]]:
    """Set the column `system`.

    Returns:
        The table, and this part's numbers for `merge_prompt_stats`.
    """
    if isinstance(samples, pa.RecordBatch):
        samples = pa.Table.from_batches([samples])
    systems: list[pa.Array] = []
    counted = []
    for batch in batches_of(samples):
        turns = turns_of(batch)
        counts = counts_of(turns.text)
        kinds = _kinds(batch, turns, counts, config)
        number = _prompt_numbers(kinds, batch.column("id"), config)
        is_answer = ~turns.is_human
        counted.append(
            count_prompts(
                batch.column("source"),
                kinds,
                number >= 0,
                answer_row=turns.row[is_answer],
                words=counts.words[is_answer],
            )
        )
        texts = [prompt.text for kind in PROMPTED for prompt in getattr(config, kind)]
        drawn = pa.array(texts, pa.string()).take(pa.array(number, mask=number < 0))
        systems.append(pc.coalesce(batch.column("system"), drawn))
    place = SAMPLE.get_field_index("system")
    column = pa.chunked_array(systems, pa.string())
    return samples.set_column(place, SAMPLE.field("system"), column), add_counts(counted)


def _kinds(
    batch: pa.RecordBatch, turns: Turns, counts: TextCounts, config: SystemPromptsConfig
) -> np.ndarray:
    """Return the kind of every sample, a place in `KINDS`, int8 [rows]."""
    is_answer = ~turns.is_human
    questions = turns.text.filter(pa.array(turns.is_human))
    asked_in = turns.row[turns.is_human]
    kinds = np.full(turns.num_rows, Kinds.LONG, dtype=np.int8)

    def has_question(pattern: str) -> np.ndarray:
        found = np.zeros(turns.num_rows, dtype=bool)
        found[asked_in[flags(pc.match_substring_regex(questions, pattern))]] = True
        return found

    is_explained = _is_sentence(turns, counts, at_least=config.chat_min_words)
    kinds[turns.any(is_answer & ~is_explained)] = Kinds.MEDIUM
    kinds[~turns.any(is_answer & (counts.words > config.max_words))] = Kinds.SHORT
    by_letter = ~turns.any(is_answer & ~_is_letter(turns, counts))
    if by_letter.any():
        kinds[by_letter & has_question(_OPTIONS)] = Kinds.CHOICE
    # A prompt that an export put into the question is one that is not given again.
    prompts = [prompt.text for kind in PROMPTED for prompt in getattr(config, kind)]
    if hints := [*config.format_hints, *prompts]:
        kinds[has_question(_any_of(hints))] = Kinds.HINTED
    kinds[flags(pc.is_valid(batch.column("system")))] = Kinds.GIVEN
    return kinds


def _is_letter(turns: Turns, counts: TextCounts) -> np.ndarray:
    """Return for every turn whether it is an answer of a single letter, as of an option."""
    found = ~turns.is_human & (counts.words <= 2) & (counts.characters <= 16)
    found[found] = flags(pc.match_substring_regex(turns.text.filter(pa.array(found)), _LETTER))
    return found


def _is_sentence(turns: Turns, counts: TextCounts, *, at_least: int) -> np.ndarray:
    """Return for every turn whether it is an answer of so many words that ends as a sentence."""
    found = ~turns.is_human & (counts.words >= at_least)
    end = pc.utf8_slice_codeunits(turns.text.filter(pa.array(found)), -16, 2**31 - 1)
    end = pc.utf8_rtrim(pc.utf8_rtrim_whitespace(end), _QUOTES)
    found[found] = flags(pc.match_substring_regex(end, f"[{_SENTENCE_ENDS}]$"))
    return found


def _any_of(hints: Sequence[str]) -> str:
    """Return a pattern for any of the hints."""
    written = [r"\s+".join(map(re.escape, hint.split())) for hint in hints]
    return "(?i)" + re.sub(_APOSTROPHE, _APOSTROPHE, "|".join(written))


def _prompt_numbers(kinds: np.ndarray, ids: pa.Array, config: SystemPromptsConfig) -> np.ndarray:
    """Return which prompt each sample gets, counted through the lists in turn; -1 for none."""
    high, _ = id_numbers(ids)
    share = draw_all(config.seed, "system_prompt", high)
    asks_for = {
        "short": kinds == Kinds.SHORT,
        "choice": kinds == Kinds.CHOICE,
        "chat": (kinds == Kinds.LONG)
        & (draw_all(config.seed, "chat_share", high) < config.chat_share),
    }
    number = np.full(len(kinds), -1, dtype=np.int64)
    first = 0
    for kind in PROMPTED:
        weights = np.array([prompt.weight for prompt in getattr(config, kind)])
        if len(weights):
            bounds = np.cumsum(weights) / weights.sum()
            rows = asks_for[kind]
            place = np.searchsorted(bounds, share[rows], side="right")
            number[rows] = first + np.minimum(place, len(weights) - 1)
        first += len(weights)
    return number
