"""Pages and pictures of the web: of the mini web with its faults, and of servers that lie."""

from __future__ import annotations

import hashlib
import io
import shutil
from urllib.parse import unquote

import pytest
from PIL import Image

from cambrian_data.engine.extract import extract, page_title
from cambrian_data.engine.fetch import Fetcher, FetchError
from cambrian_data.engine.images import ImagesConfig, decode_picture
from cambrian_data.engine.web_fetch import WebFetcher
from cambrian_data.engine.wiki import Wikis
from tests.reference import shared
from tests.servers import mini_web
from tests.webs import Web, as_json, http_client

PAGES = {
    "wikipedia/en_apple.parse.json": "Apple",
    "wikipedia/en_duck.modern.html": "en_duck",
    "wikipedia/en_hermitian_matrix.legacy.html": "en_hermitian_matrix",
    "html/sphinx_describing_code.html": "sphinx_describing_code",
}
MAX_BYTES = ImagesConfig().max_bytes


def fetcher_of(client, api=None, max_bytes=MAX_BYTES):
    return WebFetcher(client, Wikis(client, api), max_picture_bytes=max_bytes)


@pytest.fixture
def client(tmp_path):
    with http_client(tmp_path) as client:
        yield client


@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in PAGES:
        shutil.copy(shared("webdata") / name, folder)
    return folder


def name_bits(name):
    digest = hashlib.sha256(name.encode()).digest()[:8]
    return [(byte >> (7 - i)) & 1 for byte in digest for i in range(8)]


def read_bits(body):
    """The pattern in a picture of the mini web, after it was checked and encoded anew."""
    picture = decode_picture(body, ImagesConfig(min_side_px=1))
    small = Image.open(io.BytesIO(picture.data)).convert("L").resize((8, 8), Image.Resampling.BOX)
    return [int(value < 128) for value in small.tobytes()]


# ---------------------------------------------------------------------------- the mini web


def test_the_mini_web_with_its_faults(client, pages, tmp_path):
    """Every page is the one that was asked for, and every picture the one of its address."""
    with mini_web(pages, tmp_path / "log", "--fail", "0.2") as web:
        fetcher = fetcher_of(client, f"{web.address}/w/api.php")
        assert isinstance(fetcher, Fetcher)
        found = {title: fetcher.page(f"{web.address}/wiki/{title}") for title in PAGES.values()}
        for title, page in found.items():
            assert page.final_url == f"{web.address}/wiki/{title}"
            assert page.title == title.replace("_", " ") and page.body
            assert page.revision == str(1000 + int(page.page_id or 0))
        moved = fetcher.page(f"{web.address}/wiki/Old_Apple")
        assert moved.final_url == found["Apple"].final_url and moved.body == found["Apple"].body
        check_pictures(fetcher, found.values())
        log = web.requests()
    assert not [entry for entry in log if entry["path"].startswith(("/private", "/wiki/"))]
    assert any(entry["status"] not in (200, 404) for entry in log)  # there were faults


def check_pictures(fetcher, pages):
    num_pictures = 0
    for page in pages:
        urls = [figure.image_url for figure in extract(page.body, page.final_url)][:12]
        facts = fetcher.picture_facts(page.final_url, urls)
        for url in urls:
            if "/private/" in url:
                continue
            name = unquote(url.rpartition("/media/")[2])
            assert facts[url].author == f"maker of {name}"
            assert facts[url].license == "CC BY-SA 4.0"
            if hashlib.sha256(name.encode()).hexdigest().startswith("0"):
                with pytest.raises(FetchError, match="404") as caught:
                    fetcher.picture(url)
                assert caught.value.reason == "missing"
            else:
                num_pictures += 1
                assert read_bits(fetcher.picture(url).body) == name_bits(name)
    assert num_pictures > 10


def faults_of(fetcher, urls):
    """Return why each of the addresses gives no page."""
    faults = []
    for url in urls:
        with pytest.raises(FetchError) as met:
            fetcher.page(url)
        faults.append(met.value)
    return faults


def test_what_must_not_be_had(client, pages, tmp_path):
    with mini_web(pages, tmp_path / "log") as web:
        fetcher = fetcher_of(client, f"{web.address}/w/api.php")
        urls = [f"{web.address}/{path}" for path in ("private/page", "leap", "wiki/Nothing")]
        faults = faults_of(fetcher, urls)
        with pytest.raises(FetchError) as caught:
            fetcher.picture(f"{web.address}/private/picture.png")
        log = web.requests()
    assert [fault.reason for fault in faults] == ["robots", "bad_address", "missing"]
    assert not any(fault.is_passing for fault in faults)
    assert caught.value.reason == "robots"
    assert not [entry for entry in log if entry["path"].startswith("/private")]


def test_pages_of_a_wiki_without_its_api_are_read_as_they_are(client, pages, tmp_path):
    with mini_web(pages, tmp_path / "log") as web:
        fetcher = fetcher_of(client)
        page = fetcher.page(f"{web.address}/wiki/Old_en_duck")
        assert page.final_url == f"{web.address}/wiki/en_duck"
        assert (page.title, page.language, page.license) == ("Duck", "en", "CC BY-SA 4.0")
        assert page.etag and page.last_modified and page.revision is None
        assert fetcher.picture_facts(page.final_url, [f"{web.address}/media/a.png"]) == {}
        assert fetcher.page(f"{web.address}/wiki/Old_en_duck").body == page.body
        paths = [entry["path"] for entry in web.requests()]
    assert paths == ["/robots.txt", "/wiki/Old_en_duck", "/wiki/en_duck"]


