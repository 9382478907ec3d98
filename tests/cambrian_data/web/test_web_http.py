"""HttpClient: what is kept, what is followed, what is tried again, what is kept secret."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cambrian_data.records import DROP_REASONS, UserError
from cambrian_data.web.answers import FetchError
from cambrian_data.web.http import HttpClient


def fails(client: HttpClient, url: str, kind: str = "page", **more) -> FetchError:
    with pytest.raises(FetchError) as caught:
        client.get(url, kind=kind, **more)
    assert caught.value.reason in DROP_REASONS["fetch"] - {"not_html", "duplicate"}
    return caught.value


def test_a_page_is_asked_once(web, make, routes):
    headers = {"Content-Type": "text/html", "Set-Cookie": "id=1"}
    web.routes["/a"] = routes.reply(200, b"hello", headers)
    client = make(contact="me@example.org")
    first = client.get(f"{web.url}/a#part", kind="page")
    again = client.get(f"HTTP://127.0.0.1:{web.port}/a", kind="page")
    assert (first.status, first.body, first.from_cache) == (200, b"hello", False)
    assert (again.body, again.from_cache, again.fetched_at) == (b"hello", True, first.fetched_at)
    assert first.final_url == f"{web.url}/a"
    assert again.headers["content-type"] == "text/html" and "set-cookie" not in first.headers
    assert web.asked() == ["/a"]
    sent = web.headers("/a")
    assert sent["user-agent"].startswith("cambrian/") and "(me@example.org)" in sent["user-agent"]
    numbers = client.numbers()
    assert (numbers["requests"], numbers["from_cache"], numbers["retries"]) == (2, 1, 0)
    assert numbers["bytes"] == len(b"hello") + len(b"nothing here")


def test_another_run_finds_it(web, make, routes):
    web.routes["/a"] = routes.reply(200, b"hello")
    make().get(f"{web.url}/a", kind="page")
    assert make().get(f"{web.url}/a", kind="page").from_cache


def test_no_cookie_is_sent(web, make, routes):
    web.routes["/a"] = routes.reply(200, b"", {"Set-Cookie": "id=1; Path=/"})
    web.routes["/b"] = routes.reply(200, b"")
    client = make()
    client.get(f"{web.url}/a", kind="page")
    client.get(f"{web.url}/b", kind="page")
    assert "cookie" not in web.headers("/b")


def test_netrc_gives_no_password_away(web, make, routes, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hush-hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    web.routes["/a"] = routes.reply(200)
    make().get(f"{web.url}/a", kind="page")
    assert "authorization" not in web.headers("/a")


def test_a_picture_is_not_kept_but_its_absence_is(web, make, routes):
    web.routes["/a.png"] = routes.reply(200, b"picture", {"ETag": '"1"'})
    client = make()
    for _ in range(2):
        assert client.get(f"{web.url}/a.png", kind="picture").body == b"picture"
        assert fails(client, f"{web.url}/b.png", "picture").reason == "missing"
    assert web.asked() == ["/a.png", "/b.png", "/a.png"]


def test_a_picture_that_has_not_changed(web, make, routes):
    web.routes["/a.png"] = routes.reply(304)
    answer = make().get(f"{web.url}/a.png", kind="picture", etag='"1"', last_modified="x")
    assert (answer.status, answer.body) == (304, b"")
    sent = web.headers("/a.png")
    assert (sent["if-none-match"], sent["if-modified-since"]) == ('"1"', "x")


def test_304_to_no_condition_is_a_fault(web, make, routes, clock):
    web.routes["/a"] = routes.in_turn(routes.reply(304), routes.reply(200, b"now"))
    assert make(clock=clock).get(f"{web.url}/a", kind="page").body == b"now"


def test_a_changed_page_is_asked_with_its_etag(web, make, routes, clock):
    page = routes.reply(200, b"one", {"ETag": '"1"', "Last-Modified": "then"})
    web.routes["/a"] = routes.in_turn(
        page, routes.reply(304, headers={"X-New": "1"}), routes.reply(200, b"two")
    )
    first = make(clock=clock).get(f"{web.url}/a", kind="page")
    clock.now += 10
    since = "2027-01-15T08:00:05Z"
    client = make(clock=clock, refresh_since=since)
    again = client.get(f"{web.url}/a", kind="page")
    assert (again.body, again.fetched_at, again.from_cache) == (b"one", first.fetched_at, True)
    assert web.headers("/a")["if-none-match"] == '"1"' and again.headers["x-new"] == "1"
    assert client.numbers()["not_modified"] == 1
    client.get(f"{web.url}/a", kind="page")
    assert web.asked() == ["/a", "/a"], "what was confirmed since then is fresh"
    clock.now += 10
    newest = make(clock=clock, refresh_since="2027-01-15T08:00:15Z").get(
        f"{web.url}/a", kind="page"
    )
    assert newest.body == b"two" and newest.fetched_at != first.fetched_at


def test_the_same_body_again_keeps_its_date(web, make, routes, clock):
    web.routes["/a"] = routes.reply(200, b"one")
    client = make(clock=clock, max_age_days=1)
    first = client.get(f"{web.url}/a", kind="page")
    clock.now += 86_399
    assert client.get(f"{web.url}/a", kind="page").from_cache
    clock.now += 2
    again = client.get(f"{web.url}/a", kind="page")
    assert not again.from_cache and again.fetched_at == first.fetched_at


def test_a_wrong_date_to_refresh_since_is_the_users(make):
    with pytest.raises(UserError, match="yesterday"):
        make(refresh_since="yesterday")


def test_a_trusted_host_that_is_none(make):
    with pytest.raises(UserError, match="file"):
        make(trusted_hosts=("file:///w/api.php",))


def test_redirects_are_followed_and_kept(web, make, routes):
    web.routes["/a"] = routes.reply(301, b"x" * 200_000, {"Location": "b?x=1#y"})
    web.routes["/b?x=1"] = routes.reply(302, headers={"Location": f"{web.url}/c"})
    web.routes["/c"] = routes.reply(200, b"here")
    client = make()
    for _ in range(2):
        answer = client.get(f"{web.url}/a", kind="page")
        assert (answer.url, answer.final_url) == (f"{web.url}/a", f"{web.url}/c")
        assert answer.body == b"here"
    assert web.asked() == ["/a", "/b?x=1", "/c"]


def test_303_is_followed_but_not_kept(web, make, routes):
    web.routes["/a"] = routes.reply(303, headers={"Location": "/c"})
    web.routes["/c"] = routes.reply(200, b"here")
    client = make()
    for _ in range(2):
        client.get(f"{web.url}/a", kind="page")
    assert web.asked() == ["/a", "/c", "/a"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/hostname", "bad_address"),
        ("ftp://example.org/x", "bad_address"),
        ("http://me:hush@example.org/", "bad_address"),
        ("http://[::1", "bad_address"),
        ("/loop", "bad_address"),
        ("", "missing"),
    ],
)
def test_where_no_redirect_may_lead(web, make, routes, location, reason):
    web.routes["/loop"] = routes.reply(302, headers={"Location": location} if location else None)
    error = fails(make(), f"{web.url}/loop")
    assert error.reason == reason and not error.is_passing and "hush" not in error.detail


@pytest.mark.parametrize(
    ("status", "reason", "is_passing", "num_tries"),
    [
        (401, "refused", False, 1),
        (403, "refused", False, 1),
        (404, "missing", False, 1),
        (410, "missing", False, 1),
        (418, "refused", False, 1),
        (451, "refused", False, 1),
        (204, "missing", False, 1),
        (408, "server_error", True, 6),
        (429, "rate_limited", True, 6),
        (500, "server_error", True, 6),
        (503, "server_error", True, 6),
    ],
)
def test_what_statuses_mean(web, make, routes, clock, status, reason, is_passing, num_tries):
    web.routes["/a"] = routes.reply(status, b"no" * (status != 204))
    client = make(clock=clock)
    error = fails(client, f"{web.url}/a")
    assert (error.reason, error.is_passing, error.status) == (reason, is_passing, status)
    assert str(status) in error.detail and len(web.asked()) == num_tries
    fails(client, f"{web.url}/a")
    assert len(web.asked()) == (1 if status in (404, 410) else 2 * num_tries)


def test_a_service_explains_itself(web, make, routes):
    web.routes["/api"] = routes.reply(400, b'{"error": "no such thing"}' + b"x" * 10_000)
    error = fails(make(), f"{web.url}/api", "service")
    assert error.body.startswith(b'{"error"') and len(error.body) == 4096


@pytest.mark.parametrize("fault", ["reply", "broken_off", "hung_up"])
def test_passing_faults_are_tried_again(web, make, routes, clock, fault):
    bad = routes.reply(503) if fault == "reply" else getattr(routes, fault)
    web.routes["/a"] = routes.in_turn(bad, bad, routes.reply(200, b"at last"))
    client = make(clock=clock)
    assert client.get(f"{web.url}/a", kind="page").body == b"at last"
    waits = [wait for wait in clock.sleeps if wait > 0.1]
    assert len(waits) == 2 and 0.25 <= waits[0] <= 0.75 and 0.5 <= waits[1] <= 1.5
    assert client.numbers()["retries"] == 2


def test_what_stays_broken_is_unreachable(web, make, routes, clock):
    web.routes["/a"] = routes.broken_off
    error = fails(make(clock=clock, max_tries=3), f"{web.url}/a")
    assert (error.reason, error.is_passing, len(web.asked())) == ("unreachable", True, 3)


def test_nobody_there(make, clock):
    error = fails(make(clock=clock, max_tries=2), "http://127.0.0.1:9/a", "service")
    assert (error.reason, error.is_passing) == ("unreachable", True)


def test_a_name_that_is_none(make, clock):
    client = make(clock=clock, contact="me@example.org", max_tries=2)
    error = fails(client, "http://no-such-name.invalid/", "service")
    assert error.reason == "unreachable" and error.is_passing
    assert "no-such-name.invalid" in error.detail


def test_an_answer_that_is_not_good(web, make, routes, clock):
    good = routes.reply(200, b"{}")
    web.routes["/a"] = routes.in_turn(routes.reply(200, b"<html>"), good)
    web.routes["/b"] = routes.reply(200, b"<html>")

    def is_good(answer):
        return None if answer.body == b"{}" else "no JSON"

    client = make(clock=clock, max_tries=3)
    assert client.get(f"{web.url}/a", kind="service", is_good=is_good).body == b"{}"
    for _ in range(2):
        answer = client.get(f"{web.url}/b", kind="service", is_good=is_good)
        assert answer.body == b"<html>" and not answer.from_cache
    assert web.asked() == ["/a"] * 2 + ["/b"] * 6
    client.get(f"{web.url}/b", kind="service")
    assert client.get(f"{web.url}/b", kind="service").from_cache
    client.get(f"{web.url}/b", kind="service", is_good=is_good)
    assert len(web.asked()) == 12, "what another caller kept is judged anew"


def test_a_body_that_a_fault_cut_is_never_kept(web, make, routes, clock):
    web.routes["/a"] = routes.in_turn(routes.broken_off, routes.reply(500), routes.reply(200, b"x"))
    client = make(clock=clock)
    assert client.get(f"{web.url}/a", kind="page").body == b"x"
    assert client.get(f"{web.url}/a", kind="page").body == b"x"


def test_two_threads_ask_once(web, make, routes):
    gate = threading.Event()

    def slow(handler):
        gate.wait(5)
        routes.reply(200, b"x")(handler)

    web.routes["/a"] = slow
    client = make()
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.get, f"{web.url}/a", kind="page") for _ in range(8)]
        gate.set()
        answers = [call.result() for call in calls]
    assert web.asked() == ["/a"]
    assert sorted(answer.from_cache for answer in answers) == [False] + [True] * 7


def test_secrets_are_nowhere(web, make, routes, tmp_path, caplog, clock):
    caplog.set_level("DEBUG")
    key, token = "topsecret+key/1", "hush-hush-token"
    echo = b"you sent " + key.encode() + b" and topsecret%2Bkey%2F1 and " + token.encode()
    web.routes["/api"] = routes.reply(200, echo, {"X-Echo": "1"})
    web.routes["/leap"] = routes.reply(302, headers={"Location": "/api2?key=topsecret%2Bkey%2F1"})
    web.routes["/api2"] = routes.reply(200, echo)
    web.routes["/bad"] = routes.reply(400, echo)
    web.routes["/away"] = routes.reply(302, headers={"Location": f"ftp://x/{token}"})
    client = make(clock=clock)
    more = {"secret_params": {"key": key}, "headers": {"Authorization": f"Bearer {token}"}}
    texts = []
    for path in ("/api", "/leap"):
        answer = client.get(f"{web.url}{path}", kind="service", params={"q": "a b"}, **more)
        assert answer.body == b"you sent *** and *** and ***"
        texts.append(repr(answer))
    for path in ("/bad", "/away", "/api:x"):
        error = fails(client, f"{web.url}{path}", "service", **more)
        texts += [repr(error), error.detail, repr(error.body), repr(error.__context__)]
    fails(client, "http://127.0.0.1:9/", "service", **more)
    assert web.asked()[0] == "/api?q=a+b&key=topsecret%2Bkey%2F1"
    assert web.headers(web.asked()[0])["authorization"] == f"Bearer {token}"
    assert client.get(f"{web.url}/api", kind="service", params={"q": "a b"}).from_cache
    client.close()
    client.cache.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("http-cache*"))
    seen = stored + "".join(texts).encode() + caplog.text.encode()
    assert b"q=a+b" in stored and "/leap" in caplog.text
    for secret in (key, token, "topsecret"):
        assert secret.encode() not in seen, secret


def test_another_host_is_not_shown_the_secrets(web, make, routes):
    there = f"http://localhost:{web.port}/there"
    web.routes["/api"] = routes.reply(307, headers={"Location": there})
    web.routes["/there"] = routes.reply(200)
    make().get(
        f"{web.url}/api",
        kind="service",
        headers={"X-Token": "hush-hush", "Accept": "application/json"},
        secret_params={"key": "hush-hush"},
    )
    sent = web.headers("/there")
    assert "x-token" not in sent and sent["accept"] == "application/json"


def test_a_header_that_cannot_be_sent_is_not_shown(web, make):
    with pytest.raises(UserError, match="X-Token") as caught:
        make().get(f"{web.url}/", kind="service", headers={"X-Token": "hush-hush\nX: 1"})
    assert "hush" not in str(caught.value)


def test_kinds_do_not_share_what_they_must_not(web, make, routes):
    web.routes["/robots.txt"] = routes.reply(200, b"User-agent: *\nDisallow: /api")
    web.routes["/api"] = routes.reply(200, b"x")
    client = make()
    client.get(f"{web.url}/api", kind="service")
    assert fails(client, f"{web.url}/api").reason == "robots"


def test_the_contact_is_asked_for(web, make, routes):
    web.routes["/a"] = routes.reply(200)
    client = make()
    client.get(f"{web.url}/a", kind="page")
    words = r"CAMBRIAN_CONTACT=you@example\.org.*http\.contact"
    for kind in ("page", "picture"):  # met half-way, it must not end a long run
        with pytest.raises(FetchError, match=words) as met:
            client.get("http://example.org/", kind=kind)
        assert met.value.reason == "no_contact" and met.value.is_passing
    with pytest.raises(UserError, match=words):
        client.get("http://example.org/", kind="service")
    with pytest.raises(UserError):
        client.check_contact("https://example.org/x")
    client.check_contact("http://localhost:1/x")
    make(contact="me@example.org").check_contact("https://example.org/x")


def test_a_contact_that_cannot_be_sent(make):
    with pytest.raises(UserError, match="ASCII"):
        make(contact="J\u00fcrgen\r\nX: 1")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://x/",
        "http://a:b@127.0.0.1/",
        "http://",
        "nothing",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://x y/",
        "http://x\r\nHost: y/",
        "http://" + "x" * 9000,
        "http://[::1/",
        "",
    ],
)
def test_no_addresses(make, url):
    error = fails(make(), url)
    assert error.reason == "bad_address" and not error.is_passing


def test_odd_characters_are_escaped(web, make, routes):
    web.routes["/wiki/caf%C3%A9%20%22x%22?q=%C3%A9"] = routes.reply(200, b"x")
    assert make().get(f'{web.url}/wiki/caf\u00e9 "x"?q=\u00e9', kind="page").body == b"x"


def test_close_ends_waits_and_requests(web, make, routes):
    entered, gate = threading.Event(), threading.Event()

    def hang(handler):
        entered.set()
        gate.wait(20)

    web.routes["/hang"] = hang
    web.routes["/busy"] = routes.reply(429, headers={"Retry-After": "60"})
    client = make()
    with ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(client.get, f"{web.url}/hang", kind="service")
        waiting = pool.submit(client.get, f"http://localhost:{web.port}/busy", kind="service")
        assert entered.wait(10)
        while "/busy" not in web.asked():
            pass
        client.close()
        for call in (hanging, waiting):
            error = call.exception(timeout=10)
            assert isinstance(error, FetchError) and error.is_passing
            assert error.reason == "unreachable" and "ended" in error.detail
    gate.set()
    assert fails(client, f"{web.url}/x").is_passing
