"""Shards sent to an address that fsspec knows, so that an upload that was broken off goes on.

What has arrived stands in `sent.json` beside the shards, with the size and the tag that the store
gave it; a shard that is listed there and still has both is not sent again. The index goes last: a
place without `index.json` is not finished, and while shards are replaced there is none.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from cambrian_data.records import Progress, canonical_json, silent
from cambrian_data.shard_store import RemoteStore, ShardError
from cambrian_data.shards import INDEX_NAME, read_index
from cambrian_data.workspace import is_intact

SENT_NAME = "sent.json"
_SENDERS = 4


class Sent(NamedTuple):
    """How many shards were sent and how many were there already, and the bytes of the former."""

    num_sent: int
    num_kept: int
    bytes: int


def send_shards(folder: Path, address: str, progress: Progress = silent) -> Sent:
    """Send a folder of shards to an address; what is there already is not sent again.

    Args:
        folder: with an index; every shard is checked against it before it is sent.
        address: such as s3://bucket/folder. Shards that an earlier upload left there and that the
            index no longer has are removed; nothing else is.
        progress: told after every shard.
    Raises:
        ShardError: the address cannot be used, it holds other shards, the store refuses, or a
            shard in the folder is damaged.
    """
    entries = {entry["file"]: entry for entry in read_index(folder)["shards"]}
    index = (folder / INDEX_NAME).read_bytes()
    upload = _Upload(RemoteStore(address), folder)
    upload.check_strangers(entries)
    missing = [name for name, entry in entries.items() if not upload.has(name, entry)]
    old = sorted(upload.sent.keys() - entries.keys())
    if not missing and not old and upload.store.read(INDEX_NAME) == index:
        progress("send", len(entries), len(entries))
        return Sent(0, len(entries), 0)
    upload.store.remove(INDEX_NAME)
    for name in old:
        upload.store.remove(name)
        upload.forget(name)
    done = len(entries) - len(missing)
    progress("send", done, len(entries))
    pool = ThreadPoolExecutor(_SENDERS)
    try:
        for future in as_completed([pool.submit(upload.send, entries[n]) for n in missing]):
            future.result()
            done += 1
            progress("send", done, len(entries))
    finally:  # after an error or an interrupt no other shard is begun
        pool.shutdown(cancel_futures=True)
    upload.store.write(INDEX_NAME, index)
    return Sent(
        len(missing), len(entries) - len(missing), sum(entries[n]["bytes"] for n in missing)
    )


class _Upload:
    """What has arrived at an address, and sending the rest."""

    def __init__(self, store: RemoteStore, folder: Path) -> None:
        self.store, self._folder = store, folder
        self._lock = threading.Lock()
        self.sent = _parse_sent(store.read(SENT_NAME))

    def check_strangers(self, entries: Mapping[str, Any]) -> None:
        """Raise where shards lie at the address that no upload of these noted."""
        known = entries.keys() | self.sent.keys()
        strange = [n for n in self.store.names() if n.endswith(".tar") and n not in known]
        if strange:
            raise ShardError(
                f"{self.store.shown} holds {strange[0]} (of {len(strange)} such files), which is "
                "none of these shards; give another address, or remove what is there"
            )

    def has(self, name: str, entry: dict[str, Any]) -> bool:
        """Whether a shard arrived and is still there as it arrived."""
        noted = self.sent.get(name)
        if noted is None or noted["sha256"] != entry["sha256"]:
            return False
        return self.store.stamp(name) == {"bytes": entry["bytes"], "tag": noted["tag"]}

    def send(self, entry: dict[str, Any]) -> None:
        """Send a shard and note that it arrived."""
        name = entry["file"]
        if not is_intact(self._folder / name, entry):
            raise ShardError(
                f"{self._folder / name} is missing or damaged; "
                "make the shards again with the command that made them"
            )
        self.store.put(self._folder / name, name)
        stamp = self.store.stamp(name)
        if stamp is None or stamp["bytes"] != entry["bytes"]:
            raise ShardError(
                f"{self.store.shown}/{name} arrived with {stamp and stamp['bytes']} of "
                f"{entry['bytes']} bytes; run the same command again"
            )
        self._note(name, {"sha256": entry["sha256"], "tag": stamp["tag"]})

    def forget(self, name: str) -> None:
        """Note that a shard is no longer there."""
        self._note(name, None)

    def _note(self, name: str, value: dict[str, Any] | None) -> None:
        with self._lock:
            if value is None:
                self.sent.pop(name, None)
            else:
                self.sent[name] = value
            self.store.write(SENT_NAME, canonical_json(self.sent))


def _parse_sent(data: bytes | None) -> dict[str, dict[str, Any]]:
    """Return what stands in `sent.json`; where it is missing or damaged, all is sent again."""
    try:
        found = orjson.loads(data or b"{}")
    except orjson.JSONDecodeError:
        return {}
    good = isinstance(found, dict) and all(
        isinstance(value, dict) and {"sha256", "tag"} <= value.keys() for value in found.values()
    )
    return found if good else {}
