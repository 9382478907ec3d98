"""The workspace: one folder that holds everything a run makes.

Folders by name, atomic writes, locks between processes, and `Build`, which makes a whole folder
(a pool data set, a mixture, a set of shards) aside and swaps it in when it is complete. What is
done and what is not stands in manifests (`units.py`); the SQL views over it in `catalog.py`.

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

from cambrian_data.records import TABLES, UserError, bytes_id

ENGINE_TABLES = ("topics", "hits", "pages", "figures", "samples", "drops")
POOL_TABLES = ("samples", "drops")
MIXTURE_TABLES = ("samples", "drops", "clusters", "matches")
MIN_FREE_BYTES = 64 * 2**20
"""With less room on the disk a run is not started: its helper database alone needs some MiB."""
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

    @classmethod
    def create(cls, root: Path | str) -> Workspace:
        """Open a workspace, making what it lacks and removing what dead processes left in it.

        Raises:
            WorkspaceError: the path is a file or cannot be written.
        """
        workspace = cls(root)
        try:
            workspace._make_folders()
            workspace._sweep()
        except (NotADirectoryError, FileExistsError):
            raise WorkspaceError(
                f"the workspace {workspace.root} is (or lies under) a file; "
                "give a folder with --workspace"
            ) from None
        except PermissionError as error:
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
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write_bytes(path, sink.getvalue())

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
    def lock(self, name: str, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Let one process at a time work on `name`; others wait.

        The kernel frees the lock when its process ends, however it ends.

        Args:
            name: what is worked on, such as `mixtures-tiny`.
            on_wait: called once with a sentence for the user if the lock is held by another.
        """
        path = self.root / "locks" / f"{check_name(name)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
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
            path = self.root / folder_name / name
            if not path.is_file():
                self.write_table(path, TABLES[table].empty_table())
        if not (self.runs / f"{EMPTY}.json").is_file():
            self.write_bytes(self.runs / f"{EMPTY}.json", b"[]\n")

    def _sweep(self) -> None:
        """Remove what processes of this host that are gone left under `tmp/`."""
        host = socket.gethostname()
        for path in self.tmp.iterdir():
            match = re.fullmatch(rf"{re.escape(host)}-(\d+)-\d+", path.name)
            if match and not _is_alive(int(match[1])):
                remove(path)


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


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Build:
    """A folder that is made whole aside and then swapped in under its name.

    Readers see the old content or the new one, never a mix. The staging folder's name holds the
    key (a hash of everything that the content depends on), so a run that was killed finds its
    half-made folder again, and another recipe starts an empty one.

    Usage:
        build = Build(workspace, workspace.mixture("tiny"), key)
        if not build.is_done():
            folder = build.folder()      # fill it: Units(workspace, folder, ...)
            build.publish({"recipe": "tiny"})
    """

    MANIFEST = "manifest.json"

    def __init__(self, workspace: Workspace, target: Path, key: str) -> None:
        self.workspace, self.target, self.key = workspace, target, key
        self._staging = (
            workspace.root / "staging" / f"{target.parent.name}-{target.name}-{key[:16]}"
        )

    def is_done(self) -> bool:
        """Whether the target is there, was made from this key, and no file of it is damaged."""
        return self._is_whole(self.target)

    def folder(self) -> Path:
        """Return the folder to fill; it holds what an earlier, unfinished try left there."""
        if not self._staging.is_dir() and self._manifest(self.target).get("key") == self.key:
            # Same content, but something is missing or damaged: mend it instead of starting anew.
            self._staging.parent.mkdir(parents=True, exist_ok=True)
            self.target.replace(self._staging)
        self._staging.mkdir(parents=True, exist_ok=True)
        (self._staging / self.MANIFEST).unlink(missing_ok=True)
        return self._staging

    def publish(self, about: dict[str, Any] | None = None) -> Path:
        """Write the manifest, swap the folder in, return it."""
        manifest = {"key": self.key, "files": _list_files(self._staging), "about": about or {}}
        self.workspace.write_json(self._staging / self.MANIFEST, manifest)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        old = self.workspace.scratch()
        with contextlib.suppress(FileNotFoundError):
            self.target.replace(old)
        self._staging.replace(self.target)
        remove(old)
        return self.target

    def about(self) -> dict[str, Any]:
        """Return what `publish` was told about the folder."""
        return self._manifest(self.target)["about"]

    def _manifest(self, folder: Path) -> dict[str, Any]:
        try:
            found = orjson.loads((folder / self.MANIFEST).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    def _is_whole(self, folder: Path) -> bool:
        manifest = self._manifest(folder)
        return manifest.get("key") == self.key and not damaged_files(folder, manifest)


def published(folder: Path) -> dict[str, Any]:
    """Return the manifest of a published folder.

    Raises:
        WorkspaceError: the folder is missing, incomplete or damaged; the message names the file.
    """
    try:
        manifest = orjson.loads((folder / Build.MANIFEST).read_bytes())
    except OSError:
        raise WorkspaceError(f"{folder} is not there or was not finished") from None
    except orjson.JSONDecodeError:
        raise WorkspaceError(
            f"{folder / Build.MANIFEST} is damaged; make {folder.name} again "
            "with the command that made it"
        ) from None
    if damaged := damaged_files(folder, manifest):
        raise WorkspaceError(
            f"{folder / damaged[0]} is missing or damaged; run the command that "
            f"made {folder.name} again, it makes only that anew"
        )
    return manifest


def damaged_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the files of a manifest that are missing or differ from it."""
    return [
        entry["path"]
        for entry in manifest.get("files", ())
        if not is_intact(folder / entry["path"], entry)
    ]


def is_intact(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file has the size and the hash that a manifest's entry says."""
    try:
        return path.stat().st_size == entry["bytes"] and file_sha256(path) == entry["sha256"]
    except OSError:
        return False


def file_entry(path: Path, name: str) -> dict[str, Any]:
    """Return a manifest's entry for a file."""
    return {"path": name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _list_files(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != Build.MANIFEST)
    return [file_entry(path, path.relative_to(folder).as_posix()) for path in paths]


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second. For run records only."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
