"""Shards -> an index of their usable samples: where each lies, how long it is, what it trains.

One pass over the records, in worker processes where there are many; pictures are passed over by
their tar headers. 44 bytes a sample, mapped from disk, so that the processes of a machine share
them. The index is kept in a folder under a name made from everything it depends on, written whole
or not at all; a second process that wants the same one waits for the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import pickle
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cambrian_data.records import Progress, bytes_id, content_id, silent
from cambrian_model import conversation, pictures
from cambrian_model.loading import examples
from cambrian_model.loading.examples import BadSamplesError, ExampleMaker
from cambrian_model.loading.pool import held, new_pool
from cambrian_model.loading.shard_files import ShardFiles, locked
from cambrian_model.loading.shard_index import NUM_NAMED, ShardPart, index_shard

_VERSION = 1
_MIN_SAMPLES = 2000
"""From here on processes are worth their start."""

COLUMNS: dict[str, type[np.generic]] = {
    "shard": np.int32,
    "offset": np.int64,
    "size": np.int64,
    "place": np.uint64,
    "num_tokens": np.int32,
    "num_text": np.int32,
    "num_trained": np.int32,
    "num_pictures": np.int32,
}
"""Of each sample: its shard's number, the bytes that it takes in it, a hash of its id by which it
is shuffled, its tokens (those of its pictures counted), its text's tokens, how many are trained,
its pictures."""


@dataclass(slots=True)
class SampleIndex:
    """The usable samples of shards in their order."""

    columns: dict[str, np.ndarray]
    """As in `COLUMNS`, one value a sample."""
    unusable: dict[str, int]
    """How many samples are left out, by reason."""
    named: list[str] = field(default_factory=list)
    """The first of them, with what is wrong."""
    key: str = ""
    """Stands for the shards and how they are encoded."""

    def __len__(self) -> int:
        return len(self.columns["shard"])

    @property
    def num_unusable(self) -> int:
        """Return how many samples are left out."""
        return sum(self.unusable.values())

    def sequence_id(self, with_lengths: bool) -> str:
        """Return what stands for the samples in their order.

        Other than `key` it stays where only the code or the name of a setting has changed, so that
        a run can go on.

        Args:
            with_lengths: whether their lengths count too.
        """
        names = ("place", "shard", "num_tokens") if with_lengths else ("place", "shard")
        digest = hashlib.sha256()
        for name in names:
            digest.update(np.ascontiguousarray(self.columns[name]).data)
        return digest.hexdigest()

    def check(self, max_bad_share: float, shown: str) -> None:
        """Stop where too many samples are unusable.

        Raises:
            BadSamplesError: none is usable, or the share of unusable ones is above the limit.
        """
        bad, total = self.num_unusable, len(self) + self.num_unusable
        if len(self) and bad <= max_bad_share * total:
            return
        first = "; the first: " + "; ".join(self.named[:3]) if self.named else ""
        raise BadSamplesError(
            f"{bad} of {total} samples in {shown} are unusable {self.unusable}, the recipe "
            f"allows a share of {max_bad_share}{first}; mend the data or raise max_bad_share"
        )


# ---------------------------------------------------------------------------------- the whole


def index_samples(
    files: ShardFiles,
    make: ExampleMaker,
    *,
    folder: Path,
    num_workers: int = 0,
    progress: Progress = silent,
) -> SampleIndex:
    """Return the index of shards, from the folder or made now.

    Raises:
        ShardError: the shards cannot be read.
    """
    key = index_key(files, make)
    place = folder / f"samples-{key[:24]}"
    if (found := _read(place, key)) is not None:
        return found
    with locked(place.with_suffix(".lock")):
        if (found := _read(place, key)) is not None:
            return found
        index = _build(files, make, num_workers, progress)
        index.key = key
        _write(place, index)
    found = _read(place, key)
    return index if found is None else found


def index_key(files: ShardFiles, make: ExampleMaker) -> str:
    """Return what stands for all that an index depends on, the code that encodes included."""
    modules = (conversation, examples, pictures)
    code = [bytes_id(inspect.getsource(module).encode()) for module in modules]
    settings = [make.system, make.max_tokens, make.side, make.pictures_per_row]
    template = asdict(make.template)
    return content_id(_VERSION, files.key, _tokenizer_id(make.tokenizer), template, settings, code)


def _tokenizer_id(tokenizer: Any) -> str:
    """Return a hash of what a tokenizer does with text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # one of another kind, see `conversation.TextTokenizer`
        return bytes_id(pickle.dumps(tokenizer))
    adds_bos = tokenizer.init_kwargs.get("add_bos_token")
    return content_id(backend.to_str(), tokenizer.bos_token_id, adds_bos)


