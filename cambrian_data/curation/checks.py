"""What every sample of a pool must fulfil before it can be trained on, wherever it came from.

Samples of the pool -> those that pass, and drops with the first thing that is wrong. Works on whole
columns, a batch at a time.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from cambrian_data.curation.drops import drops_of, result_of
from cambrian_data.curation.turns import Turns, batches_of, flags, numbers, turns_of
from cambrian_data.recipes import Config
from cambrian_data.records import DROP, IMAGE_TOKEN, StageResult

STAGE = "checks"


class ChecksConfig(Config):
    """Limits on a sample."""

    max_turns: int = Field(default=100, ge=2)
    """Questions and answers together."""
    max_characters: int = Field(default=100_000, ge=1)
    """Characters of all turns together; training cuts far below, so more is a parsing accident."""


def check(samples: pa.Table, config: ChecksConfig) -> StageResult:
    """Keep the samples whose turns, answers, picture tokens and size are as they must be."""
    if not samples.num_rows:
        return result_of(samples, DROP.empty_table())
    found = [_check_batch(batch, config) for batch in batches_of(samples)]
    reasons = np.concatenate([reason for reason, _ in found])
    details = np.concatenate([detail for _, detail in found])
    passed = reasons == ""
    dropped = samples.filter(pa.array(~passed))
    drops = drops_of(STAGE, dropped, reasons[~passed].tolist(), details[~passed].tolist())
    return result_of(samples.filter(pa.array(passed)), drops)


def _check_batch(batch: pa.RecordBatch, config: ChecksConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return for every sample the reason to drop it ("" for none) and what was seen."""
    turns = turns_of(batch)
    pictures = numbers(pc.list_value_length(batch.column("images")))
    tokens = turns.total(numbers(pc.count_substring(turns.text, IMAGE_TOKEN)))
    characters = turns.total(numbers(pc.utf8_length(turns.text)))
    is_wrong = {
        "bad_turns": ~_alternate(turns),
        "empty_answer": turns.any(~turns.is_human & _is_blank(turns.text)),
        "image_token_mismatch": tokens != pictures,
        "too_many_turns": turns.lengths > config.max_turns,
        "too_long": characters > config.max_characters,
    }
    reasons = np.select(list(is_wrong.values()), list(is_wrong), default="").astype(object)
    details = np.full(turns.num_rows, None, dtype=object)
    for row in np.flatnonzero(reasons != ""):
        details[row] = (
            f"{turns.lengths[row]} turns, {characters[row]} characters, "
            f"{tokens[row]} {IMAGE_TOKEN}, {pictures[row]} pictures"
        )
    return reasons, details


def _alternate(turns: Turns) -> np.ndarray:
    """Return for every sample whether it is question and answer by turns, ending in an answer."""
    is_out_of_turn = turns.is_human != (turns.position % 2 == 0)
    return (turns.lengths > 0) & (turns.lengths % 2 == 0) & ~turns.any(is_out_of_turn)


def _is_blank(text: pa.Array) -> np.ndarray:
    return flags(pc.equal(pc.utf8_trim_whitespace(text), ""))
