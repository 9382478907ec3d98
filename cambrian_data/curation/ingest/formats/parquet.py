"""Rows of Parquet files, one bounded batch at a time.

Pieces follow the row groups: small ones are put together, large ones are cut (each of their pieces
then decodes what lies before it, which costs some seconds for a million rows). A file without its
end cannot be read at all; a damaged page costs the rows of its piece that lie behind it, each of
which is told as `damaged`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.curation.ingest.formats.batches import known_columns, longest_shared, rows_of
from cambrian_data.curation.ingest.formats.rows import Piece, RowFile, SourceRow
from cambrian_data.records import UserError

_BATCH_BYTES = 16 * 2**20
_MAX_BATCH_ROWS, _FEW_ROWS = 1024, 8
_MAX_REPEATED_BYTES = 256 * 2**20
"""Values that rows share are written out up to this size of a batch."""
_ERRORS = (OSError, pa.ArrowException, UnicodeDecodeError)
_ODD = "surrogateescape"
"""How names that are no UTF-8 are spelled."""


@dataclass(frozen=True)
class ParquetRows(RowFile):
    """The rows of one Parquet file."""

    def pieces(self, *, max_rows: int, max_bytes: int) -> Iterator[Piece]:
        """Cut along the row groups, and within those that are too large.

        Raises:
            UserError: no Parquet file, one that was cut, or one without known columns.
        """
        total, groups = self._groups()
        if total > self.size:
            raise UserError(
                f"{self.path} claims {total} rows in {self.size} bytes, which no rows with text "
                "can be: leave it out"
            )
        first, held = 0, _Groups()
        for number, (rows, size) in enumerate(groups):
            if held.rows and (held.rows + rows > max_rows or held.bytes + size > max_bytes):
                yield from held.cut(self.name, first, max_rows, max_bytes)
                first, held = first + held.rows, _Groups()
            held.add(number, rows, size)
        yield from held.cut(self.name, first, max_rows, max_bytes)

    def _groups(self) -> tuple[int, list[tuple[int, int]]]:
        """Return the number of rows, and rows and bytes of every row group."""
        try:
            with self._open() as file:
                columns, metadata = self._columns(file), file.metadata
                groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
                return metadata.num_rows, [
                    (max(group.num_rows, 0), _group_bytes(group, columns)) for group in groups
                ]
        except _ERRORS as error:
            raise _unreadable(self.path, error) from None

    def read(self, piece: Piece) -> Iterator[SourceRow]:
        """Yield the rows of a piece."""
        done, skip, rows = 0, int(piece["skip"]), int(piece["rows"])
        try:
            for batch in self._batches(piece):
                if batch.num_rows <= skip:
                    skip -= batch.num_rows
                    continue
                batch, skip = batch.slice(skip, rows - done), 0
                first = int(piece["first"]) + done
                yield from rows_of(
                    batch, file=self.name, first=first, max_picture_bytes=self.max_picture_bytes
                )
                done += batch.num_rows
                if done >= rows:
                    return
            detail = f"the file holds {rows - done} rows less than it says"
        except _ERRORS as error:
            detail = f"{type(error).__name__}: {error}"[:300]
        for number in range(int(piece["first"]) + done, int(piece["first"]) + rows):
            yield SourceRow(self.name, number, problem=("damaged", detail))

    def _batches(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        groups = list(range(*piece["groups"]))
        with self._open() as plain:
            columns = self._columns(plain)
            repeats = [_repeats(self.path, plain.metadata, number, columns) for number in groups]
        batch_rows = max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES // max(1, int(piece["row_bytes"]))))
        dictionaries = set()
        for column, most in (item for found in repeats for item in found.items()):
            batch_rows = min(batch_rows, max(_FEW_ROWS, _MAX_REPEATED_BYTES // max(most, 1)))
            if most * _FEW_ROWS > _MAX_REPEATED_BYTES:
                dictionaries.add(column)
        with pq.ParquetFile(
            self.path, read_dictionary=sorted(dictionaries), buffer_size=2**20, pre_buffer=False
        ) as file:
            yield from file.iter_batches(
                batch_rows, row_groups=groups, columns=columns, use_threads=False
            )

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path)
        except _ERRORS as error:
            raise _unreadable(self.path, error) from None

    def _columns(self, file: pq.ParquetFile) -> list[str]:
        try:
            names = file.schema_arrow.names
        except _ERRORS as error:
            raise UserError(f"{self.path} has columns that cannot be read: {error}") from None
        return known_columns(names, self.path)


def check_footers(paths: Sequence[Path]) -> None:
    """Read the ends of Parquet files in a process of its own, which a damaged one can end.

    Raises:
        UserError: one of them did.
    """
    code = "from cambrian_data.curation.ingest.formats.parquet import walk_footers; walk_footers()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as child:
        told, _ = child.communicate("\0".join(str(path) for path in paths).encode("utf-8", _ODD))
    num_read = told.count(b".")
    if child.returncode < 0 and num_read < len(paths):
        raise UserError(
            f"{paths[num_read]} cannot be read as Parquet (its end makes the reader crash): it is "
            "damaged; fetch it again, or leave it out"
        )


def walk_footers() -> None:
    """Read the end of every Parquet file named on standard input; print a dot after each."""
    for name in sys.stdin.buffer.read().decode("utf-8", _ODD).split("\0"):
        with contextlib.suppress(*_ERRORS), pq.ParquetFile(name) as file:
            _ = file.schema_arrow
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                for column in range(group.num_columns):
                    group.column(column).to_dict()
        sys.stdout.write(".")
        sys.stdout.flush()


def _unreadable(path: Path, error: Exception) -> UserError:
    detail = " ".join(str(error).split())[:300]
    return UserError(
        f"{path} cannot be read as Parquet ({detail}): it was cut short, or is damaged; fetch it "
        "again, or leave it out"
    )


class _Groups:
    """Row groups that follow one another."""

    def __init__(self) -> None:
        self.start = self.end = self.rows = self.bytes = 0

    def add(self, number: int, rows: int, size: int) -> None:
        self.start = self.start if self.rows else number
        self.end, self.rows, self.bytes = number + 1, self.rows + rows, self.bytes + size

    def cut(self, file: str, first: int, max_rows: int, max_bytes: int) -> Iterator[Piece]:
        if not self.rows:
            return
        row_bytes = -(-self.bytes // self.rows)
        step = max(1, min(max_rows, max_bytes // max(row_bytes, 1)))
        for skip in range(0, self.rows, step):
            rows = min(step, self.rows - skip)
            yield {
                "file": file,
                "first": first + skip,
                "rows": rows,
                "bytes": rows * row_bytes,
                "groups": [self.start, self.end],
                "skip": skip,
                "row_bytes": row_bytes,
            }


def _group_bytes(group: pq.RowGroupMetaData, columns: list[str]) -> int:
    chunks = (group.column(number) for number in range(group.num_columns))
    return sum(
        max(chunk.total_uncompressed_size, 0)
        for chunk in chunks
        if chunk.path_in_schema.split(".")[0] in columns
    )


def _repeats(
    path: Path, metadata: pq.FileMetaData, number: int, columns: list[str]
) -> dict[str, int]:
    """Return, by column, how many bytes a row may take through a long value that many rows share.

    Only where that could matter at all is the dictionary read, with one row.
    """
    group, found = metadata.row_group(number), {}
    for index in range(group.num_columns):
        chunk = group.column(index)
        name = chunk.path_in_schema
        is_shared = chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY"
        if not is_shared or name.split(".")[0] not in columns:
            continue
        each = -(-chunk.num_values // max(group.num_rows, 1))
        most = chunk.total_uncompressed_size * each
        if most * _MAX_BATCH_ROWS > _MAX_REPEATED_BYTES:
            most = _longest_shared(path, number, name) * each
        found[name] = most
    return found


def _longest_shared(path: Path, number: int, column: str) -> int:
    with pq.ParquetFile(
        path, read_dictionary=[column], buffer_size=2**20, pre_buffer=False
    ) as probe:
        batches = probe.iter_batches(1, row_groups=[number], columns=[column], use_threads=False)
        batch = next(batches, None)
        return 0 if batch is None else longest_shared(batch.column(0))
