"""A figure, its stored picture and its questions to sample rows of `records.SAMPLE`.

Pure. One sample a question: a person shows the picture and asks, the answer follows. What the
sample was made from stands in its provenance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, field_validator

from cambrian_data.llm.extractive import (
    EXTRACTIVE_VERSION,
    QA,
    ExtractiveConfig,
    FigureText,
    balance_templates,
    write_questions,
)
from cambrian_data.recipes import Config
from cambrian_data.records import CATEGORIES, IMAGE_TOKEN, SAMPLE, sample_id

GENERATOR = "extractive"
_CATEGORY_OF_KIND = {
    "identify": "general",
    "describe": "general",
    "value": "ocr",
    "gap": "ocr",
    "date": "ocr",
    "axis": "ocr",
    "count": "counting",
    "colour": "general",
    "label": "science",
    "position": "general",
    "compare": "science",
    "explain": "science",
    "define": "science",
    "which": "science",
    "behave": "science",
    "context": "science",
    "topic": "general",
}
_PROVENANCE = frozenset(field.name for field in SAMPLE.field("provenance").type)


class VqaConfig(Config):
    """How questions are written and what category each kind is filed under."""

    writer: ExtractiveConfig = ExtractiveConfig()
    """Settings of the extractive question writer."""
    categories: dict[str, str] = Field(default=dict(_CATEGORY_OF_KIND))
    """Category of each kind of question; kinds that are left out are `general`."""
    max_template_share: float = Field(default=0.30, gt=0, le=1)
    """Greatest share of a run's samples that one wording of a question makes."""
    seed: int = 0
    """Chooses what is dropped where a wording is too frequent."""

    @field_validator("categories")
    @classmethod
    def _known(cls, categories: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(categories.values()) - set(CATEGORIES))
        if unknown:
            raise ValueError(f"unknown category {unknown}, known are {', '.join(CATEGORIES)}")
        return categories


def figure_text(figure: Mapping[str, Any], page_title: str = "") -> FigureText:
    """Return what a row of the table `figures` says in words."""
    return FigureText(
        figure_id=figure["id"],
        caption=figure.get("caption") or "",
        text=figure.get("text") or "",
        section=tuple(figure.get("section") or ()),
        page_title=page_title,
        image_sha256=figure.get("image_sha256") or "",
    )


def questions_of(
    figures: Iterable[tuple[Mapping[str, Any], str]], config: VqaConfig
) -> dict[str, list[QA]]:
    """Return the questions of a whole run by figure id, balanced over wordings.

    Args:
        figures: rows of the table `figures`, each with the title of its page.
        config: writer and greatest share of a wording.
    """
    written = {
        figure["id"]: write_questions(figure_text(figure, title), config.writer)
        for figure, title in figures
    }
    return balance_templates(written, max_share=config.max_template_share, seed=config.seed)


def samples_of(
    figure: Mapping[str, Any],
    picture: Mapping[str, Any],
    qas: Iterable[QA],
    provenance: Mapping[str, Any],
    config: VqaConfig,
) -> list[dict[str, Any]]:
    """Return the sample rows of one figure, in the order of its questions.

    Args:
        figure: a row of the table `figures`.
        picture: sha256, path, width and height of the stored picture; more keys are ignored.
        qas: questions with answers.
        provenance: what else is known: page, licence, topic, search; keys of the struct
            `provenance` of `records.SAMPLE`. The figure's own values win.
        config: the category of each kind.
    Raises:
        ValueError: provenance has a key that the schema lacks.
    """
    if unknown := provenance.keys() - _PROVENANCE:
        raise ValueError(f"provenance has no field {sorted(unknown)}")
    image = {key: picture[key] for key in ("sha256", "path", "width", "height")}
    source = source_of(provenance.get("field"))
    return [
        {
            "id": sample_id(turns := _turns(qa), [image]),
            "source": source,
            "dataset": "data_engine",
            "category": config.categories.get(qa.kind, "general"),
            "images": [image],
            "conversations": turns,
            "figure_id": figure["id"],
            "provenance": _provenance(figure, provenance),
        }
        for qa in qas
    ]


def source_of(field: str | None) -> str:
    """Return the name under which samples of a field are counted and capped."""
    name = re.sub(r"\s+", " ", field or "").strip().lower()
    return f"data_engine:{name}" if name else "data_engine"


def _turns(qa: QA) -> list[dict[str, str]]:
    return [
        {"from": "human", "value": f"{IMAGE_TOKEN}\n{qa.question}"},
        {"from": "gpt", "value": qa.answer},
    ]


def _provenance(figure: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "generator": GENERATOR,
        "prompt_version": EXTRACTIVE_VERSION,
        **given,
        "page_id": figure["page_id"],
        "image_url": figure["image_url"],
        "section": list(figure.get("section") or []),
        "caption": figure.get("caption"),
    }
