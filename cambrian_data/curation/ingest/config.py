"""How a file of an instruction set is read, and which category its sources have."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.recipes import Config

OTHER = "other"
"""The category of a source that no table knows."""


@cache
def _known_sources() -> dict[str, Any]:
    path = Path(__file__).parent / "sources.yaml"
    known: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return known


def published_sizes() -> dict[str, tuple[str, int]]:
    """Return every published source with its category and its size in thousands of samples."""
    published = _known_sources()["published"]
    return {
        source: (category, thousands)
        for category, sizes in published.items()
        for source, thousands in sizes.items()
    }


def _known_categories() -> dict[str, str]:
    known = _known_sources()
    published = {source: category for source, (category, _) in published_sizes().items()}
    return {**published, **known["aliases"], **known["demo"]}


@cache
def _spellings() -> dict[str, str]:
    return {source.casefold(): source for source in _known_categories()}


def spelled_as_known(source: str) -> str:
    """Return a source in the spelling of the table, where that differs in case alone.

    Rows and folders of the published sets do (`OCR_VQA/1.jpg` beside `ocr_vqa/1.jpg`).
    """
    return _spellings().get(source.casefold(), source)


class IngestConfig(Config):
    """How a file of an instruction set is read."""

    rows_per_part: int = Field(default=50_000, ge=1)
    """Rows in one unit of work, and in one file of the pool."""
    bytes_per_part: int = Field(default=64 * 2**20, ge=1)
    """A part ends early once its rows hold this many bytes; a worker needs about six times this."""
    check_images: Literal["none", "exists", "decode"] = "decode"
    """Whether pictures are looked for; decode also reads, checks and stores them."""
    max_image_bytes: int = Field(default=100 * 2**20, ge=1)
    """A larger picture file is not read."""
    categories: dict[str, str] = Field(default_factory=dict)
    """Category of a source (`FILE:FOLDER` or `FILE`), beside and before the known ones."""
    path_rules: PathRules = Field(default_factory=PathRules)
    """How the paths of pictures in the rows become those of files."""

    @field_validator("categories")
    @classmethod
    def _add_known(cls, given: dict[str, str]) -> dict[str, str]:
        return {**_known_categories(), **given}


class IngestRecipe(Config):
    """What a set needs to be known about it: a YAML file for `--recipe` of ingest."""

    description: str = ""
    """Which set it is for."""
    categories: dict[str, str] = Field(default_factory=dict)
    """Category of a source (`FILE:FOLDER` or `FILE`), beside and before the known ones."""
    path_rules: PathRules = Field(default_factory=PathRules)
    """How the paths of pictures in the rows become those of files."""


def category_of(source: str, config: IngestConfig) -> str:
    """Return the category of a source, of its file as a whole, or `other`."""
    table = config.categories
    return table.get(source) or table.get(source.rsplit(":", 1)[0]) or OTHER
