"""WebDataset shards: tar files of samples with their pictures inside, an index, verification.

A shard holds, sample by sample, `KEY.json` (the record) and `KEY.0.jpg`, `KEY.1.png` ... (its
pictures in order, as stored). Keys count up over all shards. Tar headers carry no time, user or
group, so that equal samples give equal bytes. The tar files are plain ones: `webdataset` and
`datasets` read them; here Python's own tarfile does, which needs no torch.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from cambrian_data.recipes import Config
from cambrian_data.records import UserError, bytes_id, canonical_json
from cambrian_data.workspace import file_sha256

INDEX_NAME = "index.json"
_BLOCK = 512


class ShardError(UserError):
    """A folder that is no set of shards, or shards that differ from their index."""


class ShardsConfig(Config):
    """How a mixture is cut into tar files."""

    max_bytes: int = Field(default=256 * 2**20, ge=2**16)
    """Size of one tar file; a sample larger than that gets a file of its own."""
    max_samples: int = Field(default=10_000, ge=1)
    """Samples in one tar file."""


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One sample as it lies in a shard.

    `record` has id, source, dataset, category, conversations, system, figure_id, provenance and
    images (sha256, width, height, file); `pictures` holds the stored bytes in the same order.
    """

    key: str
    record: dict[str, Any]
    pictures: list[bytes] = field(default_factory=list)


def plan_shards(sizes: Sequence[int], config: ShardsConfig) -> list[range]:
    """Cut samples, given by their sizes in bytes and taken in order, into shards."""
    plan, start, filled = [], 0, 0
    for number, size in enumerate(sizes):
        full = filled + size > config.max_bytes or number - start >= config.max_samples
        if full and number > start:
            plan.append(range(start, number))
            start, filled = number, 0
        filled += size
    if start < len(sizes):
        plan.append(range(start, len(sizes)))
    return plan


