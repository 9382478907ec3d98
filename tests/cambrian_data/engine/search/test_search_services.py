from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cambrian_data.engine.search import SearchConfig, SearchUnavailable, choose_backend
from cambrian_data.records import UserError
from tests.reference import shared

NAMES = ("google", "brave", "searxng", "mediawiki")
KEYS = {"GOOGLE_API_KEY": "key-of-google", "GOOGLE_SE_ID": "cx1", "BRAVE_API_KEY": "key-of-brave"}


def backend(name: str, service: Any, http: Any, **settings: Any):
    environment = KEYS | {
        "CAMBRIAN_GOOGLE_ENDPOINT": service.url,
        "CAMBRIAN_BRAVE_ENDPOINT": service.url,
        "CAMBRIAN_SEARXNG_URL": service.url,
        "CAMBRIAN_MEDIAWIKI_API": f"{service.url}/w/api.php",
    }
    return choose_backend(name, environment, SearchConfig(**settings), http, None)


def saved(name: str) -> bytes:
    return (shared("webdata") / "search_api" / name).read_bytes()


def page_of(name: str, urls: list[str]) -> dict[str, Any]:
    """What a service answers with such results."""
    if name == "google":
        return {"items": [{"link": url, "title": "t", "snippet": "s"} for url in urls]}
    if name == "brave":
        return {"web": {"results": [{"url": u, "title": "t", "description": "s"} for u in urls]}}
    if name == "searxng":
        return {"results": [{"url": url, "title": "t", "content": "s"} for url in urls]}
    titles = [url.rpartition("/")[2] for url in urls]
    hits = [{"ns": 0, "title": title, "snippet": "s"} for title in titles]
    return {"query": {"search": hits}}


# ------------------------------------------------------------------------------- real answers


def test_google_with_and_without_a_byte_order_mark(service, http):
    service.answer = lambda query: saved("google_what_is_the_semantic_kernel.json")
    hits = backend("google", service, http).search("semantic kernel", limit=4)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    assert hits[0].url == "https://learn.microsoft.com/en-us/semantic-kernel/overview/"
    assert hits[0].title == "Introduction to Semantic Kernel | Microsoft Learn"
    path, query, _ = service.asked[0]
    assert path == "/customsearch/v1"
    assert query == {
        "cx": "cx1",
        "q": "semantic kernel",
        "num": "4",
        "start": "1",
        "hl": "en",
        "lr": "lang_en",
        "key": "key-of-google",
    }
    service.answer = lambda query: saved("google_site_filter_devblogs_microsoft.com.json")
    searched = backend("google", service, http, site="devblogs.microsoft.com")
    hits = searched.search("semantic kernel", limit=4)
    assert len(hits) == 4
    assert all(hit.url.startswith("https://devblogs.microsoft.com/") for hit in hits)
    assert service.queries[-1]["siteSearch"] == "devblogs.microsoft.com"


def test_brave_gives_text_without_marks(service, http):
    service.answer = lambda query: saved("brave_what_is_the_semantic_kernel.json")
    raw = json.loads(saved("brave_what_is_the_semantic_kernel.json"))["web"]["results"]
    hits = backend("brave", service, http).search("semantic kernel", limit=10)
    assert [hit.url for hit in hits] == [item["url"] for item in raw]
    assert any("<strong>" in item["description"] for item in raw)
    assert not any("<" in hit.snippet + hit.title for hit in hits)
    path, query, head = service.asked[0]
    assert path == "/res/v1/web/search" and head["x-subscription-token"] == "key-of-brave"
    assert (query["q"], query["count"], query["offset"]) == ("semantic kernel", "10", "0")
    assert query["search_lang"] == "en" and "key-of-brave" not in str(query)


def test_searxng_as_it_answers_today(service, http):
    service.answer = lambda query: saved("searxng_search_test.json")
    hits = backend("searxng", service, http).search("test", limit=2)
    assert [hit.url for hit in hits] == [
        "https://www.speedtest.net/",
        "https://en.wikipedia.org/wiki/Test",
    ]
    path, query, _ = service.asked[0]
    assert (path, query["format"], query["pageno"]) == ("/search", "json", "1")


def wiki(answers: Any, siteinfo: Any = None):
    """Route siteinfo and searches of a wiki."""

    def answer(query: dict[str, str]) -> Any:
        if query.get("meta") == "siteinfo":
            return siteinfo or {"error": {"code": "badvalue", "info": "not served here"}}
        return answers(query) if callable(answers) else answers

    return answer


