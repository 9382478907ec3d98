"""Files that say what is wanted: three forms, told apart by what they hold, alone or in a folder.

Nothing of a file is passed over in silence: what cannot be read is a row of `drops` with its line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cambrian_data.engine.topics.json_topics import read_json_topics
from cambrian_data.engine.topics.lines import Reading, Unread, read_lines
from cambrian_data.engine.topics.loose_json import START
from cambrian_data.engine.topics.wanted import Wanted
from cambrian_data.records import UserError, content_id, drop

MAX_FILE_BYTES = 10_000_000


def read_wanted(path: Path) -> tuple[list[Wanted], list[dict[str, Any]]]:
    """Return what a file, or the files of a folder, ask for, and drops for what is unreadable.

    Raises:
        UserError: there is no such file, or nothing in it can be read; names file and line.
    """
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
        )
        if not files:
            raise UserError(f"the folder {path} has no file with topics in it")
    elif path.is_file():
        files = [path]
    else:
        raise UserError(f"there is no file or folder {str(path)!r} with fields or topics")
    wanted: list[Wanted] = []
    drops: list[dict[str, Any]] = []
    first: str = ""
    for file in files:
        reading = _read_file(file)
        wanted += reading.wanted
        drops += [_unread_row(file, part) for part in reading.unread]
        if reading.unread and not first:
            first = f"{file}, line {reading.unread[0].line}: {reading.unread[0].why}"
    if not wanted:
        raise UserError(
            f"{first or f'{path}, line 1: no topic in it'}; known are lines as `Field: subfield, "
            "subfield`, a topic a line, and JSON as {field: {subfield: [topic, ...]}}"
        )
    return wanted, drops


def _read_file(path: Path) -> Reading:
    try:
        size = path.stat().st_size
        body = path.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        return _unreadable(f"cannot be read: {error.strerror}")
    if size > MAX_FILE_BYTES:
        return _unreadable(f"{size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
    is_utf16 = body.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = body.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return _unreadable(f"not UTF-8 text (byte {error.start:,})", line)
    if "\0" in text:
        return _unreadable("not text", text.count("\n", 0, text.index("\0")) + 1)
    return read_json_topics(text, path.stem) if START.search(text) else read_lines(text)


def _unreadable(why: str, line: int = 1) -> Reading:
    return Reading(unread=[Unread(line, "", why)])


def _unread_row(path: Path, part: Unread) -> dict[str, Any]:
    name, text = _storable(path.name), _storable(part.text)
    return drop(
        "topics",
        content_id("unreadable", name, part.line, text),
        "unreadable",
        detail=part.why,
        source=name,
        origin={"file": name, "line": part.line - 1, "id": None},
        raw=text or None,
    )


def _storable(text: str) -> str:
    """Return a text without halves of characters, as names of files and JSON escapes have them."""
    return text.encode("utf-8", "replace").decode()
