"""Search in the embedded corpus, without a network.

`CorpusSearch` ranks the pages with BM25 (Robertson and Zaragoza, 2009) over their words, titles
and topics counted more.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from bs4 import BeautifulSoup

from cambrian_data.engine.corpus import Corpus
from cambrian_data.engine.search.backend import Hit

HEAD_WEIGHT = 5
"""A word of a page's title or topics counts as often as this in its text."""
MIN_SHARE_OF_BEST = 0.5
"""Pages that score less than this share of the best one are about something else."""
_K1, _B = 1.2, 0.75
_STOP_WORDS = frozenset(
    ("a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the")
)


def words_of(text: str) -> list[str]:
    """Return the words that a search compares: lower case, plural s cut, no stop words."""
    words = re.findall(r"[^\W_]+", text.casefold())
    return [_stem(word) for word in words if word not in _STOP_WORDS]


def _stem(word: str) -> str:
    cut = len(word) > 3 and word.endswith("s") and not word.endswith("ss")
    return word[:-1] if cut else word


class CorpusSearch:
    """BM25 over the embedded corpus."""

    name = "corpus"

    def __init__(self, corpus: Corpus) -> None:
        self._pages = corpus.pages
        self._texts = [_plain(corpus.read_page(page.url)) for page in corpus.pages]
        self._counts = [
            Counter(words_of(" ".join([page.title, *page.topics])) * HEAD_WEIGHT + words_of(text))
            for page, text in zip(corpus.pages, self._texts, strict=True)
        ]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean_length = sum(self._lengths) / max(len(self._lengths), 1)
        self._document_frequency = Counter(word for counts in self._counts for word in counts)

    def search(self, query: str, *, limit: int) -> list[Hit]:
        """Return the pages that hold words of the query, best first, ties by address."""
        words = sorted(set(words_of(query)))
        scored = [(self._score(words, number), number) for number in range(len(self._pages))]
        least = MIN_SHARE_OF_BEST * max((score for score, _ in scored), default=0.0)
        best = sorted(
            (pair for pair in scored if pair[0] > 0 and pair[0] >= least),
            key=lambda pair: (-pair[0], self._pages[pair[1]].url),
        )
        return [
            Hit(
                rank=rank,
                url=self._pages[number].url,
                title=self._pages[number].title,
                snippet=_snippet(self._texts[number], words),
            )
            for rank, (_, number) in enumerate(best[:limit], start=1)
        ]

    def subtopics(self, topic: str) -> list[str]:
        """Return none: the corpus names fields, subfields and topics itself."""
        return []

    def _score(self, words: list[str], number: int) -> float:
        score, norm = 0.0, 1 - _B + _B * self._lengths[number] / self._mean_length
        for word in words:
            frequency = self._counts[number][word]
            pages_with = self._document_frequency[word]
            rarity = math.log(1 + (len(self._pages) - pages_with + 0.5) / (pages_with + 0.5))
            score += rarity * frequency * (_K1 + 1) / (frequency + _K1 * norm)
        return score


def _plain(html: bytes) -> str:
    soup = BeautifulSoup(html, "lxml")
    for tag in soup(["script", "style", "nav", "header", "footer"]):
        tag.decompose()
    return " ".join(soup.get_text(" ").split())


def _snippet(text: str, words: list[str], width: int = 160) -> str:
    """Return a piece of the text around the first word of the query."""
    lowered = text.casefold()
    places = [place for word in words if (place := lowered.find(word)) >= 0]
    start = max(0, min(places, default=0) - width // 4)
    return text[start : start + width].strip()
