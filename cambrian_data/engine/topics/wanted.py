"""What the user wants to have searched for: a field, a subfield of it, or a topic at once."""

from __future__ import annotations

from typing import NamedTuple

from cambrian_data.engine.topics.names import MAX_NAME, clean_name
from cambrian_data.records import UserError


class Wanted(NamedTuple):
    """One thing that is wanted; what is empty is still to be found."""

    field: str
    subfield: str = ""
    topic: str = ""


def wanted_of_topic(topic: str) -> list[Wanted]:
    """Return what `--topic` asks for: a field, until somebody knows that it is a narrower thing.

    Raises:
        UserError: the topic is empty, or a whole sentence.
    """
    name = clean_name(topic)
    if not name:
        raise UserError(f"--topic {topic!r} names nothing: write a field or a topic, as physics")
    if len(name) > MAX_NAME:
        raise UserError(
            f"--topic has {len(name)} characters, at most {MAX_NAME} are searched for; several "
            "topics go into a file, one a line, with --fields FILE"
        )
    return [Wanted(name)]
