"""How many topics are looked for."""

from __future__ import annotations

from pydantic import Field

from cambrian_data.recipes import Config


class TopicsConfig(Config):
    """How far fields and subfields are taken apart."""

    subfields_per_field: int = Field(default=8, ge=1, le=50)
    """Subfields that a language model is asked for."""
    topics_per_subfield: int = Field(default=20, ge=1, le=100)
    """Topics that a language model is asked for, of each subfield."""
    max_subtopics: int = Field(default=50, ge=0, le=50)
    """Narrower topics taken of a field where no language model is asked: a wiki's subcategories."""
    language: str = "en"
    """Language of the names that a language model gives."""
    max_tokens: int = Field(default=2_000, ge=100)
    """Longest answer, in tokens."""
