"""One piece of a file to one unit of a data set: what a worker process does.

A piece of JSON lines is known by its bytes: the worker hashes what it has read, and reads no more
where a unit of these bytes is there. So a run that was killed goes on, and a file that was changed
in between is never mixed up with what it was. A piece of another format is known by the hash of
its files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cambrian_data.curation.ingest.formats import Piece, PlainJson, RowSource
from cambrian_data.curation.ingest.lines import (
    MAX_ROW_BYTES,
    LinePiece,
    Position,
    line_pieces,
    read_rows,
)
from cambrian_data.curation.ingest.part import IngestConfig, IngestedPart, ingest_lines, ingest_part
from cambrian_data.records import UserError
from cambrian_data.units import Unit, Units
from cambrian_data.workspace import Workspace

if TYPE_CHECKING:  # a worker imports it with the object that it is sent
    from cambrian_data.curation.ingest.pictures import Pictures

INGEST_VERSION = "3"
_CHUNK = 2**20
_PARQUET = {
    "compression": "zstd",
    "use_dictionary": ["source", "dataset", "category", "stage", "reason"],
    "write_statistics": ["source", "dataset", "category"],
}
"""Ids and texts do not repeat, nor does anybody look for a range of them: no dictionaries and no
statistics. Compressed, since a pool of 0.4 of its file's size costs no more time than writing it
whole."""


class MadePiece(NamedTuple):
    """A piece that is done: its unit and how many bytes of the input it was."""

    unit: Unit
    num_bytes: int


@dataclass(frozen=True)
class IngestPieces:
    """The pieces of one source, and the work on each; can be sent to other processes."""

    workspace: Workspace
    dataset: str
    source: RowSource
    content: str
    """Hash of the source's files; "" for JSON lines, whose pieces are hashed as they are read."""
    images: Pictures | None
    config: IngestConfig
    settings: dict[str, Any]
    """What the units depend on beside their rows."""

    def units(self, folder: Path) -> Units:
        """Return the units in the folder of a build."""
        return Units(
            self.workspace,
            folder,
            "ingest",
            version=INGEST_VERSION,
            config=self.settings,
        )

    def pieces(self) -> Iterator[LinePiece | Piece]:
        """Cut the source into pieces, in order."""
        rows, size = self.config.rows_per_part, self.config.bytes_per_part
        if isinstance(self.source, PlainJson) and self.source.is_lines:
            yield from line_pieces(self.source.path, max_rows=rows, max_bytes=size)
        else:
            yield from self.source.pieces(max_rows=rows, max_bytes=size)

    def key(self, piece: LinePiece | Piece, data: bytes | None = None) -> str:
        """Return the key of a piece's unit.

        Args:
            data: the bytes of a piece of lines, where they are read already.
        """
        units = self.units(Path())
        if isinstance(piece, dict):
            return units.key(self.content, piece)
        sha256 = hashlib.sha256()
        for chunk in self._chunks(piece) if data is None else (data,):
            sha256.update(chunk)
        return units.key(piece.first_line, sha256.hexdigest())

    def make(self, folder: Path, piece: LinePiece | Piece) -> MadePiece:
        """Make the unit of a piece, unless it is there and whole.

        Raises:
            UserError: the file is changed while it is read.
        """
        data, size = None, 0
        if isinstance(piece, dict):
            size = max(int(piece["bytes"]), 0)
        else:
            size = piece.end - piece.start
            if size <= self.config.bytes_per_part + MAX_ROW_BYTES:
                data = next(self._chunks(piece, size))
        units, key = self.units(folder), self.key(piece, data)
        unit = units.load(key)
        if unit is None:
            part = self._ingest(piece, data)
            tables = {"samples": part.samples, "images": part.images, "drops": part.drops}
            stored = [self.workspace.root / path for path in part.images["path"].to_pylist()]
            unit = units.commit(key, tables, numbers=part.stats, pictures=stored, parquet=_PARQUET)
        return MadePiece(unit, size)

    def _ingest(self, piece: LinePiece | Piece, data: bytes | None) -> IngestedPart:
        options: dict[str, Any] = {
            "dataset": self.dataset,
            "images": self.images,
            "config": self.config,
        }
        name = self.source.name
        if isinstance(piece, dict):
            file = str(piece["file"])
            return ingest_part(self.source.read(piece), file_name=file, **options)
        if data is not None:
            part = ingest_lines(data, first_line=piece.first_line, file_name=name, **options)
        else:  # a row of many MB in it: row by row, in bounded memory
            rows = read_rows(self._path(), Position(piece.start, piece.first_line))
            part = ingest_part(islice(rows, piece.num_lines), file_name=name, **options)
        if part.stats["rows"] + part.stats["blank_lines"] != piece.num_lines:
            raise self.changed()
        return part

    def _chunks(self, piece: LinePiece, size: int = _CHUNK) -> Iterator[bytes]:
        """Yield the bytes of a piece of lines, `size` at a time."""
        with self._path().open("rb", buffering=0) as file:
            for at in range(piece.start, piece.end, size):
                wanted = min(size, piece.end - at)
                chunk = os.pread(file.fileno(), wanted, at)
                if len(chunk) < wanted:  # of a file, less is given at its end alone
                    raise self.changed()
                yield chunk

    def _path(self) -> Path:
        assert isinstance(self.source, PlainJson)
        return self.source.path

    def changed(self) -> UserError:
        """Return the error for a file that does not hold still."""
        return UserError(
            f"{self._path()} was changed while it was read; start again when nothing writes to it"
        )
