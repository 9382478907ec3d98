"""Rows of a JSON file as raw bytes: JSON lines, or the elements of one JSON array.

Both are streamed: no more than one row and one read-ahead chunk is in memory. Every row knows its
number (from 0) and where it begins and ends in the file, so that reading goes on from any of them.
`line_pieces` cuts a file of lines without looking at them: it counts line ends, some GB a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from cambrian_data.records import UserError

MAX_ROW_BYTES = 16 * 2**20
"""A longer row is not read: it is dropped as `too_large`, so that memory stays bounded."""
_CHUNK = 2**20
_COUNTED = 2**17
"""So many bytes are looked at at once for line ends: they stay in the processor's caches."""
_BOM = b"\xef\xbb\xbf"
_NEWLINE, _RETURN, _OPEN, _CLOSE = b"\n\r{}"
# A whole string, a string that is not closed yet, or a sign that opens, closes or separates.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)


class Position(NamedTuple):
    """Where reading starts: a byte offset and the number of the row that begins there."""

    offset: int = 0
    line: int = 0


START = Position()


class RawLine(NamedTuple):
    """One row as it stands in its file; `end` is where the next one begins."""

    line: int
    offset: int
    end: int
    data: bytes

    @property
    def next(self) -> Position:
        """Return the position from which `read_rows` goes on after this row."""
        return Position(self.end, self.line + 1)


class LinePiece(NamedTuple):
    """Some whole lines of a file: the number of the first, how many, and their bytes."""

    first_line: int
    num_lines: int
    start: int
    end: int


def line_pieces(path: Path, *, max_rows: int, max_bytes: int) -> Iterator[LinePiece]:
    """Cut a file of JSON lines into pieces of `max_rows` lines, in order.

    A piece ends early with the line that brings it to `max_bytes`. A byte order mark at the
    beginning of the file belongs to no piece. Only line ends are looked at.
    """
    with path.open("rb", buffering=0) as file:
        start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        file.seek(start)
        buffer = bytearray(_COUNTED)
        view, base, line, rows = np.frombuffer(buffer, np.uint8), start, 0, 0
        last = _NEWLINE
        while size := file.readinto(buffer):
            is_end = view[:size] == _NEWLINE
            rows += int(np.count_nonzero(is_end))
            last = int(view[size - 1])
            while rows >= max_rows or base + size - start >= max_bytes:
                ends = base + 1 + np.flatnonzero(is_end)  # where the next line begins
                ends = ends[ends > start]
                before = rows - len(ends)  # lines of this piece that ended in earlier chunks
                by_rows = max_rows - before - 1
                by_bytes = int(np.searchsorted(ends, start + max_bytes))
                cut = min(by_rows, by_bytes)
                if cut >= len(ends):
                    break
                end, num_lines = int(ends[cut]), before + cut + 1
                yield LinePiece(line, num_lines, start, end)
                start, line, rows = end, line + num_lines, rows - num_lines
            base += size
    if start < base:
        yield LinePiece(line, rows + (last != _NEWLINE), start, base)


