"""Samples in the shape of other tools: LLaVA JSONL, Hugging Face, flat Parquet, WebDataset.

`export` is what the command line calls; each format has a module of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cambrian_data.export.folder import Images, Kind
from cambrian_data.export.llava import System, export_llava, llava_row
from cambrian_data.export.tables import export_hf, export_parquet
from cambrian_data.export.tars import export_webdataset
from cambrian_data.records import Progress, UserError, silent
from cambrian_data.workspace import Workspace

__all__ = [
    "FORMATS",
    "export",
    "export_hf",
    "export_llava",
    "export_parquet",
    "export_webdataset",
    "llava_row",
]

FORMATS = {
    "llava": ("copy", "link", "none"),
    "hf": ("copy", "none"),
    "parquet": ("copy", "link", "none"),
    "webdataset": ("copy", "link"),
}
"""The formats, and what `images` may be for each."""


def export(
    workspace: Workspace,
    name: str,
    out: Path | None = None,
    *,
    to: str = "llava",
    images: Images = "copy",
    kind: Kind | None = None,
    system: System | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a data set of the pool or a mixture in one of `FORMATS`.

    Args:
        system: for llava alone: where a system prompt goes.
    Returns:
        dataset, kind, to, folder, samples, pictures, text_only, left_out, bytes, and what the
        format adds.
    Raises:
        UserError: no such format or name, or a folder that holds something else.
        WorkspaceError: the data set or the mixture is damaged.
        RunFailed: no sample could be written, since no picture is there.
    """
    if to not in FORMATS:
        raise UserError(f"--to {to!r}: known are {', '.join(FORMATS)}")
    if images not in FORMATS[to]:
        raise UserError(f"--images {images!r} with --to {to}: known are {', '.join(FORMATS[to])}")
    if to == "llava":
        return export_llava(
            workspace, name, out, images=images, kind=kind, system=system, progress=progress
        )
    if system is not None:
        raise UserError(f"--system {system!r} is for --to llava; --to {to} has a column `system`")
    write: Any = {"hf": export_hf, "parquet": export_parquet, "webdataset": export_webdataset}
    found: dict[str, Any] = write[to](
        workspace, name, out, images=images, kind=kind, progress=progress
    )
    return found
