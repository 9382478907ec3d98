from __future__ import annotations

from types import SimpleNamespace

import pytest

from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.search import CorpusSearch, SearchConfig, search_topics
from cambrian_data.engine.search.corpus import words_of
from cambrian_data.engine.topics import topics_from_corpus


class Pages:
    """Three pages by hand."""

    def __init__(self) -> None:
        texts = {
            "Lens": "<p>A lens bends light. Light, light!</p>",
            "Prism": "<p>A prism bends light too.</p><nav>pendulum</nav>",
            "Clock": "<p>A pendulum keeps time.</p><script>light</script>",
        }
        self.texts = {f"https://x/{title}": text.encode() for title, text in texts.items()}
        self.pages = tuple(
            SimpleNamespace(url=f"https://x/{title}", title=title, topics=()) for title in texts
        )

    def read_page(self, url: str) -> bytes:
        return self.texts[url]


def titles(search: CorpusSearch, query: str, limit: int = 10) -> list[str]:
    return [hit.title for hit in search.search(query, limit=limit)]


def test_more_of_the_word_ranks_higher_and_furniture_does_not_count():
    search = CorpusSearch(Pages())
    assert titles(search, "light") == ["Lens", "Prism"]
    assert titles(search, "pendulums") == ["Clock"]
    assert titles(search, "light", limit=1) == ["Lens"]
    assert titles(search, "volcano") == [] and titles(search, "of the") == []


def test_titles_count_more_than_text():
    assert titles(CorpusSearch(Pages()), "prism light")[0] == "Prism"


def test_ranks_count_up_and_snippets_show_the_word():
    hits = CorpusSearch(Pages()).search("light", limit=2)
    assert [hit.rank for hit in hits] == [1, 2]
    assert all("light" in hit.snippet.lower() for hit in hits)


def test_words_lose_case_plural_and_stop_words():
    assert words_of("The LENSES of a Glass, pendulums & gas") == [
        "lense",
        "glass",
        "pendulum",
        "gas",
    ]


@pytest.fixture(scope="module")
def corpus_search():
    return CorpusSearch(load_corpus())


def test_every_topic_of_the_corpus_leads_to_its_page(corpus_search):
    corpus = load_corpus()
    for page in corpus.pages:
        for topic in page.topics:
            found = [hit.url for hit in corpus_search.search(topic, limit=3)]
            assert page.url in found, (topic, found)


def test_physics_is_not_answered_with_chemistry_first(corpus_search):
    corpus = load_corpus()
    fields = {page.url: page.field for page in corpus.pages}
    for topic in topics_from_corpus("physics", corpus):
        first = corpus_search.search(topic["topic"], limit=1)[0]
        assert fields[first.url] == "Physics", topic["topic"]


def test_topics_without_hits_are_dropped_with_a_reason(corpus_search):
    topics = [{"id": "t1", "topic": "lenses"}, {"id": "t2", "topic": "zzgrblx"}]
    hits, drops, num_passing = search_topics(topics, corpus_search, SearchConfig(hits_per_topic=2))
    assert {hit["topic_id"] for hit in hits} == {"t1"} and len(hits) <= 2
    assert [(d["record_id"], d["reason"]) for d in drops] == [("t2", "no_hits")]
    assert num_passing == 0
