"""Topics to search for: from what the user names to rows of the table `topics`.

`wanted_of_topic` and `read_wanted` say what is wanted, `expand` finds the topics of it, with a
language model or without; `topics_from_corpus` is the way offline.
"""

from __future__ import annotations

from cambrian_data.engine.topics.config import TopicsConfig
from cambrian_data.engine.topics.corpus import topics_from_corpus
from cambrian_data.engine.topics.expand import Expanded, expand, plan_requests
from cambrian_data.engine.topics.files import read_wanted
from cambrian_data.engine.topics.prompts import TOPICS_PROMPT_VERSION
from cambrian_data.engine.topics.rows import topic_row, unique_rows
from cambrian_data.engine.topics.wanted import Wanted, wanted_of_topic

__all__ = [
    "TOPICS_PROMPT_VERSION",
    "TOPICS_VERSION",
    "Expanded",
    "TopicsConfig",
    "Wanted",
    "expand",
    "plan_requests",
    "read_wanted",
    "topic_row",
    "topics_from_corpus",
    "unique_rows",
    "wanted_of_topic",
]

TOPICS_VERSION = f"2.{TOPICS_PROMPT_VERSION}"
"""Raised when a stage of topics changes what it gives, prompts included."""
