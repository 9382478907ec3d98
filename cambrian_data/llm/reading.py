"""The server's answer to an outcome: what the model said, or in which way it failed to.

Pure: the same bytes give the same reading, so that an answer out of the ledger is read as a fresh
one is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel

from cambrian_data.llm.exchange import Outcome
from cambrian_data.llm.parsing import parse
from cambrian_data.llm.tokens import text_tokens
from cambrian_data.llm.visible import one_line

MAX_DETAIL = 300
MAX_COUNT = 10**8
"""Tokens beyond which no server is believed."""
MAX_MENDED_BYTES = 200_000
"""Longer bodies are not read a second time, slowly, where they are not quite JSON."""
MAX_OPENINGS = 50_000
"""Brackets and braces of a body; one that has more takes long to read, and is no chat."""
USELESS = "cambrian_useless"
"""Stands in what is written down for an answer that was no JSON, and says what it was."""
_SIZE = "bytes"

_ESTIMATED_CHARACTERS = 100_000
_HEAD = 1_000
_MARK = b"\xef\xbb\xbf"

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
    """Return the object that a server answered with; None where it is none, or cut in half.

    Half an emoji and bytes that are no UTF-8 do not spoil the rest: each becomes the sign for it.
    """
    return _load(raw)[0]


def read_to_keep(raw: bytes, fault: str = "") -> tuple[dict[str, Any], bytes]:
    """Return an answer with status 200, and the JSON that the ledger keeps of it.

    Args:
        raw: the body.
        fault: why it is not to be read.
    """
    answer, is_as_sent = (None, False) if fault else _load(raw)
    if answer is not None and is_as_sent:
        return answer, raw
    try:
        if answer is not None:
            return answer, orjson.dumps(answer)
    except orjson.JSONEncodeError:
        fault = "the answer is nested too deeply"
    start = one_line(raw[:_HEAD].decode("utf-8", "replace"), 120)
    useless = {USELESS: f"{fault or 'the answer is no JSON'}: {start!r}", _SIZE: len(raw)}
    return useless, orjson.dumps(useless)


def _load(raw: bytes) -> tuple[dict[str, Any] | None, bool]:
    """Return the object that a body is, and whether it is JSON as it stands."""
    if raw.count(b"[") + raw.count(b"{") > MAX_OPENINGS:
        return None, False
    is_as_sent = True
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        is_as_sent = False
        if len(raw) > MAX_MENDED_BYTES:
            return None, False
        try:
            text = raw.removeprefix(_MARK).decode("utf-8", "replace")
            value = _mended(json.loads(text, parse_constant=lambda _: None))
        except (ValueError, RecursionError):
            return None, False
    return (value if isinstance(value, dict) else None), is_as_sent


def _mended(value: Any) -> Any:
    """Return a JSON value with whole characters only, and without infinities."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return None if isinstance(value, int | float) and abs(value) > 2**63 else value


def read_answer(
    answer: Mapping[str, Any], schema: type[BaseModel]
) -> tuple[Outcome, BaseModel | None, str]:
    """Return outcome, value and detail of a chat completion."""
    outcome, value, detail = _read(answer, schema)
    return outcome, value, one_line(detail, MAX_DETAIL)


def _read(
    answer: Mapping[str, Any], schema: type[BaseModel]
) -> tuple[Outcome, BaseModel | None, str]:
    if USELESS in answer:
        return "malformed", None, str(answer[USELESS])
    choice = _choice(answer)
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    finish = choice.get("finish_reason")
    if message.get("refusal"):
        return "refusal", None, str(message["refusal"]).strip() or "refused"
    if finish == "content_filter":
        return "refusal", None, "the server's content filter stopped the answer"
    text = _text(message)
    if finish == "length":
        return "cut_off", None, f"cut off at the limit of tokens, after {len(text)} characters"
    if not text.strip():
        return "empty_answer", None, f"no text; finish_reason {finish!r}"
    value, fault = parse(text, schema)
    if value is not None:
        return "ok", value, ""
    if fault:
        return "malformed", None, fault
    start = one_line(text, 120)
    if _REFUSAL.match(text[:_HEAD]):
        return "refusal", None, start
    return "malformed", None, f"no JSON object: {start!r}"


def read_usage(answer: Mapping[str, Any], prompt_estimate: int) -> Usage:
    """Return the tokens of a chat completion, estimated where the server does not say.

    Nor is it believed where it says what cannot be.
    """
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt is None or completion is None:
        if USELESS in answer:
            return Usage(prompt_estimate, (_count(answer, _SIZE) or 0) // 4, is_estimated=True)
        message = _choice(answer).get("message")
        text = _text(message) if isinstance(message, dict) else ""
        return Usage(prompt_estimate, _estimate(text), is_estimated=True)
    details = usage.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    return Usage(prompt, completion, min(cached or 0, prompt))


def _count(counts: Mapping[str, Any], name: str) -> int | None:
    """Return a number of tokens; None where there is none, or it is absurd."""
    count = counts.get(name)
    is_count = isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_COUNT
    return count if is_count else None


def _estimate(text: str) -> int:
    """Return about how many tokens a text takes; of a long one from its beginning."""
    tokens = text_tokens(text[:_ESTIMATED_CHARACTERS])
    return tokens * max(len(text), 1) // max(1, min(len(text), _ESTIMATED_CHARACTERS))


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
