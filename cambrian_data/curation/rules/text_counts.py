"""Words, characters, signs and picture tokens of many texts at once, counted over their bytes.

A column of texts -> four numbers a text. A word is what `str.split` gives; where no spaces are
written, as in Chinese, every two characters after the first two are one more. A character is a code
point. `<image>` is no word, it parts words as white space does. About a nanosecond a byte; works in
blocks, so that it holds little beside the column.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from cambrian_data.records import IMAGE_TOKEN

BLOCK_BYTES = 1 << 18
"""Texts are looked at in blocks of about so many bytes, which fit into a processor's cache."""

LETTER, SPACE, SIGN = 0, 1, 2
"""Classes of characters: letters, marks and digits of all scripts; white space; all others."""

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Japanese kana
    (0x3400, 0x4DBF),  # Chinese characters, here and below
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2FFFF),
)
"""Code points (first, last) of scripts that write no space between words."""

_TOKEN = np.frombuffer(IMAGE_TOKEN.encode(), dtype=np.uint8)
_MARKS_AND_DIGITS = "MN"


@dataclass(frozen=True, slots=True)
class TextCounts:
    """What was counted in every text, each an int64 array [texts]."""

    words: np.ndarray
    """Words, `<image>` left out; of scripts without spaces about as many as there would be."""
    characters: np.ndarray
    """Characters of the text as it is."""
    tokens: np.ndarray
    """How often `<image>` stands in it."""
    signs: np.ndarray
    """Characters that are neither letter, digit nor white space, outside of `<image>`."""


@dataclass(frozen=True, slots=True)
class WideCharacters:
    """The characters of a block that are not ASCII."""

    at: np.ndarray
    """Where each begins, in bytes."""
    length: np.ndarray
    """Bytes of each, 2 to 4."""
    code: np.ndarray
    """Its code point."""


def counts_of(text: pa.Array) -> TextCounts:
    """Count in every text of a column of strings; a null counts as empty."""
    counts = [_count_block(data, ends) for data, ends in text_blocks(text)]
    joined = np.concatenate([np.empty((4, 0), dtype=np.int64), *counts], axis=1)
    return TextCounts(*joined)


def text_blocks(text: pa.Array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the bytes of some texts, and where each text begins in them and the last one ends.

    Yields:
        uint8 [bytes] and int64 [texts + 1]; together all texts, in order.
    """
    data, offsets = text_bytes(text)
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(np.searchsorted(offsets, offsets[first] + BLOCK_BYTES, side="right")) - 1
        last = min(max(last, first + 1), count)
        low, high = int(offsets[first]), int(offsets[last])
        yield data[low:high], offsets[first : last + 1] - low
        first = last


def text_bytes(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's UTF-8 and where each text stands in it, int64 [texts + 1]; no copy."""
    if text.null_count:
        text = text.fill_null("")
    if not len(text):
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    width = np.int64 if pa.types.is_large_string(text.type) else np.int32
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, dtype=width)[text.offset : text.offset + len(text) + 1]
    raw = np.empty(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8)
    return raw, bounds.astype(np.int64)


def wide_characters(data: np.ndarray) -> WideCharacters:
    """Return the characters that are not ASCII in bytes that are whole UTF-8."""
    at = np.flatnonzero(data >= 0xC0)
    first = data[at].astype(np.int32)
    length = 2 + (first >= 0xE0).astype(np.int64) + (first >= 0xF0)
    code = first & (0xFF >> (length + 1)).astype(np.int32)
    for place in range(1, 4):
        has_more = length > place
        byte = data[at[has_more] + place].astype(np.int32)
        code[has_more] = (code[has_more] << 6) | (byte & 0x3F)
    return WideCharacters(at, length, code)


def class_of(code: np.ndarray) -> np.ndarray:
    """Return for every code point whether it is LETTER, SPACE or SIGN, uint8 [characters]."""
    table = _basic_classes()
    found = table[np.minimum(code, len(table) - 1)]
    is_rare = code >= len(table)
    if is_rare.any():
        rare, place = np.unique(code[is_rare], return_inverse=True)
        found[is_rare] = np.array([_class(int(c)) for c in rare], dtype=np.uint8)[place]
    return found


@cache
def _basic_classes() -> np.ndarray:
    return np.array([_class(code) for code in range(1 << 16)], dtype=np.uint8)


def _class(code: int) -> int:
    character = chr(code)
    if character.isspace():
        return SPACE
    is_letter = character.isalnum() or unicodedata.category(character)[0] in _MARKS_AND_DIGITS
    return LETTER if is_letter else SIGN


def _count_block(data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return words, characters, tokens and signs of the texts of a block, int64 [4, texts]."""
    is_space = (data == 32) | ((data - 9) < 5) | ((data - 28) < 4)
    is_sign = ~((((data | 32) - 97) < 26) | ((data - 48) < 10) | (data >= 128))
    surplus = np.zeros(len(ends) - 1, dtype=np.int64)
    unspaced = surplus
    if len(data) and data.max() >= 128:
        wide = wide_characters(data)
        classes = class_of(wide.code)
        _mark_wide_spaces(is_space, wide, classes == SPACE)
        is_sign[wide.at[classes == SIGN]] = True
        bytes_before = np.concatenate([[0], np.cumsum(wide.length - 1)])
        surplus = np.diff(bytes_before[np.searchsorted(wide.at, ends)])
        letters = wide.at[_is_unspaced(wide.code) & (classes == LETTER)]
        unspaced = np.diff(np.searchsorted(letters, ends))
    tokens = find_tokens(data, ends)
    is_space[(tokens[:, None] + np.arange(len(_TOKEN))).ravel()] = True
    is_begin = np.empty(len(data) + 1, dtype=bool)
    is_begin[1:] = is_space
    is_begin[ends] = True
    words = np.flatnonzero(is_begin[:-1] > is_space)
    signs = np.flatnonzero(is_sign > is_space)
    return np.stack(
        [
            np.diff(np.searchsorted(words, ends)) + np.maximum(unspaced - 1, 0) // 2,
            np.diff(ends) - surplus,
            np.diff(np.searchsorted(tokens, ends)),
            np.diff(np.searchsorted(signs, ends)),
        ]
    )


def _is_unspaced(code: np.ndarray) -> np.ndarray:
    first, last = np.array(UNSPACED).T
    place = np.searchsorted(first, code, side="right") - 1
    return (place >= 0) & (code <= last[place])


def _mark_wide_spaces(
    is_space: np.ndarray, wide: WideCharacters, is_wide_space: np.ndarray
) -> None:
    for place in range(3):  # no white space has more than three bytes
        is_so_long = is_wide_space & (wide.length > place)
        is_space[wide.at[is_so_long] + place] = True


def find_tokens(data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return where `<image>` begins, whole within one text."""
    at = np.flatnonzero(data[: max(len(data) - len(_TOKEN) + 1, 0)] == _TOKEN[0])
    for place in range(1, len(_TOKEN)):
        at = at[data[at + place] == _TOKEN[place]]
    end_of_text = ends[np.searchsorted(ends, at, side="right")]
    return at[at + len(_TOKEN) <= end_of_text]
