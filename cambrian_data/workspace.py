"""The workspace: one folder that holds everything a run makes.

Folders by name, atomic writes, locks between processes. What is done and what is not stands in
manifests (`units.py`, `build.py`); the SQL views over it in `catalog.py`.

A file is written under `tmp/` and renamed, so that a name either holds whole content or does not
exist. There is no fsync: a kill loses nothing that was renamed, and what a power cut damages is
found by its hash and made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.records import TABLES, UserError, bytes_id, content_id

ENGINE_TABLES = ("topics", "hits", "pages", "figures", "samples", "drops")
POOL_TABLES = ("samples", "drops")
MIXTURE_TABLES = ("samples", "drops", "clusters", "matches")
MIN_FREE_BYTES = 64 * 2**20
"""With less room on the disk a run is not started: its helper database alone needs some MiB."""
HTTP_CACHE = "http-cache.sqlite"
EMPTY = "_empty"
"""Folder of the empty parts that let every view bind before there is anything to show."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_counter = itertools.count()


class WorkspaceError(UserError):
    """A workspace that cannot be used as asked; the message says what to do."""


class Workspace:
    """The folders of one workspace, and safe ways to write into them."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.images = self.root / "images"
        self.runs = self.root / "runs"
        self.tmp = self.root / "tmp"
        self.catalog = self.root / "catalog.duckdb"
        self.ledger = self.root / "llm.sqlite"
        self.http_cache = self.root / HTTP_CACHE

    @classmethod
    def create(cls, root: Path | str) -> Workspace:
        """Open a workspace, making what it lacks and removing what dead processes left in it.

        Raises:
            WorkspaceError: the path is a file or cannot be written.
        """
        workspace = cls(root)
        _check_path(workspace.root)
        try:
            workspace._make_folders()
            workspace._sweep()
        except (NotADirectoryError, FileExistsError):
            raise WorkspaceError(
                f"the workspace {workspace.root} is (or lies under) a file; "
                "give a folder with --workspace"
            ) from None
        except OSError as error:
            raise WorkspaceError(
                f"the workspace {workspace.root} cannot be written "
                f"({error.strerror}: {error.filename}); give another folder "
                "with --workspace or CAMBRIAN_WORKSPACE"
            ) from None
        free = shutil.disk_usage(workspace.root).free
        if free < MIN_FREE_BYTES:
            raise WorkspaceError(
                f"only {free // 2**20} MiB are free where the workspace {workspace.root} lies, at "
                f"least {MIN_FREE_BYTES // 2**20} are needed; free some, or give another folder "
                "with --workspace"
            )
        return workspace

    @classmethod
    def existing(cls, root: Path | str) -> Workspace:
        """Open a workspace that must already be there.

        Raises:
            WorkspaceError: there is none.
        """
        workspace = cls(root)
        if not workspace.runs.is_dir():
            raise WorkspaceError(
                f"there is no workspace at {workspace.root}; make one with "
                "`cambrian demo`, `cambrian data engine` or `cambrian data "
                "ingest`, or name another with --workspace"
            )
        return workspace

    def engine(self, run: str) -> Path:
        """Return the folder of an engine run."""
        return self._named("engine", run)

    def pool(self, dataset: str) -> Path:
        """Return the folder of a data set of the pool."""
        return self._named("pool", dataset)

    def mixture(self, name: str) -> Path:
        """Return the folder of a mixture."""
        return self._named("mixtures", name)

    def shards(self, name: str) -> Path:
        """Return the folder of a mixture's shards."""
        return self._named("shards", name)

    def checkpoints(self, name: str, stage: str) -> Path:
        """Return the folder of a training stage's checkpoints."""
        return self._named("checkpoints", name) / stage

    def _named(self, area: str, name: str) -> Path:
        return self.root / area / check_name(name)

    def names(self, area: str) -> list[str]:
        """Return the names that exist under `engine`, `pool`, `mixtures`, `shards` ..."""
        folder = self.root / area
        if not folder.is_dir():
            return []
        return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] not in "_.")

    def relative(self, path: Path) -> str:
        """Return a path relative to the workspace, as it is stored in tables and manifests."""
        return path.relative_to(self.root).as_posix()

    # ------------------------------------------------------------------------------ writing

    def scratch(self) -> Path:
        """Return a new name under `tmp/` that says which process it belongs to."""
        return self.tmp / f"{socket.gethostname()}-{os.getpid()}-{next(_counter)}"

    def write_bytes(self, path: Path, data: bytes) -> None:
        """Write a file under a temporary name and rename it."""
        scratch = self.scratch()
        try:
            scratch.write_bytes(data)
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)

    def write_json(self, path: Path, value: Any) -> None:
        """Write JSON with sorted keys, indented, so that people can read and compare it."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        self.write_bytes(path, orjson.dumps(value, option=options))

    def write_table(self, path: Path, table: pa.Table) -> None:
        """Write one Parquet part. Equal tables give equal bytes."""
        self.write_bytes(path, parquet_bytes(table))

    def store_picture(self, data: bytes, suffix: str) -> tuple[str, Path]:
        """Store a picture under the hash of its bytes; return the hash and the file.

        A file that is there already is kept, unless it no longer is what its name says.
        """
        sha256 = bytes_id(data)
        path = self.images / sha256[:2] / f"{sha256}.{suffix}"
        if not path.is_file() or path.stat().st_size != len(data) or file_sha256(path) != sha256:
            self.write_bytes(path, data)
        return sha256, path

    @contextlib.contextmanager
    def lock(
        self, name: str, on_wait: Callable[[str], None] | None = None, *, wait: bool = True
    ) -> Iterator[None]:
        """Let one process at a time work on `name`; others wait.

        The kernel frees the lock when its process ends, however it ends.

        Args:
            name: what is worked on, such as `mixtures-tiny`.
            on_wait: called once with a sentence for the user if the lock is held by another.
            wait: whether to wait at all.
        Raises:
            BlockingIOError: it is held by another, and `wait` is False.
        """
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                if on_wait:
                    file.seek(0)
                    owner = file.read().strip() or "another process"
                    on_wait(f"{owner} is at work on {name} in this workspace; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield

    # ------------------------------------------------------------------------------ folders

    def _make_folders(self) -> None:
        for folder in (self.images, self.runs, self.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        places = [("images", "images"), ("runs/" + EMPTY, "llm_calls")]
        places += [(f"engine/{EMPTY}/{table}", table) for table in ENGINE_TABLES]
        places += [(f"pool/{EMPTY}/{table}", table) for table in POOL_TABLES]
        places += [(f"mixtures/{EMPTY}/{table}", table) for table in MIXTURE_TABLES]
        for folder_name, table in places:
            name = "llm_calls.parquet" if table == "llm_calls" else "part-empty.parquet"
            self._keep(self.root / folder_name / name, parquet_bytes(TABLES[table].empty_table()))
        self._keep(self.runs / f"{EMPTY}.json", b"[]\n")

    def _keep(self, path: Path, data: bytes) -> None:
        """Write a file unless it is there and whole."""
        if not path.is_file() or path.read_bytes() != data:
            self.write_bytes(path, data)

    def _sweep(self) -> None:
        """Remove what processes of this host that are gone left under `tmp/`."""
        host = socket.gethostname()
        for path in self.tmp.iterdir():
            match = re.fullmatch(rf"{re.escape(host)}-(\d+)-\d+(\..*)?", path.name)
            if match and not is_alive(int(match[1])):
                remove(path)


def _check_path(path: Path) -> None:
    """Raise for a path that DuckDB cannot open."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise WorkspaceError(
            f"the path of the workspace {str(path)!r} is no valid text; "
            "give another folder with --workspace"
        ) from None
    if any(sign in str(path) for sign in "?,"):
        raise WorkspaceError(
            f"the path of the workspace {str(path)!r} holds a '?' or ',', which DuckDB "
            "cannot open; give another folder with --workspace"
        )


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def check_name(name: str) -> str:
    """Return a name that is safe as a folder's name.

    Raises:
        WorkspaceError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise WorkspaceError(
            f"{name!r} cannot be used as a name: use letters, digits, '_', '-' "
            "and '.', not at the start, at most 100 of them"
        )
    return name


def slug(text: str) -> str:
    """Return a short lower-case name made of a text: `Simple pendulum` gives `simple-pendulum`."""
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:40].strip("-") or "run"


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file or a folder; one that is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this host is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with a hash of itself, so that any change to it is noticed."""
    return {**manifest, "seal": content_id(manifest)}


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return a manifest that was written sealed; None where it is missing or was changed."""
    try:
        manifest = orjson.loads(path.read_bytes())
        seal = manifest.pop("seal")
    except (OSError, orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
        return None
    return manifest if seal == content_id(manifest) else None


def is_intact(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file has the size and the hash that a manifest's entry says."""
    try:
        return path.stat().st_size == entry["bytes"] and file_sha256(path) == entry["sha256"]
    except OSError:
        return False


def file_entry(path: Path, name: str) -> dict[str, Any]:
    """Return a manifest's entry for a file."""
    return {"path": name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second. For run records only."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def utc_today() -> str:
    """Return the date as ISO 8601 in UTC."""
    return utc_now()[:10]
