"""MediaWikis: exactly the page of an address, and what is known of its pictures."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from cambrian_data.engine.fetch import FetchError, PictureFacts
from cambrian_data.engine.wiki import Wikis
from cambrian_data.engine.wiki_address import Place
from cambrian_data.records import UserError
from cambrian_data.web.http import HttpClient
from tests.reference import shared
from tests.webs import Web, as_json, http_client

EN = Place("https://en.wikipedia.org/w/api.php")
UPLOADS = "https://upload.wikimedia.org/wikipedia"
ADAMS = f"{UPLOADS}/commons/c/c0/Douglas_adams_portrait_cropped.jpg"


# ---------------------------------------------------------------------------------- pages

SITE = {
    "query": {
        "general": {"lang": "en-GB", "articlepath": "/page/$1"},
        "rightsinfo": {
            "url": "https://creativecommons.org/licenses/by-sa/4.0/deed.en",
            "text": "Creative Commons Attribution-Share Alike 4.0",
        },
    }
}
UNKNOWN = {"error": {"code": "badvalue", "info": "not served here"}}


def saved(name):
    return json.loads((shared("webdata") / name).read_text(encoding="utf-8-sig"))


def wiki(answers, site=SITE):
    """A web with one API, whose answers of action=parse are given by title, id or revision."""

    def answer(path, query):
        if path != "/w/api.php":
            return None
        if query.get("meta") == "siteinfo":
            return as_json(site)
        if query.get("action") == "parse":
            key = query.get("oldid") or query.get("pageid") or query.get("page")
            missing = {"error": {"code": "missingtitle", "info": "The page doesn't exist."}}
            return as_json(answers.get(key, missing))
        return as_json(answers["imageinfo"](query))

    return Web(answer)


class NoClient(HttpClient):
    """A client that must not be used."""

    def __init__(self) -> None:
        pass

    def get(self, url, **options):
        raise AssertionError(f"{url} was asked for")


def read(wikis, url):
    article = wikis.article(url)
    assert article is not None
    return wikis.page(url, article)


@pytest.fixture
def client(tmp_path):
    with http_client(tmp_path) as client:
        yield client


def test_the_page_of_an_address_comes_with_its_revision(client):
    apple = saved("wikipedia/en_apple.parse.json")
    with wiki({"Malus domestica": apple, "18978754": apple, "963425270": apple}) as web:
        wikis = Wikis(client, web.api)
        page = read(wikis, f"{web.base}/page/Malus_domestica?useskin=x#History")
        assert page.final_url == f"{web.base}/page/Apple"  # not where the redirect was
        assert (page.title, page.page_id, page.revision) == ("Apple", "18978754", "963425270")
        assert (page.language, page.license) == ("en", "CC BY-SA 4.0")
        assert page.body == apple["parse"]["text"]["*"].encode()
        assert page.license_url == "https://creativecommons.org/licenses/by-sa/4.0/deed.en"
        assert read(wikis, f"{web.base}/wiki/?curid=18978754").final_url == page.final_url
        old = read(wikis, f"{web.base}/w/index.php?title=Pear&oldid=963425270")
        assert old.final_url == f"{web.base}/page/Apple?oldid=963425270"
        queries = web.asked("/w/api.php")
        assert sum(query.get("meta") == "siteinfo" for query in queries) == 1
        assert {query["format"] for query in queries} == {"json"}
        assert all("prop" in query for query in queries if query["action"] == "parse")


def test_the_second_format_version_and_a_wiki_that_tells_nothing(client):
    lewisite = saved("wikipedia/de_lewisit.parse.json")
    with wiki({"Lewisit": lewisite}, site=UNKNOWN) as web:
        page = read(Wikis(client, web.api), f"{web.base}/wiki/Lewisit")
    assert page.final_url == f"{web.base}/wiki/Lewisit"
    assert page.body == lewisite["parse"]["text"].encode()
    assert (page.page_id, page.revision, page.license) == ("800460", None, None)


def test_titles_are_plain_and_languages_those_of_the_text(client):
    html = '<div class="mw-content-ltr mw-parser-output" lang="pt-BR" dir="ltr"><p>x</p></div>'
    whole = '<!DOCTYPE html>\n<html class="no-js" lang="ja"><p lang="fr">x</p>'
    answers = {
        "A": {"parse": {"title": "IPhone", "displaytitle": "<i>iPhone</i>", "text": html}},
        "B": {"parse": {"title": "B", "displaytitle": "<b>Other</b>", "text": "<p>x</p>"}},
        "C": {"parse": {"title": "C", "text": whole}},
    }
    with wiki(answers) as web:
        wikis = Wikis(client, web.api)
        one, two, three = (read(wikis, f"{web.base}/page/{title}") for title in "ABC")
    assert (one.title, one.language) == ("iPhone", "pt")
    assert (two.title, two.language) == ("B", "en")
    assert three.language == "ja"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("missingtitle", "missing"),
        ("nosuchpageid", "missing"),
        ("invalidtitle", "missing"),
        ("pagecannotexist", "not_html"),
        ("permissiondenied", "refused"),
        ("unknown_action", "server_error"),
    ],
)
def test_errors_of_the_api_have_their_reasons(client, code, reason):
    with wiki({"X": {"error": {"code": code, "info": "so it is"}}}) as web:
        with pytest.raises(FetchError) as caught:
            read(Wikis(client, web.api), f"{web.base}/page/X")
        assert sum(query["action"] == "parse" for query in web.asked("/w/api.php")) == 1
    assert (caught.value.reason, caught.value.is_passing) == (reason, False)
    assert "so it is" in caught.value.detail


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (as_json({"error": {"code": "maxlag", "info": "lagged"}}), "server_error"),
        (as_json({"error": {"code": "internal_api_error_DBQueryError"}}), "server_error"),
        (as_json({"error": {"code": "ratelimited"}}), "rate_limited"),
        ((200, {"Content-Type": "application/json"}, b'{"parse": {"ti'), "server_error"),
        ((200, {"Content-Type": "text/html"}, b"<html>sign in</html>"), "server_error"),
    ],
)
def test_passing_faults_are_tried_again(client, fault, reason):
    good = as_json({"parse": {"title": "X", "pageid": 1, "revid": 2, "text": "<p>here</p>"}})
    num_faults = 2

    def answer(path, query):
        nonlocal num_faults
        if query.get("meta") == "siteinfo":
            return as_json(UNKNOWN)
        num_faults -= 1
        return fault if num_faults >= 0 else good

    with Web(answer) as web:
        wikis = Wikis(client, web.api)
        assert read(wikis, f"{web.base}/wiki/X").body == b"<p>here</p>"
        num_faults = 10**6
        with pytest.raises(FetchError) as caught:
            read(wikis, f"{web.base}/wiki/Y")
        assert (caught.value.reason, caught.value.is_passing) == (reason, True)
        num_faults = 0  # what failed was not cached
        assert read(wikis, f"{web.base}/wiki/Y").revision == "2"


def test_a_wiki_that_cannot_say_its_licence_now_gives_no_page(client):
    """Otherwise the licence would be lost for good: the page is not asked for again."""
    is_down = True

    def answer(path, query):
        if query.get("meta") == "siteinfo":
            return (503, {}, b"") if is_down else as_json(SITE)
        return as_json({"parse": {"title": "X", "text": "<p>here</p>"}})

    with Web(answer) as web:
        wikis = Wikis(client, web.api)
        with pytest.raises(FetchError) as caught:
            read(wikis, f"{web.base}/wiki/X")
        assert caught.value.is_passing
        is_down = False
        assert read(wikis, f"{web.base}/wiki/X").license == "CC BY-SA 4.0"


def test_services_of_a_wiki_are_not_asked_for():
    wikis = Wikis(NoClient())
    for url in ("Special:Random", "Apple?action=edit"):
        with pytest.raises(FetchError) as caught:
            read(wikis, f"https://en.wikipedia.org/wiki/{url}")
        assert (caught.value.reason, caught.value.is_passing) == ("not_html", False)


def test_other_addresses_are_no_articles(client):
    with wiki({}) as web:
        wikis = Wikis(client, web.api)
        assert wikis.article(f"{web.base}/media/a.png") is None
        assert wikis.article("https://example.org/wiki/Apple") is None
        assert wikis.article("file:///wiki/Apple") is None
        mobile = wikis.article("http://en.m.wikipedia.org/wiki/Apple")
    assert mobile is not None and mobile.place == EN and mobile.title == "Apple"


@pytest.mark.parametrize("api", ["en.wikipedia.org", "ftp://x/api.php", "https://x.org/wiki/"])
def test_an_api_that_is_none_is_the_users_mistake(api):
    with pytest.raises(UserError, match="CAMBRIAN_MEDIAWIKI_API"):
        Wikis(NoClient(), api)


# ------------------------------------------------------------------------------- pictures


def test_facts_of_a_real_answer(client):
    answer = saved("search_api/wikipedia_imageinfo.json")
    thumb = ADAMS.replace("/c/c0/", "/thumb/c/c0/") + "/330px-Douglas_adams_portrait_cropped.jpg"
    other = ADAMS.replace("/commons/", "/en/")
    with wiki({"imageinfo": lambda query: answer}) as web:
        page = f"{web.base}/wiki/Douglas_Adams"
        facts = Wikis(client, web.api).picture_facts(page, [thumb, ADAMS, other, thumb])
        (query,) = [query for query in web.asked("/w/api.php") if "titles" in query]
    assert query["titles"] == "File:Douglas_adams_portrait_cropped.jpg"
    assert facts.keys() == {thumb, ADAMS}  # the file in the other repository is another one
    assert (
        facts[thumb]
        == facts[ADAMS]
        == PictureFacts(
            license="CC BY-SA 2.0",
            license_url="https://creativecommons.org/licenses/by-sa/2.0",
            author="Douglas_adams_portrait.jpg: michael hughes from berlin, germany "
            "derivative work: Beao",
            description_url="https://commons.wikimedia.org/wiki/File:Douglas_adams_portrait_cropped.jpg",
        )
    )


def test_facts_of_the_first_format_version_in_batches(client):
    answer = saved("search_api/wikipedia_images_generator.json")
    pages = answer["query"]["pages"]
    by_title = {page["title"].replace(" ", "_"): {key: page} for key, page in pages.items()}
    urls = [page["imageinfo"][0]["url"] for page in pages.values()][:120]

    def info(query):
        titles = query["titles"].split("|")
        assert len(titles) <= 50
        found = {key: page for title in titles for key, page in by_title.get(title, {}).items()}
        return {"query": {"pages": found}}

    with wiki({"imageinfo": info}) as web:
        missing = f"{UPLOADS}/commons/a/a1/Not_there.png"
        facts = Wikis(client, web.api).picture_facts(f"{web.base}/wiki/X", [*urls, missing])
        num_requests = sum("titles" in query for query in web.asked("/w/api.php"))
    assert facts.keys() == set(urls) and num_requests == 3
    assert facts[urls[0]].description_url == pages["-1"]["imageinfo"][0]["descriptionurl"]
    assert facts[urls[0]].license is None


def test_long_names_are_asked_in_short_addresses(client):
    names = [f"{'図' * 60}{number}.png" for number in range(30)]
    lengths = []

    def info(query):
        lengths.append(len(quote(query["titles"])))
        return {"query": {"pages": []}}

    with wiki({"imageinfo": info}) as web:
        urls = [f"{web.base}/media/{quote(name)}" for name in names]
        assert Wikis(client, web.api).picture_facts(f"{web.base}/wiki/X", urls) == {}
    assert len(lengths) > 1 and max(lengths) < 7000


def test_an_answer_in_parts_is_read_to_its_end(client):
    def entry(base, name):
        return {"title": f"File:{name}", "imageinfo": [{"url": f"{base}/media/{name}"}]}

    def info(query):
        second = "iicontinue" in query
        part = {"query": {"pages": [entry(web.base, "B.png" if second else "A.png")]}}
        more = {"continue": {"iicontinue": "B.png|2020", "continue": "||"}}
        return part if second else part | more

    with wiki({"imageinfo": info}) as web:
        urls = [f"{web.base}/media/{name}" for name in ("A.png", "B.png")]
        assert Wikis(client, web.api).picture_facts(f"{web.base}/wiki/X", urls).keys() == set(urls)


def test_a_wiki_that_does_not_answer_leaves_the_facts_for_later(client, caplog):
    def answer(path, query):
        return as_json(UNKNOWN) if query.get("meta") else (503, {}, b"")

    with Web(answer) as web:
        url = f"{web.base}/media/A.png"
        facts = Wikis(client, web.api).picture_facts(f"{web.base}/wiki/X", [url])
    assert facts == {url: PictureFacts(is_passing=True)} and "licences" in caplog.text


def test_pictures_that_belong_to_no_wiki_are_not_asked_for():
    facts = Wikis(NoClient()).picture_facts("https://example.org/a", ["https://example.org/b.png"])
    assert facts == {}


def test_odd_values_are_no_facts(client):
    def info(query):
        metadata = {
            "LicenseShortName": {"value": ""},
            "UsageTerms": {"value": "Fair &amp; free"},
            "LicenseUrl": {"value": 7},
            "Artist": {"value": {"en": "x"}},
            "Attribution": {"value": "<b>" + "long " * 200 + "</b>"},
        }
        info = {"url": f"{web.base}/media/A.png", "extmetadata": metadata}
        return {"query": {"pages": [{"imageinfo": [info]}, {"imageinfo": []}, None, 3]}}

    with wiki({"imageinfo": info}) as web:
        url = f"{web.base}/media/A.png"
        facts = Wikis(client, web.api).picture_facts(f"{web.base}/wiki/X", [url])[url]
    assert (facts.license, facts.license_url, facts.description_url) == ("Fair & free", None, None)
    assert facts.author is not None and facts.author.startswith("long long")
    assert len(facts.author) <= 300
