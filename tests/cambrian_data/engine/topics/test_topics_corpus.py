from __future__ import annotations

from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.topics import topics_from_corpus
from cambrian_data.records import table_of


def test_a_field_gives_all_its_topics_once_and_sorted():
    rows = topics_from_corpus(" PHYSICS ", load_corpus())
    assert len(rows) >= 25 and {row["field"] for row in rows} == {"Physics"}
    assert len({row["id"] for row in rows}) == len(rows)
    keys = [(row["field"], row["subfield"], row["topic"]) for row in rows]
    assert keys == sorted(keys)
    assert len(table_of("topics", rows)) == len(rows)


def test_a_subfield_and_a_single_topic():
    corpus = load_corpus()
    optics = topics_from_corpus("optics", corpus)
    assert {row["subfield"] for row in optics} == {"Optics"}
    assert [row["topic"] for row in topics_from_corpus("simple pendulum", corpus)] == [
        "simple pendulum"
    ]


def test_anything_else_is_a_topic_of_its_own():
    (row,) = topics_from_corpus("  dark matter ", load_corpus())
    assert (row["topic"], row["field"], row["origin"]) == ("dark matter", None, "user")
