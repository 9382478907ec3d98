"""Files that would keep a decoder busy for hours, or are damaged in a way it does not tell.

`check_structure` walks over the parts of a JPEG, PNG, GIF, ICO or BMP without decoding any:
thousands of parts or scans, long junk between them, runs that leave the picture, line ends that a
transfer as text has changed. Its own work is bounded: under a second for the largest file.
"""

from __future__ import annotations

import re

MAX_PARTS = 50_000
"""Parts of a file (segments, chunks, blocks); a PNG of 40 MB in pieces of 8 kB has 5,000."""
MAX_SCANS = 100
"""Passes over a progressive JPEG; encoders write about ten, and each costs time for all pixels."""
MAX_JUNK_BYTES = 1_000_000
"""Bytes between the segments of a JPEG, which decoders skip one by one."""
MAX_ICON_PX = 2048
"""Longer side of a picture inside an icon."""
MAX_RUNS_BYTES = 4_000_000
"""Run-length coded data of a BMP, which are decoded by slow code."""

_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MIN_TEXT_MARKS = 50


class StructureError(ValueError):
    """A file that no decoder should see; `reason` is one of `DROP_REASONS["images"]`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def check_structure(data: bytes) -> None:
    """Raise for a file whose parts are too many, or not what its decoder takes them for.

    Raises:
        StructureError: with the reason `hostile`, `corrupt` or `too_large`.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG"):
        _check_png(data)
    elif data.startswith(b"GIF8"):
        _check_gif(data)
    elif data.startswith(b"BM"):
        _check_bmp(data)
    elif data.startswith(b"\0\0\1\0"):
        _check_ico(data)


def _check_jpeg(data: bytes) -> None:
    at = 2
    parts = scans = junk = 0
    while found := _JPEG_MARKER.search(data, at):
        junk += found.end() - 2 - at
        parts += 1
        if parts > MAX_PARTS or junk > MAX_JUNK_BYTES:
            raise StructureError("hostile", f"{parts} segments with {junk} bytes between them")
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        if marker == 0xDA:
            scans += 1
            end = _SCAN_END.search(data, at)
            _check_line_ends(data[at : end.start() if end else len(data)])
            at = end.start() if end else len(data)
        if scans > MAX_SCANS:
            raise StructureError("hostile", f"more than {MAX_SCANS} passes over the picture")


def _check_line_ends(scan: bytes) -> None:
    """Refuse a scan without any line feed or carriage return, or with them in pairs alone."""
    returns, feeds, pairs = (scan.count(mark) for mark in (b"\r", b"\n", b"\r\n"))
    if max(returns, feeds) < _MIN_TEXT_MARKS or len(set(scan)) < 250:
        return  # too little to tell, or a pattern in which a value may well be missing
    if min(returns, feeds) == 0 or feeds == pairs:
        raise StructureError("corrupt", "its line ends were changed, as in a transfer as text")


def _check_png(data: bytes) -> None:
    at = 8
    for _ in range(MAX_PARTS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise StructureError("hostile", f"more than {MAX_PARTS} chunks")


def _check_gif(data: bytes) -> None:
    """Walk the extensions before the first frame; the frames after it are never read."""
    at = 13 + (3 * (2 << (data[10] & 7)) if len(data) > 10 and data[10] & 0x80 else 0)
    parts = 0
    while data[at : at + 1] == b"!":
        at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
            parts += 1
            if parts > 4 * MAX_PARTS:
                raise StructureError("hostile", f"more than {4 * MAX_PARTS} blocks")
        at += 1
        parts += 4
    if parts > 4 * MAX_PARTS:
        raise StructureError("hostile", f"more than {MAX_PARTS} extensions")


def _check_ico(data: bytes) -> None:
    """Look at the pictures inside an icon: they are decoded as it is opened."""
    for entry in range(6, 6 + 16 * int.from_bytes(data[4:6], "little"), 16):
        at = int.from_bytes(data[entry + 12 : entry + 16], "little")
        is_png = data[at : at + 4] == b"\x89PNG"
        size = data[at + 16 : at + 24][::-1] if is_png else data[at + 4 : at + 12]
        sides = [int.from_bytes(side, "little") for side in (size[:4], size[4:])]
        if max(sides) > MAX_ICON_PX:
            raise StructureError("too_large", f"an icon of {sides[0]} x {sides[1]} pixels")


def _check_bmp(data: bytes) -> None:
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    if len(data) < 54 or int.from_bytes(data[14:18], "little") < 40:
        return
    if width <= 0 or height == 0:
        raise StructureError("corrupt", f"the header states the size {width} x {height}")
    compression = int.from_bytes(data[30:34], "little")
    if compression in (1, 2):
        runs = data[int.from_bytes(data[10:14], "little") :]
        if len(runs) > MAX_RUNS_BYTES:
            raise StructureError("too_large", f"{len(runs)} bytes of runs")
        _check_runs(runs, width, abs(height), is_nibbles=compression == 2)


def _check_runs(runs: bytes, width: int, height: int, *, is_nibbles: bool) -> None:
    """Follow the runs of a BMP and refuse those that leave its rows: they are not its own."""
    at = x = y = 0
    while at + 1 < len(runs):
        count, value = runs[at], runs[at + 1]
        at += 2
        if count:
            x += count
        elif value == 0:
            x, y = 0, y + 1
        elif value == 1:
            return
        elif value == 2:
            x, y = x + runs[at] if at < len(runs) else x, y + (runs[at + 1 : at + 2] or b"\0")[0]
            at += 2
        else:
            x += value
            size = (value + 1) // 2 if is_nibbles else value
            at += size + size % 2
        if x > width or y > height or (y == height and x):
            raise StructureError("corrupt", f"a run reaches column {x} of row {y}")
