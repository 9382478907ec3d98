"""Figures, captions, sections and prose of hand-made pages, ordinary and hostile ones."""

from __future__ import annotations

import pytest

from cambrian_data.engine.extract import (
    Figure,
    PageError,
    extract,
    html_of_api_answer,
    page_language,
    page_title,
)

URL = "https://wiki.example.org/wiki/Pendulum"
THUMB = "//up.example.org/images/thumb/a/ab/Swing.svg/330px-Swing.svg.png"
ORIGINAL = "https://up.example.org/images/a/ab/Swing.svg"

MODERN = f"""<html lang="en-GB"><head><title>Pendulum - Wiki</title></head><body>
<h1 id="firstHeading">Pendulum</h1><div class="mw-parser-output">
<p>A pendulum is a weight<sup class="reference"><a href="#n1">[1]</a></sup> on a string.</p>
<div class="mw-heading mw-heading2"><h2 id="M">Motion</h2><span class="mw-editsection">edit</span>
</div><p>It swings.</p>
<div class="mw-heading mw-heading3"><h3>Period</h3></div>
<figure typeof="mw:File/Thumb"><a href="/wiki/File:Swing.svg"><img src="{THUMB}" width="330"
 height="200" alt="a swing"></a><figcaption>The <i>swing</i> of a bob
<span class="mwe-math-element"><math><mi>T</mi></math></span><style>.a{{}}</style>.</figcaption>
</figure>
<p>The period depends on the length.</p>
<div class="navbox"><figure><img src="/nav.png"><figcaption>Other pendulums</figcaption>
</figure></div>
</div></body></html>"""

LEGACY = f"""<div class="mw-parser-output"><p>Lead text.</p>
<h2><span class="mw-headline" id="M">Motion</span><span class="mw-editsection">[edit]</span></h2>
<h3><span class="mw-headline">Period</span></h3>
<div class="thumb tright"><div class="thumbinner"><a class="image"><img src="{THUMB}"></a>
<div class="thumbcaption"><div class="magnify"><a>Enlarge</a></div>The swing of a bob.</div></div>
</div><p>The period depends on the length.</p></div>"""


def one(html: str) -> Figure:
    (figure,) = extract(html, URL)
    return figure


@pytest.mark.parametrize("html", [MODERN, LEGACY], ids=["modern", "legacy"])
def test_mediawiki_markups_give_the_same_figure(html: str) -> None:
    figure = one(html)
    assert figure.image_url == ORIGINAL
    assert figure.caption == "The swing of a bob."
    assert figure.section == ["Motion", "Period"]
    assert figure.text == "The period depends on the length."


def test_figure_in_the_lead_has_no_section_and_clean_prose() -> None:
    html = MODERN.replace("<p>A pendulum", '<figure><img src="/x.png"><figcaption>Bob</figcaption>'
                          "</figure><p>A pendulum")  # fmt: skip
    lead = extract(html, URL)[0]
    assert (lead.section, lead.text) == ([], "A pendulum is a weight on a string.")
    assert lead.image_url == "https://wiki.example.org/x.png"


def test_corpus_thumbnails_lead_to_the_original() -> None:
    html = '<figure><img src="/images/thumb/X.png/330px-X.png"><figcaption>X</figcaption></figure>'
    assert one(html).image_url == "https://wiki.example.org/images/X.png"


def test_lazy_pictures_count_once_with_the_true_address() -> None:
    html = """<article><p>text</p><figure><img src="data:image/gif;base64,R0lGODlhAQABAA==">
    <noscript><img src="/full/1200/a.jpg"></noscript>
    <span class="lazy" data-src="/full/1200/a.jpg"></span><figcaption>A cat</figcaption></figure>
    <figure><img src="/blank.gif" data-src="/b.jpg"><figcaption>A dog</figcaption></figure>
    <figure><picture><source srcset="/c-2.webp 2x, /c-1.webp 1x"><img src="data:,"></picture>
    <figcaption>A fox</figcaption></figure></article>"""
    urls = [
        figure.image_url.removeprefix("https://wiki.example.org") for figure in extract(html, URL)
    ]
    assert urls == ["/full/1200/a.jpg", "/b.jpg", "/c-2.webp"]


