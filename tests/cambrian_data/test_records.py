from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambrian_data import records
from cambrian_data.records import TABLES, draw, drop, sample_id, table_of

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A bird."}]
PICTURE = {"sha256": "ab", "path": "images/ab/ab.png", "width": 1, "height": 1}


def sample(**changes):
    row = {
        "id": "x",
        "source": "s",
        "dataset": "d",
        "category": "ocr",
        "images": [PICTURE],
        "conversations": TURNS,
    }
    return row | changes


def test_sample_id_depends_on_what_is_said_and_shown_alone():
    first = sample_id(TURNS, [PICTURE])
    assert first == sample_id([dict(turn) for turn in TURNS], [PICTURE | {"path": "elsewhere"}])
    assert first != sample_id(TURNS, [PICTURE | {"sha256": "cd"}])
    assert first != sample_id(TURNS, [])
    assert first != sample_id(list(reversed(TURNS)), [PICTURE])


def test_sample_id_is_pinned():
    """Ids are stored in users' workspaces: a change of this number breaks them all."""
    assert sample_id(TURNS, [PICTURE]) == (
        "bffb960441d1b541657604018fb7a53705a31e8d862509310088ddcd70299072"
    )


def test_a_picture_that_was_not_read_is_marked_as_such():
    unread = {"sha256": None, "path": "a/b.jpg"}
    assert records.picture_key(unread) == "path:a/b.jpg"
    assert sample_id(TURNS, [unread]) != sample_id(TURNS, [{"sha256": "a/b.jpg"}])


def test_content_ids_keep_parts_apart():
    assert records.content_id("a", "bc") != records.content_id("ab", "c")
    assert records.content_id({"a": 1, "b": 2}) == records.content_id({"b": 2, "a": 1})


def test_topic_ids_ignore_case():
    assert records.topic_id("Physics", "Optics", " Lens") == records.topic_id(
        "physics", "optics", "lens"
    )


def test_rows_become_tables_and_come_back():
    rows = [sample(scores=[("relevance", 4.0)], origin={"file": "a", "line": 3, "id": "7"})]
    back = table_of("samples", rows).to_pylist()[0]
    assert back["origin"] == {"file": "a", "line": 3, "id": "7"}
    assert back["conversations"] == TURNS
    assert back["scores"] == [("relevance", 4.0)]
    assert back["provenance"] is None


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_an_empty_form(name):
    assert table_of(name, []).schema == TABLES[name]


def test_a_column_that_no_schema_knows_is_an_error():
    with pytest.raises(ValueError, match="colour"):
        table_of("samples", [sample(colour="red")])


def test_a_required_column_that_is_missing_is_an_error():
    with pytest.raises(ValueError, match="category"):
        table_of("samples", [sample(category=None)])


def test_drops_need_a_reason_of_the_closed_list():
    row = drop("images", "id", "corrupt", raw="x" * 5000)
    assert len(row["raw"]) == records.RAW_LIMIT
    assert isinstance(table_of("drops", [row]), pa.Table)
    with pytest.raises(ValueError, match="did_not_like_it"):
        drop("images", "id", "did_not_like_it")
    with pytest.raises(ValueError, match="no_such_stage"):
        drop("no_such_stage", "id", "corrupt")


@given(st.integers(-(2**63), 2**63 - 1), st.text())
def test_draws_are_fractions_and_repeatable(seed, text):
    number = draw(seed, text)
    assert 0 <= number < 1
    assert number == draw(seed, text)


def test_draws_are_even():
    numbers = [draw(1, n) for n in range(4000)]
    for tenth in range(10):
        share = sum(tenth / 10 <= n < (tenth + 1) / 10 for n in numbers) / len(numbers)
        assert 0.07 < share < 0.13
    assert draw(1, "a") != draw(2, "a")
