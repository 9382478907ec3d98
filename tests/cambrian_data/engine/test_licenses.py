from __future__ import annotations

import pytest

from cambrian_data.engine.licenses import License, license_of, page_license

CC = "https://creativecommons.org/licenses/by-sa/4.0"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"{CC}/", "CC BY-SA 4.0"),
        (f"{CC}/deed.de", "CC BY-SA 4.0"),
        (f"{CC}/legalcode", "CC BY-SA 4.0"),
        ("//creativecommons.org/licenses/by/3.0/de/", "CC BY 3.0 DE"),
        ("http://www.creativecommons.org/licenses/by-nc-nd/2.5", "CC BY-NC-ND 2.5"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "Public domain"),
        ("https://www.fandom.com/licensing", "https://www.fandom.com/licensing"),
        ("", None),
    ],
)
def test_names_follow_from_addresses(url, name):
    assert license_of("", url).name == name


def test_words_stand_for_a_licence_without_a_known_address():
    assert license_of(" GNU  FDL 1.3 ") == License("GNU FDL 1.3", None)
    assert license_of("GFDL", "//www.gnu.org/fdl") == License("GFDL", "https://www.gnu.org/fdl")
    assert license_of(f"Licence: {CC}") == License("CC BY-SA 4.0", CC)


@pytest.mark.parametrize(
    ("html", "name"),
    [
        (f'<p>text<a class="x" href="{CC}" rel="license nofollow">CC</a>', "CC BY-SA 4.0"),
        (f"<LINK REL=license HREF={CC}>", "CC BY-SA 4.0"),
        (f"<a rel='cc:license' href='{CC}/deed.en'>", "CC BY-SA 4.0"),
        (f'<a rel=license href="{CC}">a</a><a rel=license href="{CC}/">b</a>', "CC BY-SA 4.0"),
        (f'<link rel=license href="{CC}"><a rel=license href="/terms">b</a>', "CC BY-SA 4.0"),
        (f'<meta name="DC.rights" content="Licence: {CC}">', "CC BY-SA 4.0"),
        ('<meta name="dc.rights" content="All rights &lt;reserved&gt;">', "All rights <reserved>"),
        ('<meta name="dc.rights" content="Some Publisher">', None),
        (f'<a href="{CC}">a page about licenses</a>', None),
        (f'<a rel=license href="{CC}"><a rel=license href="{CC[:-3]}3.0">', None),
        ('<a rel="license">', None),
        ("", None),
    ],
)
def test_licences_of_pages(html, name):
    assert page_license(html.encode()).name == name
