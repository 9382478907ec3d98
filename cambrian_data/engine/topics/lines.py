"""Topics in a text file: `Field: subfield, subfield` a line (the published form), or one a line.

Which of the two a file has is decided for the whole of it: a list of topics may well hold
`Star Wars: A New Hope`, but not in most of its lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cambrian_data.engine.topics.names import MAX_NAME, clean_names, split_names
from cambrian_data.engine.topics.wanted import Wanted

_COLON = re.compile(r"(?P<name>[^:\uff1a]{1,120}?)\s*(?:\uff1a|:(?!//)(?!(?<=\d:)\d))(?P<rest>.*)")
_DASH = re.compile(r"(?P<name>[^,]{1,120}?)\s+[-\u2013\u2014]+\s+(?P<rest>.*[,;].*)")
_COMMAS = (",", ";", "\uff0c", "\u3001")
_LEAD = re.compile(r"\s*(?:[-*+\u2013\u2014\u2022\u2023\u25e6\u25aa]\s+)?")


@dataclass(frozen=True, slots=True)
class Unread:
    """A part of a file that could not be read."""

    line: int
    """Counted from 1."""
    text: str
    why: str


@dataclass(slots=True)
class Reading:
    """What a file holds, and what of it could not be read."""

    wanted: list[Wanted] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)


def read_lines(text: str) -> Reading:
    """Read a text in the published form, or as a list of topics."""
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), start=1)
        if any(sign.isalnum() for sign in line) and not line.lstrip().startswith(("#", "```"))
    ]
    pairs = [_pair(line) for _, line in lines]
    num_pairs = sum(pair is not None for pair in pairs)
    num_broken = sum(
        line.endswith(_COMMAS) and pair is None
        for (_, line), pair in zip(lines, pairs[1:], strict=False)
    )
    if 2 * num_pairs > len(lines) - num_broken:
        return _read_published(lines, pairs)
    return _read_list(lines)


def _pair(line: str) -> tuple[str, str] | None:
    """Return field and subfields, if a line has the published form."""
    line = line[_LEAD.match(line).end() :]  # type: ignore[union-attr]
    found = _COLON.fullmatch(line) or _DASH.fullmatch(line)
    return (found["name"], found["rest"]) if found else None


def _read_published(
    lines: Sequence[tuple[int, str]], pairs: Sequence[tuple[str, str] | None]
) -> Reading:
    reading = Reading()
    merged: list[tuple[int, str, str]] = []
    for (number, line), pair in zip(lines, pairs, strict=True):
        is_open = bool(merged) and merged[-1][2].rstrip().endswith(_COMMAS)
        if is_open and pair is None:  # a line that was broken after a comma
            first, name, rest = merged[-1]
            merged[-1] = (first, name, f"{rest} {line}")
        elif pair is None and len(split_names(line)) > 1:
            reading.unread.append(Unread(number, line, "no `Field:` before its subfields"))
        else:
            merged.append((number, *(pair or (line, ""))))
    fields = clean_names([name for _, name, _ in merged])
    for (number, name, rest), cleaned in zip(merged, fields, strict=True):
        if not cleaned or len(cleaned) > MAX_NAME:
            reading.unread.append(Unread(number, f"{name}: {rest}", "no name of a field"))
            continue
        subfields = clean_names(split_names(rest)) or [""]
        for subfield in subfields:
            if len(subfield) > MAX_NAME:
                reading.unread.append(Unread(number, subfield, "too long for a name"))
            else:
                reading.wanted.append(Wanted(cleaned, subfield))
    return reading


def _read_list(lines: Sequence[tuple[int, str]]) -> Reading:
    reading = Reading()
    names = clean_names([line for _, line in lines])
    for (number, line), name in zip(lines, names, strict=True):
        if line.rstrip("*_ ").endswith((":", "\uff1a")):
            reading.unread.append(Unread(number, line, "a heading or a remark, no topic"))
        elif not name or len(name) > MAX_NAME:
            reading.unread.append(Unread(number, line, f"no topic of at most {MAX_NAME} signs"))
        else:
            reading.wanted.append(Wanted("", "", name))
    return reading