def test_gallery_and_group_captions() -> None:
    html = """<div class="mw-parser-output"><p>t</p><ul class="gallery">
    <li class="gallerybox"><div class="thumb"><img src="/1.jpg"></div>
    <div class="gallerytext"><p>First one</p></div></li>
    <li class="gallerybox"><div class="thumb"><img src="/2.jpg"></div>
    <div class="gallerytext">Second one</div></li></ul>
    <div class="thumb tmulti tright"><div class="thumbinner"><div class="trow">
    <div class="tsingle"><div class="thumbimage"><img src="/3.jpg"></div></div>
    <div class="tsingle"><div class="thumbimage"><img src="/4.jpg"></div>
    <div class="thumbcaption">Own caption</div></div></div>
    <div class="trow"><div class="thumbcaption">Both of them</div></div></div></div></div>"""
    captions = [figure.caption for figure in extract(html, URL)]
    assert captions == ["First one", "Second one", "Both of them", "Own caption"]


def test_general_captions() -> None:
    html = """<body><p>Some prose.</p><div class="wp-caption"><a><img src="/1.jpg"></a>
    <p class="wp-caption-text">From a blog</p></div>
    <div class="image"><img src="/2.jpg"><span class="image-caption">From a paper</span></div>
    <div class="figure"><img src="/3.png"><p class="caption">From manuals
    <a class="headerlink">P</a></p></div></body>"""
    captions = [figure.caption for figure in extract(html, URL)]
    assert captions == ["From a blog", "From a paper", "From manuals"]


@pytest.mark.parametrize(
    "html",
    [
        '<nav><figure><img src="/1.png"><figcaption>c</figcaption></figure></nav>',
        '<footer><img src="/1.png"></footer>',
        '<img src="/pixel.gif" width="1" height="1">',
        '<img src="/icon.png" width="16" height="16">',
        '<img src="data:image/png;base64,AAAA">',
        '<img class="mwe-math-fallback-image-inline" src="/math/render/svg/0a">',
        '<a href="/other"><figure><img src="/t.jpg"><figcaption>Read on</figcaption></figure></a>',
        '<p class="related-posts"><img src="/t.jpg" width="300"></p>',
        '<figure><video src="/v.mp4"></video><figcaption>A film</figcaption></figure>',
    ],
)
def test_furniture_is_no_figure(html: str) -> None:
    assert extract(f"<body><p>{'Prose of the article. ' * 20}</p>{html}</body>", URL) == []


def test_pictures_without_caption_are_given_for_the_filter_to_count() -> None:
    figure = one('<body><p>x</p><img src="/photo.jpg" alt="a photo" width="400"></body>')
    assert (figure.caption, figure.alt) == ("", "a photo")


def test_same_picture_under_two_captions_is_two_figures() -> None:
    html = "".join(
        f'<h2>{name}</h2><figure><img src="/a.png"><figcaption>{name} seen</figcaption></figure>'
        for name in ("One", "Two")
    )
    figures = extract(html, URL)
    assert [figure.section for figure in figures] == [["One"], ["Two"]]
    assert [figure.position for figure in figures] == [0, 1]


def test_title_and_language() -> None:
    assert page_title(MODERN) == "Pendulum"
    assert page_title("<title>Only a\n title</title>") == "Only a title"
    assert page_language(MODERN) == "en"
    assert page_language("<p>no</p>") == ""


@pytest.mark.parametrize(
    "answer",
    [
        {"parse": {"title": "T", "text": "<p>x</p>"}},
        {"parse": {"title": "T", "text": {"*": "<p>x</p>"}}},
        {"query": {"pages": {"1": {"title": "T", "revisions": [{"*": "<p>x</p>"}]}}}},
        {
            "query": {
                "pages": [
                    {"title": "T", "revisions": [{"slots": {"main": {"content": "<p>x</p>"}}}]}
                ]
            }
        },
    ],
)
def test_html_of_api_answers(answer: object) -> None:
    assert html_of_api_answer(answer) == ("T", "<p>x</p>")


