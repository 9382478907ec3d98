"""A whole file of an instruction set into the pool, part by part, so that a kill costs one part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cambrian_data.build import MANIFEST, Build
from cambrian_data.catalog import write_catalog
from cambrian_data.curation.ingest import (
    FolderPictures,
    IngestConfig,
    PictureSource,
    ingest_part,
    merge_stats,
    parts_of,
)
from cambrian_data.curation.lines import RawLine
from cambrian_data.engine.images import ImagesConfig
from cambrian_data.pictures import keep_picture
from cambrian_data.records import Progress, RunFailed, UserError, content_id, silent
from cambrian_data.runs import RunRecord, recorded, run_name
from cambrian_data.units import Unit, Units
from cambrian_data.workspace import Workspace, file_sha256, read_sealed

INGEST_VERSION = "1"
_ANY_PICTURE = ImagesConfig(min_side_px=1, max_aspect=200)
"""Published sets hold small and long pictures; curation decides about those."""


def ingest_file(
    workspace: Workspace,
    *,
    file: Path,
    name: str,
    images: Path | None = None,
    check_images: str = "decode",
    categories: Mapping[str, str] | None = None,
    strict: bool = False,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Take a JSONL or JSON file of samples into the pool as the data set `name`.

    Args:
        file: rows in the LLaVA, Cambrian, ShareGPT or OpenAI-messages shape.
        images: the folder that the rows' pictures lie in; not needed for text-only sets.
        check_images: none, exists or decode.
        categories: category of a source (`FILE` or `FILE:FOLDER`), before the known ones.
        strict: a source without a known category is an error.
        replace: a data set of this name that was made from another file may be replaced.
    Returns:
        The data set's name; rows, samples, pictures; mends and drops by reason; unknown sources.
    Raises:
        UserError: a path that is not there, or an unknown source where `strict`.
        RunFailed: no row could be used; the drops are kept.
    """
    config = _config(check_images, categories or {}, strict)
    _check_paths(file, images)
    _check_format(file)
    target = workspace.pool(name)
    source = {"file": file.name, "sha256": file_sha256(file), "config": config.model_dump()}
    state = {"source": source, "pictures": _listing(images), "version": INGEST_VERSION}
    run = run_name(f"ingest-{name}", name, state)
    with workspace.lock(f"pool-{name}", lambda note: progress(note, 0, None)):
        record = RunRecord(
            workspace, run, kind="ingest", inputs={"file": str(file), "images": str(images or "")}
        )
        _check_replaces(workspace, name, file, replace)
        build = Build(workspace, target, content_id(state))
        with recorded(record):
            if not build.is_done():
                units = _ingest_parts(
                    workspace, build, name, file, images, config, source, progress
                )
                about = merge_stats(unit.numbers for unit in units)
                made = {"made_by": "ingest", "run": run, "file": file.name}
                build.publish({**made, "samples": about["kept"], **about})
            result = _result(name, build.about())
            record.stage(
                "ingest",
                rows_in=result["rows"],
                rows_out=result["samples"],
                seconds=0.0,
                drops=result["drops"],
            )
            write_catalog(workspace)
            if not result["samples"]:
                raise RunFailed(_nothing_left(result, images))
            record.finish("done", outputs=result)
    return result


def _config(check_images: str, categories: Mapping[str, str], strict: bool) -> IngestConfig:
    known = ("none", "exists", "decode")
    if check_images not in known:
        raise UserError(f"--check-images {check_images!r}: known are {', '.join(known)}")
    return IngestConfig.model_validate(
        {"check_images": check_images, "categories": dict(categories), "strict": strict}
    )


def _check_paths(file: Path, images: Path | None) -> None:
    if file.is_dir():
        raise UserError(f"{str(file)!r} is a folder; give a JSONL or JSON file of samples")
    if not file.is_file():
        raise UserError(f"there is no file {str(file)!r}; give a JSONL or JSON file of samples")
    if images is not None and not images.is_dir():
        raise UserError(
            f"there is no folder {str(images)!r}; give the folder of the pictures with --images"
        )