# -------------------------------------------------------------------------- other servers


def site(routes):
    """A web of paths and (headers, body), all with status 200."""

    def answer(path, query):
        if path not in routes:
            return None
        headers, body = routes[path]
        return 200, headers, body

    return Web(answer)


def html_type(charset=""):
    return {"Content-Type": f"text/html; charset={charset}" if charset else "text/html"}


def test_the_charset_of_the_header_reaches_the_parser(client):
    body = "<html><body><h1>日本語のページ</h1></body></html>".encode("shift_jis")
    with site({"/a": (html_type("Shift_JIS"), body)}) as web:
        page = fetcher_of(client).page(f"{web.base}/a")
    assert page.title == page_title(page.body) == "日本語のページ"


def test_what_is_no_page_is_dropped_with_its_type(client):
    routes = {
        "/a": ({"Content-Type": "application/pdf"}, b"%PDF-1.7"),
        "/b": (html_type(), b"%PDF-1.7"),
        "/c": ({"Content-Type": "image/png"}, b"\x89PNG\r\n\x1a\n"),
        "/d": ({}, b"\x00\x01\x02\x03" * 9),
    }
    with site(routes) as web:
        faults = faults_of(fetcher_of(client), [f"{web.base}{path}" for path in routes])
    assert [(fault.reason, fault.is_passing) for fault in faults] == [("not_html", False)] * 4
    assert "application/pdf" in faults[0].detail and "binary" in faults[1].detail


def test_a_page_is_taken_at_its_content_not_its_header(client):
    with site({"/a": ({"Content-Type": "text/plain"}, b"<!doctype html><title>T</title>")}) as web:
        assert fetcher_of(client).page(f"{web.base}/a").title == "T"


def test_titles_and_languages_far_down_are_found(client):
    filler = b"<script>" + b"x" * 400_000 + b"</script>"
    body = b"<html lang=fr-CA><head><title>T - Site</title>" + filler + b"<h1>Grand titre</h1>"
    with site({"/a": (html_type("utf-8"), body)}) as web:
        page = fetcher_of(client).page(f"{web.base}/a")
    assert (page.title, page.language) == ("Grand titre", "fr")


def test_a_link_that_leads_to_an_article_gives_the_article(client):
    def answer(path, query):
        if path == "/short":
            return 302, {"Location": f"{wiki.base}/wiki/Apple_pie"}, b""
        if path == "/wiki/Apple_pie":
            return 200, html_type(), b"<html>the article with its skin</html>"
        if query.get("action") == "parse":
            parsed = {"title": "Apple pie", "pageid": 3, "revid": 7, "text": "<p>alone</p>"}
            return as_json({"parse": parsed if query["page"] == "Apple pie" else {}})
        return as_json({"error": {"code": "badvalue"}}) if path == "/w/api.php" else None

    with Web(answer) as wiki, Web(answer) as other:
        page = fetcher_of(client, wiki.api).page(f"{other.base}/short")
    assert (page.url, page.final_url) == (f"{other.base}/short", f"{wiki.base}/wiki/Apple_pie")
    assert (page.body, page.revision) == (b"<p>alone</p>", "7")


# -------------------------------------------------------------------------------- pictures


def png():
    body = io.BytesIO()
    Image.new("RGB", (80, 80), "red").save(body, "PNG")
    return body.getvalue()


@pytest.mark.parametrize("fault", [b"<html><body>sign in</body></html>", b'{"error": 1}', b""])
def test_something_else_in_place_of_a_picture_is_tried_again(client, fault):
    bodies = {"/a.png": [fault, fault, png()], "/b.png": [fault] * 99}

    def answer(path, query):
        return (200, {"Content-Type": "image/png"}, bodies[path].pop(0)) if path in bodies else None

    with Web(answer) as web:
        fetcher = fetcher_of(client)
        assert fetcher.picture(f"{web.base}/a.png").body == png()
        assert fetcher.picture(f"{web.base}/b.png").body == fault  # for its reader to judge
    assert len(bodies["/b.png"]) < 98


def test_svg_is_not_taken_for_a_page(client):
    svg = b'<?xml version="1.0"?><!-- <html> --><svg xmlns="http://www.w3.org/2000/svg"/>'
    with site({"/a.svg": ({"Content-Type": "text/html"}, svg)}) as web:
        assert fetcher_of(client).picture(f"{web.base}/a.svg").body == svg
        assert len(web.asked("/a.svg")) == 1


def test_pictures_that_are_too_large_are_refused(client):
    routes = {"/a.png": ({"Content-Type": "image/png"}, png() + bytes(5000))}
    with site(routes) as web, pytest.raises(FetchError) as caught:
        fetcher_of(client, max_bytes=4000).picture(f"{web.base}/a.png")
    assert (caught.value.reason, caught.value.is_passing) == ("too_large", False)


def test_a_picture_that_has_not_changed_is_not_sent_again(client):
    headers = {"ETag": '"1"', "Last-Modified": "Sat, 01 Nov 2025 10:00:00 GMT"}
    bodies = [(200, headers, png()), (304, headers, b"")]

    def answer(path, query):
        return bodies.pop(0) if path == "/a.png" else None

    with Web(answer) as web:
        fetcher = fetcher_of(client)
        first = fetcher.picture(f"{web.base}/a.png")
        second = fetcher.picture(
            f"{web.base}/a.png", etag=first.etag, last_modified=first.last_modified
        )
    assert (first.status, first.etag) == (200, '"1"')
    assert (second.status, second.body) == (304, b"")
