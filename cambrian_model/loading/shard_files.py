"""The tar files of shards as files of this machine: those of a folder, or copies within a bound.

Remote shards (any address that fsspec knows) are copied when they are asked for, a few ahead, and
the one used longest ago goes when there is no more room. Several processes of a machine may share
the folder of copies: one fetches a file, the others wait for it. Every machine fetches every shard
once an epoch. A copy is compared with the index while it is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cambrian_data.records import bytes_id, canonical_json
from cambrian_data.shard_store import ShardError, is_address, open_store
from cambrian_data.shards import read_index

_FETCHERS = 4
_BLOCK = 2**22
_STALE_S = 3600
"""A copy that is not whole is one of a process that is gone, when nothing was added for so long."""


class ShardFiles:
    """The shards of a folder or an address, by their number in the index."""

    def __init__(self, place: Path | str, cache: Path, max_bytes: int) -> None:
        """Read the index.

        Args:
            cache: folder for copies of remote shards.
            max_bytes: most bytes of copies that are kept.
        Raises:
            ShardError: the place holds no shards.
        """
        self.is_remote = isinstance(place, str) and is_address(place)
        self._store, self.max_bytes = open_store(place), max_bytes
        self.entries: list[dict[str, Any]] = read_index(place)["shards"]
        self.key = bytes_id(canonical_json(self.entries))
        """Stands for the content of all shards."""
        self.shown = self._store.shown
        self._folder = cache / f"shards-{self.key[:16]}" if self.is_remote else Path(place)
        self._coming: dict[int, Future[Path]] = {}
        self._fetchers: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def path(self, number: int) -> Path:
        """Return a shard as a file of this machine; a remote one is fetched if it is not there.

        Raises:
            ShardError: it cannot be fetched, or is not what the index says.
        """
        path = self._folder / self.entries[number]["file"]
        if not self.is_remote:
            return path
        coming = self._coming.pop(number, None)
        if coming is not None:
            coming.result()
        try:
            os.utime(path)  # used now: others go first
        except FileNotFoundError:
            return self._fetch(number)
        return path

    def expect(self, numbers: Iterable[int]) -> None:
        """Begin to fetch shards that will be asked for soon, in this order."""
        if not self.is_remote:
            return
        if self._fetchers is None:
            self._fetchers = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="shards")
        for number in numbers:
            if number not in self._coming and not self._place(number).exists():
                self._coming[number] = self._fetchers.submit(self._fetch, number)

    def close(self) -> None:
        """Stop fetching ahead."""
        if self._fetchers is not None:
            self._fetchers.shutdown(wait=True, cancel_futures=True)
            self._fetchers = None
        self._coming.clear()

    def _place(self, number: int) -> Path:
        return self._folder / str(self.entries[number]["file"])

    def _fetch(self, number: int) -> Path:
        path, entry = self._place(number), self.entries[number]
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if path.exists():
                return path
            handle, name = tempfile.mkstemp(prefix=path.stem, suffix=".part", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as copy, self._store.open(entry["file"]) as source:
                    digest = hashlib.sha256()
                    while block := source.read(_BLOCK):
                        digest.update(block)
                        copy.write(block)
                if digest.hexdigest() != entry["sha256"]:
                    raise ShardError(
                        f"{self.shown}/{entry['file']} is not what its index says; send the "
                        "shards again with `cambrian data curate --shards-to`"
                    )
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        """Remove the copies used longest ago; a process that has one open can still read it."""
        copies = []
        for path in self._folder.glob("*.tar"):
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                state = path.stat()
                copies.append((state.st_mtime_ns, state.st_size, path))
        for path in self._folder.glob("*.part"):  # of processes that were killed
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()
        used = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if used <= self.max_bytes:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                used -= size


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes of this machine wait for; it ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        # Some network file systems have no locks: then work may be done twice, never wrongly.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
