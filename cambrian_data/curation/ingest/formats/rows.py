"""What every format of rows gives: sources that are cut into pieces, and rows with their pictures.

A piece is a little JSON data that says where in which file some rows lie; it is read by any
process, at any time, to the same rows. Pictures that lie inside of rows are named by their content
(`FOLDER/HASH.SUFFIX`), because the names that they carry are often the same in every row.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from cambrian_data.records import RAW_LIMIT, bytes_id
from cambrian_data.workspace import file_sha256

Piece = dict[str, Any]
"""Where some rows lie: `file` (relative to the source), `first` (the number of its first row in
that file), `rows` (-1: not known before it is read), `bytes`, and what its format needs."""

FORMAT_MENDS = {
    "embedded_pictures": "pictures inside of the row, named by their content",
    "turn_columns": "turns stored as a table of columns, made a list of turns",
}
"""What reading a format changes in rows that are kept."""

MAX_PICTURE_BYTES = 100 * 2**20
_PICTURE_KEYS = ("image", "images")
_TURN_KEYS = ("conversations", "messages", "texts")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
_HASH_CHARACTERS = 32
_WHOLE_BYTES, _NUM_BLOCKS, _BLOCK_BYTES = 2**30, 64, 2**16


@dataclass(slots=True)
class SourceRow:
    """One row of a source, or why it cannot be read."""

    file: str
    """Where it stands: the file's name; in a folder its path below the folder."""
    line: int
    """Its number in the file, from 0."""
    data: bytes = b""
    """The row as JSON text, where its format has it so."""
    row: dict[str, Any] | None = None
    """The row, where its format is no text; `data` is then empty."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """Pictures that lie inside of the row, by the names that stand in it."""
    mended: frozenset[str] = frozenset()
    """Names of `FORMAT_MENDS`."""
    problem: tuple[str, str] | None = None
    """A reason of `DROP_REASONS["ingest"]` and what was seen, for a row that cannot be read."""

    def text(self) -> bytes:
        """Return the row as JSON text, as a drop keeps it; at least its first characters."""
        if self.data or self.row is None:
            return self.data
        shortened = _shortened(self.row, depth=6)
        return orjson.dumps(shortened, default=_as_text, option=orjson.OPT_NON_STR_KEYS)


class RowSource(Protocol):
    """Rows in one file or folder; picklable, and nothing stays open between calls."""

    @property
    def name(self) -> str:
        """The file's or folder's name."""

    @property
    def size(self) -> int:
        """Bytes of all files together."""

    def identity(self) -> list[Any]:
        """Return what the rows depend on: the `file_identity` of every file."""

    def pieces(self, *, max_rows: int, max_bytes: int) -> Iterator[Piece]:
        """Cut the source into pieces, in order.

        Args:
            max_rows: rows in one piece; at least 1.
            max_bytes: a piece ends once it takes this much of a file; a row is never cut.
        Raises:
            UserError: a file that cannot be read at all.
        """

    def read(self, piece: Piece) -> Iterator[SourceRow]:
        """Yield the rows of a piece one by one; nothing but the current ones are in memory."""


@dataclass(frozen=True)
class RowFile:
    """A source that is one file: what its formats have in common."""

    path: Path
    name: str
    """What stands in `SourceRow.file`."""
    max_picture_bytes: int = MAX_PICTURE_BYTES

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.path.stat().st_size

    def identity(self) -> list[Any]:
        """Return the file's identity."""
        return [file_identity(self.path, self.name)]


def file_identity(path: Path, name: str) -> list[Any]:
    """Return name, size and hash of a file.

    Up to 1 GiB the hash is of the whole content. A larger file, of which a set may have thousands,
    is known by blocks all over it and by the time of its last change.
    """
    about = path.stat()
    if about.st_size <= _WHOLE_BYTES:
        return [name, about.st_size, file_sha256(path)]
    parts = hashlib.sha256(str(about.st_mtime_ns).encode())
    with path.open("rb") as file:
        for number in range(_NUM_BLOCKS):
            file.seek((about.st_size - _BLOCK_BYTES) * number // (_NUM_BLOCKS - 1))
            parts.update(file.read(_BLOCK_BYTES))
    return [name, about.st_size, parts.hexdigest()]


def take_pictures(
    row: dict[str, Any], *, max_bytes: int = MAX_PICTURE_BYTES
) -> tuple[dict[str, bytes], set[str]]:
    """Replace the pictures that lie inside of a row by names, in place; return them and the mends.

    A picture is bytes, or bytes and path as `datasets` stores them; a path alone stays a path.

    Raises:
        EmbeddedError: a picture of more than `max_bytes`.
    """
    pictures: dict[str, bytes] = {}
    mended: set[str] = set()
    for key in _PICTURE_KEYS:
        value = row.get(key)
        if isinstance(value, list):
            row[key] = [_named(one, pictures, max_bytes) for one in value]
        elif value is not None:
            row[key] = _named(value, pictures, max_bytes)
    if pictures:
        mended.add("embedded_pictures")
    for key in _TURN_KEYS:
        turns = _turns_of_columns(row.get(key))
        if turns is not None:
            row[key] = turns
            mended.add("turn_columns")
    return pictures, mended


class EmbeddedError(ValueError):
    """A picture inside of a row that is not taken."""


def picture_name(data: bytes, path: str | None = None) -> str:
    """Return the name of a picture that lies inside of a row: its path's folder and its content."""
    folder = suffix = ""
    if path:
        clean = posixpath.normpath(path.replace("\\", "/"))
        folder = posixpath.dirname(clean)
        suffix = posixpath.splitext(clean)[1].lower()
        if folder.startswith(("/", "..")) or folder[1:2] == ":" or "\0" in folder:
            folder = ""  # where it once lay on somebody's machine
        if not _SUFFIX.fullmatch(suffix):
            suffix = ""
    return posixpath.join(folder, bytes_id(data)[:_HASH_CHARACTERS] + suffix)


def _named(value: Any, pictures: dict[str, bytes], max_bytes: int) -> Any:
    path = None
    if isinstance(value, dict) and value.keys() <= {"bytes", "path"}:
        value, path = value.get("bytes"), value.get("path")
    if not isinstance(value, bytes):
        return value if value is not None else path
    if not value:
        return path
    if len(value) > max_bytes:
        raise EmbeddedError(f"a picture of {len(value)} bytes in the row, at most {max_bytes}")
    name = picture_name(value, path if isinstance(path, str) else None)
    pictures[name] = value
    return name


def _turns_of_columns(value: Any) -> list[dict[str, Any]] | None:
    """Return turns that are stored as lists of equal length, as older `datasets` do."""
    if not isinstance(value, dict) or not value:
        return None
    columns = list(value.values())
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return None
    return [dict(zip(value, turn, strict=True)) for turn in zip(*columns, strict=True)]


def _shortened(value: Any, depth: int) -> Any:
    """Return a value without what a drop has no room for, so that it is made into text quickly."""
    if isinstance(value, str):
        return value[: 2 * RAW_LIMIT].encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if depth == 0:
        return "..."
    if isinstance(value, dict):
        return {str(key): _shortened(one, depth - 1) for key, one in list(value.items())[:100]}
    if isinstance(value, list):
        return [_shortened(one, depth - 1) for one in value[:100]]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return value


def _as_text(value: Any) -> str:
    return str(value)
