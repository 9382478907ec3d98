from __future__ import annotations

import pytest

from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.fetch import CorpusFetcher, Fetcher, FetchError, PictureFacts, page_row
from cambrian_data.records import bytes_id, page_id, table_of
from cambrian_data.web import answers


@pytest.fixture
def fetcher():
    return CorpusFetcher(load_corpus())


def test_pages_carry_the_corpus_date_and_licence(fetcher):
    url = load_corpus().pages[0].url
    (page,) = table_of("pages", [page_row(fetcher.page(url))]).to_pylist()
    body = load_corpus().read_page(url)
    assert page["content_sha256"] == bytes_id(body)
    assert page["id"] == page_id(url, bytes_id(body))
    assert page["fetched_at"] == load_corpus().date and page["license"] == load_corpus().license
    with pytest.raises(FetchError) as met:
        fetcher.page("https://corpus.invalid/wiki/Nothing")
    assert met.value.reason == "missing" and not met.value.is_passing


def test_the_corpus_is_a_fetcher_and_knows_its_pictures(fetcher):
    assert isinstance(fetcher, Fetcher)
    assert FetchError is answers.FetchError
    corpus = load_corpus()
    known = PictureFacts(
        license=corpus.license, license_url=corpus.license_url, author=corpus.author
    )
    assert fetcher.picture_facts(corpus.pages[0].url, ["a", "b"]) == {"a": known, "b": known}


@pytest.mark.parametrize(
    "url",
    [
        "https://corpus.invalid/images/nothing.png",
        "file:///etc/passwd",
        "https://corpus.invalid/images/../corpus.json",
        "https://example.org/images/a.png",
    ],
)
def test_pictures_that_are_not_there_are_missing(fetcher, url):
    with pytest.raises(FetchError) as caught:
        fetcher.picture(url)
    assert caught.value.reason == "missing"
