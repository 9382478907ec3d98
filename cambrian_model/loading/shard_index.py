"""One tar file -> where its samples lie and what each of them counts.

Reads headers and records and passes over the pictures, so that an index of large shards costs
little more than its text.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cambrian_data.records import bytes_id
from cambrian_data.shard_store import ShardError, open_store
from cambrian_data.shards import parse_record, read_index
from cambrian_model.conversation import SampleError
from cambrian_model.loading.examples import ExampleMaker

_BLOCK = 512
NUM_VALUES = 7
NUM_NAMED = 20
"""Unusable samples that are kept by name, to be shown."""


@dataclass(slots=True)
class ShardPart:
    """The index of one shard."""

    table: np.ndarray = field(default_factory=lambda: np.zeros((0, NUM_VALUES), np.uint64))
    """Of each usable sample offset, size, hash of the id, and its counts; none is negative."""
    unusable: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, text: str, count: int = 1) -> None:
        self.unusable[reason] += count
        if len(self.named) < NUM_NAMED:
            self.named.append(text)


def index_shard(path: Path, num_samples: int, make: ExampleMaker) -> ShardPart:
    """Encode the records of one tar file.

    Args:
        num_samples: as the index of the shards says; those behind damage are counted too.
    Raises:
        ShardError: there is no such file.
    """
    part, rows, seen = ShardPart(), list[tuple[int, ...]](), 0
    try:
        with path.open("rb") as file:
            for offset, size, data in scan_samples(file):
                seen += 1
                if counts := _counts(part, data, make=make, where=f"{path.name}@{offset}"):
                    rows.append((offset, size, *counts))
    except tarfile.HeaderError as error:
        lost = max(num_samples - seen, 1)
        part.leave_out("damaged", f"{path.name}, from sample {seen} on: {error}", lost)
    except OSError as error:
        raise ShardError(
            f"{path} cannot be read: {error.strerror or error}; "
            "make the shards again with the command that made them"
        ) from None
    if rows:
        part.table = np.array(rows, dtype=np.uint64)
    return part


def _counts(
    part: ShardPart, data: bytes, *, make: ExampleMaker, where: str
) -> tuple[int, ...] | None:
    """Return what a sample counts, or note why it is left out."""
    try:
        record = parse_record(data)
        sample_id = str(record.get("id") or where)
        example = make(record, sample_id)
    except SampleError as error:
        part.leave_out(error.reason, str(error))
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        part.leave_out("damaged", f"sample {where}: {type(error).__name__}: {error}")
        return None
    return (
        _id_number(sample_id),
        example.num_tokens,
        example.num_text,
        example.num_trained,
        len(example.pictures),
    )


def scan_samples(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, size and record of the samples of a tar file; pictures are passed over.

    Raises:
        tarfile.HeaderError: the file is cut or damaged.
    """
    start, key, record = 0, "", b""
    while True:
        at = file.tell()
        block = file.read(_BLOCK)
        if block == bytes(_BLOCK):
            if key:
                yield start, at - start, record
            return
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        if info.size < 0:
            raise tarfile.HeaderError(f"{info.name} has a size of {info.size} bytes")
        padded = -(-info.size // _BLOCK) * _BLOCK
        stem, _, rest = info.name.partition(".")
        if rest == "json":
            if key:
                yield start, at - start, record
            start, key = at, stem
            record = file.read(padded)[: info.size]
        elif stem != key:
            raise tarfile.HeaderError(f"{info.name} belongs to no record")
        else:
            file.seek(padded, os.SEEK_CUR)


def _id_number(sample_id: str) -> int:
    """Return 64 bits of an id, which is a sha256 or any other text."""
    try:
        return int(sample_id[:16], 16) if len(sample_id) == 64 else _hashed(sample_id)
    except ValueError:
        return _hashed(sample_id)


def _hashed(text: str) -> int:
    return int(bytes_id(text.encode())[:16], 16)


def shard_texts(place: Path | str) -> Iterator[str]:
    """Yield all text of the shards in order, to train a tokenizer from.

    What is damaged is passed over: the sample index counts it, and stops where it is too much.
    """
    store = open_store(place)
    for entry in read_index(place)["shards"]:
        damage = contextlib.suppress(tarfile.HeaderError)
        with damage, store.local(entry["file"]) as path, path.open("rb") as file:
            for _, _, data in scan_samples(file):
                yield from _texts_of(data)


def _texts_of(data: bytes) -> list[str]:
    """Return the texts of a record; none of one that is no record."""
    try:
        record = parse_record(data)
        texts = [record.get("system"), *(turn["value"] for turn in record["conversations"])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return [text for text in texts if isinstance(text, str) and text]
