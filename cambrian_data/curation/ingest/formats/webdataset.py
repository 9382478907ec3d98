"""Rows of WebDataset tar files: `KEY.json` or `KEY.txt`, and pictures `KEY.jpg`, `KEY.0.png` ...

Members that follow one another and share their key are one row. Pictures are matched with what the
JSON names by their names, else in order. Nothing is unpacked to disk; links, devices and names
that lead out are never opened, and cost their row.
"""

from __future__ import annotations

import itertools
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import orjson

from cambrian_data.curation.ingest.formats.batches import TEXT_COLUMNS
from cambrian_data.curation.ingest.formats.rows import (
    Piece,
    RowFile,
    SourceRow,
    picture_name,
)
from cambrian_data.curation.ingest.formats.tar import Member, TarError, members_of
from cambrian_data.curation.ingest.lines import MAX_ROW_BYTES
from cambrian_data.records import UserError

_PICTURES = frozenset(
    {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2", "svg", "img"}
)
_TEXTS = frozenset({"txt", "text", "caption", "cap"})
_PATH_KEYS = ("file", "path", "file_name")
_MAX_MEMBERS = 1000
"""Members of one row; more are another row's problem: they are cut off and told."""


@dataclass(frozen=True)
class TarRows(RowFile):
    """The rows of one WebDataset tar file."""

    def pieces(self, *, max_rows: int, max_bytes: int) -> Iterator[Piece]:
        """Read the headers, and put whole rows together.

        A file that was cut gives what comes before the row in which it was, and one row that says
        so.

        Raises:
            UserError: no row can be read.
        """
        first = rows = start = end = number = 0
        lost: str | None = None
        with self.path.open("rb") as file:
            groups = _groups(members_of(file))
            while True:
                try:
                    members = next(groups)
                except StopIteration:
                    break
                except TarError as error:
                    lost = str(error)
                    break
                if rows and (rows >= max_rows or members[-1].end - start > max_bytes):
                    yield self._piece(first, rows, start, end)
                    first, rows, start = number, 0, end
                start = members[0].start if not rows else start
                end, rows, number = members[-1].end, rows + 1, number + 1
        if rows:
            yield self._piece(first, rows, start, end)
        if lost is not None:
            if not number:
                raise UserError(f"{self.path} cannot be read as a tar file: {lost}")
            yield {**self._piece(number, 1, end, end), "lost": lost}

    def read(self, piece: Piece) -> Iterator[SourceRow]:
        """Yield the rows of a piece."""
        first = int(piece["first"])
        if "lost" in piece:
            detail = f"the tar file is damaged or cut from row {first} on: {piece['lost']}"
            yield SourceRow(self.name, first, problem=("damaged", detail))
            return
        with self.path.open("rb") as file:
            groups = _groups(members_of(file, piece["start"], piece["end"]))
            for number, members in enumerate(groups, first):
                yield self._row(file, number, members)

    def _piece(self, first: int, rows: int, start: int, end: int) -> Piece:
        return {
            "file": self.name,
            "first": first,
            "rows": rows,
            "bytes": end - start,
            "start": start,
            "end": end,
        }

    def _row(self, file: IO[bytes], number: int, members: Sequence[Member]) -> SourceRow:
        problem = _problem(members, self.max_picture_bytes)
        data = _bytes_of(file, members, frozenset({"json"}))
        if problem:
            return SourceRow(self.name, number, data=data or b"", problem=problem)
        row: Any = {} if data is None else _load(data)
        if not isinstance(row, dict):
            return SourceRow(self.name, number, data=data or b"")  # parse_row says what it is
        text = _bytes_of(file, members, _TEXTS)
        if text is not None and not any(row.get(name) for name in TEXT_COLUMNS):
            try:
                row["caption"] = text.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                return SourceRow(self.name, number, problem=("bad_encoding", str(error)[:300]))
        elif data is None:
            seen = [_split(member.name)[1] for member in members[:10]]
            detail = f"{members[0].name}: the row has {seen}, and neither .json nor .txt"
            return SourceRow(self.name, number, problem=("no_conversation", detail))
        row.setdefault("id", _split(members[0].name)[0])
        found = [member for member in members if _ending(member.name) in _PICTURES]
        pictures = _attach(row, found, [_read(file, member) for member in found])
        mended = frozenset({"embedded_pictures"} if pictures else ())
        return SourceRow(self.name, number, row=row, pictures=pictures, mended=mended)


def _groups(members: Iterator[Member]) -> Iterator[list[Member]]:
    for _, group in itertools.groupby(members, key=_key):
        while taken := list(itertools.islice(group, _MAX_MEMBERS)):
            yield taken


def _key(member: Member) -> str:
    return _split(member.name)[0]


def _split(name: str) -> tuple[str, str]:
    """Return key and ending: the ending begins at the first dot of the file's name."""
    folder, base = posixpath.split(name)
    stem, _, ending = base.partition(".")
    return posixpath.join(folder, stem), ending.lower()


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _problem(members: Sequence[Member], max_bytes: int) -> tuple[str, str] | None:
    if len(members) == _MAX_MEMBERS:
        return "too_large", f"{members[0].name}: {_MAX_MEMBERS} or more files with one key"
    for member in members:
        ending = _ending(member.name)
        if member.refused:
            return "image_outside_folder", f"{member.name[:200]}: {member.refused}; never opened"
        if (ending == "json" or ending in _TEXTS) and member.size > MAX_ROW_BYTES:
            return "too_large", f"{member.name}: {member.size} bytes, at most {MAX_ROW_BYTES}"
        if ending in _PICTURES and member.size > max_bytes:
            return "image_unreadable", f"{member.name}: {member.size} bytes, at most {max_bytes}"
    return None


def _bytes_of(file: IO[bytes], members: Sequence[Member], endings: frozenset[str]) -> bytes | None:
    found = (member for member in members if _ending(member.name) in endings)
    member = next((one for one in found if not one.refused and one.size <= MAX_ROW_BYTES), None)
    return None if member is None else _read(file, member)


def _read(file: IO[bytes], member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _load(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data)  # NaN, as Python writes it
    except (ValueError, RecursionError):
        return None


def _attach(
    row: dict[str, Any], members: Sequence[Member], data: Sequence[bytes]
) -> dict[str, bytes]:
    """Put the names of a tar file's pictures into its row, in place; return them by these names."""
    key = "images" if row.get("images") else "image"
    value = row.get(key)
    listed = value if isinstance(value, list) else [value] if value else []
    stated = [_stated_path(one) for one in listed]
    if not members:
        row[key] = stated if isinstance(value, list) else (stated or [None])[0]
        return {}
    order = _matched(stated, [member.name for member in members])
    paths = [posixpath.basename(member.name) for member in members]
    for path, at in zip(stated, order, strict=True):
        if at is not None and isinstance(path, str):
            paths[at] = path
    names = [picture_name(one, path) for one, path in zip(data, paths, strict=True)]
    listed = names
    if stated:
        listed = [path if at is None else names[at] for path, at in zip(stated, order, strict=True)]
    row[key] = listed if isinstance(value, list) or len(listed) > 1 else listed[0]
    return dict(zip(names, data, strict=True))


def _stated_path(value: Any) -> Any:
    if isinstance(value, dict):
        return next((value[name] for name in _PATH_KEYS if isinstance(value.get(name), str)), value)
    return value


def _matched(stated: Sequence[Any], names: Sequence[str]) -> list[int | None]:
    """Return, for every picture that the JSON names, which member it is; None: not in the tar."""
    bases = {posixpath.basename(name).lower(): n for n, name in enumerate(names)}
    endings = {_split(name)[1]: n for n, name in enumerate(names)}
    found: list[int | None] = []
    for path in stated:
        base = posixpath.basename(path).lower() if isinstance(path, str) else ""
        found.append(bases.get(base, endings.get(path) if isinstance(path, str) else None))
    if len(stated) == len(names) and (None in found or len(set(found)) < len(found)):
        return list(range(len(names)))
    return found
