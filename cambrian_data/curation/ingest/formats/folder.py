"""Which file or folder is read how: told by what files begin with, never by their names alone."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cambrian_data.curation.ingest.formats.arrow import FILE_MAGIC, ArrowRows
from cambrian_data.curation.ingest.formats.jsonrows import PlainJson
from cambrian_data.curation.ingest.formats.parquet import ParquetRows, check_footers
from cambrian_data.curation.ingest.formats.rows import (
    MAX_PICTURE_BYTES,
    Piece,
    RowSource,
    SourceRow,
)
from cambrian_data.curation.ingest.formats.tar import is_tar
from cambrian_data.curation.ingest.formats.unpack import packing_of, unpacked
from cambrian_data.curation.ingest.formats.webdataset import TarRows
from cambrian_data.records import UserError
from cambrian_data.shard_store import shown

_STREAM = b"\xff\xff\xff\xff"
_BOM = b"\xef\xbb\xbf"
_PACKED_SUFFIXES = (".gz", ".zst", ".bz2", ".tgz")
_SUFFIXES = (".parquet", ".arrow", ".feather", ".tar", ".jsonl", ".ndjson", ".json")
_ABOUT = frozenset(
    {"dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json"}
    | {"export.json", "index.json"}
)
"""What `datasets`, and exports and shards of ours, write beside their rows."""
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip file",
    b"\x7fELF": "a program",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF",
    b"7z\xbc\xaf": "a 7z file",
    b"\xfd7zXZ": "an xz file",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
}
_KNOWN = (
    "JSON Lines, a JSON array, Parquet, Arrow and WebDataset tar files are read (also .gz, .zst "
    "and .bz2 of them), and folders of these"
)
_START_BYTES = 2**20
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_SHARD = re.compile(r"(?P<name>.*?)[-_]?\d{2,}(?P<all>[-_]of[-_]\d+)?")
"""`train-00000-of-00004`, `shard_000012`, `00012`."""


@dataclass(frozen=True)
class FolderRows:
    """The rows of several files, one file after another in the order of their names."""

    path: Path
    name: str
    """The folder's name; of a snapshot of the hub, the data set's."""
    sources: tuple[RowSource, ...]
    shards: frozenset[str] = frozenset()
    """Files that are one of several with the same content, such as `train-00000-of-00004.parquet`:
    their rows that name no source are of the folder, not of the file."""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(source.size for source in self.sources)

    def identity(self) -> list[Any]:
        """Return the identity of every file."""
        return [row for source in self.sources for row in source.identity()]

    def pieces(self, *, max_rows: int, max_bytes: int) -> Iterator[Piece]:
        """Cut every file on its own: no piece reaches over two files."""
        for number, source in enumerate(self.sources):
            for piece in source.pieces(max_rows=max_rows, max_bytes=max_bytes):
                yield {**piece, "source": number}

    def read(self, piece: Piece) -> Iterator[SourceRow]:
        """Yield the rows of a piece."""
        rows = self.sources[int(piece["source"])].read(piece)
        return map(self._with_source, rows) if piece["file"] in self.shards else rows

    def _with_source(self, row: SourceRow) -> SourceRow:
        if row.row is None and row.data:
            with contextlib.suppress(orjson.JSONDecodeError):  # its reader says what is wrong
                row.row = orjson.loads(row.data)
        if isinstance(row.row, dict):
            texts = row.row.get("texts")
            first = texts[0] if isinstance(texts, list) and texts else None
            if not row.row.get("source") and not (isinstance(first, dict) and first.get("source")):
                row.row["source"] = self.name
        else:
            row.row = None
        return row


def open_source(
    path: Path, *, scratch: Path, max_picture_bytes: int = MAX_PICTURE_BYTES
) -> RowSource:
    """Return the rows of a file or folder.

    Args:
        path: JSON Lines, a JSON array, Parquet, Arrow, a WebDataset tar file, one of these packed
            as .gz, .zst or .bz2, or a folder of such files (a `save_to_disk` folder of `datasets`
            and a snapshot of the Hugging Face hub among them).
        scratch: packed files are unpacked into this folder, and used again.
        max_picture_bytes: a row with a larger picture inside is a problem.
    Raises:
        UserError: there is nothing, or something else; the message says what.
    """
    source: RowSource
    if path.is_dir():
        source = _open_folder(path, scratch, max_picture_bytes)
    elif path.is_file():
        source = _open_file(path, path.name, scratch, max_picture_bytes)
    else:
        raise UserError(_why_not_opened(path))
    files = source.sources if isinstance(source, FolderRows) else (source,)
    tables = [file.path for file in files if isinstance(file, ParquetRows)]
    if tables:
        check_footers(tables)
    return source


def _why_not_opened(path: Path) -> str:
    """Return what is wrong with a path that is neither a file nor a folder, and what to do."""
    if path.exists():
        return f"{path} is no ordinary file (a device or a pipe): write its rows to a file first"
    if _ADDRESS.match(str(path)):  # a path has one slash left of the two
        address = shown(str(path).replace(":/", "://", 1))
        return f"{address} is an address, and rows are read from files here: download it first"
    return f"there is no file or folder {str(path)!r} to ingest"


def _open_file(path: Path, name: str, scratch: Path, max_bytes: int) -> RowSource:
    start = _start_of(path)
    packing = packing_of(start)
    if packing is None:
        return _open_plain(path, name, start, max_bytes, path)
    inner = unpacked(path, packing, scratch)
    start = _start_of(inner)
    if packing_of(start):
        raise UserError(f"{path} is packed twice; unpack it once yourself")
    return _open_plain(inner, name, start, max_bytes, path)


def _open_plain(path: Path, name: str, start: bytes, max_bytes: int, given: Path) -> RowSource:
    if start.startswith(b"PAR1"):
        return ParquetRows(path, name, max_bytes)
    if start.startswith((FILE_MAGIC, _STREAM)):
        return ArrowRows(path, name, max_bytes)
    if is_tar(start):
        return TarRows(path, name, max_bytes)
    kind = next((kind for magic, kind in _OTHER_KINDS.items() if start.startswith(magic)), None)
    if kind is None and b"\0" in start[:4096]:
        kind = "neither text nor a known kind of file"
    if kind:
        raise UserError(f"{given} is {kind}; {_KNOWN}")
    is_named_lines = any(part in (".jsonl", ".ndjson") for part in given.suffixes[-2:])
    is_lines = is_named_lines or start.removeprefix(_BOM).lstrip()[:1] != b"["
    return PlainJson(path, name, is_lines, given if given != path else None)


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_START_BYTES)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


# --------------------------------------------------------------------------------- folders


def _open_folder(path: Path, scratch: Path, max_bytes: int) -> FolderRows:
    files = list(_row_files(path))
    if not files:
        raise UserError(f"there is no file of rows in the folder {str(path)!r}; {_KNOWN}")
    sources = tuple(_open_file(path / name, name, scratch, max_bytes) for name in files)
    return FolderRows(path, _name_of(path), sources, _shards(files))


def _name_of(path: Path) -> str:
    real = path.absolute()
    for parent in real.parents:
        if parent.name == "snapshots" and parent.parent.name.startswith("datasets--"):
            return parent.parent.name.removeprefix("datasets--").replace("--", "/")
    return real.name


def _shards(files: Sequence[str]) -> frozenset[str]:
    """Return the files whose names differ from those of others in their numbers alone."""
    matches = {file: _SHARD.fullmatch(file.partition(".")[0]) for file in files}
    alike = Counter(match["name"] for match in matches.values() if match)
    return frozenset(
        file
        for file, match in matches.items()
        if match and (match["all"] or alike[match["name"]] > 1)
    )


def _row_files(path: Path) -> Iterator[str]:
    """Yield the files of rows below a folder, as paths relative to it, in order.

    Raises:
        UserError: a link that leads out of the folder, which is never opened.
    """
    roots = _roots(path)
    for folder in _saved_folders(path) or [path]:
        for where, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
            wanted = _wanted(Path(where), names)
            for name in sorted(wanted):
                file = Path(where) / name
                real = Path(os.path.realpath(file))
                if not any(real.is_relative_to(root) for root in roots):
                    raise UserError(
                        f"{file} is a link to {real}, outside of the folder, and is not opened: "
                        "put the file itself there, or name its own folder"
                    )
                yield file.relative_to(path).as_posix()


def _wanted(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the files of rows; in a folder that `datasets` saved, those that its state lists."""
    if "state.json" in names:
        listed = _read_json(folder / "state.json").get("_data_files")
        if isinstance(listed, list):
            files = [file.get("filename") for file in listed if isinstance(file, dict)]
            missing = [name for name in files if name not in names]
            if missing:
                raise UserError(
                    f"{folder} lacks {missing[0]!r}, which its state.json lists: copy the folder "
                    "again"
                )
            return [str(name) for name in files]
    about = _ABOUT | {"index.json"} if any(name.endswith(".tar") for name in names) else _ABOUT
    return [
        name
        for name in names
        if not name.startswith((".", "_")) and name not in about and _has_rows(name)
    ]


