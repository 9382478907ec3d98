"""Rows of JSON files: lines, or the elements of one array, cut into byte ranges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cambrian_data.curation.ingest.formats.rows import Piece, SourceRow, file_identity
from cambrian_data.curation.ingest.lines import Position, read_rows

_LINE_END = ord("\n")
_BOM = b"\xef\xbb\xbf"
_CHUNK = 2**20


@dataclass(frozen=True)
class PlainJson:
    """The rows of one JSON or JSON Lines file."""

    path: Path
    """Where it lies; for a packed file, where it was unpacked to."""
    name: str
    """What stands in `SourceRow.file`: the name of the file that the user gave."""
    is_lines: bool
    original: Path | None = None
    """The packed file."""

    @property
    def size(self) -> int:
        """The size of the file that is read, unpacked, in bytes."""
        return self.path.stat().st_size

    def identity(self) -> list[Any]:
        """Return the identity of the file that the user gave."""
        return [file_identity(self.original or self.path, self.name)]

    def pieces(self, *, max_rows: int, max_bytes: int) -> Iterator[Piece]:
        """Cut at line ends, or between the elements of the array."""
        cut = self._cut_lines if self.is_lines else self._cut_array
        for offset, first, rows, size in cut(max_rows, max_bytes):
            yield {
                "file": self.name,
                "first": first,
                "rows": rows,
                "bytes": size,
                "offset": offset,
            }

    def read(self, piece: Piece) -> Iterator[SourceRow]:
        """Yield the rows of a piece, as text."""
        start = Position(int(piece["offset"]), int(piece["first"]))
        for raw in itertools.islice(read_rows(self.path, start), int(piece["rows"])):
            yield SourceRow(self.name, raw.line, data=raw.data)

    def _cut_array(self, max_rows: int, max_bytes: int) -> Iterator[tuple[int, int, int, int]]:
        offset = first = rows = end = 0
        for raw in read_rows(self.path):
            if rows and (rows >= max_rows or raw.end - offset > max_bytes):
                yield offset, first, rows, end - offset
                offset, first, rows = end, raw.line, 0
            rows, end = rows + 1, raw.end
        if rows:
            yield offset, first, rows, end - offset

    def _cut_lines(self, max_rows: int, max_bytes: int) -> Iterator[tuple[int, int, int, int]]:
        """Find the line ends, block by block; a piece ends with the line that fills it."""
        offset = first = rows = at = 0
        with self.path.open("rb") as file:
            while block := file.read(_CHUNK):
                ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == _LINE_END) + (at + 1)
                at += len(block)
                start = 0
                while True:
                    by_bytes = int(np.searchsorted(ends, offset + max_bytes)) + 1
                    stop = min(start + max_rows - rows, max(by_bytes, start + 1))
                    if stop > len(ends):
                        rows += len(ends) - start
                        break
                    rows, end = rows + stop - start, int(ends[stop - 1])
                    yield offset, first, rows, end - offset
                    offset, first, rows, start = end, first + rows, 0, stop
                is_ended, is_mark = block.endswith(b"\n"), block == _BOM
        if at > offset and not (at == len(_BOM) and is_mark):
            yield offset, first, rows + (not is_ended), at - offset
