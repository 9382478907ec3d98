"""The words of many texts as 64-bit hashes, on whole columns at once.

A word is what `str.split()` gives once the text is in Unicode form NFC, in lower case where asked.
Texts in ASCII are cut and hashed as bytes, in blocks that stay in the processor's cache, 8 bytes of
all words at a time; the others are first brought into normal form one by one. About 5 microseconds
for a text of 100 words. Hashes depend on the word alone, so they agree between processes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cambrian_data.records import IMAGE_TOKEN

_BLOCK_BYTES = 2**18
_LONG_WORD = 256  # bytes; longer words are rare and hashed one by one, so that a block stays cheap
_SPACE = 0x20
_WHITE = bytes([9, 10, 11, 12, 13, 28, 29, 30, 31])
_AS_IT_IS = bytes.maketrans(_WHITE, b" " * len(_WHITE))
_LOWER = bytes(_AS_IT_IS).lower()
# Odd numbers with well spread bits: the first is 2**64 over the golden ratio, the next two are
# splitmix64's; a lane more is another hash of the same word.
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_LANES = (0xD6E8FEB86659FD93, 0xA0761D6478BD642F)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a list of texts, one after the other."""

    hashes: np.ndarray
    """uint64 [num_words], in order."""
    ends: np.ndarray
    """int64 [num_texts]: where each text's words end, so text i has hashes[ends[i-1]:ends[i]]."""


@dataclass(frozen=True, slots=True)
class WordBlock:
    """The words of some consecutive texts, not hashed yet."""

    text: bytes
    """Normal form of the texts, then 8 bytes more, so that 8 bytes can be read at every place."""
    starts: np.ndarray
    """int64 [num_words]: where in `text` the words begin."""
    sizes: np.ndarray
    """int64 [num_words]: their bytes."""
    ends: np.ndarray
    """int64 [num_texts]: the number of words of the block up to the end of each text."""

    def hashes(self, lane: int = 0) -> np.ndarray:
        """Return the words' hashes, uint64 [num_words]; lane 1 is independent of lane 0."""
        eights = np.ndarray((len(self.text) - 7,), "<u8", buffer=self.text, strides=(1,))
        factor = np.uint64(_LANES[lane])
        found = self.sizes.astype(np.uint64) * factor
        found ^= eights[self.starts] & _FIRST_BYTES[np.minimum(self.sizes, 8)]
        found = mix(found)
        longer = np.flatnonzero(self.sizes > 8)
        done = 8
        while len(longer) and done < _LONG_WORD:
            rest = np.minimum(self.sizes[longer] - done, 8)
            found[longer] *= factor
            found[longer] ^= eights[self.starts[longer] + done] & _FIRST_BYTES[rest]
            found[longer] = mix(found[longer])
            done += 8
            longer = longer[self.sizes[longer] > done]
        for place in longer.tolist():
            start = int(self.starts[place])
            word = self.text[start : start + int(self.sizes[place])]
            digest = blake2b(word, digest_size=8, salt=bytes([lane])).digest()
            found[place] = int.from_bytes(digest, "little")
        return found


_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)


def words_of(texts: pa.Array | pa.ChunkedArray, *, lower: bool) -> Words:
    """Return the words of texts as hashes; a text that is null has none.

    Args:
        texts: strings (or large strings).
        lower: hash words in lower case, so that case makes no difference.
    """
    hashes, ends, total = [], [], 0
    for block in word_blocks(texts, lower=lower):
        hashes.append(block.hashes())
        ends.append(block.ends + total)
        total += len(block.starts)
    if not ends:
        return Words(np.empty(0, np.uint64), np.empty(0, np.int64))
    return Words(np.concatenate(hashes), np.concatenate(ends))


def word_blocks(texts: pa.Array | pa.ChunkedArray, *, lower: bool) -> Iterator[WordBlock]:
    """Yield the words of texts in order, a block of texts at a time (for several lanes)."""
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    for chunk in chunks:
        for piece in _pieces(chunk):
            yield _block(_plain(piece.cast(pa.string()), lower=lower), lower=lower)


def spoken(texts: pa.Array) -> pa.Array:
    """Return texts without the signs that stand for pictures; nothing is put in their place."""
    has_sign = pc.match_substring(texts, IMAGE_TOKEN)
    changed = pc.replace_substring(texts.filter(has_sign), IMAGE_TOKEN, "")
    return pc.replace_with_mask(texts, has_sign.fill_null(False), changed)


def mix(values: np.ndarray) -> np.ndarray:
    """Return numbers as other ones whose bits all depend on all bits (splitmix64's last steps)."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(_MIX_1)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_MIX_2)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def ngrams(hashes: np.ndarray, size: int) -> np.ndarray:
    """Return the hash of every run of words: uint64 [max(0, num_words - size + 1)].

    Runs go over the ends of texts; who does not want those leaves them out by `Words.ends`.

    Args:
        hashes: words as hashes, uint64 [num_words].
        size: words in a run, at least 1.
    """
    count = max(0, len(hashes) - size + 1)
    total = np.full(count, np.uint64(size))
    factor = 1
    for place in range(size):
        factor = factor * _GOLDEN % 2**64
        total += hashes[place : place + count] * np.uint64(factor)
    return mix(total)


def spans(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where consecutive lists start, and their sizes, from where they end."""
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    return starts[: len(ends)], ends - starts[: len(ends)]


def places(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return starts[0], starts[0] + 1, ... of each of some spans: int64 [sum of sizes]."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))


def _pieces(texts: pa.Array) -> Iterator[pa.Array]:
    """Cut an array so that no piece has much more text than a block (or a single text)."""
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    if not len(texts):
        return
    offsets = np.frombuffer(texts.buffers()[1], kind)[texts.offset :][: len(texts) + 1]
    start = 0
    while start < len(texts):
        end = int(np.searchsorted(offsets, int(offsets[start]) + _BLOCK_BYTES, side="right")) - 1
        end = min(max(end, start + 1), len(texts))
        yield texts.slice(start, end - start)
        start = end


def _plain(texts: pa.Array, *, lower: bool) -> pa.Array:
    """Return texts in which words are apart by ASCII white space, and all but ASCII is as asked."""
    texts = texts.fill_null("") if texts.null_count else texts
    is_other = pc.invert(pc.string_is_ascii(texts))
    if not pc.any(is_other).as_py():
        return texts
    normal = []
    for text in texts.filter(is_other).to_pylist():
        composed = unicodedata.normalize("NFC", text)
        normal.append(" ".join((composed.lower() if lower else composed).split()))
    return pc.replace_with_mask(texts, is_other, pa.array(normal, pa.string()))


def _block(texts: pa.Array, *, lower: bool) -> WordBlock:
    # The white space behind every text keeps its last word from the next text's first one.
    apart = pc.binary_join_element_wise(texts, "", " ")
    _, offset_buffer, data = apart.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[: len(apart) + 1]
    text = bytes(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    text = text.translate(_LOWER if lower else _AS_IT_IS) + bytes(8)
    is_word = np.frombuffer(text, np.uint8)[:-8] != _SPACE
    # Texts end in white space, so a word always ends before the block does.
    changes = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    if is_word[0]:
        changes = np.concatenate([[0], changes])
    starts = changes[0::2]
    return WordBlock(
        text=text,
        starts=starts,
        sizes=changes[1::2] - starts,
        ends=np.searchsorted(starts, offsets[1:].astype(np.int64) - int(offsets[0])),
    )
