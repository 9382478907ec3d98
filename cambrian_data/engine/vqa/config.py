"""How questions are written: the recipe's section `vqa`, for both writers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from cambrian_data.llm.extractive import ExtractiveConfig
from cambrian_data.recipes import Config
from cambrian_data.records import CATEGORIES

QuestionKind = Literal["identify", "value", "compare", "explain", "count"]
KINDS: tuple[QuestionKind, ...] = ("identify", "value", "compare", "explain", "count")
"""Kinds of question that a language model is asked for."""

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


class LlmWriterConfig(Config):
    """What a language model is asked for about a figure, and what of it is kept."""

    questions_per_figure: int = Field(default=2, ge=1, le=len(KINDS))
    """Question/answer pairs that one call asks for."""
    kinds: dict[QuestionKind, float] = Field(default=dict.fromkeys(KINDS, 1.0))
    """Weight of each kind of question in a run; kinds that are left out are not asked for."""
    show_picture: Literal["auto", "always", "never"] = "auto"
    """Whether the picture goes along: `auto` where the model can see."""
    max_picture_side_px: int = Field(default=768, ge=64)
    """Longer side of the picture as it is sent; larger ones are scaled down."""
    picture_quality: int = Field(default=85, ge=1, le=95)
    """Quality of pictures that are sent as JPEG."""
    max_prose_words: int = Field(default=400, ge=20)
    """Prose beyond is not sent; it is cut at the end of a sentence."""
    language: str = Field(default="en", pattern=r"^(?:[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)?$")
    """Language code of questions and answers; empty for the language of the page."""
    max_answer_words: int = Field(default=60, ge=5)
    """Longer answers are dropped."""
    max_tokens: int | None = Field(default=None, ge=100)
    """Longest reply of the model in tokens, its reasoning included. Empty: what the pairs take."""

    @field_validator("kinds")
    @classmethod
    def _weighted(cls, kinds: dict[QuestionKind, float]) -> dict[QuestionKind, float]:
        if bad := {kind: weight for kind, weight in kinds.items() if not 0 <= weight < 1e9}:
            raise ValueError(f"weights are numbers from 0 up, got {bad}")
        if not any(kinds.values()):
            raise ValueError("at least one kind needs a weight above 0")
        return kinds


class VqaConfig(Config):
    """How questions are written and what category each kind is filed under."""

    writer: ExtractiveConfig = ExtractiveConfig()
    """Settings of the extractive question writer."""
    llm: LlmWriterConfig = LlmWriterConfig()
    """Settings of the writer that asks a language model."""
    categories: dict[str, str] = Field(default=dict(_CATEGORY_OF_KIND))
    """Category of each kind of question; kinds that are left out are `general`."""
    max_template_share: float = Field(default=0.30, gt=0, le=1)
    """Greatest share of a chunk's samples that one wording of the extractive writer makes."""
    seed: int = 0
    """Chooses the kinds asked for, and what is dropped where a wording is too frequent."""

    @field_validator("categories")
    @classmethod
    def _known(cls, categories: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(categories.values()) - set(CATEGORIES))
        if unknown:
            raise ValueError(f"unknown category {unknown}, known are {', '.join(CATEGORIES)}")
        return categories
