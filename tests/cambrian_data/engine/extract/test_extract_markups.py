"""Figures in the markups of publishing systems, and what looks like one and is none."""

from __future__ import annotations

import pytest

from cambrian_data.engine.extract import Figure, extract
from tests.cambrian_data.engine.extract.markups import (
    FIGURES,
    FURNITURE,
    PAGE,
    PROSE,
    WIKI,
    Case,
    Shown,
)

URL = "https://site.example.org/tower"


def check(html: str, expected: list[Shown]) -> None:
    figures = extract(html, URL)
    assert [(f.caption, f.section[-1] if f.section else None) for f in figures] == [
        (caption, heading) for _, caption, heading in expected
    ]
    for figure, (address, *_) in zip(figures, expected, strict=True):
        assert figure.image_url.endswith(address), figure.image_url


@pytest.mark.parametrize("case", FIGURES, ids=[name for name, *_ in FIGURES])
def test_publishing_systems(case: Case) -> None:
    check(PAGE % case[1], case[2])


@pytest.mark.parametrize("case", WIKI, ids=[name for name, *_ in WIKI])
def test_wikis(case: Case) -> None:
    check(f'<div class="mw-parser-output"><p>{PROSE}</p>{case[1]}</div>', case[2])


@pytest.mark.parametrize("html", FURNITURE)
def test_teasers_adverts_and_formulas_are_no_figures(html: str) -> None:
    assert extract(PAGE % f"<p>{PROSE}</p>{html}", URL) == []


def one(html: str) -> Figure:
    (figure,) = extract(html, URL)
    return figure


FIGURE = '<figure><img src="/a.jpg"><figcaption>The gate</figcaption></figure>'


@pytest.mark.parametrize(
    "head",
    [
        "<h6>Towers</h6><h1>A tower</h1>",
        "<h2>A tower</h2>",
        "<h1>A tower</h1><h2>It was built of red brick, and it still stands.</h2>",
        '<h1>A tower</h1><div class="x"><h3>Share this article</h3></div>',
    ],
    ids=["kicker", "title as h2", "subtitle", "furniture"],
)
def test_titles_and_furniture_open_no_section(head: str) -> None:
    html = f"<title>A tower - The Site</title><body>{head}{FIGURE}<p>{PROSE}</p></body>"
    figure = one(html)
    assert (figure.section, figure.text) == ([], PROSE.strip())


def test_a_section_after_the_teasers_of_others_is_the_article_again() -> None:
    html = PAGE % f"<h2>Walls</h2><p>Of brick.</p><h3>Read next</h3><p>Links</p><p>{PROSE}</p>"
    assert extract(html.replace("</body>", f"{FIGURE}</body>"), URL)[0].section == ["Walls"]


def test_the_lead_picture_may_stand_outside_of_the_article() -> None:
    html = f"<body><div><div>{FIGURE}</div><article><h1>A</h1><p>{PROSE}</p></article></div></body>"
    assert one(html).text == PROSE.strip()


def test_prose_without_paragraphs_is_read() -> None:
    html = (
        f"<div>{PROSE}<br><br>12 May<br><br>{FIGURE}<b>Next</b> {PROSE}<h2>Walls</h2>{PROSE}</div>"
    )
    figure = one(f"<body>{html}</body>")
    assert figure.text == f"{PROSE.strip()}\n\nNext {PROSE.strip()}"


def test_prose_in_a_table_that_lays_out_the_page_is_read() -> None:
    html = f"<table><tr><td>menu</td><td><h2>Walls</h2>{FIGURE}<p>{PROSE}</p></td></tr></table>"
    assert (one(html).section, one(html).text) == (["Walls"], PROSE.strip())
    data = (
        f"<p>{PROSE * 3}</p><h2>Walls</h2>{FIGURE}<table><tr><td><p>{PROSE}</p></td></tr></table>"
    )
    assert one(data).text == ""


@pytest.mark.parametrize(
    "mark",
    [
        '<sup id="r"><a href="#n1">1</a></sup>',
        '<sup class="reference"><a href="#n1">[12]</a></sup>',
        '<span class="mw-ref reference"><a href="#n1">[a]</a></span>',
        '<a class="footnote-ref" href="#fn1">3</a>',
        '<a role="doc-noteref" href="#fn1">4</a>',
        '<span class="ltx_note"><sup>5</sup><span>A note of its own.</span></span>',
        '<span class="mw-editsection">[edit]</span>',
        '<a class="headerlink" href="#x">&#182;</a>',
        '<a href="#x">#</a>',
        '<span class="math">\\(x^2\\)</span>',
        '<span class="katex"><span class="katex-html">x2</span></span>',
        "<mjx-container>x<sup>2</sup></mjx-container>",
        '<span class="mwe-math-element"><img alt="x^2"></span>',
        '<script type="math/tex">x^2</script>',
    ],
)
def test_formulas_notes_and_links_of_tools_are_not_in_the_prose(mark: str) -> None:
    html = f"<body>{FIGURE}<p>The tower{mark} stands on <a href='#hill'>a hill</a>.</p></body>"
    assert one(html).text == "The tower stands on a hill."


def test_powers_and_links_are_in_the_prose() -> None:
    html = f"<body>{FIGURE}<p>It has 10<sup>3</sup> <a class='reference' href='/b'>bricks</a>.</p>"
    assert one(html).text == "It has 103 bricks."


def test_captions_above_their_pictures() -> None:
    html = "".join(f'<p class="caption">The {n}</p><img src="/{n}.png">' for n in ("gate", "roof"))
    figures = extract(PAGE % f'<div class="figure">{html}</div>', URL)
    assert [(f.image_url[-9:], f.caption) for f in figures] == [
        ("/gate.png", "The gate"),
        ("/roof.png", "The roof"),
    ]


@pytest.mark.parametrize(
    "html",
    [
        "<figure>" + '<img src="/p.png"><figcaption>c</figcaption>' * 10_000 + "</figure>",
        '<table class="infobox"><tr><td>the cell' + '<img src="/p.png">' * 10_000 + "</table>",
        "<div>" + '<img src="/p.png"><p class="caption">c d</p>' * 10_000 + "</div>",
        "<div>" + '<p><img src="/p.png"></p><br><br>' * 8_000 + "</div>",
        "<div>"
        + "<b></b>" * 10_000
        + '<img src="/p.png">' * 10_000
        + "<b></b>" * 10_000
        + "</div>",
        "<h2>" + "you may like " * 100_000 + '</h2><p>x</p><img src="/p.png">',
        f'<div style="{"background url( " * 4000}">x</div><img src="/p.png">',
    ],
    ids=["figure", "infobox", "captions", "breaks", "voids", "heading", "style"],
)
@pytest.mark.timeout(30)
def test_repetitive_pages_are_read_in_one_pass(html: str) -> None:
    figures = extract(f"<body><p>x</p>{html}</body>", URL)
    assert {figure.image_url for figure in figures} == {"https://site.example.org/p.png"}
