"""What every export shares: the samples that are meant, the folder that is made, lost pictures.

A folder is filled aside and swapped in whole, and replaces nothing but an earlier export. A sample
whose picture is lost, damaged or was never read is left out, counted and named.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from cambrian_data.build import published
from cambrian_data.records import RunFailed, UserError, bytes_id
from cambrian_data.workspace import Workspace, file_sha256, remove

ABOUT = "export.json"
"""What was exported; a folder without it is nobody's to replace."""
MAX_NAMED = 1000
"""Rows left out that are named in the folder's `export.json`; all of them are counted."""
AREAS = {"pool": "pool", "mixture": "mixtures"}

Images = Literal["copy", "link", "none"]
Kind = Literal["pool", "mixture"]


class PictureError(ValueError):
    """A picture that cannot be exported; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Samples:
    """A data set of the pool or a mixture, every file of it checked."""

    name: str
    kind: str
    """pool or mixture"""
    folder: Path
    about: Mapping[str, Any]
    """What its manifest says."""

    @property
    def total(self) -> int:
        """Rows that there are."""
        return int(self.about["samples"])

    @property
    def parts(self) -> list[Path]:
        """The Parquet files of the samples, in a fixed order."""
        return sorted((self.folder / "samples").glob("part-*.parquet"))


def find_samples(workspace: Workspace, name: str, kind: str | None) -> Samples:
    """Return what is to be exported.

    Raises:
        UserError: no such name, or a data set and a mixture have it.
        WorkspaceError: the data set or the mixture is damaged.
    """
    wanted = [kind] if kind else list(AREAS)
    found = [area for area in wanted if name in workspace.names(AREAS[area])]
    if len(found) > 1:
        raise UserError(
            f"{name!r} is a data set of the pool and a mixture too: say which with "
            "--from pool or --from mixture"
        )
    if not found:
        known = [f"{area}: {', '.join(workspace.names(AREAS[area])) or 'none'}" for area in wanted]
        raise UserError(
            f"there is no {' or '.join(wanted)} {name!r} to export ({'; '.join(known)})"
        )
    folder = workspace.pool(name) if found[0] == "pool" else workspace.mixture(name)
    return Samples(name, found[0], folder, published(folder)["about"])


def target_folder(workspace: Workspace, name: str, out: Path | None) -> Path:
    """Return the folder to make; `exports/NAME` in the workspace where none is given.

    Raises:
        UserError: something is there that no export has made.
    """
    target = (out or workspace.root / "exports" / name).expanduser().absolute()
    is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not is_free and not (target / ABOUT).is_file():
        raise UserError(f"{target} is there and is no earlier export; give another folder")
    return target


@contextlib.contextmanager
def filled_aside(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `target` at the end, unless something is raised."""
    folder = target.with_name(f".{target.name}.unfinished")
    remove(folder)
    try:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(
                f"nothing can be written at {target.parent} ({error.strerror}); give another "
                "folder with --out"
            ) from None
        yield folder
        old = target.with_name(f".{target.name}.replaced")
        remove(old)
        with contextlib.suppress(FileNotFoundError):
            target.replace(old)
        folder.replace(target)
        remove(old)
    finally:
        remove(folder)


@dataclass(slots=True)
class Account:
    """What was written and what was not."""

    samples: int = 0
    pictures: int = 0
    """Pictures written; where they are files of their own, each counts once."""
    text_only: int = 0
    num_bytes: int = 0
    left_out: int = 0
    named: list[dict[str, Any]] = field(default_factory=list)

    def leave_out(self, sample: str, problem: str) -> None:
        """Count a sample that cannot be exported, and name it while there are not too many."""
        self.left_out += 1
        if len(self.named) < MAX_NAMED:
            self.named.append({"id": sample, "detail": problem})

    def check(self, name: str, total: int) -> None:
        """Raise where there were samples and none could be exported."""
        if total and not self.samples:
            raise RunFailed(
                f"none of the {self.left_out:,} samples of {name} could be exported: "
                f"{self.named[0]['detail']}"
            )

    def numbers(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "samples": self.samples,
            "pictures": self.pictures,
            "text_only": self.text_only,
            "bytes": self.num_bytes,
            "left_out": self.left_out,
        }


def write_about(folder: Path, about: Mapping[str, Any], account: Account) -> None:
    """Write what was exported into the folder."""
    content = {**about, **account.numbers(), "left_out_rows": account.named}
    (folder / ABOUT).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def result(
    samples: Samples, to: str, target: Path, account: Account, **more: Any
) -> dict[str, Any]:
    """Return what an export tells its caller."""
    about = {"dataset": samples.name, "kind": samples.kind, "to": to, "folder": str(target)}
    return {**about, **more, **account.numbers()}


# ---------------------------------------------------------------------------------- pictures


def _was_not_read(image: Mapping[str, Any]) -> PictureError:
    return PictureError(
        f"{image['path']} was not read: ingest its data set with --check-images decode, "
        "or export with --images none"
    )


def _is_damaged(image: Mapping[str, Any]) -> PictureError:
    return PictureError(f"{image['path']} is damaged: its content is not what its name says")


def picture_bytes(workspace: Workspace, image: Mapping[str, Any]) -> bytes:
    """Return a stored picture, checked against its hash.

    Raises:
        PictureError: it was never read, is gone, or is not what its hash says.
    """
    if not image["sha256"]:
        raise _was_not_read(image)
    try:
        data = (workspace.root / image["path"]).read_bytes()
    except OSError as error:
        raise PictureError(f"{image['path']}: {error.strerror}") from None
    if bytes_id(data) != image["sha256"]:
        raise _is_damaged(image)
    return data


def place_picture(
    workspace: Workspace, image: Mapping[str, Any], folder: Path, images: Images
) -> bool:
    """Put a picture into the folder under its path; False where it is there already.

    Raises:
        PictureError: it was never read, is gone, or is not what its hash says.
    """
    if images == "none":
        return False
    if not image["sha256"]:
        raise _was_not_read(image)
    target = folder / image["path"]
    if target.exists():
        return False
    source = workspace.root / image["path"]
    try:
        if file_sha256(source) != image["sha256"]:
            raise _is_damaged(image)
    except OSError as error:
        raise PictureError(f"{image['path']}: {error.strerror}") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    if images == "link":
        target.symlink_to(source)
    else:
        link_or_copy(source, target)
    return True


def link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link, or a copy where there are none."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