def test_a_wiki_gives_addresses_as_it_writes_them_itself(service, http):
    general = {"server": "//species.example.org", "articlepath": "/wiki/$1"}
    service.answer = wiki(
        saved("wikispecies_list_search_pinus.json"), {"query": {"general": general}}
    )
    hits = backend("mediawiki", service, http).search("Pinus", limit=3)
    assert hits[0].url == "http://species.example.org/wiki/Pinus"
    assert hits[1].url == "http://species.example.org/wiki/Pinus_halepensis"
    assert "<" not in hits[0].snippet and hits[0].snippet.startswith("Familia: Pinaceae")
    assert service.queries[-1]["srsearch"] == "Pinus" and service.queries[-1]["srlimit"] == "3"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/index.php?title=$1", "https://w.org/index.php?title=C%2B%2B_%26_%22B%C3%A4r%22%3F"),
        ("/$1", "https://w.org/C%2B%2B_%26_%22B%C3%A4r%22%3F"),
    ],
)
def test_article_paths_of_all_kinds(service, http, path, expected):
    title = 'C++ & "Bär"?'
    service.answer = wiki(
        {"query": {"search": [{"ns": 0, "title": title}, {"ns": 1, "title": "Talk:X"}]}},
        {"query": {"general": {"server": "https://w.org", "articlepath": path}}},
    )
    hits = backend("mediawiki", service, http).search("c", limit=3)
    assert [hit.url for hit in hits] == [expected]
    assert hits[0].title == title


def test_a_wiki_without_siteinfo_and_without_hits(service, http):
    service.answer = wiki(saved("wikipedia_list_search_pinus.json"))
    hits = backend("mediawiki", service, http).search("Pinus", limit=2)
    assert [hit.url for hit in hits] == [
        f"{service.url}/wiki/Pine",
        f"{service.url}/wiki/Pinus_ponderosa",
    ]
    for name in ("no_hits", "gobbilygook"):
        service.answer = wiki(saved(f"wikipedia_list_search_{name}.json"))
        assert backend("mediawiki", service, http).search(name, limit=2) == []


def test_the_suggestion_of_another_word_is_not_followed(service, http):
    service.answer = wiki(saved("wikipedia_list_search_suggestion.json"))
    hits = backend("mediawiki", service, http).search("chest set", limit=10)
    assert hits[0].title == "Davy Jones (Pirates of the Caribbean)"
    assert all(query.get("srsearch") != "chess set" for query in service.queries)


# ------------------------------------------------------------------------------------- paging


def test_a_wiki_is_read_on_until_there_is_enough(service, http):
    titles = [
        item["title"]
        for item in json.loads(saved("wikipedia_list_search_chess_set_500.json"))["query"]["search"]
    ]

    def page(query: dict[str, str]) -> dict[str, Any]:
        start, size = int(query.get("sroffset", 0)), int(query["srlimit"])
        assert size <= 50
        hits = [{"ns": 0, "title": title} for title in titles[start : start + size]]
        more = {"continue": {"sroffset": start + size, "continue": "-||"}}
        return {"query": {"search": hits}, **(more if start + size < len(titles) else {})}

    service.answer = wiki(page)
    hits = backend("mediawiki", service, http).search("chess set", limit=100)
    assert [hit.title for hit in hits] == titles[:100]
    assert [query.get("sroffset") for query in service.queries[1:]] == [None, "50"]


@pytest.mark.parametrize(
    ("name", "parameter", "size", "expected"),
    [
        ("google", "start", 10, ["1", "11", "21"]),
        ("brave", "offset", 20, ["0", "1"]),
        ("searxng", "pageno", 10, ["1", "2", "3"]),
    ],
)
def test_pages_are_asked_for_as_each_service_counts_them(
    service, http, name, parameter, size, expected
):
    first = {"google": 1, "brave": 0, "searxng": 1}[name]
    step = size if name == "google" else 1

    def page(query: dict[str, str]) -> dict[str, Any]:
        number = (int(query[parameter]) - first) // step
        # The second page repeats a hit of the first one.
        urls = [f"https://x.org/{max(number * size - 1, 0) + place}" for place in range(size)]
        return page_of(name, urls)

    service.answer = page
    hits = backend(name, service, http).search("x", limit=25)
    assert [hit.rank for hit in hits] == list(range(1, 26))
    assert len({hit.url for hit in hits}) == 25
    assert [query[parameter] for query in service.queries] == expected


def test_google_is_never_asked_beyond_its_hundredth_result(service, http):
    def page(query: dict[str, str]) -> dict[str, Any]:
        assert int(query["start"]) + int(query["num"]) <= 101
        return page_of("google", [f"https://x.org/{query['start']}/{n % 9}" for n in range(10)])

    service.answer = page
    assert len(backend("google", service, http).search("x", limit=100)) == 90
    assert len(service.asked) == 10


