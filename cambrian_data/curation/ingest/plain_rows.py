"""Rows as published sets spell them, from bytes to columns without a Python object for each.

Most lines of most files are an `id`, a `source`, an `image` and `conversations`, in any order, of
nothing but strings, as `json.dumps` writes it, with or without spaces. In such a line the quotes
alone show where everything is, and a text in quotes is what an id is made of. So a block of lines
is taken apart by operations over all of its quotes at once. What is not exactly of this kind, for
whatever reason, is left to `fast_rows`: a line may be refused here, but is never read differently.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from cambrian_data.curation.ingest.plain_strings import (
    BACKSLASH,
    DELETE,
    ESCAPED,
    MASKS,
    QUOTE,
    SPACE,
    Block,
    Numbers,
    Strings,
    array,
    pick,
    word,
)
from cambrian_data.curation.ingest.rows import NO_PICTURE

_UNKNOWN, _COLON, _COMMA, _ARRAY, _TURN, _ARRAY_END, _LINE_END, _TURNS_AND_LINE_END, _NUMBER = (
    range(9)
)
_GAPS = {
    b'":': _COLON,
    b'": ': _COLON,
    b'",': _COMMA,
    b'", ': _COMMA,
    b'":[{': _ARRAY,
    b'": [{': _ARRAY,
    b'"},{': _TURN,
    b'"}, {': _TURN,
    b'"}],': _ARRAY_END,
    b'"}], ': _ARRAY_END,
    b'"}': _LINE_END,
    b'"}]}': _TURNS_AND_LINE_END,
}
"""What may stand between two strings, or behind the last one of a line, with the closing quote."""

_WORDS = np.array(sorted(map(word, _GAPS)), np.uint64)
_CODES = np.array([code for _, code in sorted((word(t), c) for t, c in _GAPS.items())], np.uint8)
_TURN_ENDS = np.isin(np.arange(9), [_TURN, _ARRAY_END, _TURNS_AND_LINE_END])
_LINE_ENDS = np.isin(np.arange(9), [_LINE_END, _TURNS_AND_LINE_END])
_AFTER_KEY = np.isin(np.arange(9), [_COLON, _ARRAY, _NUMBER])
_FROM, _VALUE, _HUMAN, _GPT = map(word, (b"from", b"value", b"human", b"gpt"))
_KEYS = {name: word(name.encode()) for name in ("id", "source", "image")}
_TURNS_KEY = b"conversations"
_NUMBER_GAP = re.compile(rb'": ?(0|-?[1-9][0-9]{0,17}), ?')
"""Behind the key `id`: a number that is spelled as `str` spells it."""

_PARTS = (
    b'["sample",[["human","',
    b'],["gpt","',
    b'],["human","',
    b']],["path:',
    b"]]",
    b"]],[]]",
)
"""What an id is made of beside texts and paths (`records.sample_id`)."""
_FIRST, _ANSWER, _QUESTION, _PICTURE, _END, _NO_PICTURE = range(len(_PARTS))
_SLASH, _DOT, _COLON_SIGN = b"/.:"
_NO_PICTURES = np.array([word(text.encode()) for text in NO_PICTURE if text], np.uint64)


@dataclass(slots=True)
class PlainRows:
    """The plain rows of a block of lines as columns; the numbers of the others in the block."""

    lines: Numbers
    """Numbers of the lines in the block."""
    ids: bytes
    """The samples' ids one behind the other, 32 bytes each."""
    row_ids: pa.Array
    sources: pa.Array
    images: pa.Array
    num_turns: Numbers
    texts: pa.Array
    num_number_ids: int
    """How many rows had a number for an id."""


@dataclass(slots=True)
class _Layout:
    """Which string of a block is what, by its number; rows are numbers of lines with strings."""

    row_of: Numbers
    texts: Numbers
    """The strings that are texts of turns."""
    num_turns: Numbers
    values: dict[str, Numbers]
    """For each row the string that is the value of a key; -1 where it has none."""
    numbers: list[tuple[int, int, int]]
    """Rows whose id is a number, and where it begins and ends."""
    is_bad: Numbers


def read_plain(block: Block) -> PlainRows | None:
    """Return the plain rows of a block; None where there are none."""
    if not block.data.isascii():
        try:
            block.data.decode()
        except UnicodeDecodeError:
            return None
    strings = block.strings(b"".join(_PARTS))
    if not len(strings.opens):
        return None
    layout = _lay_out(strings)
    _check_texts(strings, layout)
    _check_paths(strings, layout)
    return _columns(strings, layout)


