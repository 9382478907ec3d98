"""The embedded corpus: index, pages, figures, planted faults, instruction rows, loader.

Pages are read here with the simplest means that will do, apart from the product's own extraction,
so that the two can disagree.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import pytest
import resvg_py
from bs4 import BeautifulSoup, Tag
from PIL import Image

from cambrian_data.engine.corpus import (
    INSTRUCTION_IMAGES,
    INSTRUCTIONS,
    CorpusMiss,
    load_corpus,
)

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "cambrian_data" / "engine" / "corpus"
INDEX = json.loads((FOLDER / "corpus.json").read_text(encoding="utf-8"))
FAULTS = {fault["image"].rsplit("/", 1)[1]: fault for fault in INDEX["faults"]}
MARKUP = {entry["url"]: entry["markup"] for entry in INDEX["pages"]}
CAPTIONS = (
    "figcaption",
    ".infobox-caption",
    "div.gallerytext",
    "div.thumbcaption",
    "p.wp-caption-text",
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture with its caption and the prose of its section."""

    page: str
    name: str
    address: str
    caption: str
    heading: str
    prose: str


def _holder(caption: Tag) -> Tag:
    """The element around a caption that also holds its picture."""
    node = caption
    while node.find("img") is None:
        node = node.parent
    return node


def _sections(soup: BeautifulSoup) -> list[tuple[str, list[Tag]]]:
    """Headings with the elements up to the next heading, in the body of the article."""
    body = soup.select_one(".mw-parser-output, .entry-content")
    sections: list[tuple[str, list[Tag]]] = [("", [])]
    for node in body.find_all(recursive=False):
        heading = node if node.name in ("h2", "h3") else node.select_one(".mw-heading > h2, h3")
        if heading is not None and "mw-heading" in " ".join(node.get("class", [])):
            sections.append((heading.get_text(), []))
        elif heading is node:
            headline = node.select_one(".mw-headline")
            sections.append(((headline or node).get_text(), []))
        else:
            sections[-1][1].append(node)
    return sections


def _figures(url: str) -> list[Figure]:
    figures = []
    for heading, nodes in _sections(_soup(url)):
        prose = " ".join(p.get_text(" ", strip=True) for p in nodes if p.name == "p")
        for node in nodes:
            if "navbox" in " ".join(node.get("class", [])):
                continue
            captions = node.select(", ".join(CAPTIONS))
            for caption in captions:
                image = _holder(caption).find("img")
                address = urljoin(url, image.get("data-src") or image["src"])
                name = re.sub(r"^.*/images/(?:thumb/([^/]+)/.*|([^/]+))$", r"\1\2", address)
                figures.append(
                    Figure(page=url, name=name, address=address, heading=heading, prose=prose,
                           caption=caption.get_text(" ", strip=True))
                )  # fmt: skip
    return figures


def _soup(url: str) -> BeautifulSoup:
    return BeautifulSoup(load_corpus().read_page(url), "lxml")


def _decode(name: str, data: bytes) -> Image.Image:
    if name.endswith(".svg"):
        data = bytes(resvg_py.svg_to_bytes(svg_string=data.decode()))
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    return [figure for page in load_corpus().pages for figure in _figures(page.url)]