@pytest.mark.parametrize("name", NAMES)
def test_the_last_page_ends_it(service, http, name):
    service.answer = wiki(page_of(name, ["https://x.org/a", "https://x.org/b"]))
    assert len(backend(name, service, http).search("x", limit=50)) == 2
    service.answer = wiki(page_of(name, []))
    assert backend(name, service, http).search("y", limit=50) == []


def test_brave_says_itself_whether_more_follows(service, http):
    def page(query: dict[str, str]) -> dict[str, Any]:
        more = {"query": {"more_results_available": query["offset"] != "2"}}
        return page_of("brave", [f"https://x.org/{query['offset']}"]) | more

    service.answer = page
    assert len(backend("brave", service, http).search("x", limit=20)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_kept_and_not_asked_for_again(service, http, name):
    service.answer = wiki(page_of(name, ["https://x.org/a"]))
    first = backend(name, service, http).search("x", limit=1)
    num_asked = len(service.asked)
    assert backend(name, service, http).search("x", limit=1) == first
    assert len(service.asked) == num_asked


@pytest.mark.parametrize("name", ("google", "brave", "searxng"))
def test_the_site_filter_is_sent_and_held(service, http, name):
    service.answer = lambda query: page_of(name, ["https://a.org/1", "https://b.org/2"])
    hits = backend(name, service, http, site="b.org").search("x", limit=5)
    assert [(hit.rank, hit.url) for hit in hits] == [(1, "https://b.org/2")]
    assert "b.org" in str(service.queries[0])


def test_a_wiki_cannot_search_another_site(service, http):
    service.answer = wiki(page_of("mediawiki", ["https://x.org/a"]))
    with pytest.raises(UserError, match=r"nasa\.gov"):
        backend("mediawiki", service, http, site="nasa.gov").search("x", limit=1)
    assert backend("mediawiki", service, http, site="127.0.0.1/wiki").search("x", limit=1)


@pytest.mark.parametrize(
    ("language", "google", "brave"),
    [
        ("pt-br", "lang_pt", "pt-br"),
        ("ja", "lang_ja", "jp"),
        ("zh-TW", "lang_zh-TW", "zh-hant"),
        ("zh", "lang_zh-CN", "zh-hans"),
        ("de-AT", "lang_de", "de"),
        ("", None, None),
    ],
)
def test_languages_by_the_names_that_each_service_has(service, http, language, google, brave):
    for name in ("google", "brave", "searxng"):
        backend(name, service, http, language=language)
        service.answer = lambda query: page_of(name, [])  # noqa: B023
        backend(name, service, http, language=language).search("x", limit=1)
    sent = service.queries
    assert (sent[0].get("lr"), sent[1].get("search_lang")) == (google, brave)
    assert sent[2].get("language") == (language or None)


# -------------------------------------------------------------------------------- subtopics


def test_subcategories_lose_their_name_space_and_are_read_on(service, http):
    def page(query: dict[str, str]) -> dict[str, Any]:
        assert (query["cmtitle"], query["cmtype"]) == ("Category:Physics", "subcat")
        start = int(query.get("cmcontinue", 0))
        found = [{"ns": 14, "title": f"Kategorie:Teil {start + n}: x"} for n in range(20)]
        return {
            "query": {"categorymembers": [*found, {"ns": 0, "title": f"Page {start}"}]},
            "continue": {"cmcontinue": str(start + 20), "continue": "-||"},
        }

    service.answer = page
    names = backend("mediawiki", service, http).subtopics("Physics")
    assert names[0] == "Teil 0: x" and names[20] == "Page 0" and len(names) == 50
    assert len(service.asked) == 3


def test_a_wiki_without_such_a_category_knows_no_subtopics(service, http):
    service.answer = lambda query: {"query": {"categorymembers": []}}
    assert backend("mediawiki", service, http).subtopics("Simple pendulum") == []
    service.answer = lambda query: {"error": {"code": "invalidcategory", "info": "no"}}
    assert backend("mediawiki", service, http).subtopics("a|b") == []
    for name in ("google", "brave", "searxng"):
        assert backend(name, service, http).subtopics("Physics") == []


def test_services_in_vain_are_unavailable(service, http):
    service.answer = lambda query: (503, b"later")
    for name in NAMES:
        with pytest.raises(SearchUnavailable) as fault:
            backend(name, service, http).search("x", limit=1)
        assert not fault.value.is_quota and "503" in fault.value.detail
    assert Path(http.cache.path).exists()
