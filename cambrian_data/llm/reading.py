"""The server's answer to an outcome: what the model said, or in which way it failed to.

Pure: the same bytes give the same reading, so that an answer out of the ledger is read as a fresh
one is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel

from cambrian_data.llm.exchange import Outcome
from cambrian_data.llm.parsing import objects, parse
from cambrian_data.llm.tokens import text_tokens

MAX_DETAIL = 300

_REFUSAL = re.compile(
    r"[\s\W]*(?:(?:i['\u2019]?m|i am|we['\u2019]?re|we are)\s+(?:very\s+|so\s+|really\s+)?"
    r"(?:sorry|afraid|unable|not able|not comfortable)|(?:my )?apolog|sorry\b|"
    r"(?:i|we)\s+(?:can['\u2019]?t|cannot|can not|won['\u2019]?t|will not|must decline|decline)|"
    r"unfortunately,?\s+i\b|as an ai\b)",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    is_estimated: bool = False
    """Whether the server did not say."""


def read_json(raw: bytes) -> dict[str, Any] | None:
    """Return the object that a server answered with; None where it is none, or cut in half."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def read_answer(
    answer: Mapping[str, Any], schema: type[BaseModel]
) -> tuple[Outcome, BaseModel | None, str]:
    """Return outcome, value and detail of a chat completion."""
    choice = _choice(answer)
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    finish = choice.get("finish_reason")
    if message.get("refusal"):
        return "refusal", None, str(message["refusal"])[:MAX_DETAIL]
    if finish == "content_filter":
        return "refusal", None, "the server's content filter stopped the answer"
    text = _text(message)
    if finish == "length":
        return "cut_off", None, f"cut off at the limit of tokens, after {len(text)} characters"
    if not text.strip():
        return "empty_answer", None, f"no text; finish_reason {finish!r}"[:MAX_DETAIL]
    value, fault = parse(text, schema)
    if value is not None:
        return "ok", value, ""
    if not objects(text):
        start = " ".join(text.split())[:120]
        if _REFUSAL.match(text):
            return "refusal", None, start
        return "malformed", None, f"no JSON object: {start!r}"
    return "malformed", None, (fault or "the object does not fit the schema")[:MAX_DETAIL]


def read_usage(answer: Mapping[str, Any], prompt_estimate: int) -> Usage:
    """Return the tokens of a chat completion, estimated where the server does not say."""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        message = _choice(answer).get("message")
        text = _text(message) if isinstance(message, dict) else ""
        return Usage(prompt_estimate, text_tokens(text), is_estimated=True)
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(max(0, prompt), max(0, completion), cached if isinstance(cached, int) else 0)


def _choice(answer: Mapping[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _text(message: Mapping[str, Any]) -> str:
    """Return what a message says; some servers give it in parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return ""
