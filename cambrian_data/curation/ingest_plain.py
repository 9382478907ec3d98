"""Rows as published sets spell them, from bytes to columns without a Python object for each.

Most lines of most files are one `{"id": ..., "image": ..., "conversations": [...], "source": ...}`
of nothing but strings, as `json.dumps` writes it, with or without spaces. In such a line the quotes
alone show where everything is, and a text in quotes is what an id is made of. So a block of lines is
taken apart by operations over all of its quotes at once. What is not exactly of this kind, for
whatever reason, is left to `fast_rows`: this module may refuse a line, but never reads it
differently.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import orjson
import pyarrow as pa

_Numbers: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_QUOTE, _BACKSLASH, _LESS, _NEWLINE, _OPEN, _SPACE, _DELETE = b'"\\<\n{ \x7f'
_UNKNOWN, _COLON, _COMMA, _ARRAY, _TURN, _ARRAY_END, _LINE_END, _TURNS_AND_LINE_END = range(8)
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


def _word(text: bytes) -> int:
    """Return up to eight bytes as the number that they are when read at once."""
    return int.from_bytes(text, "little")


_WORDS = np.array(sorted(map(_word, _GAPS)), np.uint64)
_CODES = np.array([code for _, code in sorted((_word(t), c) for t, c in _GAPS.items())], np.uint8)
_MASKS = np.array([2 ** (8 * size) - 1 for size in range(9)] + [0], np.uint64)
"""The first bytes of a word, by how many; none of a string that is longer than a word."""
_TURN_ENDS = np.isin(np.arange(8), [_TURN, _ARRAY_END, _TURNS_AND_LINE_END])
_LINE_ENDS = np.isin(np.arange(8), [_LINE_END, _TURNS_AND_LINE_END])
_AFTER_KEY = np.isin(np.arange(8), [_COLON, _ARRAY])
_FROM, _VALUE, _HUMAN, _GPT = map(_word, (b"from", b"value", b"human", b"gpt"))
_KEYS = {name: _word(name.encode()) for name in ("id", "source", "image")}
_TOKEN = _word(b"<image>")
_TURNS_KEY = b"conversations"

_ESCAPES = dict(zip(b'"\\bfnrt', b'"\\\b\f\n\r\t', strict=True))
"""What stands for a sign after a backslash, where there is no other way to spell it in an id."""
_ESCAPED = np.zeros(256, np.uint8)
_ESCAPED[list(_ESCAPES)] = list(_ESCAPES.values())

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
_ODD_PATHS = (b"/.", b"//", b":", b'"/', b'".', b'/"', b'""', b'"None"', b'"none"', b'"null"')
"""Where paths stand in quotes, one of these shows that one is not in its shortest form, or none."""


@dataclass(slots=True)
class PlainRows:
    """The plain rows of a block of lines as columns; the numbers of the others in the block."""

    lines: _Numbers
    """Numbers of the lines in the block."""
    ids: bytes
    """The samples' ids one behind the other, 32 bytes each."""
    row_ids: pa.Array
    sources: pa.Array
    images: pa.Array
    num_turns: _Numbers
    texts: pa.Array


@dataclass(slots=True)
class _Strings:
    """The strings of a block, quote to quote, and the lines that they are in."""

    data: bytes
    """The block, and `_PARTS` behind it."""
    signs: _Numbers
    words: _Numbers
    """The eight bytes from each place on, as a number."""
    opens: _Numbers
    closes: _Numbers
    rows: _Numbers
    """The number of the line, for each line that has such strings."""
    begins: _Numbers
    ends: _Numbers
    counts: _Numbers
    """Strings of each such line."""
    escapes: _Numbers
    """Places of the backslashes that begin an escape."""
    tokens: _Numbers
    """Places of `<image>`."""

    def of(self, places: _Numbers) -> _Numbers:
        """Return the strings in which places are, if they are in any."""
        found: _Numbers = np.searchsorted(self.opens, places) - 1
        return found


