from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.search import (
    SearchBackend,
    SearchConfig,
    backend_name,
    choose_backend,
    search_topics,
    service_addresses,
)
from cambrian_data.records import UserError
from tests.reference import shared

GOOGLE = {"GOOGLE_API_KEY": "k", "GOOGLE_SE_ID": "e"}
BRAVE = {"BRAVE_API_KEY": "k"}
SEARXNG = {"CAMBRIAN_SEARXNG_URL": "http://127.0.0.1:8888"}


def test_auto_takes_the_first_that_has_all_its_keys():
    assert backend_name("auto", GOOGLE | BRAVE | SEARXNG) == "google"
    assert backend_name("auto", BRAVE | SEARXNG) == "brave"
    assert backend_name("auto", SEARXNG) == "searxng"
    assert backend_name("auto", {}) == "mediawiki"
    assert backend_name("auto", {"GOOGLE_API_KEY": "for another service"}) == "mediawiki"
    assert backend_name("auto", {"BRAVE_API_KEY": "  "}) == "mediawiki"
    assert backend_name("wikipedia", GOOGLE) == "mediawiki"


@pytest.mark.parametrize(
    ("name", "environment", "word"),
    [
        ("google", {}, "GOOGLE_API_KEY and GOOGLE_SE_ID"),
        ("google", {"GOOGLE_API_KEY": "k"}, "GOOGLE_SE_ID"),
        ("brave", {}, "BRAVE_API_KEY"),
        ("searxng", {}, "CAMBRIAN_SEARXNG_URL"),
        ("bing", {}, "'bing'"),
        ("searxng", {"CAMBRIAN_SEARXNG_URL": "localhost:8888"}, "localhost:8888"),
        ("google", GOOGLE | {"CAMBRIAN_GOOGLE_ENDPOINT": "ftp://x"}, "CAMBRIAN_GOOGLE_ENDPOINT"),
        ("mediawiki", {"CAMBRIAN_MEDIAWIKI_API": "https://w.org/wiki/X"}, "api.php"),
    ],
)
def test_what_is_missing_or_wrong_is_named(name, environment, word):
    with pytest.raises(UserError) as error:
        service_addresses(name, environment, SearchConfig())
    assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [
        ("google", GOOGLE, "https://www.googleapis.com/customsearch/v1"),
        ("brave", BRAVE, "https://api.search.brave.com/res/v1/web/search"),
        ("mediawiki", {}, "https://en.wikipedia.org/w/api.php"),
        (
            "google",
            GOOGLE | {"CAMBRIAN_GOOGLE_ENDPOINT": "http://127.0.0.1:8700"},
            "http://127.0.0.1:8700/customsearch/v1",
        ),
        (
            "brave",
            BRAVE | {"CAMBRIAN_BRAVE_ENDPOINT": "http://127.0.0.1:8700/res/v1/web/search/"},
            "http://127.0.0.1:8700/res/v1/web/search",
        ),
        ("searxng", SEARXNG, "http://127.0.0.1:8888/search"),
        (
            "searxng",
            {"CAMBRIAN_SEARXNG_URL": "https://x.org/searxng/"},
            "https://x.org/searxng/search",
        ),
        (
            "searxng",
            {"CAMBRIAN_SEARXNG_URL": "https://x.org/search?q=<query>"},
            "https://x.org/search",
        ),
        (
            "mediawiki",
            {"CAMBRIAN_MEDIAWIKI_API": "http://127.0.0.1:8700"},
            "http://127.0.0.1:8700/w/api.php",
        ),
    ],
)
def test_addresses_may_be_origins_or_whole(name, environment, expected):
    assert service_addresses(name, environment, SearchConfig()) == [expected]
    assert service_addresses("corpus", environment, SearchConfig()) == []


@pytest.mark.parametrize(
    ("language", "host"),
    [("de", "de"), ("pt-BR", "pt"), ("zh-hans", "zh"), ("zh-min-nan", "zh-min-nan"), ("", "en")],
)
def test_wikipedias_go_by_language(language, host):
    config = SearchConfig(language=language)
    assert service_addresses("wikipedia", {}, config) == [f"https://{host}.wikipedia.org/w/api.php"]


def test_the_corpus_needs_nothing(http):
    backend = choose_backend("corpus", {}, SearchConfig(), None, load_corpus())
    assert isinstance(backend, SearchBackend) and backend.name == "corpus"
    assert backend.search("simple pendulum", limit=1) and backend.subtopics("physics") == []


@pytest.fixture(scope="module")
def mini_web(tmp_path_factory):
    """A web of saved articles in which three of ten answers fail; and what it was asked."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("mini_web") / "log.jsonl"
    tool = shared("tools") / "mini_web.py"
    command = [sys.executable, str(tool), str(shared("webdata") / "wikipedia")]
    command += ["--port", str(port), "--fail", "0.3", "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and "pages on" in process.stdout.readline()
        for _ in range(100):
            try:
                urlopen(f"http://127.0.0.1:{port}/robots.txt").read()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("name", ["google", "brave", "searxng", "mediawiki"])
def test_a_web_of_faults_gives_the_same_hits_through_every_service(mini_web, http, name):
    url = mini_web[0]
    environment = GOOGLE | BRAVE | {"CAMBRIAN_SEARXNG_URL": url}
    environment |= {
        f"CAMBRIAN_{part}": url for part in ("GOOGLE_ENDPOINT", "BRAVE_ENDPOINT", "MEDIAWIKI_API")
    }
    backend = choose_backend(name, environment, SearchConfig(), http, None)
    topics = [{"id": topic, "topic": topic} for topic in ("history", "first", "zzgrb")]
    found = search_topics(topics, backend, SearchConfig(hits_per_topic=15))
    assert [row["reason"] for row in found.drops] == ["no_hits"] and found.num_passing == 0
    for topic in ("history", "first"):
        rows = [row for row in found.hits if row["topic_id"] == topic]
        assert [row["rank"] for row in rows] == list(range(1, 16))
        articles = [row["url"] for row in rows if "/wiki/" in row["url"]]
        assert articles == _articles(url, topic)[: len(articles)] and len(articles) >= 12


def _articles(url: str, query: str) -> list[str]:
    """The articles on a topic, asked for by hand: of three tries at an address one succeeds."""
    for _ in range(3):
        try:
            with urlopen(f"{url}/w/api.php?list=search&srlimit=50&srsearch={query}") as answer:
                found = json.loads(answer.read())["query"]["search"]
                return [f"{url}/wiki/{quote(hit['title'].replace(' ', '_'))}" for hit in found]
        except (OSError, ValueError, HTTPException):
            continue
    raise AssertionError("three tries failed")


def test_nothing_private_was_asked_for(mini_web):
    asked = [json.loads(line)["path"] for line in Path(mini_web[1]).read_text().splitlines()]
    assert asked and not any("/private" in path for path in asked)
