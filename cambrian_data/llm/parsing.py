"""JSON out of what a model wrote: read leniently, validated strictly.

Models put JSON into fences, write prose around it, think aloud before it, and leave commas before
brackets. All that is forgiven here; what the schema does not allow is not. Linear in the length of
the text but for stray braces, of which few are tried; and only the beginning of a long text is
searched, so that no answer holds up the others for longer than some hundredths of a second.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

MAX_WHOLE, MAX_SEARCHED = 60_000, 20_000
"""Characters of an answer that is JSON and nothing else, and of one that JSON is looked for in."""
MAX_STRAY_BRACES = 5
MAX_BRACES = 2_000
MAX_CANDIDATES = 20
MAX_EXPLAINED = 50

_THINKING = ("think", "thinking", "reasoning")
_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n(.*?)```", re.S)
_IN_STRING = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
_COMMA = re.compile(rf'("{_IN_STRING}(?:"|\\?\Z))|,(?=\s*[}}\]])', re.S)
"""A string, whole or without an end, or a comma before a closing bracket outside of strings."""
_OPENS_OBJECT = re.compile(r'\{\s*(?:"|\}|$)')
_QUOTE_OR_BRACES = re.compile(r'"|\{+|\}+')
_STRING_END = re.compile(rf'{_IN_STRING}"', re.S)


def parse(text: str, schema: type[BaseModel]) -> tuple[BaseModel | None, str]:
    """Return the object of a schema that a text holds, or None and where it fails.

    Where several objects fit, the last is the answer: before it stand drafts and examples. The
    second is empty where the text holds no object at all.
    """
    fault = ""
    found: BaseModel | None = None
    for candidate in objects(text):
        try:
            found = schema.model_validate_json(_plain(candidate), strict=True)
        except ValidationError as error:
            fault = fault or _explain(error)
        except ValueError as error:  # NaN, infinity, numbers too long to write
            fault = fault or str(error)[:200] or "the object does not fit the schema"
    return (found, "") if found is not None else (None, fault)


def objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects in a text: the whole of it, or those in fences, or those in prose."""
    text = text.strip("\ufeff \t\r\n")
    is_short = len(text) <= MAX_WHOLE and text.count("{") <= MAX_BRACES
    whole = _load(text) if is_short else None
    if isinstance(whole, dict):
        return [whole]
    text = _without_thinking(text)[:MAX_SEARCHED]
    for pieces in ([text], _FENCE.findall(text), _bracketed(text)):
        values = [_load(piece) for piece in deque(pieces, MAX_CANDIDATES)]
        found = [value for value in values if isinstance(value, dict)]
        if found:
            return found
    return []


def _without_thinking(text: str) -> str:
    """Return what stands after the thinking; nothing where the thinking has no end."""
    for tag in _THINKING:
        text = text.rpartition(f"</{tag}>")[2].lstrip()
    return "" if text.startswith(tuple(f"<{tag}>" for tag in _THINKING)) else text


def _load(text: str) -> Any:
    """Return the value of a JSON text, forgiving commas at ends; None where it is none."""
    for attempt in (text, None):
        try:
            return json.loads(_COMMA.sub(r"\1", text) if attempt is None else text, strict=False)
        except (ValueError, RecursionError):
            continue
    return None


def _plain(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _bracketed(text: str) -> Iterator[str]:
    """Yield the outermost parts of a text that stand between matching braces."""
    start = text.find("{")
    stray = 0
    while start >= 0 and stray < MAX_STRAY_BRACES:
        end = _closing(text, start)
        if end is None and _OPENS_OBJECT.match(text, start):
            return  # an object that was cut off: what stands in it is no answer
        if end is None:
            stray += 1
            end = start
        else:
            yield text[start : end + 1]
        start = text.find("{", end + 1)


def _closing(text: str, start: int) -> int | None:
    """Return where the brace at `start` is closed; braces in strings do not count."""
    depth, at = 0, start
    while match := _QUOTE_OR_BRACES.search(text, at):
        begin, at = match.span()
        first = text[begin]
        if first == '"':
            string = _STRING_END.match(text, at)
            if string is None:
                return None
            at = string.end()
        elif first == "{":
            depth += at - begin
        elif at - begin >= depth:
            return begin + depth - 1
        else:
            depth -= at - begin
    return None


def _explain(error: ValidationError) -> str:
    """Say where an object does not fit; not what stands there, which may be long."""
    if error.error_count() > MAX_EXPLAINED:
        return f"the object does not fit in {error.error_count()} places"
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    places = [f"{'.'.join(map(str, fault['loc'])) or 'object'}: {fault['msg']}" for fault in faults]
    return "; ".join(places[:3])[:300]
