"""A whole file or folder of an instruction set into the pool, piece by piece, in processes.

A kill costs the pieces under way: the folder in `staging/` is named by the settings alone and the
units in it by the content of their pieces, so the next run finds those that are done, and does not
find them where the file was changed. Nothing is held for each row here: some hundred bytes a piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cambrian_data.build import MANIFEST, Build
from cambrian_data.catalog import write_catalog
from cambrian_data.curation.ingest.formats import PlainJson, RowSource, open_source
from cambrian_data.curation.ingest.part import IngestConfig, merge_stats
from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.curation.ingest.pieces import INGEST_VERSION, IngestPieces, MadePiece
from cambrian_data.recipes import load_recipe
from cambrian_data.records import Progress, RunFailed, UserError, content_id, silent
from cambrian_data.runs import RunRecord, read_run, recorded, run_name
from cambrian_data.shard_store import shown
from cambrian_data.units import Unit
from cambrian_data.workers import default_workers, map_in_processes
from cambrian_data.workspace import Workspace, read_sealed, remove

if TYPE_CHECKING:
    from cambrian_data.curation.ingest.pictures import Pictures

_SMALL = 6 * 2**20
"""A source of fewer bytes is read before other processes have started."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_EDGE = 2**16


def ingest_file(
    workspace: Workspace,
    *,
    file: Path,
    name: str,
    images: str | Path | None = None,
    check_images: str = "decode",
    categories: Mapping[str, str] | None = None,
    strict: bool = False,
    replace: bool = False,
    workers: int | None = None,
    path_rules: PathRules | Path | None = None,
    allow_private_hosts: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Take samples into the pool as the data set `name`.

    Args:
        file: rows in any shape and format that `formats.open_source` knows; a file or a folder.
        images: a folder, the beginning of an address, or tar files that hold the rows' pictures;
            not needed for text-only sets and for formats with pictures inside.
        check_images: none, exists or decode.
        categories: category of a source (`FILE` or `FILE:FOLDER`), before the known ones.
        strict: a source without a known category is an error.
        replace: a data set of this name that was made from another file may be replaced.
        workers: processes; by default the cores, at most four. The result does not depend on it.
        path_rules: how paths in the rows become those of files, or a YAML file that says so.
        allow_private_hosts: pictures may be fetched from addresses off the open internet.
    Returns:
        The data set's name; rows, samples, pictures; mends and drops by reason; unknown sources.
    Raises:
        UserError: a path that is not there, or unknown sources where `strict`.
        RunFailed: no row could be used; the drops are kept.
    """
    config = _config(check_images, categories or {}, path_rules)
    workers = _workers(workers)
    _check_text(file)
    scratch = workspace.scratch()
    try:
        source = open_source(file, scratch=scratch)
        if source.size < _SMALL:
            workers, threads = 1, workers
        else:
            threads = 1
        pictures = _open_pictures(
            workspace, images, config, allow_private_hosts, threads=threads, processes=workers
        )
        pieces = _pieces(workspace, name, source, pictures, config)
        with workspace.lock(f"pool-{name}", lambda note: progress(note, 0, None)):
            record = RunRecord(
                workspace,
                run_name(f"ingest-{name}", pieces.settings, pieces.content or _edges(source)),
                kind="ingest",
                inputs={"dataset": name, "file": str(file), "images": shown(str(images or ""))},
            )
            _check_replaces(workspace, name, file, replace)
            with recorded(record):
                about = _ingest(pieces, record.run, workers, strict, progress)
                return _finish(workspace, record, about, images)
    finally:
        remove(scratch)


def _open_pictures(
    workspace: Workspace,
    images: str | Path | None,
    config: IngestConfig,
    allow_private: bool,
    *,
    threads: int,
    processes: int,
) -> Pictures | None:
    if config.check_images == "none":
        return None
    from cambrian_data.curation.ingest.pictures import (
        open_pictures,  # takes long, for the web's sake
    )

    return open_pictures(
        images,
        workspace=workspace,
        check=config.check_images,
        rules=config.path_rules,
        max_bytes=config.max_image_bytes,
        allow_private=allow_private,
        threads=threads,
        processes=processes,
    )


def _pieces(
    workspace: Workspace,
    name: str,
    source: RowSource,
    pictures: Pictures | None,
    config: IngestConfig,
) -> IngestPieces:
    """Return the work; its settings are all that the units depend on beside their rows."""
    settings = {
        "dataset": name,
        "file": source.name,
        "config": config.model_dump(),
        "pictures": pictures.fingerprint() if pictures else None,
    }
    is_lines = isinstance(source, PlainJson) and source.is_lines
    content = "" if is_lines else content_id(source.identity())
    return IngestPieces(workspace, name, source, content, pictures, config, settings)


def _config(
    check_images: str, categories: Mapping[str, str], rules: PathRules | Path | None
) -> IngestConfig:
    known = ("none", "exists", "decode")
    if check_images not in known:
        raise UserError(f"--check-images {check_images!r}: known are {', '.join(known)}")
    if isinstance(rules, Path):
        rules = load_recipe(str(rules), "data", PathRules).config
    return IngestConfig.model_validate(
        {
            "check_images": check_images,
            "categories": dict(categories),
            "path_rules": rules or PathRules(),
        }
    )


def _workers(given: int | None) -> int:
    if given is not None and given < 1:
        raise UserError(f"--workers {given}: at least 1 process is needed")
    return given or default_workers()


def _check_text(file: Path) -> None:
    """Raise for text whose lines could not be told apart."""
    if file.is_file():
        with file.open("rb") as opened:
            start = opened.read(2)
        if start in _UTF16:
            raise UserError(
                f"{file} is UTF-16 text; make it UTF-8: iconv -f UTF-16 -t UTF-8 {file} > NEW"
            )


def _check_replaces(workspace: Workspace, name: str, file: Path, replace: bool) -> None:
    """Raise where the name stands for other samples than this file's, unless it may be replaced.

    A set without samples may, and one whose file was moved here.
    """
    manifest = read_sealed(workspace.pool(name) / MANIFEST)
    about = (manifest or {"about": {}})["about"]
    if replace or not about.get("samples"):
        return
    run = read_run(workspace, about.get("run") or "") or {}
    earlier = Path(run.get("inputs", {}).get("file") or about.get("file") or "?")
    is_same = earlier.name == file.name and (
        not earlier.exists() or earlier.resolve() == file.resolve()
    )
    if about.get("made_by") != "ingest" or not is_same:
        made = earlier if about.get("made_by") == "ingest" else "`cambrian data engine`"
        raise UserError(
            f"the data set {name!r} ({about['samples']:,} samples) was made from {made}; give "
            f"{file} another --name, or add --replace"
        )


def _edges(source: RowSource) -> str:
    """Return a hash of a file's size and of its first and last bytes, to name its run by."""
    assert isinstance(source, PlainJson)
    with source.path.open("rb") as file:
        first = file.read(_EDGE)
        file.seek(max(source.size - _EDGE, 0))
        return content_id(source.size, first.hex(), file.read(_EDGE).hex())


# ---------------------------------------------------------------------------- the data set


def _ingest(
    pieces: IngestPieces, run: str, workers: int, strict: bool, progress: Progress
) -> dict[str, Any]:
    """Make the data set, unless it is there and whole; return what its manifest says."""
    target = pieces.workspace.pool(pieces.dataset)
    settings = content_id(pieces.settings, INGEST_VERSION)
    build = Build(pieces.workspace, target, settings)
    made = read_sealed(target / MANIFEST)
    if made is not None and made["about"].get("settings") == settings:
        keys = _keys(pieces, workers, progress)
        finished = Build(pieces.workspace, target, content_id(settings, keys))
        if finished.is_done():
            about = finished.about()
            _check_sources(about, pieces.source.name, strict)
            return about
        if made["key"] == finished.key:
            build = finished  # something in it is damaged: its whole units are used again
    folder, before = build.folder(), _stamp(pieces.source)
    units = _make(pieces, folder, workers, progress)
    if _stamp(pieces.source) != before:
        raise pieces.changed()
    stats = merge_stats(unit.numbers for unit in units)
    try:
        _check_sources(stats, pieces.source.name, strict)
    except UserError:
        remove(folder)
        raise
    keys = [unit.key for unit in units]
    pieces.units(folder).keep_only(keys)
    build.key = content_id(settings, keys)
    about = {
        "made_by": "ingest",
        "run": run,
        "file": pieces.source.name,
        "settings": settings,
        "samples": stats["kept"],
        **stats,
    }
    build.publish(about)
    return about


def _stamp(source: RowSource) -> tuple[int, int] | None:
    """Return size and time of a file whose content is not known by its hash beforehand."""
    if not isinstance(source, PlainJson):
        return None
    status = source.path.stat()
    return status.st_size, status.st_mtime_ns


def _keys(pieces: IngestPieces, workers: int, progress: Progress) -> list[str]:
    """Return the keys of all pieces as the source is now; hashing leaves Python's lock alone."""
    progress("look for changes", 0, None)
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(pieces.key, pieces.pieces()))


