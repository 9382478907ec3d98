"""The pictures of an ingested set: looked for, checked and kept, many at a time.

`Pictures` is what ingest asks, in every process. Where pictures come from is a `PictureSource`: a
folder, tar files or a web address. What was found out about a file is remembered by its size and
time, so that a second run opens no picture that did not change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cambrian_data.curation.ingest.formats.tar import is_tar
from cambrian_data.curation.ingest.path_rules import PATH_MENDS, PathRules
from cambrian_data.curation.ingest.picture_cache import Known, PictureCache
from cambrian_data.curation.ingest.picture_files import FoundFile, PictureProblem, PictureSource
from cambrian_data.curation.ingest.picture_folder import FolderPictures
from cambrian_data.curation.ingest.picture_tars import TarPictures
from cambrian_data.curation.ingest.picture_urls import PassingProblem, UrlPictures
from cambrian_data.engine.images import ImagesConfig
from cambrian_data.pictures import keep_picture
from cambrian_data.records import RunFailed, UserError, bytes_id, content_id
from cambrian_data.shard_store import is_address, shown
from cambrian_data.web.http import HttpConfig
from cambrian_data.workspace import Workspace

__all__ = [
    "PATH_MENDS",
    "FolderPictures",
    "Found",
    "FoundFile",
    "Outcome",
    "PathRules",
    "PictureProblem",
    "PictureSource",
    "Pictures",
    "TarPictures",
    "UrlPictures",
    "open_pictures",
]

CACHE = "cache/pictures.sqlite"
"""Where the workspace remembers pictures; it may be deleted."""
_TARS = "cache/tars.sqlite"
_KEEP_VERSION = "1"
"""Changes when pictures are kept in another way, so that all are looked at again."""
_AT_ONCE = 500
_REMOTE_THREADS = 16
_MANY_FAILED = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A picture that can be used."""

    row: Mapping[str, Any]
    """Its row of `images`; for a picture that was not read sha256, width and height are None."""
    mended: tuple[str, ...] = ()
    """Names of `PATH_MENDS`."""


Outcome = Found | PictureProblem


class Pictures:
    """The pictures of one run, wherever they come from; picklable."""

    def __init__(
        self,
        source: PictureSource | None,
        *,
        workspace: Path,
        check: str,
        max_bytes: int = 100 * 2**20,
        threads: int = 1,
    ) -> None:
        """Take what is needed; nothing is opened yet.

        Args:
            source: None where no place was named.
            workspace: the root of the workspace that keeps the pictures.
            check: none, exists or decode.
            max_bytes: a larger file is not read.
            threads: pictures that are decoded at once in this process.
        """
        self._source, self._root, self._check = source, workspace, check
        self._max_bytes, self._threads = max_bytes, max(1, threads)
        # Published sets hold small and long pictures; curation decides about those.
        self._config = ImagesConfig(min_side_px=1, max_aspect=200, max_bytes=max_bytes)
        version = content_id(_KEEP_VERSION, self._config.model_dump())[:16]
        self._cache = PictureCache(workspace / CACHE, version)

    def look_up(self, paths: Collection[str]) -> dict[str, Outcome]:
        """Return what became of each path, looking for all of them in one go.

        Args:
            paths: relative and normalised, as rows name them; a few thousand at once.
        Raises:
            UserError: there are paths to look for, and no place of pictures is known.
            RunFailed: an address that pictures are asked from does not answer.
        """
        if self._check == "none":
            return {path: Found(_unread(path)) for path in paths}
        if not paths:
            return {}
        if self._source is None:
            raise UserError(
                f"the rows name pictures, such as {min(paths)!r}, and no folder of pictures is "
                "given: name it with --images, or leave them unread with --check-images none"
            )
        found = self._source.find(paths, with_times=self._check == "decode")
        if self._check == "exists":
            return {path: _seen(file) for path, file in found.items()}
        files = {file.key: file for file in found.values() if isinstance(file, FoundFile)}
        known = self._known(files.values(), self._read)
        return {path: _outcome(file, known) for path, file in found.items()}

    def keep(self, pictures: Mapping[str, bytes]) -> dict[str, Outcome]:
        """Return what became of pictures that lie inside of rows, by name."""
        if self._check != "decode":
            return {name: Found(_unread(name)) for name in pictures}
        files = {
            name: FoundFile(name, f"content:{bytes_id(data)}", len(data), 0, place=name)
            for name, data in pictures.items()
        }
        known = self._known(
            {file.key: file for file in files.values()}.values(),
            lambda file: pictures[file.place],
        )
        return {name: _outcome(file, known) for name, file in files.items()}

    def fingerprint(self) -> str | None:
        """Return a hash of what the outcomes depend on; None where nothing is looked at."""
        if self._check == "none" or self._source is None:
            return None
        return self._source.fingerprint(with_times=self._check == "decode")

    # ------------------------------------------------------------------------------ decoding

    def _known(
        self, files: Iterable[FoundFile], read: Callable[[FoundFile], bytes]
    ) -> dict[str, Known | PictureProblem]:
        """Return by key what is known of files; those that changed are read, decoded and kept."""
        wanted = list(files)
        known: dict[str, Known | PictureProblem] = {
            key: entry for key, entry in self._cache.get(wanted).items() if self._is_kept(entry)
        }
        left = [file for file in wanted if file.key not in known]
        for some in _chunks(left, _AT_ONCE):  # so that a kill costs no more than these
            made = list(
                zip(some, self._map(lambda file: self._make(file, read), some), strict=True)
            )
            _check_answers([entry for _, entry in made])
            self._cache.put([(file, entry) for file, entry in made if isinstance(entry, Known)])
            known.update((file.key, entry) for file, entry in made)
        return known

    def _map(
        self, work: Callable[[FoundFile], Known | PictureProblem], files: Sequence[FoundFile]
    ) -> Iterator[Known | PictureProblem]:
        is_remote = self._source is not None and self._source.is_remote
        threads = max(self._threads, _REMOTE_THREADS if is_remote else 1)
        if threads == 1 or len(files) == 1:
            yield from map(work, files)
            return
        with ThreadPoolExecutor(min(threads, len(files))) as pool:
            yield from pool.map(work, files)

    def _read(self, file: FoundFile) -> bytes:
        assert self._source is not None, "files are found in a source"
        return self._source.read(file, self._max_bytes)

    def _make(self, file: FoundFile, read: Callable[[FoundFile], bytes]) -> Known | PictureProblem:
        try:
            data = read(file)
        except PictureProblem as problem:  # at another time it may be had
            return problem
        try:
            row, _ = keep_picture(Workspace(self._root), data, self._config)
        except ValueError as error:
            return Known(None, str(error)[:300])
        return Known(row)

    def _is_kept(self, known: Known) -> bool:
        """Say whether a picture that was stored is still there, whole."""
        if known.row is None:
            return True
        try:
            size = (self._root / known.row["path"]).stat().st_size
        except OSError:
            return False
        return bool(size == known.row["bytes"])


