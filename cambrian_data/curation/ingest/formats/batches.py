"""Arrow columns to rows, with bounds on what a small file can unfold to.

A file of a few kilobytes can stand for terabytes of text: one long text that every row repeats.
The full size of a batch is therefore computed before any row is made, and rows are made one by one
where it is large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cambrian_data.curation.ingest.formats.rows import EmbeddedError, SourceRow, take_pictures
from cambrian_data.curation.ingest.lines import MAX_ROW_BYTES
from cambrian_data.records import UserError

TEXT_COLUMNS = (
    *("conversations", "messages", "texts", "question", "query", "instruction"),
    *("answer", "answers", "label", "response", "caption", "text"),
)
"""Columns that can hold what is said; a table has at least one of them."""
KNOWN_COLUMNS = (
    *("id", "source", "image", "images", "system", "system_prompt", *TEXT_COLUMNS),
    *("video", "videos", "audio", "audios", "chosen", "rejected", "tools"),
)
"""Columns that are read; others, such as ratings and embeddings, are passed over."""
MAX_UNFOLDED_BYTES = 64 * 2**20
"""Rows are made all at once up to this size of a batch, and one by one beyond it."""
_PICTURE_COLUMNS = ("image", "images")
_MAX_ROW_PICTURES_BYTES = 2**30


def known_columns(names: Sequence[str], file: object) -> list[str]:
    """Return the columns that are read, in their order.

    Raises:
        UserError: none of them can hold what is said.
    """
    found = [name for name in names if name in KNOWN_COLUMNS]
    if not set(found) & set(TEXT_COLUMNS):
        raise UserError(
            f"{file} has the columns {list(names)!r:.300}, of which none holds a conversation; "
            f"known are {', '.join(TEXT_COLUMNS)}: rename the one that does"
        )
    return found


def rows_of(
    batch: pa.RecordBatch, *, file: str, first: int, max_picture_bytes: int
) -> Iterator[SourceRow]:
    """Yield the rows of a batch of known columns.

    Args:
        batch: columns as they lie in the file.
        file: stands in the rows.
        first: number of the batch's first row in its file.
        max_picture_bytes: a row with a larger picture is a problem.
    """
    for start, rows in _unfolded(batch):
        for number, row in enumerate(rows, first + start):
            yield _finished(row, file, number, max_picture_bytes)


def _finished(row: dict[str, Any] | str, file: str, number: int, max_bytes: int) -> SourceRow:
    if isinstance(row, str):
        reason = row.split(":")[0]
        return SourceRow(file, number, problem=(reason, row.partition(": ")[2]))
    row = {name: value for name, value in row.items() if value is not None}
    try:
        pictures, mended = take_pictures(row, max_bytes=max_bytes)
    except EmbeddedError as error:
        return SourceRow(file, number, row=row, problem=("image_unreadable", str(error)))
    return SourceRow(file, number, row=row, pictures=pictures, mended=frozenset(mended))


def _unfolded(batch: pa.RecordBatch) -> Iterator[tuple[int, Sequence[dict[str, Any] | str]]]:
    """Yield rows with the number of the first of them; a text says what is wrong with a row."""
    if unfolded_bytes(batch) <= MAX_UNFOLDED_BYTES:
        try:
            yield 0, batch.to_pylist()
            return
        except UnicodeDecodeError:
            pass  # one of them; the others are good
    for number in range(batch.num_rows):
        yield number, [_one_row(batch.slice(number, 1))]


def _one_row(batch: pa.RecordBatch) -> dict[str, Any] | str:
    texts = [name for name in batch.schema.names if name not in _PICTURE_COLUMNS]
    size = unfolded_bytes(batch.select(texts))
    if size > MAX_ROW_BYTES:
        return f"too_large: {size} bytes of text, at most {MAX_ROW_BYTES}"
    size = unfolded_bytes(batch)
    if size > _MAX_ROW_PICTURES_BYTES:
        return f"too_large: {size} bytes with its pictures, at most {_MAX_ROW_PICTURES_BYTES}"
    try:
        row: dict[str, Any] = batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return f"bad_encoding: {error}"[:300]
    return row


def unfolded_bytes(batch: pa.RecordBatch) -> int:
    """Return the bytes of a batch's values when nothing is shared among its rows."""
    return sum(_size(column) for column in batch.columns)


def _size(array: pa.Array) -> int:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _size(array.storage)
    if pa.types.is_dictionary(kind):
        if not len(array.dictionary):
            return 0
        lengths = _lengths(array.dictionary)
        indices = pc.fill_null(array.indices, 0).to_numpy(zero_copy_only=False)
        return int(lengths[indices].sum())
    if pa.types.is_struct(kind):
        return sum(_size(array.field(i)) for i in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        return _size(_values(array)) + 8 * len(array)
    if pa.types.is_fixed_size_list(kind):
        return _size(array.flatten()) + 8 * len(array)
    return int(array.nbytes)


def _values(array: pa.Array) -> pa.Array:
    """Return what a list column's rows hold, without what a slice of it leaves out."""
    if not len(array):
        return array.values.slice(0, 0)
    start, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
    return array.values.slice(start, end - start)


def _lengths(values: pa.Array) -> np.ndarray:
    """Return the bytes of each value of a dictionary."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        lengths = pc.fill_null(pc.binary_length(values), 0)
        return lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    each = -(-_size(values) // max(len(values), 1))
    return np.full(len(values), each, dtype=np.int64)


def longest_shared(array: pa.Array) -> int:
    """Return the bytes of the longest value in a column's dictionaries; 0 where it has none."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return int(_lengths(array.dictionary).max(initial=0))
    if pa.types.is_struct(kind):
        return max((longest_shared(array.field(i)) for i in range(kind.num_fields)), default=0)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        return longest_shared(array.values)
    return longest_shared(array.flatten()) if pa.types.is_fixed_size_list(kind) else 0
