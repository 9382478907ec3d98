"""Rows of a set that a mixture is compared with: their texts, pictures and names.

A data set of the pool, a mixture, or a file of any shape (instruction rows, or a benchmark's plain
`{"question": ..., "answer": ...}`) -> batches of texts and picture keys. A file's row is every text
in it, but for those that name something: ids, paths, addresses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.curation.duplicates.look_alikes import MIN_BITS, hex_words, path_keys, refs_of
from cambrian_data.curation.duplicates.same_picture import SIDE, signature_of
from cambrian_data.curation.ingest.formats import open_source
from cambrian_data.curation.ingest.lines import read_rows
from cambrian_data.curation.turns import BATCH_ROWS, turns_of
from cambrian_data.engine.images import ImagesConfig, decode_picture
from cambrian_data.records import bytes_id

_ROWS = 5_000
_THREADS = 4
_MAX_PICTURE_BYTES = 100 * 2**20
_ANY_PICTURE = ImagesConfig(min_side_px=1, max_aspect=200)
_ID_KEYS = ("id", "question_id", "questionId", "qid", "uid", "idx", "index")
_PICTURE_KEY = re.compile(r"(image|images|img|picture|figure|photo)s?(_?(path|file|name))*")
_NAMES_SOMETHING = re.compile(
    r"(.*_)?(id|ids|idx|index|path|paths|file|filename|url|uri|link|source|split|hash|sha256)"
)
_NO_PICTURE = frozenset({"", "none", "null"})
_MAX_PATH = 1_000


@dataclass(slots=True)
class Batch:
    """Some rows: texts and pictures, each with the number of its row among all rows."""

    ids: list[str] = field(default_factory=list)
    texts: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    text_row: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    keys: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.uint64))
    key_row: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    phash: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    """uint64 [keys]; 0 where the picture was not opened here or its hash says nothing."""
    signatures: np.ndarray = field(default_factory=lambda: np.empty((0, SIDE, SIDE), np.uint8))
    """uint8 [keys, SIDE, SIDE] where pictures were opened here, else none."""


def sample_rows(folder: Path) -> Iterator[Batch]:
    """Yield the samples of a data set of the pool or of a mixture; row numbers start at 0 in each.

    Args:
        folder: holds `samples/part-*.parquet`.
    """
    for path in sorted((folder / "samples").glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=["id", "images", "conversations"]):
                turns, refs = turns_of(batch), refs_of(batch)
                yield Batch(
                    batch.column("id").to_pylist(),
                    turns.text,
                    turns.row,
                    refs.keys,
                    refs.row,
                    np.zeros(len(refs.keys), np.uint64),
                )


class FileRows:
    """The rows of a file; `skipped` counts what could not be used, by reason."""

    def __init__(self, path: Path, images: Path | None, scratch: Path) -> None:
        """Name the file.

        Args:
            images: the folder that its pictures' paths start in; None leaves them unread.
            scratch: where a packed file may be unpacked.
        """
        self._path, self._scratch = path, scratch
        self._images = images.resolve() if images else None
        self.skipped: Counter[str] = Counter()

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order, some at a time."""
        rows: list[_Row] = []
        for row in self._rows():
            rows.append(row)
            if len(rows) >= _ROWS:
                yield self._batch(rows)
                rows = []
        if rows:
            yield self._batch(rows)

    def _rows(self) -> Iterator[_Row]:
        if self._path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
            for raw in read_rows(self._path):
                if raw.data:
                    yield from self._row(f"{self._path.name}:{raw.line}", raw.data, None)
            return
        source = open_source(self._path, scratch=self._scratch)
        for piece in source.pieces(max_rows=_ROWS, max_bytes=64 * 2**20):
            for found in source.read(piece):
                if found.problem:
                    self.skipped[found.problem[0]] += 1
                    continue
                content = found.data if found.row is None else found.row
                yield from self._row(f"{found.file}:{found.line}", content, found.pictures)

    def _row(
        self, place: str, content: bytes | dict[str, Any], inside: Mapping[str, bytes] | None
    ) -> Iterator[_Row]:
        try:
            row = orjson.loads(content) if isinstance(content, bytes) else content
        except orjson.JSONDecodeError:
            self.skipped["bad_json"] += 1
            return
        if not isinstance(row, dict):
            self.skipped["not_an_object"] += 1
            return
        texts: list[str] = []
        paths: list[str] = []
        _collect(row, texts, paths, is_picture=False)
        yield _Row(_id_of(row) or place, texts, list(dict.fromkeys(paths)), dict(inside or {}))

    def _batch(self, rows: list[_Row]) -> Batch:
        texts = [(text, number) for number, row in enumerate(rows) for text in row.texts]
        named = [(path, number) for number, row in enumerate(rows) for path in row.paths]
        batch = Batch(
            [row.id for row in rows],
            pa.array([text for text, _ in texts], pa.string()),
            np.array([number for _, number in texts], dtype=np.int64),
        )
        pictures = [(path, rows[number].inside.get(path)) for path, number in named]
        with ThreadPoolExecutor(_THREADS) as pool:
            opened = list(pool.map(lambda one: self._open(*one), pictures))
        found = [(one, row) for one, (_, row) in zip(opened, named, strict=True) if one]
        hashes = [(sha, row, one) for one, row in found for sha in one.hashes]
        unread = [
            (path, row) for one, (path, row) in zip(opened, named, strict=True) if one is None
        ]
        keys = [
            hex_words(pa.array([sha for sha, _, _ in hashes], pa.string()), 64)[:, :2],
            path_keys(pa.array([normpath(path) for path, _ in unread], pa.string())),
        ]
        batch.keys = np.concatenate(keys)
        batch.key_row = np.array(
            [row for _, row, _ in hashes] + [row for _, row in unread], dtype=np.int64
        )
        batch.phash = np.array([one.phash for _, _, one in hashes] + [0] * len(unread), np.uint64)
        if self._images or any(row.inside for row in rows):
            none = np.zeros((SIDE, SIDE), np.uint8)
            signatures = [one.signature for _, _, one in hashes] + [none] * len(unread)
            batch.signatures = np.stack([*signatures, none])[:-1]
        return batch

    def _open(self, path: str, inside: bytes | None) -> _Opened | None:
        """Return a picture's hashes and signature; None where it is not there or none."""
        data = inside if inside is not None else self._read(path)
        if data is None:
            return None
        try:
            picture = decode_picture(data, _ANY_PICTURE)
        except ValueError:
            self.skipped["image_unreadable"] += 1
            return None
        signature = signature_of(picture.data)
        if signature is None:
            self.skipped["image_unreadable"] += 1
            return None
        phash = np.uint64(int(picture.phash, 16))
        says_something = np.bitwise_count(phash) >= MIN_BITS
        # As it is stored here, and as it was found, in case it was taken over unchanged.
        hashes = tuple({picture.sha256: None, bytes_id(data): None})
        return _Opened(hashes, int(phash) if says_something else 0, signature)

    def _read(self, path: str) -> bytes | None:
        if self._images is None:
            return None
        try:
            file = (self._images / path).resolve()
            if file.is_relative_to(self._images) and file.stat().st_size <= _MAX_PICTURE_BYTES:
                return file.read_bytes()
        except (OSError, ValueError):
            pass
        self.skipped["image_missing"] += 1
        return None


class _Row(NamedTuple):
    id: str
    texts: list[str]
    paths: list[str]
    inside: dict[str, bytes]


class _Opened(NamedTuple):
    hashes: tuple[str, ...]
    phash: int
    signature: np.ndarray


def _id_of(row: Mapping[str, Any]) -> str | None:
    for key in _ID_KEYS:
        value = row.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None


def _collect(value: Any, texts: list[str], paths: list[str], *, is_picture: bool) -> None:
    """Gather the texts and the pictures' paths of a row, however deep they lie."""
    if isinstance(value, str):
        if is_picture:
            if value.strip().lower() not in _NO_PICTURE and len(value) <= _MAX_PATH:
                paths.append(value)
        elif value:
            texts.append(value)
    elif isinstance(value, list | tuple):
        for one in value:
            _collect(one, texts, paths, is_picture=is_picture)
    elif isinstance(value, dict):
        for key, one in value.items():
            name = str(key).lower()
            if is_picture or _PICTURE_KEY.fullmatch(name):
                _collect(one, texts, paths, is_picture=True)
            elif not _NAMES_SOMETHING.fullmatch(name):
                _collect(one, texts, paths, is_picture=False)
