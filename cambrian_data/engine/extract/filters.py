"""Which figures a recipe keeps: captions that say something, prose of enough words, no appendix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pydantic import Field

from cambrian_data.engine.extract.page import Figure
from cambrian_data.engine.extract.prose import num_words
from cambrian_data.engine.extract.skip_sections import SKIP_SECTIONS
from cambrian_data.recipes import Config


class ExtractConfig(Config):
    """What a figure needs to be used."""

    skip_sections: list[str] = Field(default=list(SKIP_SECTIONS))
    """Headings whose figures are dropped, wherever they stand on the path; case is ignored.

    By default history, references, links and notes in some 25 languages."""
    min_words: int = Field(default=50, ge=0)
    """A section needs more words of prose than this (all of it is counted, and two characters of
    a script without blanks as a word); the published data engine has `> 50` too."""
    min_caption_words: int = Field(default=4, ge=0)
    """Least number of words of a caption."""


class Rejected(NamedTuple):
    """A figure that was not kept, with a reason of `DROP_REASONS["extract"]`."""

    figure: Figure
    reason: str
    detail: str


def filter_figures(
    figures: Iterable[Figure], config: ExtractConfig
) -> tuple[list[Figure], list[Rejected]]:
    """Split figures into those that fit the config and those that do not, with reasons.

    A duplicate is the same picture with the same caption, in whatever section; the first is kept.
    """
    skipped = {heading.casefold().strip() for heading in config.skip_sections}
    kept: list[Figure] = []
    rejected: list[Rejected] = []
    seen: set[tuple[str, str]] = set()
    for figure in figures:
        key = (figure.image_url, figure.caption.casefold())
        fault = _fault(figure, config, skipped)
        if fault is None and key in seen:
            fault = ("duplicate", f"same picture and caption as before: {figure.image_url}")
        if fault is None:
            seen.add(key)
            kept.append(figure)
        else:
            rejected.append(Rejected(figure, *fault))
    return kept, rejected


def _fault(figure: Figure, config: ExtractConfig, skipped: set[str]) -> tuple[str, str] | None:
    caption_words, words = num_words(figure.caption), figure.num_words
    appendix = next((h for h in figure.section if h.casefold().strip() in skipped), None)
    if not caption_words:
        return "no_caption", figure.image_url
    if appendix is not None:
        return "skipped_section", appendix
    if caption_words < config.min_caption_words:
        return "short_caption", f"{caption_words} words, {config.min_caption_words} are needed"
    if words <= config.min_words:
        return "short_text", f"{words} words, more than {config.min_words} are needed"
    return None
