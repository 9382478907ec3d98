"""robots.txt: what it allows, what it forbids, and what its absence means."""

from __future__ import annotations

import pytest

from cambrian_data.web.answers import FetchError

RULES = b"""\xef\xbb\xbfUser-agent: otherbot
Disallow: /

User-agent: *
Disallow: /private/
Allow: /private/but
Disallow: /*.php$
"""


def outcome(client, url: str, kind: str = "page") -> tuple[str, bool]:
    try:
        client.get(url, kind=kind)
    except FetchError as error:
        return error.reason, error.is_passing
    return "", False


@pytest.fixture(autouse=True)
def page(web, routes):
    for path in ("/a", "/private/x", "/private/but", "/x.php", "/x.php?q=1"):
        web.routes[path] = routes.reply(200, b"x")


def test_rules(web, make, routes):
    web.routes["/robots.txt"] = routes.reply(200, RULES)
    client = make()
    for kind in ("page", "picture"):
        assert outcome(client, f"{web.url}/a", kind) == ("", False)
        assert outcome(client, f"{web.url}/private/x", kind) == ("robots", False)
        assert outcome(client, f"{web.url}/%70rivate/x", kind) == ("robots", False)
        assert outcome(client, f"{web.url}/a/../private/x", kind) == ("robots", False)
        assert outcome(client, f"{web.url}/private/but", kind) == ("", False)
        assert outcome(client, f"{web.url}/x.php", kind) == ("robots", False)
    assert outcome(client, f"{web.url}/private/x", "service") == ("", False)
    assert [path for _, path, _ in web.log].count("/robots.txt") == 1
    assert web.asked().count("/private/x") == 1


def test_our_own_name_counts(web, make, routes):
    rules = b"User-agent: Cambrian\nDisallow: /a\n\nUser-agent: *\nDisallow: /x.php\n"
    web.routes["/robots.txt"] = routes.reply(200, rules)
    client = make()
    assert outcome(client, f"{web.url}/a") == ("robots", False)
    assert outcome(client, f"{web.url}/x.php") == ("", False)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, ("", False)),
        (410, ("", False)),
        (400, ("", False)),
        (451, ("", False)),
        (401, ("robots", False)),
        (403, ("robots", False)),
        (429, ("robots_unreachable", True)),
        (500, ("robots_unreachable", True)),
        (503, ("robots_unreachable", True)),
    ],
)
def test_statuses(web, make, routes, clock, status, expected):
    web.routes["/robots.txt"] = routes.reply(status, b"x")
    client = make(clock=clock)
    for _ in range(2):
        assert outcome(client, f"{web.url}/a") == expected
    assert (web.asked() == []) == (expected[0] != "")
    num_asked = len(web.log) - len(web.asked())
    assert num_asked == (6 if expected[1] else 1), "a whole host does not ask again and again"
    web.routes["/robots.txt"] = routes.reply(200, b"")
    clock.now += 601
    assert outcome(client, f"{web.url}/a") == (("", False) if expected[1] else expected)


@pytest.mark.parametrize("fault", ["broken_off", "hung_up"])
def test_one_that_breaks_off(web, make, routes, clock, fault):
    web.routes["/robots.txt"] = getattr(routes, fault)
    assert outcome(make(clock=clock), f"{web.url}/a") == ("robots_unreachable", True)


def test_one_that_is_too_large(web, make, routes):
    web.routes["/robots.txt"] = routes.reply(200, b"#" * 500_001)
    assert outcome(make(), f"{web.url}/a") == ("robots_unreachable", True)


def test_garbage_allows(web, make, routes):
    web.routes["/robots.txt"] = routes.reply(200, b"<html>\xff\x00: \x00" * 1000)
    assert outcome(make(), f"{web.url}/a") == ("", False)


def test_redirects_of_robots_txt(web, make, routes):
    web.routes["/robots.txt"] = routes.reply(301, headers={"Location": "/rules"})
    web.routes["/rules"] = routes.reply(200, b"User-agent: *\nDisallow: /a")
    assert outcome(make(), f"{web.url}/a") == ("robots", False)


def test_redirects_that_lead_nowhere(web, make, routes):
    web.routes["/robots.txt"] = routes.reply(301, headers={"Location": "/robots.txt"})
    assert outcome(make(), f"{web.url}/a") == ("robots_unreachable", True)


def test_each_hop_is_held_to_the_rules(web, make, routes):
    web.routes["/robots.txt"] = routes.reply(200, RULES)
    web.routes["/a"] = routes.reply(302, headers={"Location": "/private/x"})
    assert outcome(make(), f"{web.url}/a") == ("robots", False)
    assert web.asked() == ["/a"]


def test_it_is_kept_for_a_day(web, make, routes, clock):
    web.routes["/robots.txt"] = routes.reply(200, RULES)
    for path in ("/a", "/private/but"):
        make(clock=clock).get(f"{web.url}{path}", kind="page")
    assert len(web.log) == 3, "the second run finds it on disk"
    client = make(clock=clock, refresh_since="2040-01-01")
    client.get(f"{web.url}/a", kind="page")
    assert len(web.log) == 4, "what is asked again concerns pages"
    clock.now += 86_401
    client.get(f"{web.url}/private/but", kind="page")
    assert len(web.log) == 6


@pytest.mark.parametrize("line", ["Crawl-delay: 9", "Request-rate: 1/9s"])
def test_a_slower_rate_is_obeyed(web, make, routes, clock, line):
    web.routes["/robots.txt"] = routes.reply(200, f"User-agent: *\n{line}\n".encode())
    client = make(clock=clock)
    start = clock.now
    for path in ("/a", "/private/x"):
        client.get(f"{web.url}{path}", kind="page")
    assert 18 <= clock.now - start < 18.1


def test_a_faster_rate_is_not(web, make, routes, clock):
    web.routes["/robots.txt"] = routes.reply(200, b"User-agent: *\nCrawl-delay: 0.001\n")
    client = make(clock=clock, requests_per_second=1)
    start = clock.now
    client.get(f"{web.url}/a", kind="page")
    assert clock.now - start >= 1


def test_an_endless_delay_is_not_waited_for(web, make, routes):
    web.routes["/robots.txt"] = routes.reply(200, b"User-agent: *\nCrawl-delay: 86400\n")
    assert outcome(make(), f"{web.url}/a") == ("rate_limited", True)
    assert web.asked() == []
