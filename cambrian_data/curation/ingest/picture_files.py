"""What a place of pictures gives: files that were found, or problems; and how names are matched.

Paths come from rows and are untrusted. A place never opens what lies outside of it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from cambrian_data.curation.ingest.path_rules import PathRules


class PictureProblem(Exception):
    """A picture that cannot be used: image_missing, image_unreadable or image_outside_folder."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type[PictureProblem], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A picture's file where it lies, before it is opened."""

    path: str
    """Its path within the place, as it is spelled there."""
    key: str
    """Names the file among all files: with size and time, it says whether the file changed."""
    size: int
    mtime_ns: int
    """Time of its last change; 0 where it is not known."""
    mended: tuple[str, ...] = ()
    """Names of `PATH_MENDS`: how the path differs from the row's."""
    place: str = ""
    """The file to open."""
    offset: int = 0
    """Where in that file the picture begins."""


class PictureSource(Protocol):
    """A place of pictures; picklable, files are opened where they are needed."""

    is_remote: bool
    """Whether reading is waiting, so that many pictures are read at once."""

    def find(
        self, paths: Collection[str], *, with_times: bool
    ) -> dict[str, FoundFile | PictureProblem]:
        """Look for many pictures in one go; none is opened.

        Args:
            paths: relative and normalised.
            with_times: whether size and time are needed.
        """

    def read(self, found: FoundFile, max_bytes: int) -> bytes:
        """Return the bytes of a picture.

        Raises:
            PictureProblem: it is gone, cannot be read, or is larger than `max_bytes`.
        """

    def fingerprint(self, *, with_times: bool) -> str:
        """Return a hash of what `find` depends on."""


def stem_of(path: str) -> str:
    """Return what paths that could stand for one another share: lower case, no suffix."""
    return posixpath.splitext(path)[0].lower()


def choose(
    wanted: str, candidates: Iterable[str], rules: PathRules
) -> tuple[str, tuple[str, ...]] | None:
    """Return the candidate that stands for a path, and the names of the mends; None: none does.

    Args:
        wanted: the path that a row names.
        candidates: paths with the same `stem_of`.
        rules: whether case may differ, and which suffixes are tried.
    """
    present = sorted(candidates)
    if wanted in present:
        return wanted, ()
    lower = {path.lower(): path for path in reversed(present)}
    if rules.ignore_case and wanted.lower() in lower:
        return lower[wanted.lower()], ("path_case",)
    stem = posixpath.splitext(wanted)[0]
    for suffix in rules.extensions:
        if stem + suffix in present:
            return stem + suffix, ("path_extension",)
        other = lower.get((stem + suffix).lower())
        if rules.ignore_case and other is not None:
            same_stem = posixpath.splitext(other)[0] == stem
            return other, ("path_extension",) if same_stem else ("path_case", "path_extension")
    return None
