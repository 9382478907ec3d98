from __future__ import annotations

import codecs

import pytest

from cambrian_data.engine.extract import page_title
from cambrian_data.engine.html_body import first_element, readable, refusal, utf8_body

HTML = "<!DOCTYPE html><title>x</title><p>y"


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (HTML, "text/html; charset=utf-8"),
        (HTML, "application/pdf"),  # the header lies
        (HTML, "text/plain"),
        (HTML, ""),
        (f"\n<!-- a --><!-- <b> --> {HTML}", ""),
        ('<?xml version="1.0"?><html xmlns="x">', "application/xhtml+xml"),
        ("<p>a fragment", ""),
        ("no tag at all", "text/html"),
        ("<custom-thing>", "text/html"),
    ],
)
def test_pages(body, header):
    assert refusal(body.encode(), header) is None


@pytest.mark.parametrize(
    ("body", "header", "shown"),
    [
        (b"%PDF-1.7 <html>", "application/pdf", "application/pdf"),
        (b"%PDF-1.7", "text/html", "binary data"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "", "binary data"),
        (b'{"a": 1}', "text/html", "JSON"),
        (b'{"a": 1}', "application/json", "application/json"),
        (b"<p>a fragment", "text/plain", "text/plain"),
        (b"<?xml version='1.0'?><rss>", "text/html", "<rss>"),
        (b"<svg:svg>", "text/html", "<svg>"),
        (b"", "text/html", "empty"),
        (b"words", "", "no known type"),
    ],
)
def test_what_is_no_page(body, header, shown):
    found = refusal(body, header)
    assert found is not None and shown in found


def test_a_beginning_that_never_ends_is_read_once():
    assert first_element(b"<!--" * 200_000) == ""
    assert first_element(b"<!---->" * 9_000 + b"<html>") == "html"
    assert first_element(b" " * 60_000 + b"<HTML>") == "html"
    assert first_element("\ufeff<html>".encode("utf-16")) == "html"


def title_of(text, encoding, header, meta=""):
    declared = f"<meta charset={meta}>" if meta else ""
    body = f"<html><head>{declared}<title>{text}</title></head>".encode(encoding)
    return page_title(readable(body, f"text/html; charset={header}" if header else "text/html"))


@pytest.mark.parametrize(
    ("text", "encoding", "header", "meta"),
    [
        ("日本語のページ", "shift_jis", "Shift_JIS", ""),
        ("日本語のページ", "shift_jis", '"shift_jis"', "utf-8"),  # the header stands above
        ("Übergröße", "iso-8859-1", "ISO-8859-1", ""),
        ("“quoted” – dash", "cp1252", "iso-8859-1", ""),  # as browsers read it
        ("привет", "koi8-r", "koi8-r", "windows-1251"),
        ("Übergröße", "utf-8", "utf-8", "iso-8859-1"),
        ("Übergröße", "utf-8", "utf-8", ""),
        ("Übergröße", "utf-8", "iso-8859-1", "utf-8"),  # valid UTF-8 that says that it is
        ("Übergröße", "iso-8859-1", "utf-8", "iso-8859-1"),  # the header makes it unreadable
        ("Übergröße", "utf-8", "", "utf-8"),
        ("Übergröße", "utf-8", "no-such", "utf-8"),
        ("Übergröße", "utf-8", "punycode", "utf-8"),
        ("中文页面", "gb18030", "gb2312", ""),
        ("Übergröße", "utf-16", "utf-16", ""),
        ("Übergröße", "utf-16-le", "utf-16le", ""),
        ("Übergröße", "utf-8-sig", "iso-8859-1", ""),  # the mark stands above the header
    ],
)
def test_encodings(text, encoding, header, meta):
    assert title_of(text, encoding, header, meta) == text


def test_bytes_stay_as_they_are_where_the_parser_reads_them_anyway():
    for text in ("<title>a</title>", "<meta charset=utf-8>ü", "<p>ü"):
        assert readable(text.encode(), "text/html; charset=utf-8") == text.encode()
        assert utf8_body(text) == text.encode()
    assert utf8_body("<meta charset=big5>ü") == codecs.BOM_UTF8 + "<meta charset=big5>ü".encode()
