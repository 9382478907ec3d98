"""Who writes questions: the protocol, what a writer gives, and the writer that needs no model.

Rows are joined figures: dicts with the keys figure, page, hit, picture and topic, each a row of
its table. A writer serves one chunk of them at a time and is safe to use from many threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cambrian_data.engine.vqa.config import VqaConfig
from cambrian_data.llm.extractive import (
    EXTRACTIVE_VERSION,
    QA,
    FigureText,
    balance_templates,
    write_questions,
)
from cambrian_data.records import content_id, drop

Row = Mapping[str, Any]


@dataclass(slots=True)
class Written:
    """What a writer gives for a chunk of figures."""

    questions: dict[str, list[QA]] = field(default_factory=dict)
    """By figure id; figures without a question may be left out."""
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By figure id: generator, model, prompt_version, llm_key; fields of provenance."""
    drops: list[dict[str, Any]] = field(default_factory=list)
    """Rows of `drops`, stage vqa."""
    num_left: int = 0
    """Figures that the budget left over."""
    num_passing: int = 0
    """Figures dropped for what a later run may mend, such as a server that was away."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Questions by kind."""
    llm_keys: list[str] = field(default_factory=list)
    """Keys of the calls that were made for them, in the ledger."""


class Writer(Protocol):
    """Writes questions and answers on figures."""

    @property
    def name(self) -> str:
        """Stands in the provenance of samples as their generator."""
        ...

    @property
    def version(self) -> str:
        """All that the questions depend on beside the rows: prompts, model, config."""
        ...

    def write(self, rows: Sequence[Row]) -> Written:
        """Return questions for a chunk of figures, and drops for those without."""
        ...


class ExtractiveWriter:
    """Takes questions and answers off caption and prose; wordings are balanced over a chunk."""

    name = "extractive"

    def __init__(self, config: VqaConfig) -> None:
        self._config = config
        parts = (config.writer.model_dump(mode="json"), config.max_template_share, config.seed)
        self.version = f"{EXTRACTIVE_VERSION}-{content_id(*parts)[:16]}"

    def write(self, rows: Sequence[Row]) -> Written:
        """Return the questions of a chunk of figures."""
        titled = [(row["figure"], row["page"]["title"] or "") for row in rows]
        questions = questions_of(titled, self._config)
        about = {"generator": self.name, "prompt_version": EXTRACTIVE_VERSION}
        return Written(
            questions=questions,
            about={figure: dict(about) for figure in questions},
            drops=[
                figure_drop(row, "no_question")
                for row in rows
                if not questions[row["figure"]["id"]]
            ],
            kinds=Counter(qa.kind for qas in questions.values() for qa in qas),
        )


def figure_drop(
    row: Row, reason: str, detail: str | None = None, raw: str | None = None
) -> dict[str, Any]:
    """Return the drop of a joined figure; raw is its caption where nothing else is given."""
    figure = row["figure"]
    return drop(
        "vqa",
        figure["id"],
        reason,
        detail=detail or None,
        source=figure["image_url"],
        raw=figure["caption"] if raw is None else raw,
    )


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
    """Return extractive questions by figure id, balanced over wordings.

    Args:
        figures: rows of the table `figures`, each with the title of its page.
        config: writer and greatest share of a wording.
    """
    written = {
        figure["id"]: write_questions(figure_text(figure, title), config.writer)
        for figure, title in figures
    }
    return balance_templates(written, max_share=config.max_template_share, seed=config.seed)