class Lines:
    """The lines of a block of bytes, cut out when they are asked for; their ends are left off."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        self._signs = np.frombuffer(block, np.uint8)
        self._ends = np.flatnonzero(self._signs == _NEWLINE)
        if not block.endswith(b"\n"):
            self._ends = np.append(self._ends, len(block))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> bytes:
        begin = int(self._ends[number - 1]) + 1 if number else 0
        return self.block[begin : int(self._ends[number])]

    def look_like_objects(self) -> bool:
        """Whether each line begins with { and ends with }.

        No JSON value spans such lines: within a value, } is never followed by {. So where a reader
        finds as many values in the block as there are lines, each line is one of them.
        """
        begins = self._signs[np.append(0, self._ends[:-1] + 1)]
        lasts = self._signs[self._ends - 1]
        if (lasts == _RETURN).any():
            lasts = np.where(lasts == _RETURN, self._signs[self._ends - 2], lasts)
        return bool((begins == _OPEN).all() and (lasts == _CLOSE).all())


def read_rows(path: Path, start: Position = START) -> Iterator[RawLine]:
    """Yield the rows of a JSON Lines file or of a file with one JSON array.

    Blank lines are yielded too (they count as lines). A byte order mark is skipped.

    Args:
        path: `.jsonl` and `.ndjson` are always lines; any other file is an array where its first
            sign is `[`.
        start: where to go on, as another row's `next`.
    Raises:
        UserError: the file is missing, or an array in it has no end of an element for 16 MiB.
    """
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r} to ingest")
    with path.open("rb") as file:
        is_array = _is_array(path, file)
        if start.offset == 0:
            file.seek(0)
            start = Position(len(_BOM) if file.read(len(_BOM)) == _BOM else 0, start.line)
        file.seek(start.offset)
        yield from _read_array(file, start) if is_array else _read_lines(file, start)


def cut_parts(
    lines: Iterable[RawLine], *, max_rows: int, max_bytes: int
) -> Iterator[list[RawLine]]:
    """Group rows into parts of at most `max_rows` rows; a part ends once it holds `max_bytes`."""
    part: list[RawLine] = []
    filled = 0
    for raw in lines:
        part.append(raw)
        filled += len(raw.data)
        if len(part) >= max_rows or filled >= max_bytes:
            yield part
            part, filled = [], 0
    if part:
        yield part


def _is_array(path: Path, file: IO[bytes]) -> bool:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return False
    return file.read(_CHUNK).removeprefix(_BOM).lstrip()[:1] == b"["


def _read_lines(file: IO[bytes], start: Position) -> Iterator[RawLine]:
    offset, line = start
    while data := file.readline(MAX_ROW_BYTES + 1):
        end = offset + len(data)
        rest = data
        while len(rest) > _CHUNK and not rest.endswith(b"\n"):  # the rest of a row too large
            rest = file.readline(MAX_ROW_BYTES)
            end += len(rest)
        yield RawLine(line, offset, end, data.rstrip(b"\r\n"))
        offset, line = end, line + 1


def _read_array(file: IO[bytes], start: Position) -> Iterator[RawLine]:
    """Yield an array's elements; `begin` and `at` are places in `buffer`, `base` is its own."""
    depth = 1 if start.line else 0
    base, line, buffer, begin, at = start.offset, start.line, b"", 0, 0
    while True:
        match = _TOKEN.search(buffer, at)
        if match is None or match.group() == b'"':
            at = match.start() if match else len(buffer)
            chunk = file.read(max(_CHUNK, len(buffer) - begin))
            if not chunk:
                break
            buffer = buffer[begin:] + chunk
            base, at, begin = base + begin, at - begin, 0
            _check_size(buffer, file, base, line)
            continue
        at, sign = match.end(), buffer[match.start()]
        if sign in b"{[":
            depth += 1
            begin = at if depth == 1 else begin
        elif sign in b"}]":
            depth -= 1
        if (depth == 1 and sign in b",") or (depth == 0 and sign in b"]"):
            data = buffer[begin : at - 1].strip()
            if data or sign in b",":
                yield RawLine(line, base + begin, base + at, data)
                line += 1
            begin = at
    rest = buffer[begin:].strip()
    if rest:  # a file that was cut, or that goes on behind its array: a row that cannot be read
        yield RawLine(line, base + begin, base + len(buffer), rest[: MAX_ROW_BYTES + 1])


def _check_size(buffer: bytes, file: IO[bytes], base: int, line: int) -> None:
    if len(buffer) > 2 * MAX_ROW_BYTES + _CHUNK:
        raise UserError(
            f"{file.name}: element {line} of the array, at byte {base}, has no end within "
            f"{MAX_ROW_BYTES} bytes: the file is damaged there, mend or cut it"
        )
