"""Opt-outs in headers and in pages."""

from __future__ import annotations

import time

import pytest

from cambrian_data.web.answers import FetchError
from cambrian_data.web.optout import join_tags, opt_out


@pytest.mark.parametrize(
    ("tag", "page", "picture"),
    [
        ("", False, False),
        ("all", False, False),
        ("nofollow, noarchive", False, False),
        ("noai", True, True),
        ("NoIndex", True, True),
        ("none", True, True),
        ("noimageai", False, True),
        ("noimageindex", False, True),
        ("nofollow,noai", True, True),
        ("nofollow noai", True, True),
        ("otherbot: noai", False, False),
        ("otherbot: nofollow, noindex", False, False),
        ("noindex, otherbot: nofollow", True, True),
        ("cambrian: noai", True, True),
        ("otherbot: none, cambrian: noindex", True, True),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST, noai", True, True),
        ("max-image-preview: none", False, False),
        ("noaint", False, False),
    ],
)
def test_the_header(tag, page, picture):
    assert bool(opt_out({"x-robots-tag": tag}, kind="page")) == page
    assert bool(opt_out({"x-robots-tag": tag}, kind="picture")) == picture


def test_a_robots_name_holds_to_the_end_of_its_line():
    assert opt_out({"x-robots-tag": join_tags(["otherbot: noarchive", "noai"])}, kind="page")
    assert not opt_out({"x-robots-tag": join_tags(["nofollow", "otherbot: a, noai"])}, kind="page")


@pytest.mark.parametrize(
    ("html", "page", "picture"),
    [
        ('<meta name="robots" content="noai, noimageai">', True, True),
        ("<META NAME=Robots CONTENT=noindex>", True, True),
        ("<meta content='follow,noimageai' name='robots'/>", False, True),
        ('<meta name="cambrian" content="none">', True, True),
        ('<meta name="otherbot" content="noai">', False, False),
        ('<meta name="tdm-reservation" content="1">', True, True),
        ('<meta name="tdm-reservation" content="0">', False, False),
        ('<meta property="og:title" content="noai">', False, False),
        ('<meta name="description" content=" > noai <meta">', False, False),
        ('<meta data-x=">" name="robots" content="noai">', True, True),
        ("<!-- <meta name=robots content=noai> -->", False, False),
        ('<script>"<meta name=robots content=noai>"</script>', False, False),
        ("<script>x</SCRIPT ><meta name=robots content=noai>", True, True),
        ("<!-- x --><title>noai</title><meta name=robots content=noai>", True, True),
        ("<metadata name=robots content=noai>", False, False),
        ('<meta name="robots" content="no&#97;i">', True, True),
        ("noai", False, False),
    ],
)
def test_the_page(html, page, picture):
    for body in (html.encode(), f"\u00fc{html}".encode("utf-8-sig"), html.encode("utf-16")):
        assert bool(opt_out({}, body, kind="page")) == page
        assert bool(opt_out({}, body, kind="picture")) == picture


@pytest.mark.parametrize("piece", ["<!--", "<meta ", "<script>", '<meta a="', "<meta a=", "< "])
def test_hostile_pages_take_no_time(piece):
    start = time.process_time()
    opt_out({}, (piece * 4_000_000)[:4_000_000].encode(), kind="page")
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("headers", "body", "of_page", "of_picture"),
    [
        ({"X-Robots-Tag": "noai"}, b"", "opted_out", "opted_out"),
        ({"X-Robots-Tag": "noimageai"}, b"", "", "opted_out"),
        ({"X-Robots-Tag": "otherbot: noarchive\nnoindex"}, b"", "opted_out", "opted_out"),
        ({"X-Robots-Tag": "nofollow\notherbot: x, noindex"}, b"", "", ""),
        ({"TDM-Reservation": "1"}, b"", "opted_out", "opted_out"),
        ({}, b"<meta name=robots content=noai>", "opted_out", ""),
    ],
)
def test_the_client_obeys(web, make, routes, headers, body, of_page, of_picture):
    web.routes["/a"] = routes.reply(200, body, headers)
    client = make()
    for kind, expected in (("page", of_page), ("picture", of_picture), ("service", "")):
        for _ in range(2):
            try:
                client.get(f"{web.url}/a", kind=kind)
                reason = ""
            except FetchError as error:
                reason, is_passing = error.reason, error.is_passing
                assert not is_passing
            assert reason == expected
    assert web.asked() == ["/a"] * 4, "a page that opts out is not asked again either"
