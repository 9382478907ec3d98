"""Rows of Arrow files, as `datasets` writes them: streams, and files of the same with an index.

Both are read as streams through a memory map, so that a file that was cut gives what it still
holds; what is lost is told as one row that is `damaged`.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cambrian_data.curation.ingest.formats.batches import known_columns, rows_of
from cambrian_data.curation.ingest.formats.flatbuffer import unfolded_size
from cambrian_data.curation.ingest.formats.rows import Piece, RowFile, SourceRow
from cambrian_data.records import UserError

FILE_MAGIC = b"ARROW1\0\0"
_MAX_BATCH_BYTES = 2**30
_STEP_ROWS, _FEW_ROWS = 256, 1000
_ERRORS = (OSError, pa.ArrowException, ValueError, struct.error, IndexError)


@dataclass(frozen=True)
class ArrowRows(RowFile):
    """The rows of one Arrow file."""

    def pieces(self, *, max_rows: int, max_bytes: int) -> Iterator[Piece]:
        """Put batches together, and cut those of more than `max_rows` rows.

        Raises:
            UserError: no Arrow file, or one without known columns.
        """
        first = rows = size = start = number = 0
        batches = self._batches()
        while True:
            try:
                batch, body = next(batches)
            except StopIteration:
                batch, lost = None, None
            except UserError:
                raise
            except _ERRORS as error:
                batch, lost = None, f"{type(error).__name__}: {error}"[:300]
            more = batch.num_rows if batch is not None else 0
            is_full = (
                rows + more > max_rows or size + body > max_bytes if batch is not None else True
            )
            if rows and is_full:
                for skip in range(0, rows, max_rows):
                    some = min(max_rows, rows - skip)
                    yield self._piece(first + skip, some, size * some // rows, start, number, skip)
                first, rows, size, start = first + rows, 0, 0, number
            if batch is None:
                break
            number, rows, size = number + 1, rows + more, size + body
        if lost is not None:
            yield {**self._piece(first, 1, 0, number, number, 0), "lost": lost}

    def read(self, piece: Piece) -> Iterator[SourceRow]:
        """Yield the rows of a piece."""
        first = int(piece["first"])
        if "lost" in piece:
            detail = f"the file is damaged or cut from row {first} on: {piece['lost']}"
            yield SourceRow(self.name, first, problem=("damaged", detail))
            return
        start, end = piece["batches"]
        skip, last = int(piece["skip"]), first + int(piece["rows"])
        try:
            for batch, _ in itertools.islice(self._batches(), start, end):
                batch, skip = batch.slice(skip, last - first), 0
                yield from self._rows(batch, first)
                first += batch.num_rows
        except UserError:
            raise
        except _ERRORS as error:  # the file changed since it was cut into pieces
            yield from self._lost(range(first, last), error)

    def _rows(self, batch: pa.RecordBatch, first: int) -> Iterator[SourceRow]:
        try:
            batch.validate(full=True)  # wrong offsets would be followed out of the file
        except _ERRORS as error:
            yield from self._lost(range(first, first + batch.num_rows), error)
            return
        for at in range(0, batch.num_rows, _STEP_ROWS):
            yield from rows_of(
                batch.slice(at, _STEP_ROWS),
                file=self.name,
                first=first + at,
                max_picture_bytes=self.max_picture_bytes,
            )

    def _lost(self, lines: range, error: Exception) -> Iterator[SourceRow]:
        detail = f"{type(error).__name__}: {error}"[:300]
        for line in lines:
            yield SourceRow(self.name, line, problem=("damaged", detail))

    def _piece(self, first: int, rows: int, size: int, start: int, end: int, skip: int) -> Piece:
        return {
            "file": self.name,
            "first": first,
            "rows": rows,
            "bytes": size,
            "batches": [start, end],
            "skip": skip,
        }

    def _batches(self) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield the batches of known columns, each with the bytes it takes in the file."""
        with pa.memory_map(str(self.path)) as file, pa.memory_map(str(self.path)) as again:
            for opened in (file, again):
                if opened.read(len(FILE_MAGIC)) != FILE_MAGIC:
                    opened.seek(0)
            try:
                messages = pa.ipc.MessageReader.open_stream(again)
                messages.read_next_message()
                reader = pa.ipc.open_stream(file)
            except (*_ERRORS, StopIteration) as error:
                raise UserError(f"{self.path} is no Arrow file: {error}") from None
            columns = known_columns(reader.schema.names, self.path)
            while True:
                size = _next_size(messages)  # before anything is unpacked
                if size is None:
                    return
                batch = reader.read_next_batch()
                if batch.num_rows > max(size, _FEW_ROWS):
                    raise ValueError(f"a batch of {batch.num_rows} rows in {size} bytes")
                yield batch.select(columns), size


def _next_size(messages: Any) -> int | None:
    """Return the bytes that the next batch takes in the file; None at the end.

    Raises:
        ValueError: it unfolds to more than is read at once.
    """
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return None
        size = unfolded_size(message.metadata.to_pybytes(), message.body)
        if size > _MAX_BATCH_BYTES:
            raise ValueError(f"a batch unfolds to {size} bytes, at most {_MAX_BATCH_BYTES}")
        if message.type == "record batch":
            return message.body.size if message.body else 0