def _lay_out(strings: Strings) -> _Layout:
    """Tell what each string is, by what stands between them; nothing else stands in a line."""
    opens, closes, counts = strings.opens, strings.closes, strings.counts
    num_rows = len(counts)
    row_of = np.repeat(np.arange(num_rows), counts)
    lasts = np.cumsum(counts) - 1
    firsts = lasts - counts + 1
    gap_ends = np.append(opens[1:], 0)
    gap_ends[lasts] = strings.ends
    gaps = strings.words[closes] & MASKS[np.minimum(gap_ends - closes, 9)]
    found = np.minimum(np.searchsorted(_WORDS, gaps), len(_WORDS) - 1)
    codes = np.where(_WORDS[found] == gaps, _CODES[found], _UNKNOWN)
    names = strings.words[opens + 1] & MASKS[np.minimum(closes - opens - 1, 9)]
    numbers = []
    for at in np.flatnonzero((codes == _UNKNOWN) & (names == _KEYS["id"])).tolist():
        match = _NUMBER_GAP.fullmatch(strings.data, int(closes[at]), int(gap_ends[at]))
        if match is not None:
            codes[at] = _NUMBER
            numbers.append((int(row_of[at]), *match.span(1)))
    before = np.append(_COMMA, codes[:-1])
    before[firsts] = _COMMA
    is_value = before == _COLON
    is_last = np.zeros(len(opens), bool)
    is_last[lasts] = True
    wrong = (codes == _UNKNOWN) | (is_value == _AFTER_KEY[codes]) | (is_last != _LINE_ENDS[codes])

    turns = np.flatnonzero((before == _ARRAY) | (before == _TURN))
    num_turns = np.bincount(row_of[turns], minlength=num_rows)
    inside = turns + 3 <= lasts[row_of[turns]]
    wrong[turns[~inside]] = True
    turns = turns[inside]
    wrong[turns] |= ~(
        (names[turns] == _FROM)
        & (names[turns + 2] == _VALUE)
        & (codes[turns + 1] == _COMMA)
        & _TURN_ENDS[codes[turns + 3]]
    )
    number = np.arange(len(turns)) - np.searchsorted(turns, firsts)[row_of[turns]]
    wrong[turns] |= names[turns + 1] != np.where(number & 1, np.uint64(_GPT), np.uint64(_HUMAN))

    is_key = ~is_value
    is_key[turns] = is_key[turns + 2] = False
    is_array = codes == _ARRAY
    wrong |= is_array & ~_is_turns_key(strings)
    is_known = is_array.copy()
    values = {}
    is_bad = firsts < 0
    for key, name in _KEYS.items():
        here = np.flatnonzero(is_key & (names == name) & ((codes == _COLON) | (codes == _NUMBER)))
        is_known[here] = True
        is_bad |= np.bincount(row_of[here], minlength=num_rows) > 1
        values[key] = np.full(num_rows, -1)
        here = here[codes[here] == _COLON]
        values[key][row_of[here]] = here + 1
    wrong |= is_key & ~is_known
    is_bad[row_of[wrong]] = True
    is_bad |= np.bincount(row_of[is_array], minlength=num_rows) != 1
    is_bad |= np.bincount(row_of[_TURN_ENDS[codes]], minlength=num_rows) != num_turns
    is_bad |= (num_turns & 1 == 1) | (opens[firsts] != strings.begins + 1)
    return _Layout(row_of, turns + 3, num_turns, values, numbers, is_bad)


def _is_turns_key(strings: Strings) -> Numbers:
    """Return which strings are `conversations`, which is longer than a word."""
    size, opens = len(_TURNS_KEY), strings.opens
    is_key: Numbers = strings.closes - opens - 1 == size
    here = np.flatnonzero(is_key)
    is_key[here] = (strings.words[opens[here] + 1] == word(_TURNS_KEY[:8])) & (
        strings.words[opens[here] + size - 7] == word(_TURNS_KEY[-8:])
    )
    return is_key


def _check_texts(strings: Strings, layout: _Layout) -> None:
    """Refuse rows with escapes outside of texts, texts of nothing, and `<image>` out of place."""
    is_text = np.zeros(len(strings.opens), bool)
    is_text[layout.texts] = True
    row_of, is_bad = layout.row_of, layout.is_bad
    escaped = strings.of(strings.escapes)
    is_bad[row_of[escaped[~is_text[escaped]]]] = True

    first = strings.signs[strings.opens[layout.texts] + 1]
    is_clear = (first > SPACE) & (first < DELETE) & (first != BACKSLASH) & (first != QUOTE)
    for text in layout.texts[~is_clear].tolist():
        spelled = strings.data[strings.opens[text] : strings.closes[text] + 1]
        if not orjson.loads(spelled).strip():
            is_bad[row_of[text]] = True

    held = strings.of(strings.tokens)
    is_bad |= np.bincount(row_of[held], minlength=len(is_bad)) != (layout.values["image"] >= 0)
    starts = np.searchsorted(row_of[layout.texts], np.arange(len(is_bad)))
    firsts = np.append(layout.texts, 0)[starts]
    is_bad[row_of[held[firsts[row_of[held]] != held]]] = True


