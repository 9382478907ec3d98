"""What curation must know of every row of the pool, as numbers: some 70 bytes a row.

One part of the pool -> its index: the verdict of checks and quality rules, 128 bits that stand for
all that is said, 64 for each picture, source, category and the length of the answers. Deciding
(`decide`) then needs no text but that of rows which may resemble another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cambrian_data.curation.draws import id_numbers
from cambrian_data.curation.duplicates.exact import text_keys
from cambrian_data.curation.duplicates.look_alikes import refs_of
from cambrian_data.curation.rules.checks import ChecksConfig, verdicts
from cambrian_data.curation.rules.quality import QualityConfig, quality
from cambrian_data.curation.rules.scores import ScoreTable, scores_of
from cambrian_data.curation.turns import Turns, numbers, turns_of
from cambrian_data.curation.words import spoken, words_of
from cambrian_data.recipes import Config

INDEX_VERSION = "1"
BATCH_ROWS = 10_000
"""Rows looked at in one go: bounds what is held beside the part itself."""
OPENING_WORDS = 4
"""So many words of the first question are its opening, by which `diverse` tells questions apart."""

_SMALL = pa.dictionary(pa.int32(), pa.string())
INDEX = pa.schema(
    [
        ("id", pa.string()),
        ("id_hi", pa.uint64()),
        ("id_lo", pa.uint64()),
        ("text_hi", pa.uint64()),
        ("text_lo", pa.uint64()),
        ("pictures", pa.list_(pa.uint64())),
        ("opening", pa.uint64()),
        ("answer", pa.uint32()),
        ("score", pa.float32()),
        ("source", _SMALL),
        ("category", _SMALL),
        ("stage", _SMALL),
        ("reason", _SMALL),
        ("detail", pa.string()),
    ]
)
"""An index's columns; `stage`, `reason` and `detail` are null where a row passes."""

_COLUMNS = ["id", "source", "category", "images", "conversations", "scores"]


class IndexConfig(Config):
    """What an index depends on beside the part: the rules, and what the mixture will ask for."""

    checks: ChecksConfig
    quality: QualityConfig
    scores: tuple[str, ...] = ()
    """Files of scores."""
    scores_key: str = ""
    """What they hold."""
    choice_score: str | None = None
    """The score by which rows are chosen under a cap."""
    with_opening: bool = False
    """Whether questions are to be told apart by how they begin."""


def index_part(path: Path, config: IndexConfig) -> pa.Table:
    """Return the index (schema `INDEX`) of one part of the pool, in the order of its rows."""
    scores = load_scores(config.scores, config.scores_key)
    table = pq.read_table(path, columns=_COLUMNS).combine_chunks()
    batches = [
        _index_batch(batch, config, scores) for batch in table.to_batches(max_chunksize=BATCH_ROWS)
    ]
    return pa.concat_tables(
        [INDEX.empty_table(), *(pa.Table.from_batches([b]) for b in batches)]
    ).unify_dictionaries()


# -------------------------------------------------------------------------------- one batch


