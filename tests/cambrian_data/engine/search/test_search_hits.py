from __future__ import annotations

import pytest
from pydantic import ValidationError

from cambrian_data.engine.search import Hit, SearchConfig, SearchUnavailable, search_topics
from cambrian_data.engine.search.backend import is_on_site
from cambrian_data.engine.search.hits import Result, collect_hits, members, plain_text, result_of
from cambrian_data.records import DROP_REASONS, table_of


def results(*urls: str) -> list[Result]:
    return [Result(url, f"title of {url}", "") for url in urls]


def urls_of(hits: list[Hit]) -> list[tuple[int, str]]:
    return [(hit.rank, hit.url) for hit in hits]


def test_ranks_count_on_over_pages_and_each_address_counts_once():
    pages = [
        results("https://x.org/a", "HTTPS://X.org:443/a#History", "https://x.org/b"),
        results("https://x.org/b", "https://x.org/c", "https://x.org/d"),
    ]
    assert urls_of(collect_hits(pages, 3)) == [
        (1, "https://x.org/a"),
        (2, "https://x.org/b"),
        (3, "https://x.org/c"),
    ]


def test_no_page_is_asked_for_that_is_not_needed():
    asked = []

    def pages():
        for number in range(100):
            asked.append(number)
            yield results(f"https://x.org/{number}/a", f"https://x.org/{number}/b")

    assert len(collect_hits(pages(), 4)) == 4 and asked == [0, 1]


def test_a_service_that_repeats_its_page_for_ever_is_left():
    def pages():
        while True:
            yield results("https://x.org/a")

    assert urls_of(collect_hits(pages(), 5)) == [(1, "https://x.org/a")]


def test_what_is_no_web_address_is_refused_and_takes_no_rank():
    bad = ["file:///etc/passwd", "javascript:alert(1)", "", "https://", "http://[::1/x", "a b c"]
    bad += ["http://x.org:99999/", "mailto:a@x.org", "//x.org/a"]
    hits = collect_hits([results("https://x.org/a", *bad, "https://x.org/b")], 5)
    assert urls_of([hit for hit in hits if not hit.refused]) == [
        (1, "https://x.org/a"),
        (2, "https://x.org/b"),
    ]
    assert sorted(hit.url for hit in hits if hit.refused) == sorted(bad)


def test_a_page_of_refused_hits_is_no_end():
    hits = collect_hits([results("file:///a"), results("https://x.org/a")], 1)
    assert [hit.rank for hit in hits] == [0, 1]


@pytest.mark.parametrize(
    ("url", "site", "expected"),
    [
        ("https://x.org/a", "", True),
        ("https://x.org/a", "x.org", True),
        ("https://www.x.org/a", "X.org", True),
        ("https://notx.org/a", "x.org", False),
        ("https://x.org.evil.com/a", "x.org", False),
        ("https://x.org/blog/a", "x.org/blog", True),
        ("https://x.org/blog", "x.org/blog", True),
        ("https://x.org/blogger", "x.org/blog", False),
        ("http://127.0.0.1:80/a", "127.0.0.1:81", False),
    ],
)
def test_the_site_filter_knows_hosts_and_paths(url: str, site: str, expected: bool):
    assert is_on_site(url, site) is expected
    kept = collect_hits([results(url)], 1, site)
    assert bool(kept) is expected


def test_text_loses_marks_and_entities_but_not_what_it_is_about():
    assert plain_text("a <strong>pine</strong> is\n &quot;green&quot;") == 'a pine is "green"'
    assert plain_text('<span class="searchmatch">Pinus</span> &lt;i&gt;') == "Pinus <i>"
    assert plain_text("if a < b and c > d, use <div>") == "if a < b and c > d, use <div>"


def test_answers_of_another_shape_are_no_results():
    for answer in ({}, {"web": None}, {"web": {"results": {}}}, {"web": []}, None):
        assert members(answer, "web", "results") == []
    assert members({"a": [1, {"x": 1}, None]}, "a") == [{"x": 1}]
    assert result_of({"url": 5, "title": None}, "url", "title", "snippet") == Result("", "", "")


def test_the_config_refuses_what_cannot_be_meant():
    assert SearchConfig(site="https://Nasa.gov/earth/").site == "Nasa.gov/earth"
    for wrong in ({"site": "two words"}, {"site": "nasa"}, {"query": "physics"}, {"language": "?"}):
        with pytest.raises(ValidationError):
            SearchConfig(**wrong)
    with pytest.raises(ValidationError):
        SearchConfig(query="{topic} {planet}")


def test_the_query_is_the_topic_without_orders_to_a_search_engine():
    config = SearchConfig()
    assert config.query_of("NOT gate") == "not gate" and config.query_of("Gates") == "Gates"
    assert config.query_of("-40 degrees") == "40 degrees"
    assert config.query_of("C++ {field}") == "C++ {field}"
    template = SearchConfig(query="{topic} ({field}) -site:x.org")
    assert template.query_of("Wave", "Physics") == "Wave (Physics) -site:x.org"
    assert SearchConfig(query="{topic} {field}").query_of("Wave") == "Wave"


class Scripted:
    """A backend that does as told."""

    name = "scripted"

    def __init__(self, **answers: list[Hit] | Exception) -> None:
        self.answers = answers

    def search(self, query: str, *, limit: int) -> list[Hit]:
        found = self.answers[query]
        if isinstance(found, Exception):
            raise found
        return found

    def subtopics(self, topic: str) -> list[str]:
        return []


def hit(rank: int, url: str, refused: str = "") -> Hit:
    return Hit(rank=rank, url=url, title="t", snippet="s", refused=refused)


def test_every_topic_ends_as_hits_or_as_a_drop_with_its_reason():
    backend = Scripted(
        good=[hit(1, "https://x/a"), hit(0, "file:///x", "not an http or https address")],
        bad=[hit(0, "ftp://x", "not an http or https address")],
        none=[],
        away=SearchUnavailable("503"),
        spent=SearchUnavailable("daily limit", is_quota=True),
    )
    topics = [{"id": f"id-{name}", "topic": name} for name in backend.answers]
    found = search_topics(topics, backend, SearchConfig())
    assert [(row["topic_id"], row["query"], row["url"]) for row in found.hits] == [
        ("id-good", "good", "https://x/a")
    ]
    assert [(row["record_id"], row["reason"]) for row in found.drops] == [
        ("id-good", "bad_address"),
        ("id-bad", "bad_address"),
        ("id-bad", "no_hits"),
        ("id-none", "no_hits"),
        ("id-away", "unavailable"),
        ("id-spent", "quota"),
    ]
    assert found.num_passing == 2
    assert found.drops[0]["source"] == "file:///x"
    assert {row["reason"] for row in found.drops} == DROP_REASONS["search"]
    table_of("hits", found.hits)
    table_of("drops", found.drops)
