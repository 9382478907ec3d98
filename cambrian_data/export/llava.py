"""A data set of the pool, or a mixture, in the shape of the published instruction sets.

`export_llava` writes one JSON object a line (id, source, image, conversations), sorted by id, and
the pictures beside it. Equal samples give equal bytes. Parts are sorted one by one and merged from
disk: memory is that of one part.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cambrian_data.export.folder import (
    Account,
    Images,
    Kind,
    PictureError,
    Samples,
    filled_aside,
    find_samples,
    place_picture,
    result,
    target_folder,
    write_about,
)
from cambrian_data.records import Progress, UserError, silent
from cambrian_data.workspace import Workspace, file_sha256, remove

_COLUMNS = ["id", "source", "images", "conversations", "system", "origin"]
_MERGED_ROWS = 100
"""Rows of each part that are in memory while parts are merged."""
_ROWS_PER_STEP = 500

System = Literal["key", "question"]


def export_llava(
    workspace: Workspace,
    name: str,
    out: Path | None = None,
    *,
    images: Images = "copy",
    kind: Kind | None = None,
    system: System | None = None,
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
            question, as in the published file, whose readers know no such key. By default the
            question for a mixture, the key for a data set, which goes back in as it was.
    Returns:
        dataset, kind, to, folder, file, samples, pictures, text_only, left_out, bytes.
    Raises:
        UserError: no such name, two of them, or a folder that holds something else.
        WorkspaceError: the data set or the mixture is damaged.
        RunFailed: no row could be written, since no picture is there.
    """
    if system not in (None, "key", "question"):
        raise UserError(f"--system {system!r}: known are key, question")
    samples = find_samples(workspace, name, kind)
    target = target_folder(workspace, name, out)
    account = Account()
    system = system or ("question" if samples.kind == "mixture" else "key")
    with (
        workspace.lock(f"exports-{name}", lambda note: progress(note, 0, None)),
        filled_aside(target) as folder,
    ):
        file = folder / f"{name}.jsonl"
        rows = _Rows(workspace, folder, images, system, account)
        rows.write(file, _sorted_samples(workspace, samples), samples.total, progress)
        account.check(name, samples.total)
        about = {"dataset": name, "kind": samples.kind, "images": images, "system": system}
        write_about(folder, about | {"sha256": file_sha256(file)}, account)
    return result(samples, "llava", target, account, file=str(target / f"{name}.jsonl"))


def _sorted_samples(workspace: Workspace, samples: Samples) -> Iterator[dict[str, Any]]:
    """Yield samples in the order of their ids, then of the places that they came from."""
    spill = workspace.scratch()
    spill.mkdir()
    try:
        runs = [_sorted_run(part, spill / str(n)) for n, part in enumerate(samples.parts)]
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


class _Rows:
    """Writes rows and their pictures, and keeps the account."""

    def __init__(
        self, workspace: Workspace, folder: Path, images: Images, system: System, account: Account
    ) -> None:
        self._workspace, self._folder, self._images = workspace, folder, images
        self._system, self._account = system, account

    def write(
        self, path: Path, samples: Iterator[dict[str, Any]], total: int, progress: Progress
    ) -> None:
        """Write a line for every sample whose pictures are there."""
        with path.open("wb") as file:
            for number, sample in enumerate(samples, start=1):
                try:
                    self._place_all(sample)
                except PictureError as error:
                    self._account.leave_out(sample["id"], str(error))
                else:
                    line = orjson.dumps(llava_row(sample, self._system)) + b"\n"
                    file.write(line)
                    self._account.num_bytes += len(line)
                    self._account.samples += 1
                    self._account.text_only += not sample["images"]
                if number % _ROWS_PER_STEP == 0 or number == total:
                    progress("export", number, total)

    def _place_all(self, sample: dict[str, Any]) -> None:
        for image in sample["images"]:
            is_new = place_picture(self._workspace, image, self._folder, self._images)
            self._account.pictures += is_new


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
