"""Packed files (.gz, .zst, .bz2) are unpacked once, to disk, with a bound on what they unfold to.

A packed file can only be read from its start, so that reading pieces of it anywhere would unpack
it again and again. The unpacked copy lies in a folder that the caller gives, is named by the
packed file's path, size and time, and is used again as long as these are the same.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa

from cambrian_data.records import UserError, content_id

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
"""How packed files begin."""
_MAX_RATIO = 300
"""Text packs to a tenth or so; gzip of nothing but zeros reaches 1000."""
_FREE_RATIO_BYTES = 256 * 2**20
_CHUNK = 4 * 2**20
_LEAVE_FREE_BYTES = 2**30


def packing_of(start: bytes) -> str | None:
    """Return how a file that begins like this is packed, or None."""
    return next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)


def unpacked(path: Path, packing: str, folder: Path) -> Path:
    """Return the unpacked copy of a file, made where it is not there yet.

    Args:
        path: the packed file.
        packing: gzip, zstd or bz2.
        folder: the copy lies in it.
    Raises:
        UserError: the file is damaged or cut, unfolds to more than 300 times its size, or there is
            no room for the copy.
    """
    stat = path.stat()
    key = content_id([str(path.absolute()), stat.st_size, stat.st_mtime_ns])[:24]
    target = folder / f"unpacked-{key}{path.with_suffix('').suffix}"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{target.name}.part"
    try:
        _unpack(path, packing, part, stat.st_size)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _unpack(path: Path, packing: str, part: Path, packed_bytes: int) -> None:
    most = max(_FREE_RATIO_BYTES, _MAX_RATIO * packed_bytes)
    written = 0
    try:
        with (
            pa.OSFile(str(path)) as raw,
            pa.CompressedInputStream(raw, packing) as stream,
            part.open("wb") as file,
        ):
            while chunk := stream.read(_CHUNK):
                written += len(chunk)
                if written > most:
                    raise UserError(
                        f"{path} unfolds to more than {most} bytes, {_MAX_RATIO} times its own "
                        "size, which no text does: unpack it yourself if that is right"
                    )
                _check_room(path, part, len(chunk))
                file.write(chunk)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} cannot be unpacked after {written} bytes ({error}): it was cut short or is "
            "damaged (or the disk is full); fetch it again, or unpack what is good of it yourself"
        ) from None


def _check_room(path: Path, part: Path, size: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free - size < _LEAVE_FREE_BYTES:
        raise UserError(
            f"there is no room to unpack {path}: {free // 2**20} MiB are free in {part.parent}; "
            "free some, or give a workspace on another disk"
        )
