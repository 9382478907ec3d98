"""Pictures in a folder, looked for by listing folders instead of asking for every file.

A listing takes some 40 bytes a file, and the ones used last are kept, up to some 4 million names,
so that the missing pictures of a set cost as little as the present ones, on network disks too.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections import OrderedDict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.curation.ingest.picture_files import FoundFile, PictureProblem, choose, stem_of

_MAX_NAMES = 4_000_000
_MAX_FOLDERS = 100_000
_FILE, _FOLDER, _LINK, _OTHER = range(4)

_Resolved = tuple[str, str, tuple[str, ...]]
"""Where a folder really lies, its path below the root as spelled there, and the mends."""


class Listing:
    """The names in one folder, found by what `stem_of` leaves of them."""

    def __init__(self, folder: str) -> None:
        """List a folder.

        Raises:
            OSError: it cannot be read.
        """
        names, kinds, hashes = bytearray(), bytearray(), []
        ends = [0]
        with os.scandir(folder) as entries:
            for entry in entries:
                names += os.fsencode(entry.name)
                ends.append(len(names))
                kinds.append(_kind_of(entry))
                hashes.append(hash(stem_of(entry.name)))
        by_hash = np.array(hashes, dtype=np.int64)
        self._order = np.argsort(by_hash, kind="stable")
        self._hashes = by_hash[self._order]
        self._ends = np.array(ends, dtype=np.int64)
        self._names, self._kinds = bytes(names), bytes(kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def alike(self, name: str) -> Iterator[tuple[str, int]]:
        """Yield the names with the same stem, and what each is."""
        stem = stem_of(name)
        wanted = hash(stem)
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            number = int(self._order[at])
            start, end = self._ends[number], self._ends[number + 1]
            found = os.fsdecode(self._names[start:end])
            if stem_of(found) == stem:
                yield found, self._kinds[number]
            at += 1


def _kind_of(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return _LINK
    if entry.is_file(follow_symlinks=False):
        return _FILE
    return _FOLDER if entry.is_dir(follow_symlinks=False) else _OTHER


class FolderPictures:
    """The pictures below one folder; a link that leads out of it is not followed unless allowed."""

    is_remote = False

    def __init__(self, root: Path, rules: PathRules) -> None:
        """Name the folder and how paths may differ from those of files."""
        self._root, self._rules = os.path.realpath(root), rules
        self._listings: OrderedDict[str, Listing] = OrderedDict()
        self._folders: dict[str, _Resolved | PictureProblem] = {}
        self._num_names = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self._root, "rules": self._rules}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(Path(state["root"]), state["rules"])  # type: ignore[misc]

    def find(
        self, paths: Collection[str], *, with_times: bool
    ) -> dict[str, FoundFile | PictureProblem]:
        """Look for pictures, folder by folder."""
        found: dict[str, FoundFile | PictureProblem] = {}
        for path in sorted(paths):  # those of one folder follow one another
            try:
                found[path] = self._find(path, with_times)
            except PictureProblem as problem:
                found[path] = problem
            except (OSError, ValueError) as error:  # such as a name that is too long
                found[path] = PictureProblem("image_missing", f"{path}: {error}"[:300])
        return found

    def read(self, found: FoundFile, max_bytes: int) -> bytes:
        """Return the bytes of a file; only a plain file is read."""
        try:
            number = os.open(found.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(number, "rb") as file:
                about = os.fstat(number)
                if not stat.S_ISREG(about.st_mode):
                    raise PictureProblem("image_missing", f"{found.path} is no file")
                if about.st_size > max_bytes:
                    detail = f"{found.path}: {about.st_size} bytes, at most {max_bytes}"
                    raise PictureProblem("image_unreadable", detail)
                return file.read(max_bytes + 1)
        except OSError as error:
            raise PictureProblem("image_unreadable", f"{found.path}: {error}"[:300]) from None

    def fingerprint(self, *, with_times: bool) -> str:
        """Return a hash of all names below the folder, with sizes and times where asked for.

        Takes some 2 seconds for a million files, and the memory of the largest folder's names.
        """
        total = hashlib.sha256()
        for where, folders, names in os.walk(self._root):
            folders.sort()
            lines = [os.path.relpath(where, self._root), *folders]
            for name in sorted(names):
                about = _stat(posixpath.join(where, name)) if with_times else None
                lines.append(f"{name}\0{about.st_size}\0{about.st_mtime_ns}" if about else name)
            total.update(os.fsencode("\n".join(lines) + "\n\n"))
        return total.hexdigest()

    # ------------------------------------------------------------------------------- looking

    def _find(self, path: str, with_times: bool) -> FoundFile:
        folder, name = posixpath.split(path)
        resolved = self._folder(folder)
        if isinstance(resolved, PictureProblem):
            raise PictureProblem(resolved.reason, path if not resolved.detail else resolved.detail)
        real, spelled, mended = resolved
        kinds = dict(self._listing(real).alike(name))
        files = [found for found, kind in kinds.items() if kind in (_FILE, _LINK)]
        chosen = choose(name, files, self._rules)
        if chosen is None:
            raise PictureProblem("image_missing", path)
        file, size, mtime_ns = posixpath.join(real, chosen[0]), 0, 0
        if kinds[chosen[0]] == _LINK:
            file = self._within(os.path.realpath(file), path)
        if with_times or kinds[chosen[0]] == _LINK:
            about = Path(file).lstat()
            if not stat.S_ISREG(about.st_mode):
                raise PictureProblem("image_missing", f"{path} is no file")
            size, mtime_ns = about.st_size, about.st_mtime_ns
        return FoundFile(
            posixpath.join(spelled, chosen[0]),
            file,
            size,
            mtime_ns,
            tuple(dict.fromkeys((*mended, *chosen[1]))),
            file,
        )

    def _within(self, real: str, path: str) -> str:
        if self._rules.follow_links or real == self._root:
            return real
        if not real.startswith(self._root.rstrip("/") + "/"):
            raise PictureProblem("image_outside_folder", f"{path} leads to another folder")
        return real

    def _folder(self, folder: str) -> _Resolved | PictureProblem:
        """Return where a folder of rows' paths lies; a problem without a detail: it is missing."""
        if folder not in self._folders:
            if len(self._folders) >= _MAX_FOLDERS:
                self._folders.clear()
            try:
                self._folders[folder] = self._resolve(folder)
            except PictureProblem as problem:
                self._folders[folder] = problem
            except (OSError, ValueError):
                self._folders[folder] = PictureProblem("image_missing", "")
        return self._folders[folder]

    def _resolve(self, folder: str) -> _Resolved:
        if not folder:
            return self._root, "", ()
        real = self._within(os.path.realpath(posixpath.join(self._root, folder)), folder)
        if Path(real).is_dir():
            return real, folder, ()
        parent = self._folder(posixpath.dirname(folder))
        if isinstance(parent, PictureProblem):
            raise parent
        wanted = posixpath.basename(folder).lower()
        alike = self._listing(parent[0]).alike(posixpath.basename(folder))
        for name, kind in sorted(alike):
            if self._rules.ignore_case and name.lower() == wanted and kind in (_FOLDER, _LINK):
                real = self._within(os.path.realpath(posixpath.join(parent[0], name)), folder)
                if Path(real).is_dir():
                    return real, posixpath.join(parent[1], name), ("path_case",)
        raise PictureProblem("image_missing", "")

    def _listing(self, real: str) -> Listing:
        listing = self._listings.pop(real, None)
        if listing is None:
            listing = Listing(real)
            self._num_names += len(listing)
        self._listings[real] = listing
        while self._num_names > _MAX_NAMES and len(self._listings) > 1:
            self._num_names -= len(self._listings.popitem(last=False)[1])
        return listing


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None
