"""Where shards lie: a folder, or an address that fsspec knows (s3://, gs://, memory://).

Drivers are optional packages, loaded where an address asks for one. An address may carry a user
and a password; what is shown of it never does, and secrets are taken out of drivers' messages.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit, urlunsplit

from cambrian_data.records import UserError

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_WITHOUT_FOLDERS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss"})
"""Stores where a name makes its folders; to make one there could make a bucket."""
_READ_AHEAD = 8 * 2**20
_SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class ShardError(UserError):
    """A place that holds no shards, or shards that differ from their index."""


class ShardStore(Protocol):
    """A place with shards and their index."""

    shown: str
    """The place as messages name it."""

    def read(self, name: str) -> bytes | None:
        """Return a small file, or None where there is none."""

    def names(self) -> list[str]:
        """Return the names of the files, sorted."""

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a file to read it once from its beginning."""

    def local(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Give a file of this machine, for a while: the file itself or a copy."""


def open_store(place: Path | str) -> ShardStore:
    """Return the store of a folder or an address.

    Raises:
        ShardError: no such kind of address, or its driver is not installed.
    """
    if isinstance(place, str) and is_address(place):
        return RemoteStore(place)
    return FolderStore(Path(place))


def is_address(text: str) -> bool:
    """Whether a text is an address and no path."""
    return "://" in text


class FolderStore:
    """Shards in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.shown = str(folder)

    def read(self, name: str) -> bytes | None:
        """Return a small file, or None where there is none."""
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self) -> list[str]:
        """Return the names of the files, sorted."""
        return sorted(path.name for path in self._folder.iterdir() if path.is_file())

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file to read it once from its beginning."""
        with self.local(name) as path, path.open("rb") as file:
            yield file

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Give the file itself.

        Raises:
            ShardError: it is missing or cannot be read.
        """
        path = self._folder / name
        try:
            yield path
        except OSError as error:
            raise ShardError(
                f"{path} cannot be read: {error.strerror or error}; "
                "make the shards again with the command that made them"
            ) from None


class RemoteStore:
    """Shards behind an address that fsspec knows."""

    def __init__(self, address: str) -> None:
        """Load the driver; nothing is asked of the server yet.

        Raises:
            ShardError: no such kind of address, or its driver is not installed.
        """
        protocol = check_address(address)
        import fsspec

        self._secrets = _secrets_of(address)
        self.shown = shown(address)
        self._has_folders = protocol not in _WITHOUT_FOLDERS
        with self._explained("cannot be opened"):
            self._files, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        self._root = root.rstrip("/")

    def read(self, name: str) -> bytes | None:
        """Return a small file, or None where there is none."""
        with self._explained(f"{name} cannot be read"):
            try:
                return self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None

    def names(self) -> list[str]:
        """Return the names of the files, sorted; none where the place is not there yet."""
        with self._explained("cannot be listed"):
            try:
                found = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(
            entry["name"].rsplit("/", 1)[-1] for entry in found if entry["type"] == "file"
        )

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file to read it once from its beginning."""
        with (
            self._explained(f"{name} cannot be read"),
            self._files.open(
                self._path(name), "rb", block_size=_READ_AHEAD, cache_type="readahead"
            ) as file,
        ):
            yield file

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Give a copy of a file, removed afterwards."""
        with tempfile.TemporaryDirectory(prefix="cambrian-shard-") as folder:
            path = Path(folder) / "shard.tar"
            with self._explained(f"{name} cannot be read"):
                self._files.get_file(self._path(name), str(path))
            yield path

    def stamp(self, name: str) -> dict[str, Any] | None:
        """Return size and tag of a file as the store has it, or None where there is none.

        The tag (S3: ETag, GCS: etag) changes with the content; some stores have none.
        """
        with self._explained(f"{name} cannot be looked up"):
            try:
                info = self._files.info(self._path(name))
            except FileNotFoundError:
                return None
        tag = info.get("ETag") or info.get("etag") or info.get("md5Hash")
        return {"bytes": info["size"], "tag": str(tag).strip('"') if tag else None}

    def put(self, path: Path, name: str) -> None:
        """Send a file."""
        with self._explained(f"{name} cannot be written"):
            if self._has_folders:
                self._files.makedirs(self._root, exist_ok=True)
            self._files.put_file(str(path), self._path(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        with self._explained(f"{name} cannot be written"):
            if self._has_folders:
                self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(self._path(name), data)

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is fine."""
        with self._explained(f"{name} cannot be removed"), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Say what went wrong with a driver, and where, without secrets."""
        try:
            yield
        except _faults() as error:
            text = str(error) or type(error).__name__
            for secret in self._secrets:
                text = text.replace(secret, "***")
            raise ShardError(
                f"{self.shown}: {what}: {type(error).__name__}: {text[:300]}; check the address, "
                "the credentials (for s3:// AWS_ACCESS_KEY_ID and the like) and the network, and "
                "run the same command again: it goes on where it stopped"
            ) from None


def check_address(address: str) -> str:
    """Return the protocol of an address that can be used here.

    Raises:
        ShardError: it has no protocol or one that fsspec does not know, or its driver is missing.
    """
    import fsspec

    protocol, separator, rest = address.partition("://")
    if not separator or not rest.strip("/") or "::" in address:
        raise ShardError(
            f"{shown(address)!r} is no address of shards: write it like s3://bucket/folder"
        )
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        raise ShardError(
            f"{shown(address)}: addresses of the kind {protocol}:// are not known; "
            "s3://, gs://, file:// and what else fsspec has can be used"
        ) from None
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        mend = f"pip install 'cambrian[{extra}]'" if extra else str(error)
        raise ShardError(
            f"{shown(address)}: the driver for {protocol}:// is not installed: {mend}"
        ) from None
    return protocol


def shown(address: str) -> str:
    """Return an address without user, password and query, fit to be printed and recorded."""
    try:
        parts = urlsplit(address)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return address.partition("://")[0] + "://..."


def _secrets_of(address: str) -> list[str]:
    parts = urlsplit(address)
    found = [parts.netloc.rpartition("@")[0], parts.username, parts.password, parts.query]
    found += [os.environ.get(name) for name in _SECRET_VARIABLES]
    return sorted({text for text in found if text}, key=len, reverse=True)


def _faults() -> tuple[type[BaseException], ...]:
    """Return the errors of the drivers that are loaded; those of S3 and GCS are no OSErrors."""
    named = (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp", "ClientError"),
        ("google.auth.exceptions", "GoogleAuthError"),
        ("gcsfs.retry", "HttpError"),
    )
    loaded = [getattr(sys.modules.get(module), name, None) for module, name in named]
    return (OSError, NotImplementedError, *(kind for kind in loaded if kind))