@dataclass(slots=True)
class _Layout:
    """Which string of a block is what, by its number; rows are numbers of lines with strings."""

    row_of: _Numbers
    texts: _Numbers
    """The strings that are texts of turns."""
    num_turns: _Numbers
    values: dict[str, _Numbers]
    """For each row the string that is the value of a key; -1 where it has none."""
    is_bad: _Numbers


class PlainBlock:
    """A block of whole lines and what of it is plain."""

    def __init__(self, block: bytes) -> None:
        """Take a block apart; its last line may lack its end."""
        self.block = block
        signs = np.frombuffer(block, np.uint8)
        special = (signs < _SPACE) | (signs == _QUOTE)
        special |= signs == _BACKSLASH
        special |= signs == _LESS
        self._places = np.flatnonzero(special)
        self._kinds = signs[self._places]
        ends = self._places[self._kinds == _NEWLINE]
        self._ends = ends if block.endswith(b"\n") else np.append(ends, len(block))

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._ends)

    def line(self, number: int) -> bytes:
        """Return a line without its end."""
        begin = int(self._ends[number - 1]) + 1 if number else 0
        return self.block[begin : int(self._ends[number])]

    def read(self) -> PlainRows | None:
        """Return the plain rows; None where there are none."""
        if not self.block.isascii():
            try:
                self.block.decode()
            except UnicodeDecodeError:
                return None
        strings = self._strings()
        if not len(strings.opens):
            return None
        layout = _lay_out(strings)
        _check_texts(strings, layout)
        _check_paths(strings, layout)
        return _columns(strings, layout)

    def others(self, rows: PlainRows | None) -> list[int]:
        """Return the numbers of the lines that are not among the plain rows."""
        is_other = np.ones(len(self), bool)
        if rows is not None:
            is_other[rows.lines] = False
        return np.flatnonzero(is_other).tolist()

    def _strings(self) -> _Strings:
        """Return the strings of all lines whose quotes and escapes are in order."""
        data = self.block + b"".join(_PARTS)
        signs = np.frombuffer(data, np.uint8)
        words: _Numbers = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
        places, kinds, ends = self._places, self._kinds, self._ends
        active, is_escaped = _escapes(places, kinds)
        escapes = places[active]
        wrong = [places[(kinds < _SPACE) & (kinds != _NEWLINE)]]
        wrong.append(escapes[_ESCAPED[signs[escapes + 1]] == 0])
        quotes = places[(kinds == _QUOTE) & ~is_escaped]
        counts = np.diff(np.searchsorted(quotes, ends), prepend=0)
        is_odd = (counts & 1 == 1) | (counts == 0)
        is_odd[np.searchsorted(ends, np.concatenate(wrong))] = True
        begins = np.append(0, ends[:-1] + 1)
        is_odd |= signs[begins] != _OPEN
        tokens = places[kinds == _LESS]
        tokens = tokens[words[tokens] & _MASKS[7] == _TOKEN]
        if is_odd.any():
            quotes = quotes[np.repeat(~is_odd, counts)]
            tokens = tokens[~is_odd[np.searchsorted(ends, tokens)]]
            escapes = escapes[~is_odd[np.searchsorted(ends, escapes)]]
        rows = np.flatnonzero(~is_odd)
        return _Strings(
            data,
            signs,
            words,
            quotes[::2],
            quotes[1::2],
            rows,
            begins[rows],
            ends[rows],
            counts[rows] // 2,
            escapes,
            tokens,
        )