def open_pictures(
    where: str | Path | None,
    *,
    workspace: Workspace,
    check: str,
    rules: PathRules | None = None,
    max_bytes: int = 100 * 2**20,
    allow_private: bool = False,
    http: HttpConfig | None = None,
    threads: int = 1,
    processes: int = 1,
) -> Pictures:
    """Return the pictures of a place.

    Args:
        where: a folder, an address that the paths are added to, a tar file, or several tar files
            as a pattern (`/data/pictures/*.tar`); None where none is named.
        workspace: keeps pictures, and what is known of them.
        check: none, exists or decode.
        rules: how paths may differ.
        max_bytes: a larger picture file is not read.
        allow_private: whether an address may be one that is not of the open internet.
        http: contact and rates, for an address.
        threads: pictures that are decoded at once in one process.
        processes: number of processes that will ask at once; they share an address's rate.
    Raises:
        UserError: the place is not there, or cannot be used with this check.
    """
    source: PictureSource | None = None
    text, rules = str(where or ""), rules or PathRules()
    if check != "none" and text:
        if text.lower().startswith(("http://", "https://")):
            if check == "exists":
                raise UserError(
                    f"--check-images exists looks in folders and tar files, not at {shown(text)}: "
                    "take decode, which fetches the pictures, or none"
                )
            source = UrlPictures(
                text,
                rules,
                cache=workspace.http_cache,
                config=http or HttpConfig(),
                allow_private=allow_private,
                processes=processes,
            )
        elif Path(text).is_dir():
            source = FolderPictures(Path(text), rules)
        elif is_address(text):
            raise UserError(
                f"--images {shown(text)!r}: addresses of the kind {text.partition('://')[0]}:// "
                "are not read, only http:// and https://; otherwise give a folder or tar files"
            )
        else:
            source = TarPictures(_tars(text), rules, workspace.root / _TARS)
    return Pictures(
        source, workspace=workspace.root, check=check, max_bytes=max_bytes, threads=threads
    )


def _tars(pattern: str) -> list[Path]:
    place = Path(pattern).absolute()
    found = [place]
    if not place.is_file():
        found = sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
    if not found:
        raise UserError(
            f"there is no folder {pattern!r}, and no tar file of that name or pattern; give the "
            "folder, the tar files or the address of the pictures with --images"
        )
    for path in found:
        with path.open("rb") as file:
            if not is_tar(file.read(512)):
                raise UserError(f"--images {pattern!r}: {path} is neither a folder nor a tar file")
    return found


def _seen(file: FoundFile | PictureProblem) -> Outcome:
    if isinstance(file, PictureProblem):
        return file
    return Found(_unread(file.path), file.mended)


def _unread(path: str) -> dict[str, Any]:
    return {"sha256": None, "path": path, "width": None, "height": None}


def _outcome(
    file: FoundFile | PictureProblem, known: Mapping[str, Known | PictureProblem]
) -> Outcome:
    if isinstance(file, PictureProblem):
        return file
    entry = known[file.key]
    if isinstance(entry, PictureProblem):
        return entry
    if entry.row is None:
        return PictureProblem("image_unreadable", f"{file.path}: {entry.problem}"[:300])
    return Found(entry.row, file.mended)


def _check_answers(made: Sequence[Known | PictureProblem]) -> None:
    """Stop where an address does not answer: its pictures are not missing."""
    failed = [entry for entry in made if isinstance(entry, PassingProblem)]
    if len(failed) >= _MANY_FAILED and 2 * len(failed) > len(made):
        raise RunFailed(
            f"{len(failed)} of {len(made)} pictures could not be had now ({failed[0].detail}); "
            "what was had is kept: run the same command again later"
        )


def _chunks(files: Sequence[FoundFile], size: int) -> Iterator[list[FoundFile]]:
    rest = iter(files)
    while some := list(islice(rest, size)):
        yield some
