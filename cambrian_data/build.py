"""Folders that are made whole: a pool data set, a mixture, a set of shards.

Each is filled aside in `staging/` and swapped in when it is complete, with a sealed manifest of
its files. A finished folder in which something is damaged is mended by the next run, not made anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cambrian_data.workspace import (
    Workspace,
    WorkspaceError,
    file_entry,
    is_intact,
    read_sealed,
    remove,
    sealed,
)

MANIFEST = "manifest.json"


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

    def __init__(self, workspace: Workspace, target: Path, key: str) -> None:
        self.workspace, self.target, self.key = workspace, target, key
        self._staging = (
            workspace.root / "staging" / f"{target.parent.name}-{target.name}-{key[:16]}"
        )

    def is_done(self) -> bool:
        """Whether the target is there, was made from this key, and no file of it is damaged.

        The files that its units share with others, such as pictures, count too.
        """
        manifest = read_sealed(self.target / MANIFEST)
        if manifest is None or manifest["key"] != self.key:
            return False
        damaged = damaged_files(self.target, manifest["files"])
        return not damaged and not damaged_files(self.workspace.root, manifest["shared"])

    def folder(self) -> Path:
        """Return the folder to fill; it holds what an earlier, unfinished try left there."""
        made = read_sealed(self.target / MANIFEST)
        if not self._staging.is_dir() and made is not None and made["key"] == self.key:
            # Same content, but something is missing or damaged: mend it instead of starting anew.
            # Files are replaced, never written into, so links to them are as good as copies.
            shutil.copytree(self.target, self._staging, copy_function=_link)
        self._staging.mkdir(parents=True, exist_ok=True)
        (self._staging / MANIFEST).unlink(missing_ok=True)
        return self._staging

    def publish(self, about: dict[str, Any] | None = None) -> Path:
        """Write the manifest, swap the folder in, return it."""
        manifest = {
            "key": self.key,
            "files": _list_files(self._staging),
            "shared": shared_files(self._staging),
            "about": about or {},
        }
        self.workspace.write_json(self._staging / MANIFEST, sealed(manifest))
        self.target.parent.mkdir(parents=True, exist_ok=True)
        old = self.workspace.scratch()
        with contextlib.suppress(FileNotFoundError):
            self.target.replace(old)
        self._staging.replace(self.target)
        remove(old)
        return self.target

    def about(self) -> dict[str, Any]:
        """Return what `publish` was told about the folder.

        Raises:
            WorkspaceError: the folder is not there, or damaged.
        """
        return published(self.target)["about"]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def published(folder: Path) -> dict[str, Any]:
    """Return the manifest of a published folder.

    Raises:
        WorkspaceError: the folder is missing, incomplete or damaged; the message names the file.
    """
    if not (folder / MANIFEST).is_file():
        raise WorkspaceError(f"{folder} is not there or was not finished")
    manifest = read_sealed(folder / MANIFEST)
    again = f"run the command that made {folder.name} again, it makes only what is damaged anew"
    if manifest is None:
        raise WorkspaceError(f"{folder / MANIFEST} is damaged; {again}")
    if damaged := damaged_files(folder, manifest["files"]):
        raise WorkspaceError(f"{folder / damaged[0]} is missing or damaged; {again}")
    return manifest


def damaged_files(base: Path, entries: Iterable[dict[str, Any]]) -> list[str]:
    """Return the files among a manifest's entries that are missing or differ from them."""
    return [entry["path"] for entry in entries if not is_intact(base / entry["path"], entry)]


def shared_files(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of all files outside a folder that its units name, each once."""
    found = {entry["path"]: entry for entry in _unit_entries(folder, "shared")}
    return [found[path] for path in sorted(found)]


def _list_files(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of all files; those of units were hashed when they were made or found."""
    known = {entry["path"]: entry for entry in _unit_entries(folder, "files")}
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST):
        name = path.relative_to(folder).as_posix()
        entry = known.get(name)
        if entry is None or entry["bytes"] != path.stat().st_size:
            entry = file_entry(path, name)
        found.append(entry)
    return found


def _unit_entries(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield what the manifests of a folder's units say of files (`files` or `shared`)."""
    for path in sorted(folder.glob("manifests/*/*.json")):
        yield from (read_sealed(path) or {kind: []})[kind]
