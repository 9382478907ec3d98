from __future__ import annotations

from typing import Any

import pytest

from cambrian_data.engine.search import (
    SearchConfig,
    SearchUnavailable,
    choose_backend,
    search_topics,
)
from cambrian_data.records import UserError

ENVIRONMENT = {
    "GOOGLE_API_KEY": "key-of-google",
    "GOOGLE_SE_ID": "cx1",
    "BRAVE_API_KEY": "key-of-brave",
}


def backend(name: str, service: Any, http: Any):
    addresses = {
        "CAMBRIAN_GOOGLE_ENDPOINT": f"{service.url}/customsearch/v1",
        "CAMBRIAN_BRAVE_ENDPOINT": f"{service.url}/res/v1/web/search",
        "CAMBRIAN_SEARXNG_URL": f"{service.url}/search",
        "CAMBRIAN_MEDIAWIKI_API": f"{service.url}/w/api.php",
    }
    return choose_backend(name, ENVIRONMENT | addresses, SearchConfig(), http, None)


def google(code: int, reason: str = "", status: str = "", **more: Any) -> tuple[int, Any]:
    errors = [{"reason": reason, "domain": "usageLimits", "message": "m"}] if reason else []
    body = {"code": code, "message": "m", "errors": errors, "status": status, **more}
    return code, {"error": body}


def brave(code: int, name: str) -> tuple[int, Any]:
    error = {"status": code, "code": name, "detail": "Request rate limit exceeded for plan."}
    return code, {"type": "ErrorResponse", "error": error}


def ask(name: str, service: Any, http: Any, answer: Any) -> Exception:
    service.answer = lambda query: answer
    with pytest.raises((SearchUnavailable, UserError)) as fault:
        backend(name, service, http).search("physics", limit=1)
    assert "key-of" not in str(fault.value)
    return fault.value


