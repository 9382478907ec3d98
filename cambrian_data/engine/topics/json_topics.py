"""Topics in JSON: `{field: {subfield: [topic, ...]}}`, and what language models make of it.

Any nesting (deeper levels are joined into the subfield), lists of objects with the names in them
(`{"subfield": ..., "topics": [...]}`), wrappers (`{"fields": [...]}`), several values in one text.
A file with one level only is one field's, as published: the field is the name of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from cambrian_data.engine.topics.lines import Reading, Unread
from cambrian_data.engine.topics.loose_json import Cut, Pairs, values_of
from cambrian_data.engine.topics.names import MAX_NAME, clean_name, clean_names, split_names
from cambrian_data.engine.topics.wanted import Wanted

LEVELS_JOINED_BY = " / "
_MAX_LEVELS = 20
_MAX_WORDS = 6
"""A string of more words without a comma describes its key, and is no topic itself."""
_FIELD = frozenset({"field", "fieldname"})
_SUBFIELD = frozenset({"subfield", "subfieldname"})
_NAMES = _FIELD | _SUBFIELD | {"name", "title", "category", "area", "subject", "domain"}
_TOPIC = frozenset({"topic", "topicname"})
_FIELDS = frozenset({"fields"})
_SUBFIELDS = frozenset({"subfields", "areas", "categories", "subcategories"})
_LISTS = frozenset({"topics", "subtopics", "topiclist", "items", "list", "data", "results"})
_REMARKS = frozenset({"description", "id", "count", "number", "note", "notes", "summary"})
_KNOWN = _NAMES | _TOPIC | _FIELDS | _SUBFIELDS | _LISTS | _REMARKS


class Level(NamedTuple):
    """One step of the way to a topic: a name, and what it is said to be (`field`, `subfield`)."""

    name: str
    kind: str = ""


class Entry(NamedTuple):
    """A topic and the way to it; an empty topic: all that lies there is wanted."""

    levels: tuple[Level, ...]
    topic: str


class _Odd(NamedTuple):
    what: str
    why: str


def read_json_topics(text: str, stem: str) -> Reading:
    """Read the JSON in a text.

    Args:
        text: JSON, with prose and fences around it or not.
        stem: the file's name without its ending; `Earth_Sciences` names a field, `topics` none.
    """
    reading = Reading()
    for line, value, faults in values_of(text):
        reading.unread += [Unread(place, "", f"JSON: {what}") for place, what in faults]
        entries: list[Entry] = []
        for found in _walk(value, (), ""):
            if isinstance(found, Entry):
                entries.append(found)
            else:
                reading.unread.append(Unread(line, found.what, found.why))
        is_flat = all(
            len(entry.levels) <= 1 and all(level.kind != "field" for level in entry.levels)
            for entry in entries
        )
        for entry in entries:
            wanted = _wanted_of(entry, _field_of(stem), is_flat)
            long = next((name for name in wanted if len(name) > MAX_NAME), None)
            if long:
                reading.unread.append(Unread(line, long, "too long for a name"))
            elif any(wanted):
                reading.wanted.append(wanted)
    return reading


def _field_of(stem: str) -> str:
    """Return the field that a file is named after: capitalised, as the published ones are."""
    name = clean_name(stem.removeprefix("post_").replace("_", " "))
    return name if name[:1].isupper() and _label(name) not in _KNOWN else ""


def _wanted_of(entry: Entry, file_field: str, is_flat: bool) -> Wanted:
    fields = [level.name for level in entry.levels if level.kind == "field"]
    below = [level for level in entry.levels if level.kind != "field"]
    if not fields and is_flat and file_field:
        fields = [file_field]
    elif not fields and below and not below[0].kind:
        fields = [below.pop(0).name]
    subfield = LEVELS_JOINED_BY.join(level.name for level in below)
    return Wanted(LEVELS_JOINED_BY.join(fields), subfield, entry.topic)


def _walk(node: Any, levels: tuple[Level, ...], items: str) -> Iterator[Entry | _Odd]:
    """Yield the topics below a node.

    Args:
        node: a value as `loose_json` gives it.
        levels: the names on the way to it.
        items: what the strings of a list are: `field`, `subfield`, or topics.
    """
    if len(levels) > _MAX_LEVELS:
        yield _Odd(levels[0].name, f"nested deeper than {_MAX_LEVELS} levels")
    elif isinstance(node, Pairs):
        yield from _walk_object(node, levels)
    elif isinstance(node, list):
        texts = clean_names([item if isinstance(item, str) else "" for item in node])
        for item, name in zip(node, texts, strict=True):
            yield from (
                _walk_string(item, name, levels, items)
                if isinstance(item, str)
                else _walk(item, levels, items)
            )
    elif isinstance(node, str):
        yield from _walk_string(node, clean_name(node), levels, items)
    elif node is not None and not isinstance(node, Cut):
        yield _Odd(str(node), "a number where a name is expected")


def _walk_string(
    text: str, name: str, levels: tuple[Level, ...], items: str
) -> Iterator[Entry | _Odd]:
    if not name:
        yield from [_Odd(text, "no name")] if text.strip() else []
    elif items:
        yield Entry((*levels, Level(name, items)), "")
    else:
        yield Entry(levels, name)


def _walk_object(pairs: Pairs, levels: tuple[Level, ...]) -> Iterator[Entry | _Odd]:
    labels = [_label(key) for key, _ in pairs]
    has_name = any(
        label in _NAMES | _TOPIC and isinstance(value, str)
        for label, (_, value) in zip(labels, pairs, strict=True)
    )
    if labels and (has_name or set(labels) <= _KNOWN):
        yield from _walk_record(pairs, labels, levels)
        return
    names = clean_names([key for key, _ in pairs])
    for (key, value), name in zip(pairs, names, strict=True):
        if not name:
            yield _Odd(key, "no name")
        elif isinstance(value, Cut):
            continue  # nothing is known of what is wanted there; the fault is counted already
        elif isinstance(value, str) and value.strip():
            yield from _walk_text(name, value, levels)
        elif isinstance(value, list) and value:
            yield from _walk(value, (*levels, Level(name)), "")
        else:
            yield Entry((*levels, Level(name)), "")


def _walk_text(key: str, text: str, levels: tuple[Level, ...]) -> Iterator[Entry | _Odd]:
    """A name with a string: its topics, separated by commas, or what it means."""
    parts = split_names(text)
    if any(len(part.split()) > _MAX_WORDS for part in parts):
        yield Entry(levels, key)
    else:
        yield from _walk(parts, (*levels, Level(key)), "")


def _walk_record(
    pairs: Pairs, labels: list[str], levels: tuple[Level, ...]
) -> Iterator[Entry | _Odd]:
    """An object with its names in it, such as `{"subfield": "Optics", "topics": [...]}`."""
    named = list(zip(labels, pairs, strict=True))
    heads = [
        Level(clean_name(value), _kind_of(label))
        for label, (_, value) in named
        if label in _NAMES and isinstance(value, str)
    ]
    heads.sort(key=lambda level: ("field", "subfield", "").index(level.kind))
    last = levels[-1].name if levels else ""
    heads = [level for level in heads if level.name and level.name != last]
    if len(heads) > 1 and len({level.kind for level in heads}) == 1 and heads[0].kind:
        for level in heads:  # {"subfield 1": "Optics", "subfield 2": "Waves"}
            yield Entry((*levels, level), "")
        heads = []
    inner = (*levels, *heads)
    below = 0
    for label, (key, value) in named:
        if label in _TOPIC and isinstance(value, str):
            below += 1
            yield from _walk_string(value, clean_name(value), inner, "")
        elif isinstance(value, list) and value:
            below += 1
            deeper = inner if label in _KNOWN else (*inner, Level(clean_name(key)))
            yield from _walk(value, deeper, _items_of(label))
        elif label in _LISTS | _SUBFIELDS and isinstance(value, str) and value.strip():
            below += 1
            yield from _walk(split_names(value), inner, _items_of(label))
    if heads and not below:
        is_topic = not heads[-1].kind and not any(label in _LISTS for label in labels)
        yield Entry(inner[:-1], heads[-1].name) if is_topic else Entry(inner, "")


def _label(key: str) -> str:
    """Return a key as a word of the format: `Sub-Field 2` is `subfield`."""
    return re.sub(r"[^a-z]", "", key.casefold()) if re.search("[a-z]", key.casefold()) else key


def _kind_of(label: str) -> str:
    return "field" if label in _FIELD else "subfield" if label in _SUBFIELD else ""


def _items_of(label: str) -> str:
    if label in _FIELD | _FIELDS:
        return "field"
    return "subfield" if label in _SUBFIELD | _SUBFIELDS else ""
