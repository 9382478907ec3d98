"""One part of a mixture as records in shuffled order: the first half of an external merge sort.

A row's place in the shuffle is a hash of the seed, its id and which copy of it it is, so that it
depends on no other row. Rows become the bytes of their JSON files here, so that their sizes are
known before shards are cut. Some 10 microseconds a row; memory: one part of the mixture.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.packed_pictures import PackedPictures, PictureLost
from cambrian_data.records import bytes_id, content_id
from cambrian_data.shards import stored_record, tar_size

PACKED = pa.schema(
    [
        ("key", pa.uint64()),
        ("size", pa.int64()),
        ("record", pa.large_binary()),
        ("paths", pa.list_(pa.string())),
        ("sha256s", pa.list_(pa.string())),
    ]
)
"""Rows of a sorted file: place in the shuffle, bytes in the tar file, JSON, stored pictures."""
_TEXTS = ("id", "source", "dataset", "category", "system", "figure_id")
_COLUMNS = [*_TEXTS, "conversations", "images", "provenance"]
_ROWS_AT_ONCE = 5_000
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class PackedPart:
    """The rows of a part in shuffled order, and those whose pictures are lost (id, detail)."""

    rows: pa.Table
    dropped: list[dict[str, str]]


def pack_part(path: Path, pictures: PackedPictures, seed: int) -> PackedPart:
    """Read a part of a mixture and sort it by its place in the shuffle."""
    table = pq.read_table(path, columns=_COLUMNS)
    keys = shuffle_keys(table["id"].to_pylist(), seed)
    packer = _Packer(pictures)
    packed, dropped = [PACKED.empty_table()], list[dict[str, str]]()
    for start in range(0, len(table), _ROWS_AT_ONCE):
        rows, lost = packer.pack(table.slice(start, _ROWS_AT_ONCE), keys[start:])
        packed.append(rows)
        dropped += lost
    whole = pa.concat_tables(packed)
    order = np.argsort(whole["key"].to_numpy(), kind="stable")
    return PackedPart(whole.take(order).combine_chunks(), dropped)


class _Packer:
    """Turns rows into records; what it learned of a picture it keeps for the next row."""

    def __init__(self, pictures: PackedPictures) -> None:
        self._pictures = pictures
        self._known: dict[tuple[str, str | None], dict[str, Any] | PictureLost] = {}

    def pack(self, table: pa.Table, keys: np.ndarray) -> tuple[pa.Table, list[dict[str, str]]]:
        """Return rows as `PACKED`, and those whose pictures are lost.

        Args:
            keys: of the rows of `table`, and maybe of more after them.
        """
        kept, dropped = list[int](), list[dict[str, str]]()
        records, sizes, paths, hashes = [], [], [], []
        for number, (record, images) in enumerate(_rows(table)):
            try:
                record["images"], picture_bytes = self._images(images)
            except PictureLost as error:
                dropped.append({"id": record["id"], "detail": str(error)})
                continue
            data = stored_record(record)
            kept.append(number)
            records.append(data)
            sizes.append(tar_size(data, picture_bytes))
            paths.append([image["path"] for image in images])
            hashes.append([image["sha256"] for image in images])
        columns = [keys[kept], sizes, records, paths, hashes]
        return pa.table(dict(zip(PACKED.names, columns, strict=True)), schema=PACKED), dropped

    def _images(
        self, images: Sequence[Mapping[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """Return what a record says of its pictures, and their bytes in the shard.

        Raises:
            PictureLost: one cannot be packed.
        """
        about, sizes = [], []
        for number, image in enumerate(images):
            facts = self._facts(image)
            name = self._pictures.name(number, image["path"])
            about.append({"file": name, **facts["about"]})
            sizes.append(facts["bytes"])
        return about, sizes

    def _facts(self, image: Mapping[str, Any]) -> dict[str, Any]:
        place = (image["path"], image["sha256"])
        if place not in self._known:
            try:
                self._known[place] = self._learn(image)
            except PictureLost as error:
                self._known[place] = error
        facts = self._known[place]
        if isinstance(facts, PictureLost):
            raise PictureLost(str(facts))
        return facts

    def _learn(self, image: Mapping[str, Any]) -> dict[str, Any]:
        path, sha256, config = image["path"], image["sha256"], self._pictures.config
        about: dict[str, Any] = {"format": self._pictures.format(path)}
        if config.reencode:
            packed = self._pictures.get(path, sha256)
            size = {"width": packed.width, "height": packed.height}
            about |= {"sha256": packed.sha256, "original_sha256": sha256, **size}
            return {"bytes": len(packed.data), "about": about}
        about |= {"sha256": sha256, "width": image["width"], "height": image["height"]}
        if config.equal_for_ranks:  # what is damaged must be known before shards are cut
            return {"bytes": len(self._pictures.get(path, sha256).data), "about": about}
        return {"bytes": self._pictures.stored_bytes(path, sha256), "about": about}


def _rows(table: pa.Table) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield the records of rows, without their pictures, and the pictures as rows name them.

    Several times as fast as `to_pylist`, which makes every field of every null struct.
    """
    texts = [_column(table, name).to_pylist() for name in _TEXTS]
    turns = _lists(_column(table, "conversations"))
    images = _lists(_column(table, "images"))
    provenance = _column(table, "provenance")
    found = iter(provenance.filter(provenance.is_valid()).to_pylist())
    has_provenance = provenance.is_valid().to_pylist()
    for *values, conversation, pictures, has in zip(
        *texts, turns, images, has_provenance, strict=True
    ):
        record: dict[str, Any] = dict(zip(_TEXTS, values, strict=True))
        record["conversations"] = conversation
        record["provenance"] = next(found) if has else None
        yield record, pictures


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _lists(column: pa.ListArray) -> Iterator[list[dict[str, Any]]]:
    """Yield lists of structs."""
    items = column.flatten()
    names = [field.name for field in items.type]
    fields = zip(*(items.field(name).to_pylist() for name in names), strict=True)
    structs = [dict(zip(names, values, strict=True)) for values in fields]
    ends = (column.offsets.to_numpy() - column.offsets[0].as_py()).tolist()
    return (structs[start:end] for start, end in itertools.pairwise(ends))


# ---------------------------------------------------------------------------------- order


def shuffle_keys(ids: Sequence[str], seed: int) -> np.ndarray:
    """Return the places of rows in the shuffle, as uint64 [rows].

    Of equal ids each gets another place: its number among them goes into the hash.
    """
    numbers = np.array([_number(one) for one in ids], dtype=np.uint64).reshape(-1, 2)
    salt = np.uint64(int(content_id("shards", seed)[:16], 16))
    return _mix(_mix(_mix(numbers[:, 0] ^ salt) ^ numbers[:, 1]) + _copies(numbers) * _GOLDEN)


def _number(one: str) -> tuple[int, int]:
    """Return 128 bits of an id: ids are sha256 in hex, others are hashed first."""
    try:
        return int(one[:16], 16), int(one[16:32], 16)
    except ValueError:
        digest = bytes_id(one.encode())
        return int(digest[:16], 16), int(digest[16:32], 16)


def _copies(numbers: np.ndarray) -> np.ndarray:
    """Return how many equal ones stand before each row of uint64 [rows, 2]."""
    order = np.lexsort((numbers[:, 1], numbers[:, 0]))
    ordered, places = numbers[order], np.arange(len(order))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    copies = np.empty(len(order), dtype=np.uint64)
    copies[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return copies


def _mix(values: np.ndarray) -> np.ndarray:
    """Return splitmix64 of uint64 values; overflow is part of it."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
