"""WebDataset shards: tar files of samples with their pictures inside, an index, verification.

A shard holds, sample by sample, `KEY.json` (the record) and `KEY.0.jpg`, `KEY.1.jpg` ... (its
pictures in order). Keys count up over all shards. The tar files are plain ones: `webdataset` and
`datasets` read them; here `tarfiles` does, which needs no torch. Shards are read from a folder or
from an address that fsspec knows (`shard_store`). docs/shards.md describes the layout.
"""

from __future__ import annotations

import io
import itertools
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from cambrian_data.records import Progress, bytes_id, canonical_json, silent
from cambrian_data.shard_plan import ReencodeConfig, ShardsConfig, plan_shards
from cambrian_data.shard_store import ShardError, ShardStore, open_store
from cambrian_data.tarfiles import (
    HashingReader,
    TarError,
    TarWriter,
    member_size,
    read_members,
)
from cambrian_data.workspace import file_sha256

__all__ = [
    "INDEX_NAME",
    "ReencodeConfig",
    "ShardError",
    "ShardSample",
    "ShardWriter",
    "ShardsConfig",
    "Verification",
    "encode_shard",
    "make_index",
    "parse_record",
    "plan_shards",
    "read_index",
    "read_shard",
    "read_shards",
    "shard_name",
    "stored_record",
    "tar_size",
    "verify_shards",
]

INDEX_NAME = "index.json"
_NULLABLE_TEXTS = ("system", "figure_id")


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One sample as it lies in a shard.

    `record` has id, source, dataset, category, conversations, system, figure_id, provenance and
    images (sha256, width, height, format, file); `pictures` holds the bytes in the same order.
    """

    key: str
    record: dict[str, Any]
    pictures: list[bytes] = field(default_factory=list)


# ---------------------------------------------------------------------------------- records


def stored_record(record: Mapping[str, Any]) -> bytes:
    """Return a record as its JSON file: what may be null as text, "" for null.

    A column that is null in the first rows would have no type for `datasets`, and fail later.
    """
    texts = {name: record[name] or "" for name in _NULLABLE_TEXTS if name in record}
    if "provenance" in record:
        found = record["provenance"]
        texts["provenance"] = canonical_json(found).decode() if found else ""
    return canonical_json({**record, **texts})


def parse_record(data: bytes) -> dict[str, Any]:
    """Return a record from its JSON file: the inverse of `stored_record`."""
    record: dict[str, Any] = orjson.loads(data)
    if not isinstance(record, dict):
        raise ValueError("the record is no object")
    for name in _NULLABLE_TEXTS:
        if record.get(name) == "":
            record[name] = None
    if isinstance(record.get("provenance"), str):
        record["provenance"] = orjson.loads(record["provenance"] or "null")
    return record


# ---------------------------------------------------------------------------------- writing


def tar_size(record: Mapping[str, Any] | bytes, picture_bytes: Iterable[int]) -> int:
    """Return the bytes that a sample takes in a tar file, headers and padding included."""
    data = record if isinstance(record, bytes) else stored_record(record)
    return member_size(len(data)) + sum(member_size(size) for size in picture_bytes)


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"shard-{number:06d}.tar"


class ShardWriter:
    """Writes one shard into an open file, sample by sample, and counts."""

    def __init__(self, tar: TarWriter) -> None:
        self._tar = tar
        self._counts = {"samples": 0, "pictures": 0, "text_only": 0}
        self._first: str | None = None
        self._last: str | None = None

    def add(self, key: str, record: bytes, pictures: Sequence[tuple[str, bytes]]) -> None:
        """Write a sample.

        Args:
            record: as `stored_record` gives it.
            pictures: names as in the record's `images[].file`, with content.
        """
        members = [(f"{key}.json", record)]
        members += [(f"{key}.{name}", data) for name, data in pictures]
        self._tar.add(members)
        self._first, self._last = self._first or key, key
        self._counts["samples"] += 1
        self._counts["pictures"] += len(pictures)
        self._counts["text_only"] += not pictures

    def finish(self) -> dict[str, Any]:
        """End the file; return its line in the index (without `file`)."""
        sha256 = self._tar.finish()
        return {
            **self._counts,
            "bytes": self._tar.num_bytes,
            "sha256": sha256,
            "first_key": self._first,
            "last_key": self._last,
        }


def encode_shard(samples: Iterable[ShardSample]) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of one small tar file and its line in the index (without `file`)."""
    buffer = io.BytesIO()
    writer = ShardWriter(TarWriter(buffer))
    for sample in samples:
        files = [image["file"] for image in sample.record["images"]]
        if len(files) != len(sample.pictures):
            raise ShardError(
                f"sample {sample.key}: {len(files)} names for its pictures, "
                f"{len(sample.pictures)} pictures"
            )
        pictures = list(zip(files, sample.pictures, strict=True))
        writer.add(sample.key, stored_record(sample.record), pictures)
    entry = writer.finish()
    return buffer.getvalue(), entry