def _build(
    files: ShardFiles, make: ExampleMaker, num_workers: int, progress: Progress
) -> SampleIndex:
    total = sum(entry["samples"] for entry in files.entries)
    with_pool = num_workers > 1 and total >= _MIN_SAMPLES
    pool = new_pool(num_workers, make=make) if with_pool else None
    parts, done = list[ShardPart](), 0
    with pool or contextlib.nullcontext():
        for part in _parts(files, make, pool, num_workers):
            parts.append(part)
            done += len(part.table) + part.unusable.total()
            progress("index", done, total)
    unusable: Counter[str] = Counter()
    for part in parts:
        unusable.update(part.unusable)
    named = [text for part in parts for text in part.named][:NUM_NAMED]
    return SampleIndex(_columns(parts), dict(sorted(unusable.items())), named)


def _parts(
    files: ShardFiles, make: ExampleMaker, pool: Executor | None, num_workers: int
) -> Iterator[ShardPart]:
    """Yield the shards' indexes in order; copies of remote shards are fetched a few ahead."""
    counts = [entry["samples"] for entry in files.entries]
    ahead = max(2, 2 * num_workers)
    waiting = []
    for number, count in enumerate(counts):
        files.expect(range(number, min(number + ahead, len(files))))
        path = files.path(number)
        if pool is None:
            yield index_shard(path, count, make)
            continue
        waiting.append(pool.submit(_index_shard, path, count))
        if len(waiting) >= ahead:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _index_shard(path: Path, num_samples: int) -> ShardPart:
    """Do the work in a worker process, which holds the maker."""
    return index_shard(path, num_samples, held("make"))


def _columns(parts: list[ShardPart]) -> dict[str, np.ndarray]:
    shard = np.repeat(np.arange(len(parts)), [len(part.table) for part in parts])
    table = np.concatenate([ShardPart().table, *(part.table for part in parts)])
    values = [shard, *table.T]
    columns = {
        name: np.ascontiguousarray(value, dtype=kind)
        for (name, kind), value in zip(COLUMNS.items(), values, strict=True)
    }
    columns["place"] = distinct(columns["place"])
    return columns


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Return hashes of numbers in which equal ones differ, by how often they came before.

    A sample that stands several times in a mixture is shuffled as if each were its own.
    """
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - np.uint64(1)))
    lengths = np.diff(np.append(starts, len(ordered)))
    before = np.empty(len(numbers), dtype=np.uint64)
    before[order] = np.arange(len(ordered)) - np.repeat(starts, lengths)
    return mixed(numbers + before * np.uint64(0xD1B54A32D192ED03))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return well mixed 64-bit numbers, one to one (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        x = numbers + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


# ----------------------------------------------------------------------------------- on disk


def _write(place: Path, index: SampleIndex) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
    try:
        for name, values in index.columns.items():
            np.save(folder / f"{name}.npy", values)
        meta = {"key": index.key, "unusable": index.unusable, "named": index.named}
        (folder / "meta.json").write_bytes(orjson.dumps(meta))
        with contextlib.suppress(OSError):  # another machine was faster
            folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(place: Path, key: str) -> SampleIndex | None:
    """Return a stored index; None where there is none, or one that is damaged."""
    try:
        meta = orjson.loads((place / "meta.json").read_bytes())
        columns = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
        unusable, named, stored_key = meta["unusable"], meta["named"], meta["key"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(place, ignore_errors=True)
        return None
    lengths = {len(values) for values in columns.values()}
    if stored_key != key or len(lengths) != 1:
        shutil.rmtree(place, ignore_errors=True)
        return None
    return SampleIndex(columns, unusable, named, key)
