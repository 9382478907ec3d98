"""Rows that hold a conversation under other names than `conversations` or `messages`.

`texts` (user, assistant; the Cauldron and FineVision), question and answer columns, and captions
become turns. Each has a mend that is counted; a row that fits none of them is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cambrian_data.records import IMAGE_TOKEN

SHAPE_MENDS = {
    "texts_key": "turns under `texts` (user, assistant); <image> put before the first question",
    "question_answer": "a question and an answer in columns of their own made two turns",
    "caption_question": "a caption without a question; a fixed question put before it",
}
"""What is changed in rows of these shapes."""

CAPTION_QUESTION = "Provide a brief description of the given image."
"""What LLaVA's alignment set asks for a caption."""

_QUESTIONS = ("question", "query", "instruction")
_ANSWERS = ("answer", "answers", "label", "response")
_CAPTIONS = ("caption", "text")
_PICTURES = ("image", "images")


def reshape(row: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]] | None:
    """Return a row with its turns under `conversations`, and the mends; None: no such shape.

    Args:
        row: has neither `conversations` nor `messages`.
    """
    texts = row.get("texts")
    if isinstance(texts, list) and texts and all(_is_pair(text) for text in texts):
        return _from_texts(row, texts), {"texts_key"}
    question, answer = _first(row, _QUESTIONS), _only(_first(row, _ANSWERS))
    if isinstance(question, str) and isinstance(answer, str):
        return _with_turns(row, [(question, answer)]), {"question_answer"}
    caption = _first(row, _CAPTIONS)
    if question is None and isinstance(caption, str) and any(row.get(key) for key in _PICTURES):
        return _with_turns(row, [(CAPTION_QUESTION, caption)]), {"caption_question"}
    return None


def _is_pair(text: Any) -> bool:
    return isinstance(text, dict) and "user" in text and "assistant" in text


def _from_texts(row: Mapping[str, Any], texts: list[dict[str, Any]]) -> dict[str, Any]:
    made = _with_turns(row, [(text["user"], text["assistant"]) for text in texts])
    source = texts[0].get("source")
    if not row.get("source") and isinstance(source, str):
        made["source"] = source
    system = texts[0].get("system")
    if not row.get("system") and isinstance(system, str) and system.strip():
        made["system"] = system
    return made


def _with_turns(row: Mapping[str, Any], pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Return the row with turns; pictures come before the text where no `<image>` says where."""
    questions = [question for question, _ in pairs]
    pictures = _count_pictures(row)
    if isinstance(questions[0], str) and not any(
        isinstance(question, str) and IMAGE_TOKEN in question for question in questions
    ):
        questions[0] = f"{IMAGE_TOKEN}\n" * pictures + questions[0]
    turns = []
    for question, (_, answer) in zip(questions, pairs, strict=True):
        turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {**row, "conversations": turns}


def _count_pictures(row: Mapping[str, Any]) -> int:
    for key in reversed(_PICTURES):
        value = row.get(key)
        if value:
            return sum(bool(one) for one in value) if isinstance(value, list) else 1
    return 0


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _only(value: Any) -> Any:
    """Return an answer: a text, or the one text in a list (also one that says the same again)."""
    if isinstance(value, list) and value and all(one == value[0] for one in value):
        return value[0]
    return value