def _check_paths(strings: Strings, layout: _Layout) -> None:
    """Refuse rows with a path that is not in its shortest form, or with a word for no picture."""
    images = layout.values["image"]
    rows = np.flatnonzero(images >= 0)
    opens, closes = strings.opens[images[rows]], strings.closes[images[rows]]
    _, bounds, data = pick(strings.data, opens + 1, closes + 1).buffers()
    ends = np.frombuffer(bounds, np.int32)[1 : len(rows) + 1]
    signs = np.frombuffer(data or b"", np.uint8)
    is_border = (signs == _SLASH) | (signs == QUOTE)
    is_odd = signs == _COLON_SIGN
    is_odd[1:] |= is_border[:-1] & (is_border | (signs == _DOT))[1:]
    layout.is_bad[rows[np.searchsorted(ends, np.flatnonzero(is_odd), side="right")]] = True
    first = strings.signs[opens + 1]
    layout.is_bad[rows[(first == _SLASH) | (first == QUOTE) | (first == _DOT)]] = True
    words = strings.words[opens + 1] & MASKS[np.minimum(closes - opens - 1, 9)]
    layout.is_bad[rows[np.isin(words, _NO_PICTURES)]] = True


def _columns(strings: Strings, layout: _Layout) -> PlainRows | None:
    """Return the rows that nothing is wrong with."""
    good = np.flatnonzero(~layout.is_bad)
    if not len(good):
        return None
    texts = layout.texts[~layout.is_bad[layout.row_of[layout.texts]]]
    num_turns = layout.num_turns[good]
    values = layout.values
    spans = {}
    for key, found in values.items():
        spans[key] = np.stack([strings.opens[found] + 1, strings.closes[found]])
        spans[key][:, found < 0] = -1
    for row, begin, end in layout.numbers:
        spans["id"][:, row] = begin, end
    row_ids, sources, images = (
        _optional(strings.data, *spans[key][:, good]) for key in ("id", "source", "image")
    )
    return PlainRows(
        strings.rows[good],
        _ids(strings, texts, num_turns, values["image"][good]),
        row_ids,
        sources,
        images,
        num_turns,
        _unescaped(strings, texts),
        sum(not layout.is_bad[row] for row, _, _ in layout.numbers),
    )


def _ids(strings: Strings, texts: Numbers, num_turns: Numbers, images: Numbers) -> bytes:
    """Return `records.sample_id` of rows; its content is put together from their spelling."""
    num_strings, num_parts = len(strings.opens), len(_PARTS)
    bounds = np.empty(2 * num_strings + num_parts + 1, np.int32)
    bounds[: 2 * num_strings : 2] = strings.opens + 1
    bounds[1 : 2 * num_strings : 2] = strings.closes + 1
    bounds[2 * num_strings :] = np.cumsum([0, *map(len, _PARTS)])
    bounds[2 * num_strings :] += len(strings.data) - sum(map(len, _PARTS))
    pieces = array(strings.data, bounds, pa.binary())  # a string is at twice its number

    has_image = images >= 0
    sizes = 2 * num_turns + np.where(has_image, 3, 1)
    ends = np.cumsum(sizes)
    begins = ends - sizes
    turn = np.arange(len(texts)) - np.repeat(np.cumsum(num_turns) - num_turns, num_turns)
    at = np.repeat(begins, num_turns) + 2 * turn
    order = np.empty(int(ends[-1]), np.int64)
    order[at] = 2 * num_strings + np.where(turn & 1, _ANSWER, _QUESTION)
    order[at + 1] = 2 * texts
    order[begins] = 2 * num_strings + _FIRST
    order[ends - 1] = 2 * num_strings + np.where(has_image, _END, _NO_PICTURE)
    order[ends[has_image] - 3] = 2 * num_strings + _PICTURE
    order[ends[has_image] - 2] = 2 * images[has_image]
    _, offsets, data = pieces.take(pa.array(order)).buffers()
    cuts = np.frombuffer(offsets, np.int32)
    content, sha256 = memoryview(data), hashlib.sha256
    return b"".join(
        [
            sha256(content[begin:end]).digest()
            for begin, end in zip(cuts[begins].tolist(), cuts[ends].tolist(), strict=True)
        ]
    )


def _optional(data: bytes, begins: Numbers, ends: Numbers) -> pa.Array:
    """Return what stands between places as strings; null where they are -1."""
    is_null = begins < 0
    if not is_null.any():
        return pick(data, begins, ends)
    picked = pick(data, begins[~is_null], ends[~is_null])
    return picked.take(pa.array(np.cumsum(~is_null) - 1, mask=is_null))


def _unescaped(strings: Strings, texts: Numbers) -> pa.Array:
    """Return texts with what their escapes stand for."""
    is_text = np.zeros(len(strings.opens), bool)
    is_text[texts] = True
    begins, ends = strings.opens[texts] + 1, strings.closes[texts]
    lengths = ends - begins
    data: bytes | Numbers = strings.data
    escapes = strings.escapes
    if len(escapes):
        of = strings.of(escapes)
        escapes, of = escapes[is_text[of]], of[is_text[of]]
        lengths -= np.bincount(of, minlength=len(is_text))[texts]
        signs = strings.signs.copy()
        signs[escapes + 1] = ESCAPED[signs[escapes + 1]]
        data = signs
        begins = np.sort(np.append(begins, escapes + 1), kind="stable")
        ends = np.sort(np.append(ends, escapes), kind="stable")
    picked = pick(data, begins, ends)
    return array(picked.buffers()[2] or b"", np.append(0, np.cumsum(lengths)), pa.string())