@pytest.mark.parametrize("answer", [None, [], {}, {"error": {}}, {"query": {"pages": {"-1": {}}}}])
def test_api_answers_without_a_page(answer: object) -> None:
    assert html_of_api_answer(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"query": {"pages": 5}},
        {"query": {"pages": [{"revisions": 7}]}},
        {"query": {"pages": [{"revisions": [{"slots": "main"}]}]}},
        {"parse": {"text": {"*": {"*": {"*": {"*": {"*": "deep"}}}}}}},
    ],
)
def test_api_answers_of_odd_shapes_hold_no_page(answer: object) -> None:
    assert html_of_api_answer(answer) is None


# ----------------------------------------------------------------------- hostile pages

FIGURE = '<figure><img src="/p.png"><figcaption>A caption of a thing</figcaption></figure>'


def shown(attributes: str) -> list[str]:
    """Return the addresses that a figure with one img gives."""
    html = f"<body><p>x</p><figure><img {attributes}><figcaption>C</figcaption></figure></body>"
    return [figure.image_url for figure in extract(html, URL)]


@pytest.mark.parametrize(
    "attributes",
    [
        'srcset="/a.png 1.2.3x"',
        'srcset="/a.png ..."',
        f'srcset="/a.png {"9" * 5000}w"',
        f'src="/a.png" width="{"9" * 5000}"',
        f'src="/a.png" style="width: {"9" * 5000}px"',
        'src="/a.png" width="\u00b2"',
    ],
)
def test_sizes_that_are_no_numbers_are_ignored(attributes: str) -> None:
    assert shown(attributes) == ["https://wiki.example.org/a.png"]


def test_a_width_of_many_digits_in_an_address_is_ignored() -> None:
    address = f"https://x.org/a.png?w={'9' * 5000}"
    assert shown(f'src="{address}"') == [address]


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:image/png;base64,AA",
        "file:///etc/passwd",
        "ftp://a/b.png",
        "http:///a.png",
        "http://[::1/a.png",
        "http://:80/a.png",
        "https://user:password@x.org/a.png",
        "https://x.org/" + "a" * 10_000,
    ],
)
def test_addresses_that_are_not_of_the_web_are_no_pictures(address: str) -> None:
    assert shown(f'src="{address}"') == []


@pytest.mark.parametrize("base", ["http://[", "javascript:alert(1)", "file:///etc/"])
def test_a_bad_base_is_ignored(base: str) -> None:
    html = f'<head><base href="{base}"></head><body><p>x</p>{FIGURE}</body>'
    assert one(html).image_url == "https://wiki.example.org/p.png"
    assert extract(html, "http://[") == []


def test_the_password_of_a_page_is_not_in_the_addresses_of_its_pictures() -> None:
    (figure,) = extract(FIGURE, "https://user:password@x.org/page")
    assert figure.image_url == "https://x.org/p.png"


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 100_000 + FIGURE + "</div>" * 100_000,
        "<span>" * 100_000 + FIGURE,
        "<div class=a><span>x</span>" * 30_000 + FIGURE,
        "<article><p>x</p>" * 3000 + FIGURE,
        "<i>" * 500 + "<b></b>" * 100_000,
        "<br>" * 2_000_000,
        "<br>" * 310_000,
        "<!-->" * 2_000_000,
        "lorem ipsum " * 2_000_000,
    ],
    ids=["divs", "spans", "mixed", "articles", "steps", "tags", "elements", "comments", "bytes"],
)
def test_pages_beyond_the_bounds_are_refused(html: str) -> None:
    with pytest.raises(PageError):
        extract(html, URL)


def test_pages_beyond_the_bounds_have_no_title() -> None:
    html = '<html lang="en"><h1>Title</h1>' + "<span>" * 100_000
    assert page_title(html) == page_language(html) == ""


