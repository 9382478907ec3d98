"""A data set of the pool, or a mixture, in the shape of the published instruction sets.

`export_llava` writes one JSON object a line (id, source, image, conversations), sorted by id, and
the pictures beside it. The folder is made aside and swapped in whole; equal samples give equal
bytes. Parts are sorted one by one and merged from disk: memory is that of one part.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cambrian_data.build import published
from cambrian_data.records import Progress, RunFailed, UserError, silent
from cambrian_data.workspace import Workspace, file_sha256, remove

ABOUT = "export.json"
"""What was exported; a folder without it is nobody's to replace."""
MAX_NAMED = 1000
"""Rows left out that are named in the folder's `export.json`; all of them are counted."""
_COLUMNS = ["id", "source", "images", "conversations", "system", "origin"]
_MERGED_ROWS = 100
"""Rows of each part that are in memory while parts are merged."""
_ROWS_PER_STEP = 500
_AREAS = {"pool": "pool", "mixture": "mixtures"}

Images = Literal["copy", "link", "none"]
System = Literal["key", "question"]


def export_llava(
    workspace: Workspace,
    name: str,
    out: Path | None = None,
    *,
    images: Images = "copy",
    kind: Literal["pool", "mixture"] | None = None,
    system: System = "key",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a data set or a mixture as `OUT/NAME.jsonl` with its pictures under `OUT/images/`.

    The file goes back in with `cambrian data ingest OUT/NAME.jsonl --images OUT --name ...`.

    Args:
        name: of a data set of the pool or of a mixture.
        out: the folder to make; `exports/NAME` in the workspace where it is left out.
        images: copy (as hard links on one file system), link (symbolic links; cannot be ingested
            again, since they lead out of the folder), or none (the paths are those in the
            workspace).
        kind: where the name is looked for; both where it is left out.
        system: where a system prompt goes: a key `system` of the row, or the end of the first
            question, for programs that know no system prompt.
    Returns:
        dataset, kind, folder, file, samples, pictures, text_only, left_out, bytes.
    Raises:
        UserError: no such name, two of them, or a folder that holds something else.
        WorkspaceError: the data set or the mixture is damaged.
        RunFailed: no row could be written, since no picture is there.
    """
    source, area = _find(workspace, name, kind)
    target = (out or workspace.root / "exports" / name).expanduser().absolute()
    with workspace.lock(f"exports-{name}", lambda note: progress(note, 0, None)):
        _check_target(target)
        total = int(published(source)["about"]["samples"])
        folder = target.with_name(f".{target.name}.unfinished")
        remove(folder)
        export = _Export(workspace, folder, images, system)
        try:
            folder.mkdir(parents=True)
            with (folder / f"{name}.jsonl").open("wb") as file:
                export.write(file, _sorted_samples(workspace, source), total, progress)
            if total and not export.samples:
                raise RunFailed(_nothing(name, export))
            about = {"dataset": name, "kind": area, "images": images, "system": system}
            about |= export.numbers() | {"sha256": file_sha256(folder / f"{name}.jsonl")}
            (folder / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
            _swap(folder, target)
        finally:
            remove(folder)
    return {
        "dataset": name,
        "kind": area,
        "folder": str(target),
        "file": str(target / f"{name}.jsonl"),
        **{key: value for key, value in export.numbers().items() if key != "left_out_rows"},
    }


# ----------------------------------------------------------------------------- what and where


def _find(workspace: Workspace, name: str, kind: str | None) -> tuple[Path, str]:
    """Return the folder that holds the samples, and whether it is of the pool or a mixture."""
    wanted = [kind] if kind else list(_AREAS)
    found = [area for area in wanted if name in workspace.names(_AREAS[area])]
    if len(found) > 1:
        raise UserError(
            f"{name!r} is a data set of the pool and a mixture too: say which with "
            "--from pool or --from mixture"
        )
    if not found:
        known = [f"{area}: {', '.join(workspace.names(_AREAS[area])) or 'none'}" for area in wanted]
        raise UserError(
            f"there is no {' or '.join(wanted)} {name!r} to export ({'; '.join(known)})"
        )
    area = found[0]
    return (workspace.pool(name) if area == "pool" else workspace.mixture(name)), area


def _check_target(target: Path) -> None:
    """Raise where the export would replace what no export has made."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / ABOUT).is_file():
        raise UserError(f"{target} is there and is no earlier export; give another folder")


def _swap(folder: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.replaced")
    remove(old)
    with contextlib.suppress(FileNotFoundError):
        target.replace(old)
    folder.replace(target)
    remove(old)


def _nothing(name: str, export: _Export) -> str:
    return (
        f"none of the {export.left_out:,} samples of {name} could be exported: "
        f"{export.named[0]['detail']}"
    )


# -------------------------------------------------------------------------------------- rows


def _sorted_samples(workspace: Workspace, source: Path) -> Iterator[dict[str, Any]]:
    """Yield samples in the order of their ids, then of the places that they came from."""
    spill = workspace.scratch()
    spill.mkdir()
    try:
        parts = sorted((source / "samples").glob("part-*.parquet"))
        runs = [_sorted_run(part, spill / str(number)) for number, part in enumerate(parts)]
        yield from heapq.merge(*map(_rows_of, runs), key=_place_of)
    finally:
        remove(spill)


def _sorted_run(part: Path, target: Path) -> Path:
    """Write one part sorted, in pieces small enough to hold one of every part at a time."""
    table = pq.read_table(part, columns=_COLUMNS)
    keys = pa.table(
        {
            "id": table["id"],
            "file": pc.fill_null(pc.struct_field(table["origin"], "file"), ""),
            "line": pc.fill_null(pc.struct_field(table["origin"], "line"), -1),
        }
    )
    order = [(name, "ascending") for name in keys.column_names]
    indices = pc.sort_indices(keys, sort_keys=order)
    pq.write_table(table.take(indices), target, row_group_size=_MERGED_ROWS)
    return target


def _rows_of(run: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(run) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, use_threads=False).to_pylist()


def _place_of(sample: dict[str, Any]) -> tuple[str, str, int]:
    """Return what samples are sorted by."""
    origin = sample["origin"] or {"file": None, "line": None}
    line = origin["line"]
    return sample["id"], origin["file"] or "", -1 if line is None else line


@dataclass(slots=True)
class _Export:
    """One export at work: where it writes, and what it counted."""

    workspace: Workspace
    folder: Path
    images: Images
    system: System
    samples: int = 0
    text_only: int = 0
    pictures: int = 0
    num_bytes: int = 0
    left_out: int = 0
    named: list[dict[str, str]] = field(default_factory=list)

    def write(
        self, file: BinaryIO, samples: Iterator[dict[str, Any]], total: int, progress: Progress
    ) -> None:
        """Write a line for each sample whose pictures are there, and the pictures."""
        for number, sample in enumerate(samples, start=1):
            problem = next(filter(None, map(self._place, sample["images"])), None)
            if problem:
                self.left_out += 1
                if len(self.named) < MAX_NAMED:
                    self.named.append({"id": sample["id"], "detail": problem})
            else:
                line = orjson.dumps(llava_row(sample, self.system)) + b"\n"
                file.write(line)
                self.num_bytes += len(line)
                self.samples += 1
                self.text_only += not sample["images"]
            if number % _ROWS_PER_STEP == 0 or number == total:
                progress("export", number, total)

    def numbers(self) -> dict[str, Any]:
        """Return the counts, and the rows left out."""
        return {
            "samples": self.samples,
            "pictures": self.pictures,
            "text_only": self.text_only,
            "bytes": self.num_bytes,
            "left_out": self.left_out,
            "left_out_rows": self.named,
        }

    def _place(self, image: dict[str, Any]) -> str | None:
        """Put a picture into the folder; return what is wrong with it, if anything is."""
        if self.images == "none":
            return None
        if not image["sha256"]:
            return (
                f"{image['path']} was not read: ingest its data set with --check-images decode, "
                "or export with --images none"
            )
        target = self.folder / image["path"]
        if target.exists():
            return None
        source = self.workspace.root / image["path"]
        try:
            if file_sha256(source) != image["sha256"]:
                return f"{image['path']} is damaged: its content is not what its name says"
        except OSError as error:
            return f"{image['path']}: {error.strerror}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.images == "link":
            target.symlink_to(source)
        else:
            _link_or_copy(source, target)
        self.pictures += 1
        return None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def llava_row(sample: dict[str, Any], system: System = "key") -> dict[str, Any]:
    """Return a sample as a row of the published files.

    Of one picture its path, of several a list; none where the sample is text alone.
    """
    paths = [image["path"] for image in sample["images"]]
    turns = [{"from": turn["from"], "value": turn["value"]} for turn in sample["conversations"]]
    prompt = sample["system"]
    if prompt and system == "question":
        turns[0]["value"] += f"\n{prompt}"
    return {
        "id": sample["id"],
        "source": sample["source"],
        **({"image": paths[0] if len(paths) == 1 else paths} if paths else {}),
        **({"system": prompt} if prompt and system == "key" else {}),
        "conversations": turns,
    }