@pytest.fixture(scope="module")
def good(figures: list[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.name not in FAULTS]


def test_index_is_complete_and_of_the_promised_size() -> None:
    corpus = load_corpus()
    assert (corpus.license, corpus.date) == ("CC0-1.0", "2026-01-15T00:00:00Z")
    assert corpus.license_url.startswith("https://creativecommons.org/publicdomain/zero/")
    assert corpus.author
    fields = Counter(page.field for page in corpus.pages)
    assert fields["Physics"] >= 12
    assert sum(fields.values()) - fields["Physics"] >= 5
    physics = [page for page in corpus.pages if page.field == "Physics"]
    assert len({topic for page in physics for topic in page.topics}) >= 25
    assert len({page.subfield for page in physics}) >= 4
    markup = Counter(MARKUP.values())
    assert markup["mediawiki-legacy"] >= 3
    assert markup["blog"] >= 2
    assert set(markup) == {"mediawiki", "mediawiki-legacy", "blog"}


def test_index_names_every_file_and_nothing_else() -> None:
    pages = {path.name for path in (FOLDER / "pages").iterdir()}
    assert pages == {page.path.name for page in load_corpus().pages}
    pictures = {path.name for path in (FOLDER / "images").iterdir()}
    assert pictures == set(INDEX["pictures"])
    for entry in INDEX["pictures"].values():
        assert entry["title"] and entry["description"] and "\n" not in entry["description"]


def test_pages_are_plain_utf8_with_title_and_markup_of_the_index() -> None:
    for page in load_corpus().pages:
        text = page.path.read_text(encoding="utf-8")
        soup = BeautifulSoup(text, "lxml")
        assert soup.find("h1").get_text(strip=True) == page.title
        assert soup.find("link", rel="canonical")["href"] == page.url
        assert bool(soup.select("div.mw-heading")) == (MARKUP[page.url] == "mediawiki")
        assert bool(soup.select("span.mw-headline")) == (MARKUP[page.url] == "mediawiki-legacy")
        assert bool(soup.select("article")) == (MARKUP[page.url] == "blog")
        anchors = {node["id"] for node in soup.select("[id]")}
        assert len(anchors) == len(soup.select("[id]")), "an id is used twice"
        for link in soup.select('a[href^="#cite"]'):
            assert link["href"][1:] in anchors


def test_pages_hold_the_markup_that_extraction_has_to_cope_with() -> None:
    everything = "".join(page.path.read_text(encoding="utf-8") for page in load_corpus().pages)
    for token in (
        'class="infobox"',
        'class="gallery ',
        "mwe-math-element",
        "wp-caption",
        "data-src=",
        'class="navbox"',
        "mw-editsection",
        "related-posts",
        'class="reference"',
        "mw-halign-left",
        'class="thumb tleft"',
        'src="../images/',
    ):
        assert token in everything, token


def test_every_good_figure_has_a_picture_that_decodes(good: list[Figure]) -> None:
    assert len(good) >= 60
    assert len({figure.name for figure in good}) == len(good)
    formats = Counter(figure.name.rsplit(".", 1)[1] for figure in good)
    assert min(formats[suffix] for suffix in ("svg", "png", "jpg")) >= 8
    assert min(formats["gif"], formats["webp"]) >= 5
    for figure in good:
        data = load_corpus().read_picture(figure.address)
        assert 400 <= max(_decode(figure.name, data).size) <= 900, figure.name
        assert len(data) < 62_000, figure.name


def test_captions_are_sentences_and_none_is_used_twice(figures: list[Figure]) -> None:
    captions = [figure.caption for figure in figures if figure.caption]
    assert len(set(captions)) == len(captions)
    for caption in captions:
        assert 15 <= len(caption.split()) <= 48, caption
        assert caption.endswith("."), caption


def test_sections_of_good_figures_have_prose(good: list[Figure]) -> None:
    for figure in good:
        assert len(figure.prose.split()) >= 60, (figure.page, figure.heading)
        assert figure.heading not in ("History", "See also", "References")


def test_planted_faults_are_there(figures: list[Figure]) -> None:
    by_name = {figure.name: figure for figure in figures}
    reasons = {}
    for name, fault in FAULTS.items():
        assert by_name[name].page == fault["page"]
        reasons[fault["reason"]] = by_name[name]
    assert set(reasons) == {"missing", "corrupt", "too_small", "no_caption", "short_text",
                            "skipped_section"}  # fmt: skip
    corpus = load_corpus()
    with pytest.raises(CorpusMiss):
        corpus.read_picture(reasons["missing"].address)
    with pytest.raises(OSError):
        _decode("x.png", corpus.read_picture(reasons["corrupt"].address))
    assert _decode("x.png", corpus.read_picture(reasons["too_small"].address)).size == (24, 24)
    assert not reasons["no_caption"].caption
    assert len(reasons["short_text"].prose.split()) < 30
    assert reasons["skipped_section"].heading == "History"
    for reason in ("no_caption", "short_text", "skipped_section"):
        _decode("x.png", corpus.read_picture(reasons[reason].address))


def test_loader_finds_pages_by_any_spelling_of_their_address() -> None:
    corpus = load_corpus()
    assert load_corpus() is corpus
    page = corpus.page("https://corpus.invalid/wiki/Kepler%27s_laws?action=view#History")
    assert page is not None
    assert page.title == "Kepler's laws"
    assert corpus.page("https://example.org/wiki/Refraction") is None
    assert corpus.page("https://[broken") is None
    with pytest.raises(CorpusMiss, match="not in the corpus"):
        corpus.read_page("https://corpus.invalid/wiki/Nothing")


def test_loader_reads_pictures_and_their_thumbnails() -> None:
    corpus = load_corpus()
    host = "https://corpus.invalid"
    original = corpus.read_picture(f"{host}/images/heat_engine.svg")
    assert original.startswith(b"<svg")
    thumbnail = "//corpus.invalid/images/thumb/heat_engine.svg/330px-heat_engine.svg.png"
    assert corpus.read_picture(thumbnail) == original


@pytest.mark.parametrize(
    "path",
    ["images/../corpus.json", "images/%2e%2e/corpus.json", "images/..%2Fcorpus.json", "images/",
     "images/thumb/../../corpus.json/3px-corpus.json", "images/.hidden", "corpus.json",
     "images/thumb/heat_engine.svg/330px-phase_co2.gif", "images/a\\..\\corpus.json"],
)  # fmt: skip
def test_loader_never_leaves_the_picture_folder(path: str) -> None:
    with pytest.raises(CorpusMiss):
        load_corpus().read_picture(f"https://corpus.invalid/{path}")


def _rows() -> list[dict | None]:
    rows: list[dict | None] = []
    for line in INSTRUCTIONS.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            rows.append(None)
    return rows


def test_instruction_faults_are_there_and_all_other_rows_are_sound() -> None:
    rows = _rows()
    faults = {fault["line"]: fault["reason"] for fault in INDEX["instruction_faults"]}
    assert Counter(faults.values()) == {"exact_duplicate": 2, "image_missing": 1, "no_answer": 1,
                                        "bad_json": 1}  # fmt: skip
    seen: dict[str, int] = {}
    for number, row in enumerate(rows):
        reason = faults.get(number)
        assert (row is None) == (reason == "bad_json")
        if row is None:
            continue
        speakers = [turn["from"] for turn in row["conversations"]]
        assert speakers == (["human"] if reason == "no_answer" else ["human", "gpt"])
        has_token = "<image>" in row["conversations"][0]["value"]
        assert has_token == ("image" in row)
        if has_token:
            missing = not (INSTRUCTION_IMAGES / row["image"]).is_file()
            assert missing == (reason == "image_missing")
        content = json.dumps([row.get("image"), row["conversations"]])
        assert (content in seen) == (reason == "exact_duplicate")
        seen.setdefault(content, number)
    sources = Counter(row["source"] for n, row in enumerate(rows) if row and n not in faults)
    assert sources == {"shapes_counting.json": 36, "plot_reading.json": 18,
                       "science_chat.json": 36}  # fmt: skip
    ids = [row["id"] for row in rows if row]
    assert len(set(ids)) == len(ids)
    assert {type(value) for value in ids} == {int, str}


def test_chat_answers_are_full_sentences() -> None:
    for row in _rows():
        if row and row["source"] == "science_chat.json" and len(row["conversations"]) == 2:
            assert 15 <= len(row["conversations"][1]["value"].split()) <= 60


def _import_drawing() -> tuple:
    """The drawing tools lie beside the packages and are imported from the root."""
    sys.path.insert(0, str(ROOT))
    try:
        from tools.draw_corpus import compare, gallery, instructions
    finally:
        sys.path.remove(str(ROOT))
    return compare, gallery, instructions


def test_counting_answers_agree_with_the_drawn_scenes() -> None:
    _, _, instructions = _import_drawing()
    answers = Counter()
    for row in _rows():
        if not row or row["source"] != "shapes_counting.json" or "037" in row["image"]:
            continue
        question, answer = (turn["value"] for turn in row["conversations"])
        scene = instructions.SHAPE_SCENES[Path(row["image"]).stem]
        if not answer.isdigit():
            continue
        answers[answer] += 1
        words = set(re.findall(r"[a-z]+", question.lower()))
        kinds = {kind for _, _, kind in scene if kind in words or f"{kind}s" in words}
        colors = {color for _, color, _ in scene if color in words}
        matching = [n for n, color, kind in scene
                    if kind in kinds and (not colors or color in colors)]  # fmt: skip
        assert int(answer) == sum(matching), (row["image"], question)
    assert max(answers.values()) - min(answers.values()) <= 2


def test_plot_answers_agree_with_the_drawn_charts() -> None:
    _, _, instructions = _import_drawing()
    for row in _rows():
        if not row or row["source"] != "plot_reading.json":
            continue
        question, answer = (turn["value"] for turn in row["conversations"])
        chart = instructions.BAR_CHARTS[Path(row["image"]).stem]
        number = answer.split()[0]
        if number.replace(".", "").isdigit() and "more" not in question:
            named = [
                value for name, value in chart.values.items() if re.search(rf"\b{name}\b", question)
            ]
            assert float(number) == named[0]
        elif "more" not in question:
            assert answer.lower() in {name.lower() for name in chart.values}


@pytest.mark.parametrize(
    "name",
    ["pendulum_forces.svg", "pendulum_period_length.png", "grating_screen.jpg", "phase_co2.gif",
     "gas_particles.webp", "charles_law.svg", "prism_icon.png"],
)  # fmt: skip
def test_drawing_again_gives_the_committed_picture(name: str) -> None:
    compare, gallery, _ = _import_drawing()
    drawn = gallery.CORPUS_PICTURES[name]()
    assert drawn == gallery.CORPUS_PICTURES[name](), "two drawings differ"
    assert compare.find_difference(FOLDER / "images" / name, drawn) is None


def test_comparison_notices_a_changed_and_a_missing_picture(tmp_path: Path) -> None:
    compare, gallery, _ = _import_drawing()
    other = gallery.CORPUS_PICTURES["charles_law.svg"]()
    (tmp_path / "heating_curve.svg").write_bytes(other)
    drawn = gallery.CORPUS_PICTURES["heating_curve.svg"]()
    assert compare.find_difference(tmp_path / "heating_curve.svg", drawn) is not None
    assert compare.find_difference(tmp_path / "absent.svg", drawn) == "missing"
