"""Counts over bytes, against Python's own on single texts."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambrian_data.curation.rules import text_counts
from cambrian_data.curation.rules.text_counts import counts_of, text_blocks

ODD = ["<image>", "<imag", "e>", " ", "\n", "\x1c", "\x1b", "\x85", "\xa0", "\u1680", "\u2003"]
ODD += ["\u2028", "\u205f", "\u3000", "\u200b", "e\u0301", "\u6f22", "\ud55c", "\u0915\u0940"]
ODD += ["\U0001f600", "\U0001d7d9", "\U00020000", "a", "Z", "0", "_", "<", ">", "\x7f", "\x00"]
TEXTS = st.lists(st.lists(st.sampled_from(ODD) | st.characters(codec="utf-8")).map("".join))


def by_hand(text: str) -> tuple[int, int, int, int]:
    rest = text.replace("<image>", " ")
    signs = [
        sign
        for sign in rest
        if not (sign.isalnum() or sign.isspace() or unicodedata.category(sign)[0] in "MN")
    ]
    unspaced = [
        sign
        for sign in text
        if any(low <= ord(sign) <= high for low, high in text_counts.UNSPACED)
        and (sign.isalnum() or unicodedata.category(sign)[0] in "MN")
    ]
    words = len(rest.split()) + max(len(unspaced) - 1, 0) // 2
    return words, len(text), text.count("<image>"), len(signs)


def counted(text: pa.Array) -> list[tuple[int, ...]]:
    counts = counts_of(text)
    columns = (counts.words, counts.characters, counts.tokens, counts.signs)
    return [tuple(row) for row in np.stack(columns, axis=1).tolist()]


@given(texts=TEXTS, block_bytes=st.sampled_from([1, 7, 64, 1 << 18]), is_large=st.booleans())
def test_counts_are_those_of_python(texts, block_bytes, is_large):
    column = pa.array(texts, pa.large_string() if is_large else pa.string())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_counts, "BLOCK_BYTES", block_bytes)
        assert counted(column) == [by_hand(text) for text in texts]


def test_every_space_parts_words():
    spaces = [chr(code) for code in range(0x11000) if chr(code).isspace()]
    assert len(spaces) == 29
    assert counts_of(pa.array([f"a{space}b" for space in spaces])).words.tolist() == [2] * 29


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\u732b", 1),
        ("\u6c99\u53d1", 1),
        ("\u5728\u6c99\u53d1\u4e0a\u3002", 2),
        ("\u662f GPT-4 \u6a21\u578b", 4),
        ("\ube68\uac04 \ubc84\uc2a4", 2),
        ("\u3010\u3002\u3011", 1),
    ],
)
def test_words_where_no_spaces_are_written(text, words):
    assert counts_of(pa.array([text])).words.tolist() == [words]


def test_nulls_and_slices_and_nothing():
    column = pa.array(["one", None, "two words", "<image> three more words"])
    assert counts_of(column).words.tolist() == [1, 0, 2, 3]
    assert counts_of(column[2:3]).words.tolist() == [2]
    assert counts_of(column[:0]).words.tolist() == []
    assert counts_of(pa.array([], pa.string())).characters.tolist() == []


def test_a_text_longer_than_a_block_is_one_block(monkeypatch):
    monkeypatch.setattr(text_counts, "BLOCK_BYTES", 4)
    blocks = list(text_blocks(pa.array(["ab", "long text", "", "c"])))
    assert [bytes(data) for data, _ in blocks] == [b"ab", b"long text", b"c"]
    assert [ends.tolist() for _, ends in blocks] == [[0, 2], [0, 9], [0, 0, 1]]
