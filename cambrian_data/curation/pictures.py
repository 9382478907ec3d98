"""Where the pictures of an ingested set come from: a folder, left only when its user says so.

The paths of rows are untrusted: `rows` refuses those that lead out by their spelling, this module
those that lead out by a symbolic link.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol


class PictureProblem(Exception):
    """A picture that cannot be used: image_missing, image_unreadable or image_outside_folder."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class PictureSource(Protocol):
    """Where the pictures of a set come from and are kept; paths are relative and normalised."""

    def check(self, path: str) -> None:
        """Raise `PictureProblem` where there is no such picture; read nothing."""

    def store(self, path: str) -> Mapping[str, Any]:
        """Read, check and keep a picture; return its row of the table `images`.

        Raises:
            PictureProblem: there is none, or it cannot be read.
        """


class FolderPictures:
    """The pictures of a folder, kept by a function that is passed in."""

    def __init__(
        self,
        root: Path,
        keep: Callable[[bytes], Mapping[str, Any]] | None = None,
        *,
        max_bytes: int = 100 * 2**20,
        follow_links: bool = False,
    ) -> None:
        """Name the folder.

        Args:
            root: the folder that the rows' paths start in.
            keep: checks and stores a picture's bytes and returns its row of `images`; it raises
                ValueError for what is no picture. Needed for `store` alone.
            max_bytes: a larger file is not read.
            follow_links: whether a symbolic link may lead out of the folder.
        """
        self._root, self._real_root = root, Path(os.path.realpath(root))
        self._keep, self._max_bytes, self._follow_links = keep, max_bytes, follow_links

    def check(self, path: str) -> None:
        """Raise `PictureProblem` unless the path is a file within the folder."""
        self._find(path)

    def store(self, path: str) -> Mapping[str, Any]:
        """Read a file, pass its bytes on, return its row of `images`."""
        if self._keep is None:
            raise ValueError("FolderPictures needs `keep` to store pictures")
        file = self._find(path)
        try:
            size = file.stat().st_size
            data = file.read_bytes() if size <= self._max_bytes else None
        except OSError as error:
            raise PictureProblem("image_unreadable", f"{path}: {error}"[:300]) from None
        if data is None:
            raise PictureProblem("image_unreadable", f"{path}: {size} bytes")
        try:
            return self._keep(data)
        except ValueError as error:
            raise PictureProblem("image_unreadable", f"{path}: {error}"[:300]) from None

    def _find(self, path: str) -> Path:
        file = self._root / path
        try:
            real = Path(os.path.realpath(file))
            if not self._follow_links and not real.is_relative_to(self._real_root):
                raise PictureProblem("image_outside_folder", f"{path} leads to another folder")
            found = real.is_file()
        except (OSError, ValueError) as error:  # such as a name that is too long
            raise PictureProblem("image_missing", f"{path}: {error}"[:300]) from None
        if not found:
            raise PictureProblem("image_missing", path)
        return real
