"""Many ordinary rows at once; every other row is left to `rows.parse_row`, which decides.

A block of lines is decoded by msgspec into the one ordinary shape (`id`, `source`, `image`,
`conversations` of human and gpt in turns) and checked with operations over whole lists, since a
loop over the rows takes longer than to decode them. A row
that does not fit, for whatever reason, is parsed alone; so what is kept, mended and dropped is
the same as if `parse_row` had read all rows (a property that the tests hold to).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from cambrian_data.curation.ingest.columns import Block
from cambrian_data.curation.ingest.lines import Lines
from cambrian_data.curation.ingest.rows import NO_PICTURE, TWO_FOLDERS, ParsedSample, source_of
from cambrian_data.records import IMAGE_TOKEN

_MAX_KNOWN = 10_000
"""Sources that are remembered; beyond it they are looked at anew."""
_MIN_ID, _MAX_ID = -(2**63), 2**64 - 1  # others are no integers to `parse_row`
_ODD_SIGNS = ("/.", "//", "\\", ":", "\0")
"""A path between slashes that has none of these is left as it is by `rows.normal_path`."""
_Identities = dict[tuple[str | None, str | None], str]
_TOKEN_START = ord(IMAGE_TOKEN[0])


class _Turn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: Literal["human", "gpt"] = msgspec.field(name="from")
    text: str = msgspec.field(name="value")


class _Row(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    conversations: list[_Turn]
    id: str | int | float | None = None
    source: str | None = None
    image: str | msgspec.UnsetType | None = msgspec.UNSET


_NOT_ORDINARY = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ODD = _Row([])
Parsed = ParsedSample | dict[str, Any] | None
"""What `parse_row` says of one row: a sample, a drop; None where the line is blank."""


@dataclass(slots=True)
class ReadBlock:
    """What a block of lines became, in order: kept rows, drops, counted mends and blank lines."""

    block: Block
    texts: list[pa.Array]
    """The texts of the block again, as arrays one behind the other."""
    drops: list[dict[str, Any]] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)
    num_blank: int = 0


@lru_cache(maxsize=4)
def _seen_sources(file_name: str) -> _Identities:
    """Return what the pieces of a file before this one have filled: sources by their folders."""
    return {}


class FastRows:
    """Reads blocks of lines of one file."""

    def __init__(
        self,
        file_name: str,
        parse: Callable[[int, bytes], Parsed],
        *,
        is_plain_path: Callable[[str], bool] | None = None,
    ) -> None:
        """Name the file.

        Args:
            file_name: stands for the source of rows that name none.
            parse: decides about a row that is not ordinary, given its number and its bytes.
            is_plain_path: whether a path stays as it is; rows with others go to `parse`.
        """
        self._file_name, self.parse, self._is_plain = file_name, parse, is_plain_path
        self._decoder = msgspec.json.Decoder(_Row)
        self._known = _seen_sources(file_name)
        self.keeps_all_paths = is_plain_path is None

    def read(self, lines: Lines, numbers: Sequence[int]) -> ReadBlock:
        """Return what a block of lines is; `numbers` are the lines' numbers in their file."""
        rows, odd = self._decode(lines)
        odd |= _odd_counts(rows)
        with_number, ids = _ids_of(rows, odd)
        shown, markers = _shown(rows)
        odd |= self._odd_paths(shown)
        odd |= {
            number
            for number, row in enumerate(rows)
            if row.conversations
            and row.conversations[0].text.count(IMAGE_TOKEN) != (shown[number] is not None)
        }
        said = [row.conversations for row in rows]
        for number in odd:
            said[number], shown[number] = [], None
        turns = list(chain.from_iterable(said))
        num_turns = list(map(len, said))
        odd |= _odd_roles(turns, num_turns)
        block = Block(
            list(numbers),
            ids,
            self._sources([row.source for row in rows], shown),
            [() if path is None else (path,) for path in shown],
            [None] * len(rows),
            num_turns,
            [turn.text for turn in turns],
        )
        texts = pa.array(block.texts, pa.string())
        _check_turns(block, odd)
        _check_tokens(block, texts, odd)
        mended = {"number_id": len(with_number - odd), "no_picture_marker": len(markers - odd)}
        read = ReadBlock(block, [texts], mended=+Counter(mended))
        if odd:
            parsed = {row: self.parse(numbers[row], lines[row]) for row in sorted(odd)}
            _put(read, texts, parsed)
        return read

    def _decode(self, lines: Lines) -> tuple[list[_Row], set[int]]:
        """Return the rows of a block, empty ones for those that are not ordinary, and which."""
        if lines.look_like_objects():
            try:
                rows = self._decoder.decode_lines(lines.block)
            except _NOT_ORDINARY:
                rows = []
            if len(rows) == len(lines):
                return rows, set()
        decode, rows, odd = self._decoder.decode, list[_Row](), set[int]()
        for number, line in enumerate(lines.block.split(b"\n")[: len(lines)]):
            try:
                rows.append(decode(line))
            except _NOT_ORDINARY:
                rows.append(_ODD)
                odd.add(number)
        return rows, odd

    def _odd_paths(self, shown: Sequence[str | None]) -> set[int]:
        """Return the rows whose picture's path is not in its shortest form, or has a rule."""
        joined = "/".join(["", *filter(None, shown), ""])
        odd: set[int] = set()
        if any(sign in joined for sign in _ODD_SIGNS):
            odd = {
                number
                for number, path in enumerate(shown)
                if path is not None and any(sign in f"/{path}/" for sign in _ODD_SIGNS)
            }
        if (is_plain := self._is_plain) is not None:
            odd |= {n for n, path in enumerate(shown) if path is not None and not is_plain(path)}
        return odd

    def _sources(self, names: Sequence[str | None], shown: Sequence[str | None]) -> list[str]:
        """Return the identity of each row's source."""
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        known, make = self._known, self._source
        folders = [
            None if path is None else path.partition("/")[0] if "/" in path else ""
            for path in shown
        ]
        if TWO_FOLDERS in folders:
            for number, path in enumerate(shown):
                if path is not None and folders[number] == TWO_FOLDERS:
                    folders[number] = "/".join(path.split("/")[:-1][:2])
        return [known.get(key) or make(*key) for key in zip(names, folders, strict=True)]

    def _source(self, name: str | None, folder: str | None) -> str:
        """Return the identity of a source whose pictures lie in a folder."""
        paths = [] if folder is None else [f"{folder}/x" if folder else "x"]
        found = source_of(name, self._file_name, paths)
        self._known[name, folder] = found
        return found


