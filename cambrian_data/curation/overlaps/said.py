"""What of a text is compared between sets: runs of words, or a short text as a whole.

Texts -> numbers of 64 bits. Case and punctuation make no difference, and `<image>` says nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from cambrian_data.curation.rules.text_counts import text_bytes
from cambrian_data.curation.words import Words, mix, ngrams, spoken, words_of

_SIGNS = bytes(
    sign for sign in range(33, 127) if not chr(sign).isalnum()
)  # ASCII; other scripts' signs stay part of their words
_WITHOUT_SIGNS = bytes.maketrans(_SIGNS, b" " * len(_SIGNS))
_WHOLE = np.uint64(0x5851F42D4C957F2D)  # keeps a whole short text apart from a run of words


class Said(NamedTuple):
    """What texts say, one number for each run of words or whole short text."""

    values: np.ndarray
    """uint64."""
    text: np.ndarray
    """int64: the text that says it, ascending."""


def words_said(texts: pa.Array) -> Words:
    """Return the words of texts without case, punctuation and signs that stand for pictures."""
    texts = spoken(texts)
    data, offsets = text_bytes(texts)
    plain = data[offsets[0] : offsets[-1]].tobytes().translate(_WITHOUT_SIGNS)
    own = (offsets - offsets[0]).astype(np.int32)  # a batch of samples has far less than 2 GB
    buffers = [None, pa.py_buffer(own), pa.py_buffer(plain)]
    return words_of(pa.Array.from_buffers(pa.string(), len(texts), buffers), lower=True)


def said(words: Words, *, ngram_words: int, min_words: int) -> Said:
    """Return every run of `ngram_words` words of each text.

    A text with fewer words counts as a whole, where it has at least `min_words`; a shorter one says
    nothing.
    """
    ends = words.ends.astype(np.int64)
    counts = np.diff(ends, prepend=0)
    text = np.repeat(np.arange(len(ends)), counts)
    runs = ngrams(words.hashes, ngram_words)
    first = text[: len(runs)]
    is_within = ends[first] - np.arange(len(runs)) >= ngram_words
    is_short = (counts < ngram_words) & (counts >= min_words)
    whole = _wholes(words, ends, counts, np.flatnonzero(is_short))
    values = np.concatenate([runs[is_within], whole])
    texts = np.concatenate([first[is_within], np.flatnonzero(is_short)])
    order = np.argsort(texts, kind="stable")
    return Said(values[order], texts[order])


def _wholes(words: Words, ends: np.ndarray, counts: np.ndarray, short: np.ndarray) -> np.ndarray:
    """Return one number for each of some short texts, made of all its words in order."""
    total = np.full(len(short), _WHOLE)
    starts = ends[short] - counts[short]
    for place in range(int(counts[short].max()) if len(short) else 0):
        has = counts[short] > place
        total[has] = mix(total[has]) ^ words.hashes[starts[has] + place]
    return mix(total)
