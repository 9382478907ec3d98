"""Addresses of MediaWikis: one spelling, the page that is named, the file of a picture."""

from __future__ import annotations

import pytest

from cambrian_data.engine.wiki import canonical_url
from cambrian_data.engine.wiki_address import (
    Place,
    article_at,
    home_of_picture,
    host_language,
    picture_name,
    same_file,
    split_url,
    wikimedia_place,
)

EN = Place("https://en.wikipedia.org/w/api.php")
UPLOADS = "https://upload.wikimedia.org/wikipedia"
ADAMS = f"{UPLOADS}/commons/c/c0/Douglas_adams_portrait_cropped.jpg"


def named(url, place=EN):
    article = article_at(split_url(url), place)
    return None if article is None else (article.title, article.page_id, article.revision)


@pytest.mark.parametrize(
    "url",
    [
        "https://en.wikipedia.org/wiki/Albert_Einstein",
        "http://en.wikipedia.org/wiki/Albert_Einstein",
        "https://en.m.wikipedia.org/wiki/Albert_Einstein",
        "https://EN.Wikipedia.org/wiki/Albert%20Einstein#Early_life",
        "https://en.wikipedia.org/wiki/Albert__Einstein_?action=view&useskin=vector",
        "https://en.wikipedia.org/w/index.php?title=Albert+Einstein&redirect=no",
        "https://en.wikipedia.org/w/index.php/Albert_Einstein",
        "https://en.wikipedia.org:443/wiki/%41lbert_Einstein",
        " https://en.wikipedia.org/?title=Albert_Einstein ",
    ],
)
def test_one_article_has_one_spelling(url):
    assert canonical_url(url) == "https://en.wikipedia.org/wiki/Albert_Einstein"


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://de.wikipedia.org/wiki/M%FCnchen", "https://de.wikipedia.org/wiki/M%C3%BCnchen"),
        ("https://en.wikipedia.org/wiki/AC/DC?", "https://en.wikipedia.org/wiki/AC/DC"),
        ("https://en.wikipedia.org/wiki/What%3F", "https://en.wikipedia.org/wiki/What%3F"),
        ("https://en.wikipedia.org/wiki/C%2B%2B", "https://en.wikipedia.org/wiki/C%2B%2B"),
        (
            "https://commons.m.wikimedia.org/wiki/File:A_(b).jpg",
            "https://commons.wikimedia.org/wiki/File:A_(b).jpg",
        ),
        (
            "https://en.wikipedia.org/wiki/X?oldid=12&curid=3",
            "https://en.wikipedia.org/w/index.php?oldid=12",
        ),
        ("https://en.wikipedia.org/?curid=736", "https://en.wikipedia.org/w/index.php?curid=736"),
        ("HTTP://Example.ORG/A_b?c=D#e", "http://example.org/A_b?c=D"),
        ("http://example.org:8080/a#b", "http://example.org:8080/a"),
        (
            "https://en.wikipedia.org/wiki/X?action=edit#a",
            "https://en.wikipedia.org/wiki/X?action=edit",
        ),
        (f"{UPLOADS}/commons/a/a1/A.png", f"{UPLOADS}/commons/a/a1/A.png"),
        ("http://[::1", "http://[::1"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("", ""),
    ],
)
def test_canonical_addresses(url, canonical):
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/wiki/Apple", ("Apple", "", "")),
        ("/wiki/Talk:Apple_pie", ("Talk:Apple pie", "", "")),
        ("/wiki/Apple?curid=18978754", ("", "18978754", "")),
        ("/wiki/Apple?oldid=963425270&curid=5", ("", "", "963425270")),
        ("/wiki/Apple?oldid=prev", ("Apple", "", "")),
        ("/wiki/Apple?oldid=0", ("Apple", "", "")),
        ("/w/index.php?title=Apple&oldid=7", ("", "", "7")),
        ("/wiki/?curid=5", ("", "5", "")),
        ("/wiki/C%23_(language)", ("C", "", "")),
        ("/wiki/", None),
        ("/", None),
        ("/w/api.php?action=parse&page=Apple", None),
        ("/static/logo.png", None),
        ("/api/rest_v1/page/html/Apple", None),
    ],
)
def test_what_an_address_names(url, expected):
    assert named(f"https://en.wikipedia.org{url}") == expected


