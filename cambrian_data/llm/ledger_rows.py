"""What stands in the ledger: its tables, and the rows that others get to see.

`sent.outcome` is empty for a sending that was answered (its row in `answers` has the same number),
and for one that has no word because its process was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

VERSION = 1

TABLES = f"""
CREATE TABLE requests (
    key TEXT PRIMARY KEY, base_url TEXT NOT NULL, model TEXT NOT NULL, about TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, max_tokens INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE TABLE sent (
    key TEXT NOT NULL, number INTEGER NOT NULL, at TEXT NOT NULL, outcome TEXT,
    PRIMARY KEY (key, number)
) WITHOUT ROWID;
CREATE TABLE answers (
    key TEXT NOT NULL, number INTEGER NOT NULL, at TEXT NOT NULL, outcome TEXT NOT NULL,
    status INTEGER NOT NULL, raw TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, is_estimated INTEGER NOT NULL, cost_usd REAL,
    seconds REAL NOT NULL, PRIMARY KEY (key, number)
);
CREATE TABLE servers (
    base_url TEXT NOT NULL, model TEXT NOT NULL, trait TEXT NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (base_url, model, trait)
) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """An answer as it stands in the ledger."""

    number: int
    outcome: str
    status: int
    raw: str
    """The server's JSON, whole."""
    prompt_tokens: int
    completion_tokens: int
    is_estimated: bool
    cost_usd: float | None
    seconds: float
    at: str


@dataclass(frozen=True, slots=True)
class Sending:
    """One sending that was written down."""

    key: str
    number: int
    is_repeat: bool
    """Whether the sending before has no word: the process that sent it was killed."""


def call_row(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row of records.LLM_CALL."""
    names = ("key", "model", "status", "prompt_tokens", "completion_tokens", "cost_usd", "seconds")
    return {**dict(zip(names, row[:7], strict=True)), "at": row[7]}


def prompt_of(body: str) -> str:
    """Return the messages of a stored body as text."""
    lines = []
    for message in orjson.loads(body)["messages"]:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for part in parts:
            text = part["image_url"]["url"] if "image_url" in part else part.get("text")
            lines.append(f"{message.get('role')}: {text}")
    return "\n".join(lines)