def make_index(name: str, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of `index.json` for shards in order."""
    totals = {
        key: sum(entry[key] for entry in entries)
        for key in ("samples", "pictures", "text_only", "bytes")
    }
    return {"version": 2, "name": name, **totals, "shards": list(entries)}


# ---------------------------------------------------------------------------------- reading


def read_index(place: Path | str) -> dict[str, Any]:
    """Read `index.json` of a folder or an address.

    Raises:
        ShardError: the place or its index is missing, or is not JSON.
    """
    return _index_of(open_store(place))


def _index_of(store: ShardStore) -> dict[str, Any]:
    data = store.read(INDEX_NAME)
    if data is None:
        raise ShardError(
            f"{store.shown} holds no shards: there is no {INDEX_NAME} in it; "
            "make them with `cambrian data curate`"
        )
    where = f"{store.shown}/{INDEX_NAME}"
    try:
        index = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ShardError(f"{where} is damaged: {error}; make the shards again") from None
    if not isinstance(index, dict) or not isinstance(index.get("shards"), list):
        raise ShardError(f"{where} is damaged: it lists no shards; make the shards again")
    for entry in index["shards"]:
        if not _names_a_shard(entry):
            raise ShardError(
                f"{where} is damaged: its entry {reprlib.repr(entry)} names no shard; "
                "make the shards again"
            )
    return index


def _names_a_shard(entry: Any) -> bool:
    """Whether an entry of the index says what is read of it, and no file outside its folder."""
    if not isinstance(entry, dict):
        return False
    file = entry.get("file")
    is_name = isinstance(file, str) and "/" not in file and not file.startswith(".")
    return (
        is_name and isinstance(entry.get("sha256"), str) and isinstance(entry.get("samples"), int)
    )


def read_shard(path: Path) -> Iterator[ShardSample]:
    """Yield the samples of one tar file in order, without unpacking it.

    Raises:
        ShardError: the file is missing, cut or no tar file; the message names it.
    """
    try:
        with path.open("rb") as file:
            for key, record, pictures in _samples(read_members(file)):
                yield ShardSample(key, parse_record(record), pictures)
    except (OSError, TarError, ValueError) as error:
        raise ShardError(f"{path} cannot be read: {error}") from None


def _samples(
    members: Iterable[tuple[str, bytes]],
) -> Iterator[tuple[str, bytes, list[bytes]]]:
    """Yield key, record and pictures of samples: what stands together under one key."""
    for key, group in itertools.groupby(members, lambda member: member[0].partition(".")[0]):
        record, pictures = None, []
        for name, data in group:
            if name == f"{key}.json":
                record = data
            else:
                pictures.append(data)
        if record is None:
            raise TarError(f"sample {key} has no record")
        yield key, record, pictures


def read_shards(place: Path | str) -> Iterator[ShardSample]:
    """Yield every sample of a folder or an address of shards, in the order of its index.

    A remote shard is copied to this machine while it is read.

    Raises:
        ShardError: a shard is not, byte for byte, what the index says.
    """
    store = open_store(place)
    for entry in _index_of(store)["shards"]:
        with store.local(entry["file"]) as path:
            if problem := _differs(f"{store.shown}/{entry['file']}", file_sha256(path), entry):
                raise ShardError(
                    f"{problem}; make the shards again with the command that made them"
                )
            yield from read_shard(path)


# ---------------------------------------------------------------------------------- verifying


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify_shards` counted, and every difference from the index that it found."""

    shards: int
    samples: int
    pictures: int
    problems: list[str]


def verify_shards(
    place: Path | str, *, contents: bool = True, progress: Progress = silent
) -> Verification:
    """Read every shard back and compare it with its index: bytes, hash, counts, keys, pictures.

    Shards are read once, several at a time; of each one sample is in memory.

    Args:
        place: a folder, or an address that fsspec knows.
        contents: False compares the bytes alone, for shards whose samples were checked as they
            were written.
        progress: told after every shard.
    """
    store = open_store(place)
    index, problems = _index_of(store), list[str]()
    entries = index["shards"]
    samples = pictures = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        check = _verify_shard if contents else _verify_bytes
        checks = pool.map(lambda entry: check(store, entry), entries)
        for number, found in enumerate(checks, start=1):
            samples, pictures = samples + found[0], pictures + found[1]
            problems += found[2]
            progress("verify", number, len(entries))
    listed = {entry["file"] for entry in entries}
    problems += [
        f"{name} is not in the index"
        for name in store.names()
        if name.endswith(".tar") and name not in listed
    ]
    if (ranks := index.get("ranks")) and not problems:
        shares = {
            sum(e["samples"] for e in entries[r :: ranks["num"]]) for r in range(ranks["num"])
        }
        if len(shares) > 1:
            problems.append(f"the {ranks['num']} ranks have {sorted(shares)} samples")
    return Verification(len(entries), samples, pictures, problems)


def _verify_bytes(store: ShardStore, entry: Mapping[str, Any]) -> tuple[int, int, list[str]]:
    """Return samples and pictures as the index has them, and what is wrong with the bytes."""
    try:
        with store.open(entry["file"]) as file:
            sha256 = HashingReader(file).finish()
    except ShardError as error:
        return 0, 0, [str(error)]
    problem = _differs(f"{store.shown}/{entry['file']}", sha256, entry)
    return entry["samples"], entry["pictures"], [problem] if problem else []


def _verify_shard(store: ShardStore, entry: Mapping[str, Any]) -> tuple[int, int, list[str]]:
    """Return samples, pictures and problems of one shard."""
    where = f"{store.shown}/{entry['file']}"
    problems, samples, pictures, keys = list[str](), 0, 0, list[str]()
    try:
        with store.open(entry["file"]) as file:
            hashed = HashingReader(file)
            for key, record, found in _samples(read_members(hashed)):
                samples, pictures = samples + 1, pictures + len(found)
                keys.append(key)
                problems += _differing_pictures(entry["file"], key, parse_record(record), found)
            sha256 = hashed.finish()
    except (ShardError, OSError, TarError, orjson.JSONDecodeError, KeyError) as error:
        text = str(error) if isinstance(error, ShardError) else f"{where} cannot be read: {error}"
        return 0, 0, [text]
    if problem := _differs(where, sha256, entry):
        return 0, 0, [problem]
    for name, count in (("samples", samples), ("pictures", pictures)):
        if count != entry[name]:
            problems.append(f"{entry['file']}: {count} {name}, the index says {entry[name]}")
    if keys and (keys[0], keys[-1]) != (entry["first_key"], entry["last_key"]):
        problems.append(f"{entry['file']}: its keys are {keys[0]} to {keys[-1]}, not as indexed")
    if keys != sorted(set(keys)):
        problems.append(f"{entry['file']}: its keys do not count up")
    return samples, pictures, problems


def _differing_pictures(
    file: str, key: str, record: Mapping[str, Any], pictures: Sequence[bytes]
) -> list[str]:
    images = record["images"]
    problems = []
    if len(images) != len(pictures):
        problems.append(f"{file}: {key} names {len(images)} pictures, holds {len(pictures)}")
    for image, data in zip(images, pictures, strict=False):
        if image["sha256"] != bytes_id(data):
            problems.append(f"{file}: {key}.{image['file']} is another picture")
    return problems


def _differs(where: str, sha256: str, entry: Mapping[str, Any]) -> str | None:
    """Say in what a file differs from its line in the index; None where it does not."""
    if sha256 == entry["sha256"]:
        return None
    return f"{where}: its sha256 is {sha256[:12]}..., the index says {entry['sha256'][:12]}..."
