"""Which figures a recipe keeps, and the reasons for the others."""

from __future__ import annotations

import pytest

from cambrian_data.engine.extract import ExtractConfig, Figure, filter_figures
from cambrian_data.records import DROP_REASONS


def figure_with(**changes: object) -> Figure:
    values: dict = {"image_url": "https://x.org/a.png", "caption": "A caption of five words"}
    values |= {"alt": "", "section": ["Motion"], "text": "word " * 60, "position": 0}
    values["num_words"] = 60
    return Figure(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"caption": ""}, "no_caption"),
        ({"caption": "Two words"}, "short_caption"),
        ({"num_words": 50}, "short_text"),
        ({"section": ["see ALSO", "Motion"]}, "skipped_section"),
        ({"section": ["Einzelnachweise"]}, "skipped_section"),
    ],
)
def test_filter_reasons(changes: dict, reason: str) -> None:
    kept, rejected = filter_figures([figure_with(**changes)], ExtractConfig())
    assert kept == []
    assert [item.reason for item in rejected] == [reason]
    assert reason in DROP_REASONS["extract"]


def test_filter_keeps_the_first_of_duplicates_and_51_words() -> None:
    figures = [figure_with(num_words=51), figure_with(position=1)]
    kept, rejected = filter_figures(figures, ExtractConfig())
    assert kept == figures[:1]
    assert [item.reason for item in rejected] == ["duplicate"]


def test_words_of_scripts_without_blanks_count() -> None:
    figure = figure_with(caption="\u53e4\u5854\u7684\u5927\u9580\u53e3\u65c1\u908a")
    assert filter_figures([figure], ExtractConfig())[0] == [figure]
    assert filter_figures([figure], ExtractConfig(min_caption_words=5))[0] == []


def test_refused_pages_have_a_drop_reason() -> None:
    assert "unreadable" in DROP_REASONS["extract"]