def _odd_counts(rows: Sequence[_Row]) -> set[int]:
    """Return the rows without turns and those that end with a question."""
    counts = [len(row.conversations) for row in rows]
    return {number for number, count in enumerate(counts) if count & 1 or not count}


def _ids_of(rows: Sequence[_Row], odd: set[int]) -> tuple[set[int], list[str | None]]:
    """Return which rows have a number for an id, and all ids; adds those with others to `odd`."""
    ids: list[Any] = [row.id for row in rows]
    numbers = {n for n, value in enumerate(ids) if value.__class__ is not str and value is not None}
    for number in [*numbers]:
        value, ids[number] = ids[number], None
        if value.__class__ is int and _MIN_ID <= value <= _MAX_ID:
            ids[number] = str(value)
        else:
            odd.add(number)
    return numbers, ids


def _shown(rows: Sequence[_Row]) -> tuple[list[str | None], set[int]]:
    """Return the path of each row's picture, and which rows have a word for none instead."""
    images = [row.image for row in rows]
    shown = [image if image.__class__ is str else None for image in images]
    if not NO_PICTURE.isdisjoint(images):
        shown = [None if image in NO_PICTURE else image for image in shown]
    unset = msgspec.UNSET
    markers = {
        number
        for number, (image, path) in enumerate(zip(images, shown, strict=True))
        if path is None and image is not unset
    }
    return shown, markers


def _odd_roles(turns: Sequence[_Turn], num_turns: Sequence[int]) -> set[int]:
    """Return the rows in which question and answer do not alternate."""
    roles = [turn.role for turn in turns]
    half = len(roles) // 2
    if roles[::2].count("human") == half and roles[1::2].count("gpt") == half:
        return set()
    ends = np.cumsum(num_turns)
    wrong = [at for at, role in enumerate(roles) if role != ("gpt" if at & 1 else "human")]
    return set(np.searchsorted(ends, wrong, side="right").tolist())


def _check_turns(block: Block, odd: set[int]) -> None:
    """Add the rows with a turn that says nothing to the odd ones."""
    if "" not in block.texts and True not in map(str.isspace, block.texts):
        return
    ends = np.cumsum(block.num_turns)
    blank = [at for at, text in enumerate(block.texts) if not text or text.isspace()]
    odd.update(np.searchsorted(ends, blank, side="right").tolist())


def _check_tokens(block: Block, texts: pa.Array, odd: set[int]) -> None:
    """Add the rows with an `<image>` elsewhere than where their one picture stands.

    The first question of a row with a picture is known to hold one. Where there are no more signs
    of its beginning in all texts than these, there can be no other.
    """
    data = texts.buffers()[2]
    signs = 0
    if data is not None:
        signs = int(np.count_nonzero(np.frombuffer(data, np.uint8) == _TOKEN_START))
    if signs == sum(map(len, block.images)):
        return
    holds = [at for at, text in enumerate(block.texts) if IMAGE_TOKEN in text]
    begins = [0, *accumulate(block.num_turns)]
    rows = np.searchsorted(begins, holds, side="right") - 1
    for row, at in zip(rows.tolist(), holds, strict=True):
        if at != begins[row] or not block.images[row]:
            odd.add(row)


def _put(read: ReadBlock, texts: pa.Array, parsed: dict[int, Parsed]) -> None:
    """Put what became of the odd rows in their places in a block."""
    block = read.block
    begins = [0, *accumulate(block.num_turns)]
    pieces: list[pa.Array] = []
    end = len(texts)
    for row, sample in sorted(parsed.items(), reverse=True):  # from behind: places stay right
        span = slice(begins[row], begins[row + 1])
        pieces.append(texts.slice(span.stop, end - span.stop))
        end = span.start
        if isinstance(sample, ParsedSample):
            said = [text for _, text in sample.turns]
            block.row_ids[row], block.sources[row] = sample.row_id, sample.source
            block.images[row], block.systems[row] = sample.images, sample.system
            block.num_turns[row], block.texts[span] = len(said), said
            pieces.append(pa.array(said, pa.string()))
            read.mended.update(sample.mended)
            continue
        for column in (block.lines, block.row_ids, block.sources, block.images, block.systems):
            del column[row]
        del block.num_turns[row], block.texts[span]
        if sample is None:
            read.num_blank += 1
        else:
            read.drops.append(sample)
    pieces.append(texts.slice(0, end))
    read.texts = pieces[::-1]
    read.drops.reverse()
