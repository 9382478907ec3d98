"""Figures and questions to rows that fit the schema of samples."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cambrian_data.engine.vqa import VqaConfig, questions_of, samples_of, source_of
from cambrian_data.llm.extractive import EXTRACTIVE_VERSION, QA
from cambrian_data.llm.kinds import KINDS
from cambrian_data.records import CATEGORIES, sample_id, table_of

FIGURE = {
    "id": "fig1",
    "page_id": "page1",
    "image_url": "https://x.org/a.png",
    "caption": "Diagram of two cells and the wall (brown) between them.",
    "section": ["Plants", "Cells"],
    "text": "Cells divide because they grow.",
    "position": 0,
}
PICTURE = {"sha256": "ab" * 32, "path": "images/ab/x.png", "width": 100, "height": 80, "phash": "0"}
QAS = [
    QA("count", "count/shown/a", "How many cells are shown?", "two"),
    QA("identify", "identify/medium/b", "What does the diagram show?", "Two cells"),
]


def test_rows_fit_the_schema() -> None:
    rows = samples_of(
        FIGURE, PICTURE, QAS, {"field": "Life Science", "license": "CC0"}, VqaConfig()
    )
    table = table_of("samples", rows)
    assert table["category"].to_pylist() == ["counting", "general"]
    assert set(table["source"].to_pylist()) == {"data_engine:life science"}
    first = table.to_pylist()[0]
    assert first["conversations"] == [
        {"from": "human", "value": "<image>\nHow many cells are shown?"},
        {"from": "gpt", "value": "two"},
    ]
    assert first["images"] == [{key: PICTURE[key] for key in ("sha256", "path", "width", "height")}]
    assert first["id"] == sample_id(first["conversations"], first["images"])


def test_provenance_says_where_all_came_from() -> None:
    (row, _) = samples_of(FIGURE, PICTURE, QAS, {"page_id": "wrong", "page_url": "u"}, VqaConfig())
    given = row["provenance"]
    assert given["page_id"] == "page1"
    assert given["page_url"] == "u"
    assert given["section"] == ["Plants", "Cells"]
    assert given["generator"] == "extractive"
    assert given["prompt_version"] == EXTRACTIVE_VERSION
    assert given.get("model") is None


def test_unknown_provenance_is_an_error() -> None:
    with pytest.raises(ValueError, match="licence"):
        samples_of(FIGURE, PICTURE, QAS, {"licence": "CC0"}, VqaConfig())


def test_categories() -> None:
    assert set(VqaConfig().categories) == set(KINDS)
    assert set(VqaConfig().categories.values()) <= set(CATEGORIES)
    rows = samples_of(FIGURE, PICTURE, QAS, {}, VqaConfig(categories={"count": "math"}))
    assert [row["category"] for row in rows] == ["math", "general"]
    with pytest.raises(ValidationError, match="maths"):
        VqaConfig(categories={"count": "maths"})


def test_questions_of_a_run_are_balanced_and_samples_differ() -> None:
    colours = ("red", "blue", "green", "brown")
    captions = [
        f"Plan of house {n} with {2 + n} rooms and a door ({colours[n % 4]})" for n in range(40)
    ]
    figures = [(FIGURE | {"id": text, "caption": text}, "T") for text in captions]
    qas = questions_of(figures, VqaConfig())
    templates = [qa.template for of_one in qas.values() for qa in of_one]
    assert len(templates) >= 40
    assert max(map(templates.count, templates)) <= 0.30 * len(templates)


def test_source_of_a_field() -> None:
    assert source_of("  Earth   Science ") == "data_engine:earth science"
    assert source_of(None) == "data_engine"
