"""Words as hashes: cut where Python cuts, equal where Python's words are equal."""

from __future__ import annotations

import unicodedata
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation import words
from cambrian_data.curation.words import mix, ngrams, spoken, words_of

# Letters with several forms, cases that grow or depend on their place, white space of all kinds.
SIGNS = "aAbB \t\n\x0b\x1c\x1f\x85\xa0\u1680\u2003\u2028\u3000\u200b\x00e\u0301\u00e9\u00c9\u0130"
SIGNS += "\u03a3\u03c3\u03c2\u00df\ufb01\u1100\u1161\uac00\U0001f600"
TEXTS = st.lists(st.one_of(st.text(SIGNS, max_size=30), st.text(max_size=20)), max_size=12)


def python_words(text: str, *, lower: bool) -> list[str]:
    composed = unicodedata.normalize("NFC", text)
    return (composed.lower() if lower else composed).split()


@settings(max_examples=300, deadline=None)
@given(texts=TEXTS, lower=st.booleans())
def test_words_are_those_of_python(texts, lower):
    found = words_of(pa.array(texts, pa.string()), lower=lower)
    wanted = [python_words(text, lower=lower) for text in texts]
    assert found.ends.tolist() == np.cumsum([len(row) for row in wanted], dtype=int).tolist()
    pairs = set(zip(chain.from_iterable(wanted), found.hashes.tolist(), strict=True))
    assert len({word for word, _ in pairs}) == len(pairs) == len({value for _, value in pairs})


def test_every_sign_parts_words_where_it_does_in_python():
    texts = [f"a{chr(code)}b" for code in range(0x3100)]
    counts = np.diff(words_of(pa.array(texts), lower=False).ends, prepend=0)
    assert counts.tolist() == [len(text.split()) for text in texts]


def test_hashes_are_the_same_in_every_process():
    found = words_of(pa.array(["a cat", "pneumonoultramicroscopic", "c" * 300]), lower=False)
    assert [f"{value:016x}" for value in found.hashes.tolist()] == [
        "64b731dbd441cb9d",
        "f6cd650e4af45daf",
        "fc813e108a22588e",
        "3bde74bd7c12d570",
    ]


def test_words_of_all_lengths_differ_and_do_not_depend_on_their_neighbours():
    sizes = [*range(1, 40), 255, 256, 257, 264, 265, 1000]
    texts = ["x" * size for size in sizes] + ["x" * size + "\0" for size in sizes]
    apart = words_of(pa.array(texts), lower=False).hashes
    assert len(set(apart.tolist())) == len(texts)
    joined = words_of(pa.array(["  ".join(texts), "x"]), lower=False)
    assert joined.hashes[:-1].tolist() == apart.tolist()
    assert joined.ends.tolist() == [len(texts), len(texts) + 1]


@pytest.mark.parametrize("block_bytes", [1, 7, 100])
def test_blocks_make_no_difference(block_bytes, monkeypatch):
    texts = ["one two", "", "  three ", "caf\u00e9\u2003four", "f" * 300, "one"] * 5
    whole = words_of(pa.array(texts), lower=True)
    monkeypatch.setattr(words, "_BLOCK_BYTES", block_bytes)
    cut = words_of(pa.array(texts), lower=True)
    assert cut.hashes.tolist() == whole.hashes.tolist()
    assert cut.ends.tolist() == whole.ends.tolist()


def test_any_kind_of_array_will_do():
    texts = ["a b", None, "c", "\u00e9 d", ""]
    array = pa.array(texts, pa.string())
    wanted = words_of(pa.array([text or "" for text in texts]), lower=False)
    for given_ in (array, array.cast(pa.large_string()), pa.chunked_array([array[:2], array[2:]])):
        found = words_of(given_, lower=False)
        assert found.hashes.tolist() == wanted.hashes.tolist()
        assert found.ends.tolist() == wanted.ends.tolist() == [2, 2, 3, 5, 5]
    part = words_of(array[2:4], lower=False)
    assert part.hashes.tolist() == wanted.hashes[2:].tolist()
    assert part.ends.tolist() == [1, 3]
    none = words_of(pa.array([], pa.string()), lower=False)
    assert (len(none.hashes), len(none.ends)) == (0, 0)


def test_lanes_are_different_hashes():
    (block,) = words.word_blocks(pa.array(["a bb " + "c" * 20 + " " + "d" * 400]), lower=False)
    assert not set(block.hashes(0).tolist()) & set(block.hashes(1).tolist())


def test_spoken_takes_out_picture_signs_only():
    texts = ["<image>\nWhat?", "a<image>b", "<Image> <image><image>", "plain", None, ""]
    assert spoken(pa.array(texts)).to_pylist() == ["\nWhat?", "ab", "<Image> ", "plain", None, ""]


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 3), max_size=40),
    size=st.integers(1, 6),
)
def test_ngrams_are_equal_where_the_runs_of_words_are(numbers, size):
    hashes = mix(np.array(numbers, np.uint64))
    found = ngrams(hashes, size).tolist()
    runs = [tuple(numbers[start : start + size]) for start in range(len(numbers) - size + 1)]
    assert len(found) == len(runs)
    assert len(set(zip(runs, found, strict=True))) == len(set(runs)) == len(set(found))
