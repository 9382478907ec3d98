"""Checkpoints: folders `step-000123` that are either whole or not there.

A checkpoint is written under a temporary name beside its place, gets a manifest with the sha256 of
its files, and is renamed. One that was damaged afterwards is told by its manifest and passed over.
Several ranks write into one folder, which all of them must reach; each tells by a file what it
wrote, and rank 0 finishes the checkpoint when all have.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from cambrian_data.records import RunFailed, bytes_id

if TYPE_CHECKING:
    from cambrian_model.runtime import Runtime

MANIFEST_NAME = "manifest.json"
_PREFIX = "step-"
_TEMPORARY = ".tmp-"
_REPORT = ".rank-{}.json"
_PATIENCE_S = 1800.0  # for the slowest rank, after the fastest one is done


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
    temporary = _new_folder(out, step)
    write(temporary)
    files = {name: _sha256(temporary / name) for name in _files(temporary)}
    return _finish(out, step, files, keep_last)


class CheckpointError(RunFailed):
    """A checkpoint that could not be written."""


def _unwritten(out: Path, problem: object) -> str:
    return (
        f"a checkpoint could not be written to {out}: {problem}; look at the space and the rights "
        "there and give the same command again, which goes on from the one before"
    )


class CheckpointWriter:
    """Writes checkpoints in a thread while training goes on; one at a time."""

    def __init__(
        self, out: Path, *, keep_last: int, runtime: Runtime, asynchronous: bool = True
    ) -> None:
        """Write nothing yet.

        Args:
            out: folder of the run, the same one for all ranks.
            keep_last: how many checkpoints stay.
            asynchronous: False writes before `save` returns.
        """
        self.out, self.keep_last, self.runtime = out, keep_last, runtime
        self.asynchronous = asynchronous
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[Path] | None = None
        self._last: Path | None = None

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Start to write a checkpoint, after the one before is done; all ranks call it.

        Args:
            step: optimizer steps done.
            write: puts this rank's files into the folder that it is given; what it writes does not
                change any more (`Runtime.snapshot`).
        Raises:
            CheckpointError: the one before could not be written.
        """
        self._settle()
        if self.runtime.is_main:
            _new_folder(self.out, step)
        self.runtime.barrier()
        self._pending = self._thread.submit(self._write, step, write)
        if not self.asynchronous:
            self._settle()

    def check(self) -> None:
        """Raise what went wrong in the thread, if it is done; does not wait.

        Raises:
            CheckpointError: a checkpoint could not be written.
        """
        if self._pending is not None and self._pending.done():
            problem = self._finished()
            if problem is not None:
                raise CheckpointError(_unwritten(self.out, problem)) from problem

    def wait(self) -> Path | None:
        """Wait for what is under way; returns the last checkpoint. All ranks call it.

        Raises:
            CheckpointError: it could not be written, by this rank or another one.
        """
        self._settle()
        return self._last

    def _settle(self) -> None:
        """Wait for what all ranks write, rank 0 the last of them."""
        problem = self._finished()
        told = self.runtime.gather(None if problem is None else str(problem))
        first = next((text for text in told if text is not None), None)
        if first is not None:
            raise CheckpointError(_unwritten(self.out, first)) from problem

    def _finished(self) -> BaseException | None:
        """Wait for this rank's part; returns what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        problem = pending.exception()
        if problem is None:
            self._last = pending.result()
        return problem

    def _write(self, step: int, write: Callable[[Path], None]) -> Path:
        folder = self.out / f"{_TEMPORARY}{_PREFIX}{step:06d}"
        rank, world_size = self.runtime.rank, self.runtime.world_size
        report = folder / _REPORT.format(rank)
        try:
            write(folder)
            mine = [name for name in _files(folder) if _writer_of(name) == rank]
            files = {name: _sha256(folder / name) for name in mine}
        except BaseException as error:
            if world_size > 1 and rank:  # rank 0 waits for it
                _write_synced(report, json.dumps({"error": str(error)}))
            elif world_size == 1:  # on a full disk its part is what others need
                shutil.rmtree(folder, ignore_errors=True)
            raise
        if rank:
            _write_synced(report, json.dumps({"files": files}))
            return self.out / f"{_PREFIX}{step:06d}"
        for other in range(1, world_size):
            files |= _report_of(folder / _REPORT.format(other), other)
        return _finish(self.out, step, dict(sorted(files.items())), self.keep_last)


def _new_folder(out: Path, step: int) -> Path:
    """Return an empty folder for a checkpoint that is not finished."""
    temporary = out / f"{_TEMPORARY}{_PREFIX}{step:06d}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def _finish(out: Path, step: int, files: dict[str, str], keep_last: int) -> Path:
    """Write the manifest, put the checkpoint into its place and remove the oldest ones."""
    final = out / f"{_PREFIX}{step:06d}"
    temporary = out / f"{_TEMPORARY}{final.name}"
    _write_synced(temporary / MANIFEST_NAME, json.dumps({"step": step, "files": files}, indent=1))
    if final.exists():  # damaged, or it would have been resumed from
        shutil.rmtree(final)
    temporary.replace(final)
    for old in checkpoints(out)[keep_last:]:
        shutil.rmtree(old)
    return final


def _files(folder: Path) -> list[str]:
    """Return the files of a checkpoint, those of its folders too, without the ranks' reports."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    return [name for name in names if not name.startswith(_REPORT.split("{")[0])]


def _writer_of(name: str) -> int:
    """Return the rank that wrote a file: torch names those of a rank `__RANK_NUMBER.distcp`."""
    stem = name.rpartition("/")[2]
    return int(stem.split("_")[2]) if stem.startswith("__") and stem.endswith(".distcp") else 0


def _report_of(path: Path, rank: int) -> dict[str, str]:
    """Wait for what a rank says of its part, and return its files.

    Raises:
        CheckpointError: the rank failed, or said nothing in time.
    """
    end = time.monotonic() + _PATIENCE_S
    while not path.is_file():
        if time.monotonic() > end:
            raise CheckpointError(
                f"rank {rank} wrote no {path.name} for {_PATIENCE_S:.0f} s; all ranks must write "
                "to one folder"
            )
        time.sleep(0.02)
    report = json.loads(path.read_bytes())
    path.unlink()
    if "error" in report:
        raise CheckpointError(f"rank {rank}: {report['error']}")
    return report["files"]


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
        entries = sorted(files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{path.name}: its {MANIFEST_NAME} is missing or damaged"
    for name, digest in entries:
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
    """Write a file that is whole once it is there."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