def _escapes(places: _Numbers, kinds: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Return which special signs are backslashes that begin an escape, and which are escaped."""
    is_backslash = kinds == _BACKSLASH
    is_next = np.diff(places) == 1
    follows = np.zeros(len(places), bool)
    follows[1:] = is_backslash[:-1] & is_next
    if not (follows & is_backslash).any():
        return is_backslash, follows
    number = np.arange(len(places))
    start = np.maximum.accumulate(np.where(is_backslash & ~follows, number, 0))
    active = is_backslash & ((number - start) & 1 == 0)
    is_escaped = np.zeros(len(places), bool)
    is_escaped[1:] = active[:-1] & is_next
    return active, is_escaped


def _lay_out(strings: _Strings) -> _Layout:
    """Tell what each string is, by what stands between them; nothing else stands in a line."""
    opens, closes, counts = strings.opens, strings.closes, strings.counts
    num_rows = len(counts)
    row_of = np.repeat(np.arange(num_rows), counts)
    lasts = np.cumsum(counts) - 1
    firsts = lasts - counts + 1
    gap_ends = np.append(opens[1:], 0)
    gap_ends[lasts] = strings.ends
    gaps = strings.words[closes] & _MASKS[np.minimum(gap_ends - closes, 9)]
    found = np.minimum(np.searchsorted(_WORDS, gaps), len(_WORDS) - 1)
    codes = np.where(_WORDS[found] == gaps, _CODES[found], _UNKNOWN)
    names = strings.words[opens + 1] & _MASKS[np.minimum(closes - opens - 1, 9)]
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
    for key, word in _KEYS.items():
        here = np.flatnonzero(is_key & (names == word) & (codes == _COLON))
        is_known[here] = True
        is_bad |= np.bincount(row_of[here], minlength=num_rows) > 1
        values[key] = np.full(num_rows, -1)
        values[key][row_of[here]] = here + 1
    wrong |= is_key & ~is_known
    is_bad[row_of[wrong]] = True
    is_bad |= np.bincount(row_of[is_array], minlength=num_rows) != 1
    is_bad |= np.bincount(row_of[_TURN_ENDS[codes]], minlength=num_rows) != num_turns
    is_bad |= (num_turns & 1 == 1) | (opens[firsts] != strings.begins + 1)
    return _Layout(row_of, turns + 3, num_turns, values, is_bad)


def _is_turns_key(strings: _Strings) -> _Numbers:
    """Return which strings are `conversations`, which is longer than a word."""
    size, opens = len(_TURNS_KEY), strings.opens
    is_key: _Numbers = strings.closes - opens - 1 == size
    here = np.flatnonzero(is_key)
    is_key[here] = (strings.words[opens[here] + 1] == _word(_TURNS_KEY[:8])) & (
        strings.words[opens[here] + size - 7] == _word(_TURNS_KEY[-8:])
    )
    return is_key


def _check_texts(strings: _Strings, layout: _Layout) -> None:
    """Refuse rows with escapes outside of texts, texts of nothing, and `<image>` out of place."""
    is_text = np.zeros(len(strings.opens), bool)
    is_text[layout.texts] = True
    row_of, is_bad = layout.row_of, layout.is_bad
    escaped = strings.of(strings.escapes)
    is_bad[row_of[escaped[~is_text[escaped]]]] = True

    first = strings.signs[strings.opens[layout.texts] + 1]
    is_clear = (first > _SPACE) & (first < _DELETE) & (first != _BACKSLASH) & (first != _QUOTE)
    for text in layout.texts[~is_clear].tolist():
        spelled = strings.data[strings.opens[text] : strings.closes[text] + 1]
        if not orjson.loads(spelled).strip():
            is_bad[row_of[text]] = True

    held = strings.of(strings.tokens)
    is_bad |= np.bincount(row_of[held], minlength=len(is_bad)) != (layout.values["image"] >= 0)
    starts = np.searchsorted(row_of[layout.texts], np.arange(len(is_bad)))
    firsts = np.append(layout.texts, 0)[starts]
    is_bad[row_of[held[firsts[row_of[held]] != held]]] = True


def _check_paths(strings: _Strings, layout: _Layout) -> None:
    """Refuse rows with a path that is not in its shortest form, or with a word for no picture."""
    images = layout.values["image"]
    rows = np.flatnonzero(images >= 0)
    opens, closes = strings.opens[images[rows]], strings.closes[images[rows]]
    _, bounds, data = _pick(strings.data, opens + 1, closes + 1).buffers()
    joined = b'"' + (data.to_pybytes() if data is not None else b"")
    for sign in _ODD_PATHS:
        at = joined.find(sign)
        while at >= 0:  # the sign may begin with the quote in front of the path
            place = max(at, 1) if sign[0] != _QUOTE else at + 1
            row = np.searchsorted(np.frombuffer(bounds, np.int32), place - 1, side="right") - 1
            layout.is_bad[rows[row]] = True
            at = joined.find(sign, at + 1)


def _columns(strings: _Strings, layout: _Layout) -> PlainRows | None:
    """Return the rows that nothing is wrong with."""
    good = np.flatnonzero(~layout.is_bad)
    if not len(good):
        return None
    texts = layout.texts[~layout.is_bad[layout.row_of[layout.texts]]]
    num_turns = layout.num_turns[good]
    values = {key: found[good] for key, found in layout.values.items()}
    return PlainRows(
        strings.rows[good],
        _ids(strings, texts, num_turns, values["image"]),
        _optional(strings, values["id"]),
        _optional(strings, values["source"]),
        _optional(strings, values["image"]),
        num_turns,
        _unescaped(strings, texts),
    )


def _ids(strings: _Strings, texts: _Numbers, num_turns: _Numbers, images: _Numbers) -> bytes:
    """Return `records.sample_id` of rows; its content is put together from their spelling."""
    num_strings, num_parts = len(strings.opens), len(_PARTS)
    bounds = np.empty(2 * num_strings + num_parts + 1, np.int32)
    bounds[: 2 * num_strings : 2] = strings.opens + 1
    bounds[1 : 2 * num_strings : 2] = strings.closes + 1
    bounds[2 * num_strings :] = np.cumsum([0, *map(len, _PARTS)])
    bounds[2 * num_strings :] += len(strings.data) - sum(map(len, _PARTS))
    pieces = _array(strings.data, bounds, pa.binary())  # a string is at twice its number

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


def _optional(strings: _Strings, values: _Numbers) -> pa.Array:
    """Return strings without escapes by their numbers; null where the number is -1."""
    is_null = values < 0
    values = np.where(is_null, 0, values)
    found = values[~is_null]
    picked = _pick(strings.data, strings.opens[found] + 1, strings.closes[found])
    if len(found) == len(values):
        return picked
    return picked.take(pa.array(np.cumsum(~is_null) - 1, mask=is_null))


def _unescaped(strings: _Strings, texts: _Numbers) -> pa.Array:
    """Return texts with what their escapes stand for."""
    is_text = np.zeros(len(strings.opens), bool)
    is_text[texts] = True
    begins, ends = strings.opens[texts] + 1, strings.closes[texts]
    lengths = ends - begins
    data, escapes = strings.data, strings.escapes
    if len(escapes):
        of = strings.of(escapes)
        escapes, of = escapes[is_text[of]], of[is_text[of]]
        lengths -= np.bincount(of, minlength=len(is_text))[texts]
        signs = strings.signs.copy()
        signs[escapes + 1] = _ESCAPED[signs[escapes + 1]]
        data = signs
        begins = np.sort(np.append(begins, escapes + 1), kind="stable")
        ends = np.sort(np.append(ends, escapes), kind="stable")
    picked = _pick(data, begins, ends)
    return _array(picked.buffers()[2] or b"", np.append(0, np.cumsum(lengths)), pa.string())


def slices(texts: pa.Array, begins: _Numbers, ends: _Numbers) -> pa.Array:
    """Return parts of an array's texts, in order, by their places in its buffer of texts."""
    return _pick(texts.buffers()[2] or b"", begins, ends)


def _pick(data: Any, begins: _Numbers, ends: _Numbers) -> pa.Array:
    """Return pieces of a text, in order, one behind the other."""
    bounds = np.empty(2 * len(begins) + 1, np.int32)
    bounds[:-1:2], bounds[1::2] = begins, ends
    bounds[-1] = bounds[-2] if len(begins) else 0
    return _array(data, bounds, pa.string()).take(pa.array(np.arange(0, 2 * len(begins), 2)))


def _array(data: Any, bounds: _Numbers, kind: pa.DataType) -> pa.Array:
    """Return an array of what lies between bounds."""
    offsets = pa.py_buffer(bounds.astype(np.int32, copy=False))
    return pa.Array.from_buffers(kind, len(bounds) - 1, [None, offsets, pa.py_buffer(data)])
