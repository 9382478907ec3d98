"""Near duplicates: the exact join beside datasketch's MinHash and MinHashLSH, on the same rows.

    python -m benchmarks.near_duplicates [--rows 20000] [--pool pool.jsonl] [--seed 0]

Rows are made up (texts of about 100 words, one in twenty a copy of an earlier one with a few words
changed) or are the rows without a picture of a pool in JSONL. datasketch goes through them in the
usual way: 128 permutations, a row is put in unless a query hits. Then each result is compared with
the Jaccard similarities themselves: of the planted pairs that reach the threshold, and of what was
removed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasketch import MinHash, MinHashLSH

from cambrian_data.curation.duplicates.near import NearConfig, near_duplicates, shingles_of
from cambrian_data.curation.ingest.part import IngestConfig, ingest_part, parts_of
from cambrian_data.records import IMAGE_TOKEN, sample_id, table_of

_BATCH_ROWS = 5000
_PERMUTATIONS = 128


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way made of the rows."""

    seconds: float
    removed: dict[int, list[int]]
    """Rows that go, with the kept rows that they are taken for copies of."""


def made_up(num_rows: int, seed: int) -> tuple[pa.Table, list[tuple[int, int]]]:
    """Return rows, and the pairs of which one was made from the other."""
    dice = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    known = np.array(["".join(dice.choice(letters, size)) for size in dice.integers(2, 11, 20_000)])
    common = np.cumsum(1 / np.arange(1, len(known) + 1) ** 0.9)
    texts: list[list[str]] = []
    pairs: list[tuple[int, int]] = []
    for row in range(num_rows):
        if row and dice.random() < 0.05:
            of = int(dice.integers(row))
            words = list(texts[of])
            for _ in range(int(dice.integers(1, 5))):
                words[int(dice.integers(len(words)))] = str(dice.choice(known))
            pairs.append((of, row))
        else:
            size = int(dice.integers(40, 160))
            words = known[np.searchsorted(common, dice.random(size) * common[-1])].tolist()
        texts.append(words)
    return table_of("samples", [_sample(words) for words in texts]), pairs


def _sample(words: Sequence[str]) -> dict[str, Any]:
    turns = [
        {"from": "human", "value": " ".join(words[:15])},
        {"from": "gpt", "value": " ".join(words[15:])},
    ]
    known = {"source": "made_up", "dataset": "made_up", "category": "language", "images": []}
    return {"id": sample_id(turns, []), "conversations": turns, **known}


def rows_without_picture(pool: Path, num_rows: int) -> pa.Table:
    """Return the first rows of a pool that have no picture."""
    config = IngestConfig(check_images="none")
    found: list[pa.Table] = []
    for lines in parts_of(pool, config):
        part = ingest_part(lines, dataset="p", file_name=pool.name, images=None, config=config)
        num_pictures = pc.list_value_length(part.samples["images"])
        found.append(part.samples.filter(pc.equal(num_pictures, 0)))
        if sum(table.num_rows for table in found) >= num_rows:
            break
    return pa.concat_tables(found).slice(0, num_rows).combine_chunks()


def by_join(table: pa.Table, config: NearConfig) -> Outcome:
    """Remove near duplicates as curation does, batches in as many threads as there are cores."""
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        batches = table.to_batches(max_chunksize=_BATCH_ROWS)
        shingles = list(threads.map(lambda batch: shingles_of(batch, config), batches))
    found = near_duplicates(
        shingles,
        groups=np.zeros(table.num_rows, np.uint64),
        rank=np.arange(table.num_rows),
        threshold=config.threshold,
    )
    seconds = time.perf_counter() - start
    gone = np.flatnonzero(found.keeper != np.arange(table.num_rows))
    return Outcome(seconds, {row: [int(found.keeper[row])] for row in gone.tolist()})


def by_datasketch(texts: Sequence[str], config: NearConfig) -> Outcome:
    """Remove near duplicates with a loop over datasketch's index: put in unless a query hits."""
    start = time.perf_counter()
    index = MinHashLSH(threshold=config.threshold, num_perm=_PERMUTATIONS)
    removed: dict[int, list[int]] = {}
    for row, text in enumerate(texts):
        signature = MinHash(num_perm=_PERMUTATIONS)
        signature.update_batch([shingle.encode() for shingle in set_of(text, config)])
        hits = index.query(signature)
        if hits:
            removed[row] = sorted(hits)
        else:
            index.insert(row, signature)
    return Outcome(time.perf_counter() - start, removed)


def set_of(text: str, config: NearConfig) -> set[str]:
    """Return the word n-grams of a text, as strings."""
    words, size = text.lower().split(), config.shingle_words
    return {" ".join(words[n : n + size]) for n in range(max(1, len(words) - size + 1))}


def measure(
    table: pa.Table, pairs: Sequence[tuple[int, int]], config: NearConfig
) -> dict[str, Any]:
    """Return times and what both ways found, against the similarities themselves."""
    texts = [
        " ".join(turn["value"].replace(IMAGE_TOKEN, "") for turn in turns)
        for turns in table["conversations"].to_pylist()
    ]
    by_join(table.slice(0, 1000).combine_chunks(), config)  # so that libraries are loaded
    outcomes = {"join": by_join(table, config), "datasketch": by_datasketch(texts, config)}
    return {
        "rows": table.num_rows,
        "words": round(sum(len(text.split()) for text in texts) / max(1, len(texts)), 1),
        "cores": os.cpu_count(),
        **{name: _checked(outcome, texts, pairs, config) for name, outcome in outcomes.items()},
        "times_as_fast": round(outcomes["datasketch"].seconds / outcomes["join"].seconds, 1),
    }


def _checked(
    outcome: Outcome, texts: Sequence[str], pairs: Sequence[tuple[int, int]], config: NearConfig
) -> dict[str, Any]:
    def alike(one: int, other: int) -> float:
        left, right = set_of(texts[one], config), set_of(texts[other], config)
        return len(left & right) / len(left | right)

    similar = [pair for pair in pairs if alike(*pair) >= config.threshold]
    both_kept = sum(not set(pair) & set(outcome.removed) for pair in similar)
    unfounded = sum(
        all(alike(row, kept) < config.threshold for kept in hits)
        for row, hits in outcome.removed.items()
    )
    return {
        "seconds": round(outcome.seconds, 3),
        "us_per_row": round(outcome.seconds / max(1, len(texts)) * 1e6, 1),
        "removed": len(outcome.removed),
        "removed_without_a_partner": unfounded,
        "planted_pairs": len(similar),
        "planted_pairs_both_kept": both_kept,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="near duplicates beside datasketch")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--pool", type=Path, help="a pool in JSONL instead of made up rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    if options.pool:
        found = rows_without_picture(options.pool, options.rows), list[tuple[int, int]]()
    else:
        found = made_up(options.rows, options.seed)
    numbers = measure(*found, NearConfig(threshold=options.threshold))
    text = json.dumps(numbers, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