def _check_format(file: Path) -> None:
    """Raise for a file that is plainly something else than rows of text."""
    with file.open("rb") as opened:
        start = opened.read(512)
    kinds = {
        b"PAR1": "a Parquet file",
        b"\x1f\x8b": "a gzip file",
        b"PK\x03\x04": "a zip file",
        b"\x7fELF": "a program",
    }
    kind = next((name for magic, name in kinds.items() if start.startswith(magic)), None)
    if start[257:262] == b"ustar":
        kind = "a tar file"
    if kind:
        raise UserError(
            f"{file} is {kind}; JSONL and JSON files are read, other formats are not there yet"
        )


def _check_replaces(workspace: Workspace, name: str, file: Path, replace: bool) -> None:
    """Raise where the name stands for another file's data set, unless it may be replaced."""
    manifest = read_sealed(workspace.pool(name) / MANIFEST)
    held = (manifest or {"about": {}})["about"].get("file", file.name)
    if held != file.name and not replace:
        raise UserError(
            f"the data set {name!r} was made from {held}; give {file.name} another --name, or add "
            "--replace"
        )


def _listing(images: Path | None) -> str | None:
    """Return a hash of names, sizes and times of the pictures: a changed folder is read again."""
    if images is None:
        return None
    found = sorted(path for path in images.rglob("*") if path.is_file())
    return content_id(
        [
            [path.relative_to(images).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
            for path in found
        ]
    )


def _ingest_parts(
    workspace: Workspace,
    build: Build,
    name: str,
    file: Path,
    images: Path | None,
    config: IngestConfig,
    source: Mapping[str, Any],
    progress: Progress,
) -> list[Unit]:
    """Make the parts that are missing; progress counts bytes of the file."""
    units = Units(workspace, build.folder(), "ingest", version=INGEST_VERSION, config=source)
    pictures = (
        None
        if images is None
        else FolderPictures(
            images,
            lambda data: keep_picture(workspace, data, _ANY_PICTURE)[0],
            max_bytes=config.max_image_bytes,
        )
    )
    done: list[Unit] = []
    size = file.stat().st_size
    for lines in parts_of(file, config):
        key = units.key(name, lines[0].line, len(lines))
        unit = units.load(key)
        done.append(
            unit or _ingest_unit(workspace, units, key, lines, name, file, pictures, config)
        )
        progress("ingest", min(lines[-1].end, size), size)
    if not done:
        raise UserError(f"{file} holds no rows")
    progress("ingest", size, size)
    units.keep_only(unit.key for unit in done)
    return done


def _ingest_unit(
    workspace: Workspace,
    units: Units,
    key: str,
    lines: Sequence[RawLine],
    name: str,
    file: Path,
    pictures: PictureSource | None,
    config: IngestConfig,
) -> Unit:
    part = ingest_part(lines, dataset=name, file_name=file.name, images=pictures, config=config)
    tables = {"samples": part.samples, "images": part.images, "drops": part.drops}
    stored = [workspace.root / path for path in part.images["path"].to_pylist()]
    return units.commit(key, tables, numbers=part.stats, pictures=stored)


def _nothing_left(result: Mapping[str, Any], images: Path | None) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in result["drops"].items())
    looked = f"; pictures were looked for in {images}" if images else ""
    return (
        f"none of the {result['rows']:,} rows could be used ({reasons or 'all lines are blank'})"
        f"{looked}; every row stands with its reason in the view `drops`"
    )


def _result(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dataset": name,
        "rows": about["rows"],
        "samples": about["samples"],
        "pictures": about["images"],
        "mended": about["mended"],
        "drops": about["dropped"],
        "unknown_sources": about["unknown_sources"],
    }
