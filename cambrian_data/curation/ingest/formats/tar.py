"""Which files lie where in a tar file, read without unpacking it and without trusting it.

Only plain files are given; folders are passed over; links, devices, and names that lead out of the
folder are given as refused and never opened. Names of more than 4 kB and headers that do not add
up end the reading. Memory: one header.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

BLOCK = 512
_MAX_HEADER_BYTES = 2**16
"""Of a long name or a list of attributes, as GNU tar and PAX write them before a member."""
_MAX_NAME_CHARACTERS = 4096
_PLAIN, _FOLDER = frozenset(b"\x000"), ord("5")
_LONG_NAME, _LONG_LINK, _ATTRIBUTES, _GLOBAL = ord("L"), ord("K"), ord("x"), ord("g")


class TarError(ValueError):
    """A tar file that ends too early, or is none."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar file."""

    name: str
    """Normalised: no `./`, no `//`."""
    start: int
    """Where its header begins."""
    offset: int
    """Where its bytes begin."""
    size: int
    refused: str | None = None
    """Why it is not read: a link, a device, a name that leads out of the folder."""

    @property
    def end(self) -> int:
        """Return where the next header begins."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


def is_tar(start: bytes) -> bool:
    """Say whether a file that begins like this (512 bytes) is a tar file."""
    return len(start) >= BLOCK and any(start[:100]) and _checksum_fits(start[:BLOCK])


def members_of(file: IO[bytes], start: int = 0, end: int | None = None) -> Iterator[Member]:
    """Yield the files of a tar file in order.

    Args:
        file: opened for reading.
        start: where a header begins.
        end: where reading stops; at the end of the archive where it is left out.
    Raises:
        TarError: a damaged header, or a file that was cut; what came before it has been yielded.
    """
    total = file.seek(0, 2)
    at, began, name, size = start, start, None, None
    while end is None or at < end:
        file.seek(at)
        header = file.read(BLOCK)
        if not header or not any(header):
            return  # the end of the archive; some programs leave it out
        if len(header) < BLOCK or not _checksum_fits(header):
            raise TarError(f"there is no header at byte {at}")
        kind, stated = header[156], _number(header[124:136], at)
        offset = at + BLOCK
        at = offset + -(-stated // BLOCK) * BLOCK
        if kind in (_LONG_NAME, _LONG_LINK, _ATTRIBUTES, _GLOBAL):
            if stated > _MAX_HEADER_BYTES:
                raise TarError(f"a header of {stated} bytes at byte {offset}")
            data = file.read(stated)
            if kind == _LONG_NAME:
                name = _text(data)
            elif kind == _ATTRIBUTES:
                name, size = _attributes(data, name, size)
            continue
        length = stated if size is None else size
        at = offset + -(-length // BLOCK) * BLOCK
        named = name or _short_name(header)
        if kind != _FOLDER and not (kind in _PLAIN and named.endswith("/")):
            refused = _refusal(kind, named)
            if refused is None and offset + length > total:
                raise TarError(f"{named} should have {length} bytes; the file was cut in it")
            yield Member(posixpath.normpath(named), began, offset, length, refused)
        began, name, size = at, None, None


def _refusal(kind: int, name: str) -> str | None:
    if kind not in _PLAIN and kind != _FOLDER:
        kinds = {"1": "a hard link", "2": "a symbolic link", "3": "a device", "4": "a device"}
        return kinds.get(chr(kind), f"a member of type {chr(kind)!r}")
    clean = posixpath.normpath(name)
    if clean.startswith(("/", "../")) or clean in ("..", ".") or "\0" in name:
        return "a name that leads out of the folder"
    return "a name that is too long" if len(name) > _MAX_NAME_CHARACTERS else None


def _short_name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0":
        prefix = _text(header[345:500])
        name = f"{prefix}/{name}" if prefix else name
    return name


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def _attributes(data: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
    """Return name and size from a list of `LENGTH KEY=VALUE` lines."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 10)
        length = data[at:space]
        if space < 0 or not length.isdigit() or not 0 < int(length) <= len(data) - at:
            break
        key, _, value = data[space + 1 : at + int(length) - 1].partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "replace")
        elif key == b"size" and value.isdigit() and len(value) < 19:
            size = int(value)
        at += int(length)
    return name, size


def _number(data: bytes, at: int) -> int:
    """Return a number of a header: octal digits, or bytes where the first bit is set."""
    if data[0] & 0x80:
        value = int.from_bytes(data[1:], "big") if data[0] == 0x80 else -1
    else:
        digits = data.split(b"\0", 1)[0].strip()
        value = (
            int(digits, 8) if digits and not digits.strip(b"01234567") else (-1 if digits else 0)
        )
    if not 0 <= value < 2**62:
        raise TarError(f"a size that is none in the header at byte {at}")
    return value


def _checksum_fits(header: bytes) -> bool:
    try:
        stated = int(header[148:156].split(b"\0", 1)[0].strip() or b"-1", 8)
    except ValueError:
        return False
    return stated == sum(header[:148]) + 8 * 32 + sum(header[156:])
