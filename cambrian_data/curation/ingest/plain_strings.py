"""A block of JSON lines by its quotes: where the strings in it are, found all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Numbers: TypeAlias = np.ndarray[Any, np.dtype[Any]]

QUOTE, BACKSLASH, _LESS, _NEWLINE, _OPEN, SPACE, DELETE = b'"\\<\n{ \x7f'
_ESCAPES = dict(zip(b'"\\bfnrt', b'"\\\b\f\n\r\t', strict=True))
"""What stands for a sign after a backslash, where there is no other way to spell it in an id."""
ESCAPED = np.zeros(256, np.uint8)
ESCAPED[list(_ESCAPES)] = list(_ESCAPES.values())


def word(text: bytes) -> int:
    """Return up to eight bytes as the number that they are when read at once."""
    return int.from_bytes(text, "little")


MASKS = np.array([2 ** (8 * size) - 1 for size in range(9)] + [0], np.uint64)
"""The first bytes of a word, by how many; none of a string that is longer than a word."""
_TOKEN = word(b"<image>")


@dataclass(slots=True)
class Strings:
    """The strings of a block, quote to quote, and the lines that they are in."""

    data: bytes
    """The block, and what was put behind it."""
    signs: Numbers
    words: Numbers
    """The eight bytes from each place on, as a number."""
    opens: Numbers
    closes: Numbers
    rows: Numbers
    """The number of the line, for each line that has such strings."""
    begins: Numbers
    ends: Numbers
    counts: Numbers
    """Strings of each such line."""
    escapes: Numbers
    """Places of the backslashes that begin an escape."""
    tokens: Numbers
    """Places of `<image>`."""

    def of(self, places: Numbers) -> Numbers:
        """Return the strings in which places are, if they are in any."""
        found: Numbers = np.searchsorted(self.opens, places) - 1
        return found


class Block:
    """A block of whole lines by the signs in it that mean something."""

    def __init__(self, data: bytes) -> None:
        """Take a block apart; its last line may lack its end."""
        self.data = data
        signs = np.frombuffer(data, np.uint8)
        special = (signs < SPACE) | (signs == QUOTE)
        special |= signs == BACKSLASH
        special |= signs == _LESS
        self._places = np.flatnonzero(special)
        self._kinds = signs[self._places]
        ends = self._places[self._kinds == _NEWLINE]
        self._ends = ends if data.endswith(b"\n") else np.append(ends, len(data))

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._ends)

    def line(self, number: int) -> bytes:
        """Return a line without its end."""
        begin = int(self._ends[number - 1]) + 1 if number else 0
        return self.data[begin : int(self._ends[number])]

    def others(self, plain: Numbers | None) -> list[int]:
        """Return the numbers of the lines that are not among the plain ones."""
        is_other = np.ones(len(self), bool)
        if plain is not None:
            is_other[plain] = False
        return np.flatnonzero(is_other).tolist()

    def strings(self, behind: bytes) -> Strings:
        """Return the strings of all lines whose quotes and escapes are in order.

        Args:
            behind: what is put behind the block, to be picked like its strings; eight bytes or
                more, so that a word can be read at the block's end.
        """
        data = self.data + behind
        signs = np.frombuffer(data, np.uint8)
        words: Numbers = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
        places, kinds, ends = self._places, self._kinds, self._ends
        active, is_escaped = _escapes(places, kinds)
        escapes = places[active]
        wrong = [places[(kinds < SPACE) & (kinds != _NEWLINE)]]
        wrong.append(escapes[ESCAPED[signs[escapes + 1]] == 0])
        quotes = places[(kinds == QUOTE) & ~is_escaped]
        counts = np.diff(np.searchsorted(quotes, ends), prepend=0)
        is_odd = (counts & 1 == 1) | (counts == 0)
        is_odd[np.searchsorted(ends, np.concatenate(wrong))] = True
        begins = np.append(0, ends[:-1] + 1)
        is_odd |= signs[begins] != _OPEN
        tokens = places[kinds == _LESS]
        tokens = tokens[words[tokens] & MASKS[7] == _TOKEN]
        if is_odd.any():
            quotes = quotes[np.repeat(~is_odd, counts)]
            tokens = tokens[~is_odd[np.searchsorted(ends, tokens)]]
            escapes = escapes[~is_odd[np.searchsorted(ends, escapes)]]
        rows = np.flatnonzero(~is_odd)
        return Strings(
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


def _escapes(places: Numbers, kinds: Numbers) -> tuple[Numbers, Numbers]:
    """Return which special signs are backslashes that begin an escape, and which are escaped."""
    is_backslash = kinds == BACKSLASH
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


def slices(texts: pa.Array, begins: Numbers, ends: Numbers) -> pa.Array:
    """Return parts of an array's texts, in order, by their places in its buffer of texts."""
    return pick(texts.buffers()[2] or b"", begins, ends)


def pick(data: Any, begins: Numbers, ends: Numbers) -> pa.Array:
    """Return pieces of a text, in order, one behind the other."""
    bounds = np.empty(2 * len(begins) + 1, np.int32)
    bounds[:-1:2], bounds[1::2] = begins, ends
    bounds[-1] = bounds[-2] if len(begins) else 0
    return array(data, bounds, pa.string()).take(pa.array(np.arange(0, 2 * len(begins), 2)))


def array(data: Any, bounds: Numbers, kind: pa.DataType) -> pa.Array:
    """Return an array of what lies between bounds."""
    offsets = pa.py_buffer(bounds.astype(np.int32, copy=False))
    return pa.Array.from_buffers(kind, len(bounds) - 1, [None, offsets, pa.py_buffer(data)])
