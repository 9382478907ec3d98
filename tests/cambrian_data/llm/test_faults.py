"""Replies to faults, and how long to wait."""

from __future__ import annotations

import json

import pytest

from cambrian_data.llm.faults import Reply, fatal_error, fault_of, wait_of

NOW = 1_700_000_000.0


def error(message: str = "no", **rest: str) -> bytes:
    return json.dumps({"error": {"message": message, **rest}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, error("Rate limit reached"), "rate"),
        (429, error("You exceeded your current quota, check your billing"), "quota"),
        (429, error("You exceeded your current quota. Please retry in 31.5s."), "rate"),
        (429, error("no", code="insufficient_quota"), "quota"),
        (402, b"", "quota"),
        (401, error(), "denied"),
        (403, error(), "denied"),
        (404, error(), "no_model"),
        (408, error(), "passing"),
        (409, error(), "passing"),
        (500, b"<html>", "passing"),
        (529, error(), "passing"),
        (200, error("overloaded"), "passing"),
        (200, error("slow", code="rate_limit_exceeded"), "rate"),
        (200, b'{"choices": [', "passing"),
        (413, error(), "rejected"),
        (400, error("context length"), "rejected"),
        (400, b'{"message": "plain"}', "rejected"),
        (400, b'{"error": "text"}', "rejected"),
        (400, b"[]", "rejected"),
        (422, error("response_format is unknown"), "trait"),
        (400, error("max_tokens is too large: this model has at most 4096"), "rejected"),
        (400, error("Unsupported parameter: temperature"), "trait"),
        (400, error("temperature must be at most 2"), "rejected"),
        (400, error("model x does not support image input"), "blind"),
        (400, error("At most 0 image(s) may be provided in one request"), "blind"),
        (400, error("The image data you provided is not valid"), "rejected"),
    ],
)
def test_kinds(status, body, kind):
    fault = fault_of(Reply(status, body), now_s=NOW)
    assert fault is not None and fault.kind == kind
    assert fault.message and len(fault.message) < 600


def test_an_answer_is_no_fault():
    assert fault_of(Reply(200, b'{"choices": [], "error": null}'), now_s=NOW) is None


@pytest.mark.parametrize(
    ("message", "rest", "trait"),
    [
        ("response_format json_schema is not supported", {}, "no_json_schema"),
        ("no", {"param": "response_format.type"}, "no_json_schema"),
        ("Invalid schema for response_format 'QA'", {}, "no_json_schema:"),
        ("Use 'max_completion_tokens' instead, unsupported", {}, "max_completion_tokens"),
        ("no", {"param": "max_tokens", "code": "unsupported_parameter"}, "max_completion_tokens"),
        ("no", {"param": "temperature", "code": "unsupported_value"}, "no_temperature"),
        ("Unrecognized request argument supplied: seed", {}, "no_seed"),
    ],
)
def test_traits(message, rest, trait):
    fault = fault_of(Reply(400, error(message, **rest)), now_s=NOW)
    assert fault is not None and fault.trait == trait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10),
        ({"retry-after": "Tue, 14 Nov 2000 22:13:30 GMT"}, 0),
        ({"retry-after": "99999999999"}, 1e9),
        ({"retry-after": "1e999"}, 1e9),
        ({"retry-after": "nan"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9" * 400 + "s"}, 1e9),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0.5s"}, 360.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({}, None),
    ],
)
def test_waits(headers, seconds):
    assert wait_of(headers, NOW) == seconds


def test_a_wait_in_the_message_counts():
    fault = fault_of(Reply(429, error("Please try again in 1m2.5s.")), now_s=NOW)
    assert fault is not None and fault.wait_s == 62.5


@pytest.mark.parametrize("body", [b"<html>", b"data: {}", b"[]", b"{", b""])
def test_a_whole_body_is_an_answer_even_where_it_is_no_json(body):
    whole = {"content-length": str(len(body))}
    assert fault_of(Reply(200, body, whole), now_s=NOW) is None
    may_be_cut = fault_of(Reply(200, body), now_s=NOW)
    assert (may_be_cut is not None) == (body in (b"{", b""))


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://b.example/v2/chat/completions", "https://b.example/v2:"),
        ("/v2/chat/completions", "http://a.example/v2:"),
        ("https://u:p@b.example/x?key=s", "https://b.example/x:"),
        ("http://[", "'http://['"),
    ],
)
def test_a_redirect_names_both_addresses(location, shown):
    fault = fault_of(Reply(307, b"", {"location": location}), now_s=NOW)
    assert fault is not None and fault.kind == "redirect"
    said = str(fatal_error(fault, server="http://a.example/v1", model="m", names=[]))
    assert "server at http://a.example/v1 " in said and f"to {shown}" in said


@pytest.mark.parametrize("status", [400, 401, 404, 429, 503])
def test_messages_hold_nothing_that_is_not_seen(status):
    fault = fault_of(Reply(status, error("no\x1b[2J\u202e\x00\r\nyes")), now_s=NOW)
    assert fault is not None and fault.message.isprintable() and "yes" in fault.message
