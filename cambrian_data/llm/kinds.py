"""The kinds of question that can be read off a caption or a section, by name.

A kind is a function of (caption, prose, section, page title) that yields drafts: the family of
wordings, what fills their slots, and the answer, always taken from caption or prose.
"""

from __future__ import annotations

from cambrian_data.llm import comparing, naming, reasons, statements, values
from cambrian_data.llm.drafts import Draft, Kind

__all__ = ["FIRST", "KINDS", "LAST", "Draft", "Kind"]

KINDS: dict[str, Kind] = {
    "identify": naming.identify,
    "value": values.value,
    "gap": values.gap,
    "date": values.date,
    "count": values.count,
    "axis": values.axis,
    "colour": naming.colour,
    "label": naming.label,
    "position": naming.position,
    "compare": comparing.compare,
    "explain": reasons.explain,
    "define": reasons.define,
    "which": comparing.which,
    "behave": statements.behave,
    "describe": statements.describe,
    "context": statements.context,
    "topic": statements.topic,
}
FIRST = frozenset({"compare", "explain", "define", "count", "label"})
"""Rare kinds, asked before others."""
LAST = frozenset({"topic"})
"""Kinds that are asked only where the others leave room."""
