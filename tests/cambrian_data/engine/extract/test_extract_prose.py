"""Which part of a section goes with a figure, and how words are counted."""

from __future__ import annotations

import pytest

from cambrian_data.engine.extract import ExtractConfig, extract, filter_figures
from cambrian_data.engine.extract.prose import MAX_WORDS, Prose, num_words, shorten

URL = "https://site.example.org/tower"


def paragraph(name: str, words: int = 50) -> str:
    return f"{name} starts here." + " word" * (words - 4) + " end."


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("two words", 2),
        ("sch\u00f6ne T\u00fcrme", 2),
        ("\u4e2d\u570b\u6587\u5316", 2),
        ("\u4e2d\u570b 1949 \u5e74", 3),
        ("\u0e2b\u0e2d\u0e04\u0e2d\u0e22", 3),
        ("\ud55c\uad6d\uc758 \ud0d1", 2),
    ],
)
def test_words_are_counted_in_all_scripts(text: str, count: int) -> None:
    assert num_words(text) == count


def test_a_short_section_is_given_whole() -> None:
    texts = [paragraph("A"), paragraph("B")]
    assert Prose(texts).beside(0) == "\n\n".join(texts)


def test_of_a_long_section_the_opening_and_what_is_near() -> None:
    texts = [paragraph(name) for name in "ABCDEFGH"]
    near = Prose(texts).beside(5)
    assert [part[0] for part in near.split("\n\n")] == ["A", "E", "F"]
    assert num_words(near) <= MAX_WORDS
    assert Prose(texts).num_words == 8 * 50
    for place in range(12):
        text = Prose(texts).beside(place)
        assert text.startswith("A starts") and MAX_WORDS - 50 <= num_words(text) <= MAX_WORDS
        assert texts[min(place, 7)][:8] in text


def test_a_long_opening_leaves_room_for_what_is_near() -> None:
    near = Prose([paragraph("A", 500), paragraph("B", 500), paragraph("C", 500)]).beside(2)
    first, second = near.split("\n\n")
    assert (first[0], second[0]) == ("A", "C")
    assert 60 <= num_words(first) <= 70 and num_words(near) == MAX_WORDS


def test_a_date_above_the_first_paragraph_is_not_all_of_the_opening() -> None:
    near = Prose(["12 May 2020", *[paragraph(name) for name in "ABCDEF"]]).beside(6)
    assert [part[0] for part in near.split("\n\n")] == ["1", "A", "E", "F"]


def test_texts_are_cut_at_the_end_of_a_sentence() -> None:
    text = "One two three. Four five six. Seven eight nine."
    assert shorten(text, 7) == "One two three. Four five six."
    assert shorten(text, 2) == "One two"
    assert shorten(text, 9) == text
    assert (
        shorten("\u4e00\u4e8c\u4e09\u3002\u56db\u4e94\u516d\u3002", 2) == "\u4e00\u4e8c\u4e09\u3002"
    )
    assert len(shorten("x" * 1_000_000, 10)) <= 200


def test_a_recipe_counts_the_words_of_the_whole_section() -> None:
    html = (
        "<body><h2>Walls</h2><figure><img src='/a.jpg'><figcaption>The gate of the tower"
        f"</figcaption></figure>{''.join(f'<p>{paragraph(n)}</p>' for n in 'ABCDEFGH')}</body>"
    )
    (figure,) = extract(html, URL)
    assert figure.num_words == 400 and num_words(figure.text) <= MAX_WORDS
    for least, reasons in ((399, []), (400, ["short_text"])):
        _, rejected = filter_figures([figure], ExtractConfig(min_words=least))
        assert [item.reason for item in rejected] == reasons


@pytest.mark.parametrize(
    "heading",
    [
        *("History", "Histoire", "Przypisy", "Zie ook", "Voci correlate"),
        *("\u53c2\u8003\u6587\u732e", "\u811a\u6ce8", "\uac01\uc8fc"),
        *("\u0645\u0631\u0627\u062c\u0639", "\u05e8\u05d0\u05d5 \u05d2\u05dd"),
        "\u041f\u0440\u0438\u043c\u0435\u0447\u0430\u043d\u0438\u044f",
    ],
)
def test_appendices_are_known_in_many_languages(heading: str) -> None:
    assert heading in ExtractConfig().skip_sections
    assert "Gallery" not in ExtractConfig().skip_sections