def _index_batch(
    batch: pa.RecordBatch, config: IndexConfig, scores: ScoreTable | None
) -> pa.RecordBatch:
    turns = turns_of(batch)
    keys = text_keys(batch)
    id_hi, id_lo = id_numbers(batch.column("id"))
    lengths = numbers(pc.utf8_length(turns.text)) * ~turns.is_human
    stage, reason, detail = _verdict(batch, config, scores)
    columns = [
        batch.column("id"),
        pa.array(id_hi),
        pa.array(id_lo),
        pa.array(np.ascontiguousarray(keys[:, 0])),
        pa.array(np.ascontiguousarray(keys[:, 1])),
        _pictures(batch),
        _openings(turns) if config.with_opening else pa.array(np.zeros(len(batch), np.uint64)),
        pa.array(np.minimum(turns.total(lengths), 2**32 - 1).astype(np.uint32)),
        _choice_score(batch, config.choice_score, scores),
        batch.column("source").cast(pa.string()).dictionary_encode(),
        batch.column("category").cast(pa.string()).dictionary_encode(),
        pa.array(stage, pa.string()).dictionary_encode(),
        pa.array(reason, pa.string()).dictionary_encode(),
        pa.array(detail, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=INDEX)


def _verdict(
    batch: pa.RecordBatch, config: IndexConfig, scores: ScoreTable | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return stage, reason and detail of every row; None where it passes all rules."""
    stage = np.full(len(batch), None, dtype=object)
    reason, detail = stage.copy(), stage.copy()
    passes = np.ones(len(batch), dtype=bool)
    tried: Sequence[tuple[str, Callable[[], tuple[np.ndarray, np.ndarray]]]] = (
        ("checks", lambda: verdicts(batch, config.checks)),
        ("quality", lambda: quality(batch, config.quality, scores)),
    )
    for name, rule in tried[: 1 + config.quality.is_on]:
        reasons, details = rule()
        fails = (reasons != "") & passes
        passes &= ~fails
        stage[fails], reason[fails], detail[fails] = name, reasons[fails], details[fails]
    return stage, reason, detail


def _pictures(batch: pa.RecordBatch) -> pa.ListArray:
    """Return 64 bits for every picture: of its hash, or of its path where it was not read."""
    refs = refs_of(batch)
    offsets = np.concatenate([[0], np.cumsum(refs.lengths)]).astype(np.int32)
    keys = np.ascontiguousarray(refs.keys[:, 0])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(keys))


def _openings(turns: Turns) -> pa.Array:
    """Return 64 bits of the first words of every sample's first question; 0 for none."""
    first = np.flatnonzero(turns.position == 0)
    words = words_of(spoken(turns.text.take(pa.array(first))), lower=True)
    starts = np.concatenate([[0], words.ends[:-1]])
    opening = np.zeros(turns.num_rows, dtype=np.uint64)
    for place in range(OPENING_WORDS):
        has = starts + place < words.ends
        row = turns.row[first[has]]
        opening[row] = (
            opening[row] * np.uint64(0x9E3779B97F4A7C15) + words.hashes[starts[has] + place]
        )
    return pa.array(opening)


def _choice_score(batch: pa.RecordBatch, name: str | None, scores: ScoreTable | None) -> pa.Array:
    """Return the score by which rows are chosen; NaN where a row has none."""
    if name is None:
        return pa.array(np.full(len(batch), np.nan, dtype=np.float32))
    return pa.array(scores_of(batch, [name], scores)[name].astype(np.float32))


@lru_cache(maxsize=2)
def load_scores(files: tuple[str, ...], key: str) -> ScoreTable | None:
    """Return the joined scores of files, read once in a process.

    Args:
        key: of what the files hold, so that a changed file is read again.
    """
    return ScoreTable.load([Path(file) for file in files]) if files else None


# ------------------------------------------------------------------------------ all parts


@dataclass(slots=True)
class Rows:
    """All rows of the pool as columns, in the order of its parts."""

    starts: np.ndarray
    """int64 [parts + 1]: where each part begins."""
    files: list[Path]
    """The parts' index files."""
    id_hi: np.ndarray
    id_lo: np.ndarray
    text_hi: np.ndarray
    text_lo: np.ndarray
    pictures: np.ndarray
    """uint64: of all rows, one after the other."""
    picture_ends: np.ndarray
    """int64 [rows]: where each row's pictures end."""
    opening: np.ndarray
    answer: np.ndarray
    score: np.ndarray
    source: np.ndarray
    """int32: place in `sources`."""
    category: np.ndarray
    sources: list[str]
    categories: list[str]
    verdict: np.ndarray
    """int16: place in `verdicts`; 0 passes."""
    verdicts: list[tuple[str, str]]
    """(stage, reason); the first stands for passing."""

    def __len__(self) -> int:
        return len(self.id_hi)

    def part_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the part that each of some rows stands in."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def ids(self, rows: np.ndarray) -> list[str]:
        """Return the whole ids of some rows, read from the index files."""
        order = np.argsort(rows, kind="stable")
        parts = self.part_of(rows[order])
        found: list[str] = []
        for part in np.unique(parts):
            wanted = rows[order][parts == part] - self.starts[part]
            column = read_index_file(self.files[part], ["id"])["id"]
            found += column.take(pa.array(wanted)).to_pylist()
        result = [""] * len(rows)
        for place, text in zip(order.tolist(), found, strict=True):
            result[place] = text
        return result


def read_index_file(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return some columns of an index file; they are mapped, not read."""
    with pa.memory_map(str(path)) as mapped:
        return pa.ipc.open_file(mapped).read_all().select(list(columns))


def index_bytes(table: pa.Table) -> bytes:
    """Return an index as the bytes of an Arrow file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, INDEX) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def load_rows(files: Sequence[Path]) -> Rows:
    """Put the indexes of all parts together; names become numbers, in the order of the names."""
    tables = [read_index_file(path, INDEX.names) for path in files]
    lengths = [len(table) for table in tables]
    source, sources = _codes(tables, "source")
    category, categories = _codes(tables, "category")
    stage, stages = _codes(tables, "stage")
    reason, reasons = _codes(tables, "reason")
    pairs = np.where(stage < 0, -1, stage * max(len(reasons), 1) + reason)
    known, verdict = np.unique(pairs, return_inverse=True)
    if not len(known) or known[0] != -1:
        known, verdict = np.concatenate([[-1], known]), verdict + 1
    names = [("", "")] + [
        (stages[pair // len(reasons)], reasons[pair % len(reasons)]) for pair in known[1:].tolist()
    ]
    pictures = [_flat(table["pictures"]) for table in tables]
    counts = [
        np.asarray(pc.list_value_length(table["pictures"]).to_numpy(), dtype=np.int64)
        for table in tables
    ]
    return Rows(
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        files=list(files),
        pictures=_joined(pictures, np.uint64),
        picture_ends=np.cumsum(_joined(counts, np.int64)),
        source=source,
        category=category,
        sources=sources,
        categories=categories,
        verdict=verdict.astype(np.int16),
        verdicts=names,
        **{
            name: _joined([table[name].to_numpy() for table in tables], kind)
            for name, kind in _PLAIN.items()
        },
    )


_PLAIN: dict[str, Any] = {
    **dict.fromkeys(("id_hi", "id_lo", "text_hi", "text_lo", "opening"), np.uint64),
    "answer": np.uint32,
    "score": np.float32,
}


def _joined(arrays: Sequence[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=kind), *arrays]).astype(kind, copy=False)


def _flat(lists: pa.ChunkedArray) -> np.ndarray:
    return _joined([chunk.flatten().to_numpy() for chunk in lists.chunks], np.uint64)


def _codes(tables: Sequence[pa.Table], column: str) -> tuple[np.ndarray, list[str]]:
    """Return a column of names as int32 codes (-1 for null), and the names in their order."""
    chunks = [chunk for table in tables for chunk in table[column].chunks]
    names = sorted({name for chunk in chunks for name in chunk.dictionary.to_pylist() if name})
    place = {name: number for number, name in enumerate(names)}
    codes = []
    for chunk in chunks:
        table = np.array([place[name] for name in chunk.dictionary.to_pylist()] + [-1], np.int32)
        codes.append(table[pc.fill_null(chunk.indices, -1).to_numpy()])
    return _joined(codes, np.int32), names
