"""What the tests of the LLM layer ask for, and what servers were asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cambrian_data.llm.client import LlmRequest

KEY = "sk-test-1234567890"


class QA(BaseModel):
    """What the tests ask for."""

    question: str
    answer: str
    grounded: bool


GOOD = '{"question": "What?", "answer": "This.", "grounded": true}'


def ask_for(text: str, max_tokens: int = 50) -> LlmRequest:
    """A request that says a text."""
    return LlmRequest(
        messages=[{"role": "user", "content": text}], schema=QA, max_tokens=max_tokens, about=text
    )


def said(content: str | None, **rest: Any) -> dict[str, Any]:
    """A chat completion that says something."""
    choice = {"finish_reason": rest.pop("finish_reason", "stop")}
    choice["message"] = {"role": "assistant", "content": content, **rest}
    return {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


@dataclass
class Call:
    """One request as the server saw it."""

    body: dict[str, Any]
    raw: bytes
    headers: dict[str, str]
    at: float


@dataclass
class Tiny:
    """A server that answers as a function says."""

    url: str
    calls: list[Call] = field(default_factory=list)


@dataclass
class Fake:
    """The shared fake server, and its log."""

    url: str
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]
