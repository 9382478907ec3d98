"""Counting words and cutting texts at the end of a sentence, in scripts with and without spaces."""

from __future__ import annotations

import itertools
import re

from cambrian_data.llm.phrases import sentences

_NO_SPACES = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Thai, Lao, Japanese, Chinese
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\s{_NO_SPACES}]{{1,40}}")
"""One letter of a script without spaces, or a word; what is longer than any word is several."""
_FULL_STOP = re.compile(r"(?<=[\u3002\uff01\uff1f])")


def count_words(text: str) -> int:
    """Return the number of words; letters of scripts without spaces count one each."""
    return sum(1 for _ in _WORD.finditer(text))


def cut_words(text: str, max_words: int) -> str:
    """Return the sentences a text begins with that have at most `max_words` words together.

    A first sentence that is longer is cut between words and ends with three dots.
    """
    end = next(itertools.islice(_WORD.finditer(text), max_words, None), None)
    if end is None:
        return text
    kept: list[str] = []
    room = max_words
    for paragraph in text[: end.end()].split("\n"):
        kept.append("")
        for sentence in _split(paragraph):
            room -= count_words(sentence)
            if room < 0:  # comes true at the latest for what the slice above cut
                break
            kept[-1] = f"{kept[-1]} {sentence}".strip()
    return "\n".join(kept).strip() or _head(text, max_words)


def _split(paragraph: str) -> list[str]:
    parts = [part for long in sentences(paragraph) for part in _FULL_STOP.split(long)]
    return [part for part in parts if part]


def _head(text: str, max_words: int) -> str:
    *_, last = itertools.islice(_WORD.finditer(text), max_words)
    return f"{text[: last.end()].rstrip()} ..."
