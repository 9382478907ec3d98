"""Scores of samples that were made elsewhere, such as a judge's ratings, joined by sample id.

Files of (id, number, number, ...) -> sorted arrays in which whole columns of ids are looked up:
16 bytes a row and 4 a score. Scores are float32, as in the column `scores` of samples. Parquet and
JSONL are read in pieces, CSV whole (some 100 bytes a row while it is read).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from cambrian_data.curation.draws import id_numbers
from cambrian_data.records import SAMPLE, UserError, content_id

ID = "id"
_JSON_BYTES = 1 << 25
_HELP = (
    "a table of scores has a column `id` with sample ids (SELECT id FROM samples) and a column of "
    "numbers for each score"
)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Numbers by sample id and name."""

    names: tuple[str, ...]
    """Names of the scores, sorted."""
    ignored: tuple[str, ...]
    """Columns of the files that hold no numbers, sorted."""
    high: np.ndarray
    """uint64 [rows]: first 64 bits of the ids, sorted."""
    low: np.ndarray
    """uint64 [rows]: next 64 bits, sorted where the first are equal."""
    values: np.ndarray
    """float32 [scores, rows]; nan where a sample lacks a score."""

    @classmethod
    def load(cls, paths: Sequence[Path]) -> ScoreTable:
        """Read files of scores; several may hold other samples or other scores.

        Args:
            paths: files that end in .parquet, .csv, .jsonl or .ndjson.
        Raises:
            UserError: no such file, not readable, no column `id`, no numbers, an id that is none,
                an infinite number, or two different numbers for one sample and score.
        """
        pieces = [piece for path in paths for piece in _read(Path(path))]
        names = tuple(sorted({name for piece in pieces for name in piece.values}))
        ignored = {name for piece in pieces for name in piece.ignored} - set(names)
        high = np.concatenate([np.empty(0, np.uint64), *(piece.high for piece in pieces)])
        low = np.concatenate([np.empty(0, np.uint64), *(piece.low for piece in pieces)])
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        is_first = np.ones(len(high), dtype=bool)
        is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        values = np.full((len(names), int(is_first.sum())), np.nan, dtype=np.float32)
        place = np.cumsum(is_first) - 1
        for number, name in enumerate(names):
            column = np.concatenate([piece.column(name) for piece in pieces])[order]
            has = ~np.isnan(column)
            values[number, place[has]] = column[has]
            differs = np.flatnonzero(has & (values[number, place] != column))
            if len(differs):
                row = int(differs[0])
                raise UserError(
                    f"the tables of scores give {len(differs):,} samples different numbers for "
                    f"{name}, as {high[row]:016x}{low[row]:016x}...: {column[row]:g} and "
                    f"{values[number, place[row]]:g}; leave one out, or take their mean "
                    f"(SELECT id, avg({name}) AS {name} ... GROUP BY id)"
                )
        return cls(names, tuple(sorted(ignored)), high[is_first], low[is_first], values)

    @property
    def num_rows(self) -> int:
        """Samples that have any score."""
        return len(self.high)

    @property
    def content_key(self) -> str:
        """What the table holds, as a hash: equal for equal content in any order of rows."""
        arrays = (self.high, self.low, self.values)
        hashes = [hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for array in arrays]
        return content_id("scores", list(self.names), hashes)

    def look_up(self, ids: pa.Array | pa.ChunkedArray) -> dict[str, np.ndarray]:
        """Return every score of some samples, by name: float32 [ids], nan where there is none."""
        place, is_there = self._places(ids)
        found = np.where(is_there, self.values[:, place], np.float32(np.nan))
        return dict(zip(self.names, found, strict=True))

    def holds(self, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Return which samples have a line in the table, bool [ids]."""
        return self._places(ids)[1]

    def add_scores(self, table: pa.Table) -> pa.Table:
        """Return samples with these scores in their column `scores`, in the order of their names.

        A number of this table replaces that of the sample; the others stay.
        """
        batches = table.combine_chunks().to_batches()
        column = pa.chunked_array(
            [
                _merged(batch.column("scores"), self.look_up(batch.column("id")))
                for batch in batches
            ],
            SAMPLE.field("scores").type,
        )
        place = table.schema.get_field_index("scores")
        return table.set_column(place, SAMPLE.field("scores"), column)

    def _places(self, ids: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """Return each id's row in the table, and whether it is there at all."""
        high, low = id_numbers(ids)
        place = np.searchsorted(self.high, high)
        is_there = np.zeros(len(high), dtype=bool)
        open_ = np.flatnonzero(place < self.num_rows)
        while len(open_):  # once, but for ids of which the first 64 bits are equal
            at = place[open_]
            same = self.high[at] == high[open_]
            is_there[open_[same & (self.low[at] == low[open_])]] = True
            open_ = open_[same & (self.low[at] < low[open_]) & (at + 1 < self.num_rows)]
            place[open_] += 1
        return np.where(is_there, place, 0), is_there


def scores_of(
    batch: pa.RecordBatch, names: Sequence[str], table: ScoreTable | None
) -> dict[str, np.ndarray]:
    """Return named scores of samples, from the table where it has them, else from the samples.

    Returns:
        float32 [rows] by name, nan where there is none.
    """
    joined = table.look_up(batch.column("id")) if table else {}
    column = batch.column("scores")
    found = {}
    for name in names:
        own = _own(column, name)
        better = joined.get(name)
        found[name] = own if better is None else np.where(np.isnan(better), own, better)
    return found


# ------------------------------------------------------------------------- the map column


def _own(column: pa.Array, name: str) -> np.ndarray:
    """Return one score out of a map column, float32 [rows] with nan."""
    values = pc.map_lookup(column, pa.scalar(name), "last")
    return np.asarray(values.cast(pa.float32()).to_numpy(zero_copy_only=False), dtype=np.float32)


def _merged(column: pa.Array, better: dict[str, np.ndarray]) -> pa.Array:
    """Return a map column with other numbers set over its own; null where it was and stays bare."""
    names = sorted({*better, *pc.unique(column.keys).to_pylist()})
    values = np.full((len(column), len(names)), np.nan, dtype=np.float32)
    for place, name in enumerate(names):
        values[:, place] = own = _own(column, name)
        if name in better:
            values[:, place] = np.where(np.isnan(better[name]), own, better[name])
    has = ~np.isnan(values)
    offsets = np.concatenate([[0], np.cumsum(has.sum(axis=1))]).astype(np.int32)
    keys = pa.array(names, pa.string()).take(pa.array(np.nonzero(has)[1]))
    is_bare = np.asarray(pc.is_null(column)) & ~has.any(axis=1)
    kind = SAMPLE.field("scores").type
    return pa.MapArray.from_arrays(
        pa.array(offsets), keys, pa.array(values[has]), type=kind, mask=pa.array(is_bare)
    )


# -------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some rows of a file."""

    high: np.ndarray
    low: np.ndarray
    values: dict[str, np.ndarray]
    ignored: frozenset[str]
    """Columns that hold something else than numbers."""

    def column(self, name: str) -> np.ndarray:
        missing = np.full(len(self.high), np.nan, dtype=np.float32)
        return self.values.get(name, missing)


def _read(path: Path) -> list[_Piece]:
    """Return a file's rows in pieces."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(_READERS)
        raise UserError(f"{path} is no table of scores: its name must end in one of {known}")
    try:
        pieces = [_piece(path, batch) for batch in reader(path)]
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} cannot be read as a table of scores: {error}") from None
    names = {name for piece in pieces for name in piece.values}
    if not names:
        raise UserError(f"{path} has no column of numbers beside `id`, or no row: {_HELP}")
    if mixed := sorted(names & {name for piece in pieces for name in piece.ignored}):
        raise UserError(
            f"{path}: {', '.join(mixed)} holds numbers in some rows and something else in others; "
            "write null where there is no score, or leave the column out"
        )
    return pieces


def _piece(path: Path, batch: pa.RecordBatch) -> _Piece:
    names = batch.schema.names
    if ID not in names:
        raise UserError(f"{path} has no column `id`, but {', '.join(names)}: {_HELP}")
    ids = batch.column(ID)
    if ids.null_count or not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        what = f"{ids.null_count} rows without one" if ids.null_count else f"type {ids.type}"
        raise UserError(f"{path}: the column `id` has {what}: {_HELP}")
    numeric = {
        field.name
        for field in batch.schema
        if field.name != ID and (_is_number(field.type) or pa.types.is_boolean(field.type))
    }
    try:
        high, low = id_numbers(ids)
    except ValueError as error:
        raise UserError(f"{path}: {error}; {_HELP}") from None
    values = {name: _floats(batch.column(name)) for name in sorted(numeric)}
    for name, column in values.items():
        if np.isinf(column).any():
            row = int(np.flatnonzero(np.isinf(column))[0])
            raise UserError(
                f"{path}: {name} of {ids[row].as_py()} is {batch.column(name)[row].as_py()}, which "
                "is no score; write null where there is none"
            )
    is_empty = {field.name for field in batch.schema if pa.types.is_null(field.type)}
    return _Piece(high, low, values, frozenset(names) - numeric - is_empty - {ID})


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _floats(column: pa.Array) -> np.ndarray:
    wide = column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column
    narrow = wide.cast(pa.float32(), safe=False)
    return np.asarray(narrow.to_numpy(zero_copy_only=False), dtype=np.float32)


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=1 << 18)


def _csv(path: Path) -> Iterator[pa.RecordBatch]:
    # Whole: a reader of pieces takes a column's type from the first one, and ends at the first
    # number with a point. An id of digits alone would be read as a number, and lose zeros.
    options = pa_csv.ConvertOptions(column_types={ID: pa.string()})
    yield from pa_csv.read_csv(path, convert_options=options).to_batches()


def _jsonl(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        while lines := file.readlines(_JSON_BYTES):
            yield from pa_json.read_json(io.BytesIO(b"".join(lines))).combine_chunks().to_batches()


_READERS: dict[str, Callable[[Path], Iterator[pa.RecordBatch]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
}