@pytest.mark.parametrize(
    "url",
    [
        "/wiki/Special:Random",
        "/wiki/special:Search?search=apple",
        "/w/index.php?title=Apple&action=edit",
        "/wiki/Apple?action=history",
        "/w/index.php?title=Apple&diff=1&oldid=2",
        "/w/index.php?search=apple",
    ],
)
def test_services_of_a_wiki_are_no_pages(url):
    article = article_at(split_url(f"https://en.wikipedia.org{url}"), EN)
    assert article is not None and article.not_shown


def test_articles_at_other_places():
    at_root = Place("https://wiki.example.org/w/api.php", "/$1")
    assert named("https://wiki.example.org/Apple_pie", at_root) == ("Apple pie", "", "")
    assert named("https://wiki.example.org/w/load.php?x=1", at_root) is None
    assert named("https://wiki.example.org/images/a/ab/A.png", at_root) is None
    assert at_root.address("Apple pie") == "https://wiki.example.org/Apple_pie"
    by_query = Place("https://wiki.example.org/api.php", "/index.php?title=$1")
    assert named("https://wiki.example.org/index.php?title=Apple", by_query) == ("Apple", "", "")
    assert (
        by_query.address("Apple", "7") == "https://wiki.example.org/index.php?title=Apple&oldid=7"
    )


def test_hosts_of_wikimedia():
    for host, desktop in [
        ("en.wikipedia.org", "en.wikipedia.org"),
        ("zh-min-nan.m.wikipedia.org", "zh-min-nan.wikipedia.org"),
        ("de.wiktionary.org", "de.wiktionary.org"),
        ("commons.m.wikimedia.org", "commons.wikimedia.org"),
        ("species.wikimedia.org", "species.wikimedia.org"),
    ]:
        assert wikimedia_place(host) == Place(f"https://{desktop}/w/api.php")
    for host in (
        *("www.wikipedia.org", "wikipedia.org", "upload.wikimedia.org", "lists.wikimedia.org"),
        *("en.wikipedia.org.evil.example", "evilwikipedia.org", "a.b.wikipedia.org", ""),
    ):
        assert wikimedia_place(host) is None
    assert [host_language(host) for host in ("fr.wikipedia.org", "simple.wikipedia.org")] == [
        "fr",
        "en",
    ]
    assert host_language("commons.wikimedia.org") == ""


@pytest.mark.parametrize(
    "url",
    [
        ADAMS,
        f"{UPLOADS}/commons/thumb/c/c0/Douglas_adams_portrait_cropped.jpg"
        "/330px-Douglas_adams_portrait_cropped.jpg",
        ADAMS.replace("https", "http").replace("adams", "%61dams"),
        "https://commons.wikimedia.org/wiki/Special:FilePath/Douglas%20adams portrait_cropped.jpg",
        "https://en.wikipedia.org/w/thumb.php?f=Douglas_adams_portrait_cropped.jpg&width=50",
        f"{ADAMS}/revision/latest?cb=2018",
    ],
)
def test_all_addresses_of_a_file_are_told(url):
    assert picture_name(url) == "Douglas_adams_portrait_cropped.jpg"
    assert same_file(url, ADAMS)


@pytest.mark.parametrize(
    "url",
    [
        ADAMS.replace("/commons/", "/en/"),
        ADAMS.replace("upload.wikimedia.org", "pictures.example.org"),
        ADAMS.replace("cropped", "whole"),
        ADAMS.replace("/c/c0/", "/archive/c/c0/20100416225321!"),
        "data:image/png;base64,AAAA",
    ],
)
def test_other_files_are_not_taken_for_it(url):
    assert not same_file(url, ADAMS)


def test_names_that_are_no_files_are_not_asked_for():
    assert picture_name("https://example.org/render?id=7") == ""
    assert picture_name("https://example.org/a%7Cb.png") == ""  # | separates titles
    assert picture_name(f"https://example.org/{'x' * 300}.png") == ""


def test_homes_of_pictures():
    assert home_of_picture(ADAMS) == Place("https://commons.wikimedia.org/w/api.php")
    assert home_of_picture(f"{UPLOADS}/en/a/a1/A.png") == EN
    assert home_of_picture("https://upload.wikimedia.org/math/a/b/c.png") is None
    assert home_of_picture("https://example.org/wikipedia/commons/a/a1/A.png") is None