@pytest.mark.parametrize(
    "html",
    [
        "<div class=a><span>x</span></div>" * 30_000 + FIGURE,
        "<article><p>x</p></article>" * 20_000 + FIGURE,
        "<p><span>" * 250 + "<b>x</b>" * 10_000 + FIGURE,
        "<dl><dd>" * 250 + "<b>x</b>" * 10_000 + FIGURE,
        "<p>" + "<sup>" * 400 + "<i>1</i>" * 10_000 + "</sup>" * 400 + FIGURE,
        "<figure>" * 500 + '<img src="/p.png">' * 10_000,
        '<div class="tsingle">' * 500 + '<img src="/p.png">' * 10_000,
        '<p>a</p><img src="/p.png">' * 20_000,
        "<h1>Title</h1>" * 20_000 + FIGURE,
        "<p>" + "(;;," * 500_000 + FIGURE,
        "<p>" + "&nbsp;." * 200_000 + FIGURE,
        "<p>x" + " " * 5_000_000 + FIGURE,
        "<meta " * 1_000_000 + "><p>x</p>" + FIGURE,
        "<b>" * 400 + "</a>" * 500_000 + FIGURE,
        f'<div class="{"next-" * 200_000}">x</div>' + FIGURE,
        f'<p style="{"width " * 10_000}">x</p>' + FIGURE,
    ],
)
def test_repetitive_pages_are_read_in_one_pass(html: str) -> None:
    addresses = {figure.image_url for figure in extract(html.encode(), URL)}
    assert addresses == {"https://wiki.example.org/p.png"}


@pytest.mark.parametrize("middle", ["-1x" * 2600, "/thumb/a.png" * 600, "-blank" * 1300 + "~"])
def test_addresses_are_read_in_one_pass(middle: str) -> None:
    html = "".join(f'<figure><img src="/a{n}{middle}.png"></figure>' for n in range(200))
    assert len(extract(html, URL)) == 200


def test_sources_of_one_picture_are_read_once() -> None:
    sources = '<source srcset="/blank.gif 1x"></source>' * 5000
    images = '<img src="/blank.gif">' * 20_000
    assert extract(f"<picture>{sources}{images}</picture>", URL) == []


def test_figures_that_repeat_too_much_text_are_refused() -> None:
    pictures = "".join(f'<img src="/{n}.png">' for n in range(3000))
    caption = f"<figcaption>{'word ' * 10_000}</figcaption>"
    with pytest.raises(PageError, match="repeat"):
        extract(f"<body><p>x</p><figure>{pictures}{caption}</figure></body>", URL)


def test_the_prose_of_a_long_section_is_not_repeated() -> None:
    pictures = "".join(f'<img src="/{n}.png">' for n in range(3000))
    figures = extract(f"<body><p>{'word ' * 10_000}</p><div>{pictures}</div></body>", URL)
    assert len(figures) == 3000
    assert sum(len(figure.text) for figure in figures) < 3_000_000


@pytest.mark.parametrize(
    "html",
    [
        b"",
        b"  \n",
        b"<!-- x -->",
        b"\0" * 1000,
        b"<p>" + b"\xff" * 100_000,
        b"<meta charset=punycode>" + b"a-b" * 100_000,
        "<p>\ud800</p>",
    ],
)
def test_odd_pages_have_no_figures(html: str | bytes) -> None:
    assert extract(html, URL) == []


def test_bytes_are_decoded_as_declared_or_guessed() -> None:
    text = "<p>x</p><figure><img src='/p.png'><figcaption>Gr\u00f6\u00dfe</figcaption></figure>"
    for data in (
        text.encode(),
        text.encode("latin-1"),
        text.encode("utf-16"),
        b"<meta charset=utf-16>" + text.encode(),
        b"<meta charset=iso-8859-1>" + text.encode("latin-1"),
    ):
        assert [figure.caption for figure in extract(data, URL)] == ["Gr\u00f6\u00dfe"]


@pytest.mark.parametrize(
    "identifier", ["Related_patterns", "Navigation", "Teaser_trailers", "Menu"]
)
@pytest.mark.parametrize("modern", [True, False])
def test_a_heading_is_no_furniture_whatever_its_words(identifier, modern):
    words = identifier.replace("_", " ")
    heading = (
        f'<div class="mw-heading mw-heading2"><h2 id="{identifier}">{words}</h2></div>'
        if modern
        else f'<h2><span class="mw-headline" id="{identifier}">{words}</span></h2>'
    )
    html = (
        '<div class="mw-parser-output"><h2 id="Hull">Hull</h2><p>The hull is long.</p>'
        f"{heading}<p>Some prose of its own stands here.</p>"
        '<figure typeof="mw:File/Thumb"><img src="/a.png" width="300" height="200">'
        "<figcaption>A picture of it.</figcaption></figure></div>"
    )
    (figure,) = extract(html, "https://example.org/x")
    assert figure.section == [words] and figure.text == "Some prose of its own stands here."
