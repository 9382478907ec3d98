"""What every sample of a pool must fulfil before it can be trained on, wherever it came from.

A batch of samples -> for each the first thing that is wrong. Works on whole columns; some two
microseconds a sample.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from cambrian_data.curation.rules.text_counts import counts_of
from cambrian_data.curation.turns import Turns, numbers, turns_of
from cambrian_data.recipes import Config
from cambrian_data.records import IMAGE_TOKEN


class ChecksConfig(Config):
    """Limits on a sample."""

    max_turns: int = Field(default=100, ge=2)
    """Questions and answers together."""
    max_characters: int = Field(default=100_000, ge=1)
    """Characters of all turns together; training cuts far below, so more is a parsing accident."""


def verdicts(batch: pa.RecordBatch, config: ChecksConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return what is wrong with each sample.

    Returns:
        Two object arrays [rows]: the first reason in the order of the rules ("" where the sample
        passes), and what was counted (None where it passes).
    """
    turns = turns_of(batch)
    counts = counts_of(turns.text)
    pictures = numbers(pc.list_value_length(batch.column("images")))
    tokens = turns.total(counts.tokens)
    characters = turns.total(counts.characters)
    is_blank = (counts.words == 0) & (counts.tokens == 0)
    is_wrong = {
        "bad_turns": ~_alternate(turns),
        "empty_answer": turns.any(~turns.is_human & is_blank),
        "image_token_mismatch": tokens != pictures,
        "too_many_turns": turns.lengths > config.max_turns,
        "too_long": characters > config.max_characters,
    }
    reasons = np.full(turns.num_rows, "", dtype=object)
    for reason, fails in reversed(is_wrong.items()):
        reasons[fails] = reason
    details = np.full(turns.num_rows, None, dtype=object)
    for row in np.flatnonzero(np.logical_or.reduce(list(is_wrong.values()))):
        details[row] = (
            f"{turns.lengths[row]} turns, {characters[row]} characters, "
            f"{tokens[row]} {IMAGE_TOKEN}, {pictures[row]} pictures"
        )
    return reasons, details


def _alternate(turns: Turns) -> np.ndarray:
    """Return for every sample whether it is question and answer by turns, ending in an answer."""
    is_out_of_turn = turns.is_human != (turns.position % 2 == 0)
    return (turns.lengths > 0) & (turns.lengths % 2 == 0) & ~turns.any(is_out_of_turn)