def tar_size(record: dict[str, Any], picture_bytes: Sequence[int]) -> int:
    """Return the bytes that a sample takes in a tar file, headers and padding included."""
    sizes = [len(canonical_json(record)), *picture_bytes]
    return sum(_BLOCK + -(-size // _BLOCK) * _BLOCK for size in sizes)


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"shard-{number:06d}.tar"


def encode_shard(samples: Iterable[ShardSample]) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of one tar file and its line in the index (without `file`)."""
    buffer, num_samples, num_pictures, num_text_only = io.BytesIO(), 0, 0, 0
    keys: list[str] = []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            files = [image["file"] for image in sample.record["images"]]
            if len(files) != len(sample.pictures):
                raise ShardError(
                    f"sample {sample.key}: {len(files)} names for its pictures, "
                    f"{len(sample.pictures)} pictures"
                )
            _add(tar, f"{sample.key}.json", canonical_json(sample.record))
            for name, data in zip(files, sample.pictures, strict=True):
                _add(tar, f"{sample.key}.{name}", data)
            keys.append(sample.key)
            num_samples += 1
            num_pictures += len(files)
            num_text_only += not files
    data = buffer.getvalue()
    entry = {
        "samples": num_samples,
        "pictures": num_pictures,
        "text_only": num_text_only,
        "bytes": len(data),
        "sha256": bytes_id(data),
        "first_key": keys[0] if keys else None,
        "last_key": keys[-1] if keys else None,
    }
    return data, entry


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(data), 0o644
    tar.addfile(header, io.BytesIO(data))


def make_index(name: str, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of `index.json` for shards in order."""
    totals = {
        key: sum(entry[key] for entry in entries)
        for key in ("samples", "pictures", "text_only", "bytes")
    }
    return {"version": 1, "name": name, **totals, "shards": list(entries)}


def read_index(folder: Path) -> dict[str, Any]:
    """Read `index.json`.

    Raises:
        ShardError: the folder or its index is missing, or is not JSON.
    """
    path = Path(folder) / INDEX_NAME
    if not path.is_file():
        raise ShardError(
            f"{folder} holds no shards: there is no {INDEX_NAME} in it; "
            "make them with `cambrian data curate`"
        )
    try:
        index = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ShardError(f"{path} is damaged: {error}; make the shards again") from None
    if not isinstance(index, dict) or not isinstance(index.get("shards"), list):
        raise ShardError(f"{path} is damaged: it lists no shards; make the shards again")
    return index


def read_shard(path: Path) -> Iterator[ShardSample]:
    """Yield the samples of one tar file in order, without unpacking it.

    Raises:
        ShardError: the file is missing, cut or no tar file; the message names it.
    """
    try:
        with tarfile.open(path, mode="r|") as tar:
            key, record, pictures = "", None, []
            for member in tar:
                extracted = tar.extractfile(member)
                if extracted is None:
                    continue
                base, _, ending = member.name.partition(".")
                data = extracted.read()
                if ending != "json":
                    pictures.append(data)
                    continue
                if record is not None:
                    yield ShardSample(key, record, pictures)
                key, record, pictures = base, orjson.loads(data), []
            if record is not None:
                yield ShardSample(key, record, pictures)
    except (OSError, tarfile.TarError, EOFError, orjson.JSONDecodeError) as error:
        raise ShardError(f"{path} cannot be read: {error}") from None


def read_shards(folder: Path) -> Iterator[ShardSample]:
    """Yield every sample of a folder of shards, in the order of its index.

    Raises:
        ShardError: a shard is not, byte for byte, what the index says.
    """
    for entry in read_index(folder)["shards"]:
        path = Path(folder) / entry["file"]
        if problem := _differs(path, entry):
            raise ShardError(f"{problem}; make the shards again with the command that made them")
        yield from read_shard(path)


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify_shards` counted, and every difference from the index that it found."""

    shards: int
    samples: int
    pictures: int
    problems: list[str]


def verify_shards(folder: Path) -> Verification:
    """Read every shard back and compare it with its index: bytes, hash, counts, keys, pictures."""
    index, problems = read_index(folder), []
    samples = pictures = 0
    for entry in index["shards"]:
        path = Path(folder) / entry["file"]
        try:
            found = _verify_shard(path, entry)
        except (ShardError, OSError) as error:
            problems.append(str(error))
            continue
        samples += found[0]
        pictures += found[1]
        problems.extend(found[2])
    listed = {entry["file"] for entry in index["shards"]}
    problems += [
        f"{path.name} is not in the index"
        for path in sorted(Path(folder).glob("*.tar"))
        if path.name not in listed
    ]
    return Verification(len(index["shards"]), samples, pictures, problems)


def _verify_shard(path: Path, entry: dict[str, Any]) -> tuple[int, int, list[str]]:
    if problem := _differs(path, entry):
        return 0, 0, [problem]
    problems, samples, pictures = [], 0, 0
    for sample in read_shard(path):
        samples += 1
        pictures += len(sample.pictures)
        images = sample.record["images"]
        if len(images) != len(sample.pictures):
            problems.append(
                f"{path.name}: {sample.key} names {len(images)} pictures, "
                f"holds {len(sample.pictures)}"
            )
        for image, data in zip(images, sample.pictures, strict=False):
            if image["sha256"] != bytes_id(data):
                problems.append(f"{path.name}: {sample.key}.{image['file']} is another picture")
    for name, count in (("samples", samples), ("pictures", pictures)):
        if count != entry[name]:
            problems.append(f"{path.name}: {count} {name}, the index says {entry[name]}")
    return samples, pictures, problems


def _differs(path: Path, entry: dict[str, Any]) -> str | None:
    """Say in what a file differs from its line in the index; None where it does not."""
    try:
        digest = file_sha256(path)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if digest == entry["sha256"]:
        return None
    return f"{path}: its sha256 is {digest[:12]}..., the index says {entry['sha256'][:12]}..."
