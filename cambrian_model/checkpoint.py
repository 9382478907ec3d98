"""Checkpoints: folders `step-000123` that are either whole or not there.

A checkpoint is written under a temporary name beside its place, gets a manifest with the sha256 of
its files, and is renamed. One that was damaged afterwards is told by its manifest and passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from cambrian_data.records import bytes_id

MANIFEST_NAME = "manifest.json"
_PREFIX = "step-"
_TEMPORARY = ".tmp-"


def save_checkpoint(out: Path, step: int, write: Callable[[Path], None], *, keep_last: int) -> Path:
    """Write a checkpoint and remove the oldest ones.

    Args:
        out: folder of the run.
        step: optimizer steps done.
        write: puts the files into the folder that it is given.
        keep_last: how many checkpoints stay, this one counted.
    Returns:
        The folder of the checkpoint.
    """
    final = out / f"{_PREFIX}{step:06d}"
    temporary = out / f"{_TEMPORARY}{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    files = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
    _write_synced(temporary / MANIFEST_NAME, json.dumps({"step": step, "files": files}, indent=1))
    if final.exists():  # damaged, or it would have been resumed from
        shutil.rmtree(final)
    temporary.replace(final)
    for old in checkpoints(out)[keep_last:]:
        shutil.rmtree(old)
    return final


def checkpoints(out: Path) -> list[Path]:
    """Return the folders of a run's checkpoints, newest first, whole or not."""
    found = [path for path in out.glob(f"{_PREFIX}*") if path.name[len(_PREFIX) :].isdigit()]
    return sorted(found, key=checkpoint_step, reverse=True)


def checkpoint_step(path: Path) -> int:
    """Return the step of a checkpoint from its name."""
    return int(path.name.removeprefix(_PREFIX))


def latest_checkpoint(out: Path) -> Path | None:
    """Return the newest whole checkpoint of a run, or None."""
    return next((path for path in checkpoints(out) if checkpoint_problem(path) is None), None)


def checkpoint_problem(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None: every file is there, with its sha256."""
    try:
        files = json.loads((path / MANIFEST_NAME).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path.name}: its {MANIFEST_NAME} is missing or damaged"
    for name, digest in files.items():
        file = path / name
        if not file.is_file():
            return f"{path.name}: {name} is missing"
        if _sha256(file) != digest:
            return f"{path.name}: {name} is damaged"
    return None


def checkpoint_id(path: Path) -> str:
    """Return the hash of a checkpoint's content."""
    return bytes_id((path / MANIFEST_NAME).read_bytes())


def remove_leftovers(out: Path) -> None:
    """Remove checkpoints that were not finished."""
    for path in out.glob(f"{_TEMPORARY}{_PREFIX}*"):
        shutil.rmtree(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