def _has_rows(name: str) -> bool:
    lower = name.lower()
    stem = next((lower.removesuffix(end) for end in _PACKED_SUFFIXES if lower.endswith(end)), lower)
    return lower.endswith(".tgz") or stem.endswith(_SUFFIXES)


def _saved_folders(path: Path) -> list[Path]:
    """Return the splits of a DatasetDict that was saved; none where the folder is no such."""
    about = path / "dataset_dict.json"
    if not about.is_file():
        return []
    splits = _read_json(about).get("splits")
    names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
    found = [path / name for name in names if name == Path(name).name and name not in ("", "..")]
    lacking = [folder.name for folder in found if not folder.is_dir()]
    if lacking:
        raise UserError(f"{path} lacks the split {lacking[0]!r} that its dataset_dict.json lists")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    return value if isinstance(value, dict) else {}


def _roots(path: Path) -> list[Path]:
    """Return the folders that files may lie in: the given one, and the store of a hub's snapshot.

    The cache of `huggingface_hub` keeps a snapshot as links into the folder `blobs` beside it.
    """
    real = Path(os.path.realpath(path))
    roots = [real]
    for parent in real.parents:
        if parent.name == "snapshots" and (parent.parent / "blobs").is_dir():
            roots.append(parent.parent / "blobs")
    return roots
