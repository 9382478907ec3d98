"""Which part of a section's prose goes with a figure: its opening and the paragraphs beside it.

Of a short section that is all of it. Of a longer one it is the opening, which says what the section
is about, and the paragraphs nearest to the figure, which is where an author speaks of it. Words are
counted so that scripts without blanks between words have some too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

MAX_WORDS = 140
"""Two paragraphs: half of those on real pages have at most 68 words. A section of Wikipedia that
holds figures has 174 (median) and up to 3,000 words, most of which say nothing of one figure."""
_MIN_OPENING_WORDS = 15
_MAX_OPENING = 3
"""A date or a by-line above the first paragraph is no opening yet."""
_MAX_CHARS_PER_WORD = 20
_RANGES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED = re.compile(f"[{_RANGES}]")
_WORD = re.compile(rf"[{_RANGES}]|[^\s{_RANGES}]+")
_UNSPACED_PER_WORD = 2
"""Characters of scripts without blanks (Chinese, Japanese, Thai ...) that count as one word."""
_SENTENCE_END = re.compile(
    "[.!?\u2026\u061f][\"')\\]\u2019\u201d\u00bb]*(?=\\s)|[\u3002\uff01\uff1f\u0964]"
)


def num_words(text: str) -> int:
    """Return the number of words; two characters of a script without blanks make one."""
    if text.isascii():
        return len(text.split())
    unspaced = len(_UNSPACED.findall(text))
    if not unspaced:
        return len(text.split())
    return len(_UNSPACED.sub(" ", text).split()) + -(-unspaced // _UNSPACED_PER_WORD)


class Prose:
    """The paragraphs of one section, in their order."""

    def __init__(self, paragraphs: Sequence[str]) -> None:
        self._paragraphs = paragraphs

    @cached_property
    def num_words(self) -> int:
        """Words in all paragraphs."""
        return sum(map(num_words, self._paragraphs))

    @cached_property
    def _whole(self) -> str:
        return "\n\n".join(self._paragraphs)

    def beside(self, place: int, max_words: int = MAX_WORDS) -> str:
        """Return the prose for a figure that stands before the paragraph with number `place`."""
        is_short = len(self._whole) <= max_words * _MAX_CHARS_PER_WORD
        if is_short and self.num_words <= max_words:
            return self._whole
        num_opening = self._num_opening()
        is_apart = num_opening < min(place, len(self._paragraphs))
        chosen: dict[int, str] = {}
        is_cut = self._choose(chosen, range(num_opening), max_words // (2 if is_apart else 1))
        if is_apart or not is_cut:
            self._choose(chosen, self._nearest(place, num_opening), max_words)
        return "\n\n".join(chosen[n] for n in sorted(chosen))

    def _choose(self, chosen: dict[int, str], numbers: Iterable[int], max_words: int) -> bool:
        """Add paragraphs up to so many words in all; tell whether one had to be cut."""
        room = max_words - sum(map(num_words, chosen.values()))
        for n in numbers:
            if room <= 0:
                break
            chosen[n] = shorten(self._paragraphs[n], room)
            room -= num_words(chosen[n])
            if len(chosen[n]) < len(self._paragraphs[n]):
                return True
        return False

    def _num_opening(self) -> int:
        """Return how many paragraphs open the section: one, and what stands before it if short."""
        words = 0
        for n, text in enumerate(self._paragraphs[:_MAX_OPENING], 1):
            words += num_words(text)
            if words >= _MIN_OPENING_WORDS:
                return n
        return min(_MAX_OPENING, len(self._paragraphs))

    def _nearest(self, place: int, first: int) -> Iterator[int]:
        """Yield the numbers of the paragraphs from the first one on by distance to a place."""
        for distance in range(len(self._paragraphs)):
            for n in (place + distance, place - 1 - distance):
                if first <= n < len(self._paragraphs):
                    yield n


def shorten(text: str, max_words: int) -> str:
    """Return the beginning of a text, to the end of a sentence where one ends in its last half."""
    cut = text[: max_words * _MAX_CHARS_PER_WORD]
    if len(cut) == len(text) and num_words(text) <= max_words:
        return text
    end = _end_of_words(cut, max_words)
    last = 0
    for found in _SENTENCE_END.finditer(text, 0, end + 1):
        last = found.end()
    return text[: last if last > end // 2 else end].rstrip()


def _end_of_words(text: str, max_words: int) -> int:
    """Return where the first words of a text end."""
    budget = max_words * _UNSPACED_PER_WORD
    end = 0
    for found in _WORD.finditer(text):
        budget -= 1 if _UNSPACED.match(found[0]) else _UNSPACED_PER_WORD
        if budget < 0:
            break
        end = found.end()
    return end