def _make(pieces: IngestPieces, folder: Path, workers: int, progress: Progress) -> list[Unit]:
    """Make the units that are missing; progress counts bytes of the source."""
    done: dict[int, MadePiece] = {}
    num_bytes, size = 0, pieces.source.size
    progress("ingest", 0, size)
    for number, made in map_in_processes(partial(pieces.make, folder), pieces.pieces(), workers):
        done[number] = made
        num_bytes += made.num_bytes
        progress("ingest", min(num_bytes, size), size)
    if not done:
        raise UserError(f"{pieces.source.name} holds no rows")
    progress("ingest", size, size)
    return [done[number].unit for number in range(len(done))]


def _check_sources(stats: Mapping[str, Any], file: str, strict: bool) -> None:
    """Raise where sources have no category and all must have one; all of them are named."""
    unknown = stats["unknown_sources"]
    if strict and unknown:
        listed = ", ".join(f"{source!r} ({count:,} rows)" for source, count in unknown.items())
        raise UserError(
            f"{file}: no category is known for {len(unknown)} of its sources: {listed}; name them "
            "with --category SOURCE=CATEGORY, or file them under 'other' without --strict"
        )


def _finish(
    workspace: Workspace, record: RunRecord, about: Mapping[str, Any], images: str | Path | None
) -> dict[str, Any]:
    """Close the record of a run; return its result."""
    result = {
        "dataset": record.data["inputs"]["dataset"],
        "rows": about["rows"],
        "samples": about["samples"],
        "pictures": about["images"],
        "mended": about["mended"],
        "drops": about["dropped"],
        "unknown_sources": about["unknown_sources"],
    }
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


def _nothing_left(result: Mapping[str, Any], images: str | Path | None) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in result["drops"].items())
    looked = f"; pictures were looked for in {images}" if images else ""
    return (
        f"none of the {result['rows']:,} rows could be used ({reasons or 'all lines are blank'})"
        f"{looked}; every row stands with its reason in the view `drops`"
    )
