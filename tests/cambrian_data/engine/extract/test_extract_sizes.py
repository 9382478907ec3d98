"""Which of its addresses a picture gets: the original behind a link, or else the widest offered."""

from __future__ import annotations

import pytest

from cambrian_data.engine.extract import extract
from cambrian_data.engine.extract.furniture import _is_furniture_label

SITE = "https://site.example.org"
CDN = "https://cdn.example.org/fetch"
FILE = "https%3A%2F%2Fs3.example.org%2Fmoon.png"


def address_of(html: str) -> str:
    page = f"<body><p>x</p><figure>{html}<figcaption>The gate</figcaption></figure></body>"
    (figure,) = extract(page, f"{SITE}/tower")
    return figure.image_url.removeprefix(SITE)


@pytest.mark.parametrize(
    ("link", "src"),
    [
        ("/uploads/2019/02/gate.jpg", "/uploads/2019/02/gate-300x200.jpg"),
        ("/uploads/gate-scaled.jpg", "/uploads/gate-1024x683.jpg"),
        ("/img/b/R29/s1600/gate.jpg", "/img/b/R29/s320/gate.jpg"),
        ("/images/size/w2000/gate.jpg", "/images/w600/gate.jpg"),
        ("/full/gate.jpg", "/thumbs/gate.jpg"),
        (f"{CDN}/f_auto/{FILE}", f"{CDN}/w_848,c_limit/{FILE}"),
    ],
)
def test_a_link_to_the_same_picture_wins(link: str, src: str) -> None:
    wanted = link.replace("/size/w2000", "")
    assert address_of(f'<a href="{link}"><img src="{src}" width="300"></a>') == wanted


def test_a_link_wins_over_lazy_addresses() -> None:
    image = '<img src="data:image/gif;base64,R0" data-lazy-src="/gate-300x200.jpg" width="300">'
    assert address_of(f'<a href="/gate.jpg">{image}<noscript>{image}</noscript></a>') == "/gate.jpg"


@pytest.mark.parametrize(
    ("link", "src"),
    [
        ("/wiki/File:gate.jpg", "/images/gate-300x200.jpg"),
        ("/o/r/blob/main/gate.jpg", "/o/r/raw/main/gate.jpg"),
        ("/_detail/gate.jpg?id=start", "/_media/gate.jpg"),
        ("/gate.jpg/", "/gate-300x200.jpg"),
        ("/gate.html", "/gate-300x200.jpg"),
        ("/view.php?file=gate.jpg", "/gate-300x200.jpg"),
        ("/roof.jpg", "/gate-300x200.jpg"),
        ("/album/2/gate.jpg", "/album/1/gate-300x200.jpg"),
        ("/gate-150x150.jpg", "/gate-1024x683.jpg"),
        ("/gate.jpg", "/_images/gate.jpg"),
        ("/_images/gate-full.jpg", "/media/gate-full.jpg"),
        ("https://elsewhere.net/gate.jpg", "/gate-300x200.jpg"),
        ("javascript:show('gate.jpg')", "/gate-300x200.jpg"),
    ],
)
def test_a_link_to_a_page_or_to_another_picture_does_not(link: str, src: str) -> None:
    assert address_of(f'<a href="{link}"><img src="{src}"></a>') == src


def test_a_size_page_of_a_blog_is_turned_into_its_picture() -> None:
    html = '<a href="/b/s1600-h/gate.jpg"><img src="/b/s320/gate.jpg"></a>'
    assert address_of(html) == "/b/s1600/gate.jpg"


def test_size_folders_are_cut() -> None:
    html = (
        '<img src="/content/images/size/w1200/2022/gate.jpg" '
        'srcset="/content/images/size/w300/2022/gate.jpg 300w, '
        '/content/images/size/w2000/format/webp/2022/gate.jpg 2000w">'
    )
    assert address_of(html) == "/content/images/2022/gate.jpg"


@pytest.mark.parametrize(
    ("html", "wanted"),
    [
        (
            f'<picture><source srcset="{CDN}/w_424,f_webp/{FILE} 424w, {CDN}/w_1456,f_webp/{FILE} '
            f'1456w"><img src="{CDN}/w_1456/{FILE}" srcset="{CDN}/w_424/{FILE} 424w"></picture>',
            f"{CDN}/w_1456,f_webp/{FILE}",
        ),
        (
            f'<picture><source srcset="{CDN}/w_424,f_webp/{FILE} 424w"><img '
            f'src="{CDN}/w_1456/{FILE}"></picture>',
            f"{CDN}/w_1456/{FILE}",
        ),
        (
            '<picture><source srcset="/a.webp 640w"><source srcset="/b.webp 1200w">'
            '<img src="/c.jpg?w=800"></picture>',
            "/b.webp",
        ),
        ('<img src="/a.jpg?w=1600" srcset="/a.jpg?w=400 400w">', "/a.jpg?w=1600"),
        ('<img src="/a.jpg" width="1600" srcset="/a-300x200.jpg 300w">', "/a.jpg"),
        ('<img src="/n/976/a.jpg" srcset="/n/240/a.jpg 240w, /n/480/a.jpg 480w">', "/n/976/a.jpg"),
        ('<img src="/a.jpg" width="300" srcset="/a-2x.jpg 2x">', "/a-2x.jpg"),
        ('<img src="/a.jpg" srcset="/a-800.jpg 800w">', "/a-800.jpg"),
        ('<img data-src="/a.jpg?w=800" data-srcset="/a.jpg?w=1200 1200w">', "/a.jpg?w=1200"),
        ('<img src="/grey.jpg" width="900" data-src="/a.jpg?w=800">', "/a.jpg?w=800"),
        ('<img src="/tiny.jpg" width="900" srcset="/a.jpg 800w">', "/a.jpg"),
    ],
)
def test_the_widest_address_wins(html: str, wanted: str) -> None:
    assert address_of(html) == wanted.removeprefix(SITE)


@pytest.mark.parametrize("label", ["entry-content", "next", "popular-science", "post-123", "more"])
def test_names_of_articles_are_no_teasers(label: str) -> None:
    assert not _is_furniture_label(label, "div")