QUOTA = [
    ("google", google(429, "rateLimitExceeded", "RESOURCE_EXHAUSTED")),
    ("google", google(403, "dailyLimitExceeded")),
    ("google", google(403, "quotaExceeded")),
    ("google", google(403, "userRateLimitExceeded")),
    ("google", (429, b"too many")),
    ("brave", brave(429, "RATE_LIMITED")),
    ("brave", brave(429, "QUOTA_LIMITED")),
    ("brave", (429, b"")),
    ("searxng", (429, b"Too Many Requests")),
    ("mediawiki", (429, b"slow down")),
]
WRONG = [
    ("google", google(400, "keyInvalid"), "GOOGLE_API_KEY"),
    ("google", google(400, "", "INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}]), "API"),
    ("google", google(403, "accessNotConfigured"), "enabled"),
    ("google", google(403, "", "PERMISSION_DENIED"), "GOOGLE_SE_ID"),
    ("google", (403, b"<html>forbidden"), "GOOGLE_API_KEY"),
    ("brave", brave(401, "UNAUTHORIZED"), "BRAVE_API_KEY"),
    ("brave", brave(422, "SUBSCRIPTION_TOKEN_INVALID"), "BRAVE_API_KEY"),
    ("brave", brave(422, "VALIDATION"), "language"),
    ("searxng", (403, b"Forbidden"), "json"),
    ("searxng", (404, b"no"), "CAMBRIAN_SEARXNG_URL"),
    ("mediawiki", (404, b"no"), "CAMBRIAN_MEDIAWIKI_API"),
    ("mediawiki", {"error": {"code": "readapidenied", "info": "log in"}}, "readapidenied"),
    ("google", (404, b"no"), "CAMBRIAN_GOOGLE_ENDPOINT"),
]
AWAY = [
    ("google", (500, b"")),
    ("brave", (503, b"")),
    ("searxng", b'{"results": [{"url": "https://x.org/a", "ti'),
    ("searxng", b"<html><body>sign in</body></html>"),
    ("searxng", {"query": "x"}),
    ("google", b'["no object"]'),
    ("mediawiki", b"<html>Wikimedia Error</html>"),
    ("mediawiki", {"error": {"code": "maxlag", "info": "Waiting for a server: 6 seconds lagged"}}),
    ("mediawiki", {"error": {"code": "cirrussearch-too-busy-error", "info": "busy"}}),
]


@pytest.mark.parametrize(("name", "answer"), QUOTA)
def test_a_spent_quota_is_told_and_not_asked_for_again(service, http, name, answer):
    service.answer = lambda query: answer
    asking = backend(name, service, http)
    topics = [{"id": f"t{number}", "topic": f"topic {number}"} for number in range(5)]
    found = search_topics(topics[:1], asking, SearchConfig())
    assert [row["reason"] for row in found.drops] == ["quota"] and found.num_passing == 1
    num_asked = len(service.asked)
    found = search_topics(topics[1:], asking, SearchConfig())
    assert [row["reason"] for row in found.drops] == ["quota"] * 4
    assert len(service.asked) == num_asked


@pytest.mark.parametrize(("name", "answer", "word"), WRONG)
def test_a_wrong_key_or_address_is_the_users_to_mend(service, http, name, answer, word):
    fault = ask(name, service, http, answer)
    assert isinstance(fault, UserError) and word in str(fault)


@pytest.mark.parametrize(("name", "answer"), AWAY)
def test_a_service_that_is_away_is_tried_again_and_nothing_is_kept(service, http, name, answer):
    fault = ask(name, service, http, answer)
    assert isinstance(fault, SearchUnavailable) and not fault.is_quota
    assert len(service.asked) == http.config.max_tries
    ask(name, service, http, answer)
    assert len(service.asked) == 2 * http.config.max_tries


def test_a_cut_answer_is_tried_again_until_it_is_whole(service, http):
    answers = [b'{"results": [{"url"', b"<html>", {"results": [{"url": "https://x.org/a"}]}]
    service.answer = lambda query: answers[min(len(service.asked), 3) - 1]
    assert [hit.url for hit in backend("searxng", service, http).search("x", limit=1)] == [
        "https://x.org/a"
    ]


def test_a_key_that_the_service_repeats_is_not_shown(service, http):
    message = "API key key-of-google is not valid"
    fault = ask("google", service, http, google(400, "keyInvalid", message=message))
    assert "is not valid" in str(fault)
    assert "key-of" not in repr(backend("google", service, http))


def silent(*engines: list[str]) -> dict[str, Any]:
    return {"results": [], "unresponsive_engines": list(engines)}


def test_nobody_looked_is_not_nothing_found(service, http):
    fault = ask("searxng", service, http, silent(["google", "timeout"]))
    assert isinstance(fault, SearchUnavailable) and not fault.is_quota
    fault = ask("searxng", service, http, silent(["brave", "Suspended: too many requests"]))
    assert isinstance(fault, SearchUnavailable) and fault.is_quota
    assert "brave: Suspended" in fault.detail
    service.answer = lambda query: silent()
    assert backend("searxng", service, http).search("y", limit=1) == []


def test_one_blocked_engine_does_not_end_the_search_but_all_of_them_do(service, http):
    hits = {"results": [{"url": "https://x.org/a"}], "unresponsive_engines": [["qwant", "CAPTCHA"]]}
    asking = backend("searxng", service, http)
    service.answer = lambda query: hits if "has" in query["q"] else silent(["qwant", "CAPTCHA"])
    for number in range(3):
        with pytest.raises(SearchUnavailable):
            asking.search(f"odd {number}", limit=1)
        assert len(asking.search(f"has {number}", limit=1)) == 1
    for number in range(3):
        with pytest.raises(SearchUnavailable):
            asking.search(f"gone {number}", limit=1)
    num_asked = len(service.asked)
    with pytest.raises(SearchUnavailable) as fault:
        asking.search("has 9", limit=1)
    assert fault.value.is_quota and len(service.asked) == num_asked


def test_a_wiki_that_asks_to_slow_down(service, http):
    error = {"error": {"code": "ratelimited", "info": "You've exceeded your rate limit."}}
    fault = ask("mediawiki", service, http, error)
    assert isinstance(fault, SearchUnavailable) and fault.is_quota


def test_a_snippet_that_was_cut_within_a_character_is_no_fault(service, http):
    service.answer = lambda query: (
        rb'{"results": [{"url": "https://x.org/a", "title": "\ud83d x"}]}'
    )
    (hit,) = backend("searxng", service, http).search("x", limit=1)
    assert hit.title == "? x" and len(service.asked) == 1
