"""A figure, its stored picture and its questions to sample rows of `records.SAMPLE`.

Pure. One sample a question: a person shows the picture and asks, the answer follows. What the
sample was made from and by what stands in its provenance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cambrian_data.engine.vqa.config import VqaConfig
from cambrian_data.llm.extractive import QA
from cambrian_data.records import IMAGE_TOKEN, SAMPLE, sample_id

_PROVENANCE = frozenset(field.name for field in SAMPLE.field("provenance").type)


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
        provenance: what else is known: page, licence, topic, search, and what the writer says
            of itself (`Written.about`); keys of the struct `provenance` of `records.SAMPLE`. The
            figure's own values win.
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
        **given,
        "page_id": figure["page_id"],
        "image_url": figure["image_url"],
        "section": list(figure.get("section") or []),
        "caption": figure.get("caption"),
    }
