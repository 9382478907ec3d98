"""Tables of scores: read from every form of file, joined by id, and what is refused."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from cambrian_data.curation.rules import scores as scores_module
from cambrian_data.curation.rules.scores import ScoreTable, scores_of
from cambrian_data.records import SAMPLE, UserError, content_id

IDS = [content_id("scores", number) for number in range(50)]


def write(path, rows):
    """Write rows (id, relevance, need) in the form that the file's name asks for."""
    table = pa.table(
        {
            "id": pa.array([row[0] for row in rows], pa.string()),
            "relevance": pa.array([row[1] for row in rows], pa.float64()),
            "need": pa.array([row[2] for row in rows], pa.int8()),
            "why": [f"reason {number}" for number in range(len(rows))],
        }
    )
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


ROWS = [(sample_id, number / 10, number % 5 or None) for number, sample_id in enumerate(IDS)]


@pytest.fixture(params=["a.parquet", "a.csv", "a.jsonl", "a.NDJSON"])
def table(request, tmp_path):
    return ScoreTable.load([write(tmp_path / request.param, ROWS[:40])])


def test_every_form_of_file_is_read(table):
    assert (table.names, table.ignored) == (("need", "relevance"), ("why",))
    assert table.num_rows == 40
    found = table.look_up(pa.array([IDS[7], IDS[45], IDS[5], IDS[7]]))
    np.testing.assert_array_equal(found["relevance"], np.float32([0.7, np.nan, 0.5, 0.7]))
    np.testing.assert_array_equal(found["need"], np.float32([2, np.nan, np.nan, 2]))
    assert found["need"].dtype == np.float32
    assert table.holds(pa.chunked_array([[IDS[45]], [IDS[5]]])).tolist() == [False, True]
    assert table.look_up(pa.array([], pa.string()))["need"].tolist() == []


def test_files_add_up_in_any_order_and_the_key_is_of_the_content(tmp_path):
    first = write(tmp_path / "a.parquet", ROWS[:30])
    second = write(tmp_path / "b.csv", ROWS[:19:-1])
    whole = write(tmp_path / "c.jsonl", ROWS)
    tables = [ScoreTable.load(paths) for paths in ([first, second], [second, first], [whole])]
    assert [table.num_rows for table in tables] == [50] * 3
    assert len({table.content_key for table in tables}) == 1
    assert ScoreTable.load([first]).content_key != tables[0].content_key
    again = pickle.loads(pickle.dumps(tables[0]))
    assert again.content_key == tables[0].content_key


def test_scores_in_files_of_their_own(tmp_path):
    (tmp_path / "a.csv").write_text(f"id,good\n{IDS[0]},1\n{IDS[1]},2\n")
    (tmp_path / "b.csv").write_text(f"id,is_clean\n{IDS[1]},true\n{IDS[2]},false\n")
    table = ScoreTable.load([tmp_path / "a.csv", tmp_path / "b.csv"])
    found = table.look_up(pa.array(IDS[:3]))
    np.testing.assert_array_equal(found["good"], [1, 2, np.nan])
    np.testing.assert_array_equal(found["is_clean"], [np.nan, 1, 0])


def test_long_files_are_read_in_pieces(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    ids = [content_id(number) for number in range(500)]
    pq.write_table(pa.table({"id": ids, "n": range(500)}), path, row_group_size=7)
    table = ScoreTable.load([path])
    assert table.look_up(pa.array(ids))["n"].tolist() == list(range(500))


def test_columns_that_begin_without_numbers_or_without_a_point(tmp_path, monkeypatch):
    monkeypatch.setattr(scores_module, "_JSON_BYTES", 1000)
    ids = [content_id(number) for number in range(30_000)]
    values = [None] * 10_000 + [1] * 19_999 + [1.5]
    rows = [json.dumps({"id": ids[n], "n": values[n]}) + "\n" for n in range(len(ids))]
    rows[-1] = rows[-1].replace("}", ', "late": 2}')
    (tmp_path / "a.jsonl").write_text("".join(rows[9_900:10_100] + rows[-1:]))
    lines = [f"{ids[n]},{'' if values[n] is None else values[n]}\n" for n in range(len(ids))]
    (tmp_path / "a.csv").write_text("id,n\n" + "".join(lines))
    expected = np.float32([np.nan, 1, 1.5])
    for name, names in (("a.csv", ("n",)), ("a.jsonl", ("late", "n"))):
        table = ScoreTable.load([tmp_path / name])
        assert table.names == names
        found = table.look_up(pa.array([ids[9_950], ids[10_050], ids[-1]]))["n"]
        np.testing.assert_array_equal(found, expected)


def test_numbers_and_words_in_one_column(tmp_path, monkeypatch):
    monkeypatch.setattr(scores_module, "_JSON_BYTES", 1)
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": i, "n": n}) + "\n" for i, n in zip(IDS[:2], [1, "2"], strict=True)
        )
    )
    with pytest.raises(UserError, match="n holds numbers in some rows and something else"):
        ScoreTable.load([path])


def test_ids_that_begin_alike_are_told_apart(tmp_path):
    alike = [f"{'0' * 16}{number:016x}{'f' * 32}" for number in (3, 1, 7, 5)]
    path = tmp_path / "a.csv"
    path.write_text("id,n\n" + "".join(f"{i},{n}\n" for n, i in enumerate(alike)))
    table = ScoreTable.load([path])
    others = [f"{'0' * 16}{number:016x}{'f' * 32}" for number in (0, 2, 4, 9)]
    found = table.look_up(pa.array(alike + others + ["f" * 64]))["n"]
    np.testing.assert_array_equal(found, [0, 1, 2, 3] + [np.nan] * 5)


def test_scores_go_into_the_samples(samples, sample, tmp_path):
    rows = [
        sample("a?", "a", scores=[("z", 1.0), ("relevance", 9.0)]),
        sample("b?", "b", scores=[]),
        sample("c?", "c", scores=None),
        sample("d?", "d", scores=None),
        sample("e?", "e", scores=[("z", None), ("y", 2.0)]),
    ]
    path = write(tmp_path / "a.csv", [(rows[0]["id"], 3, None), (rows[2]["id"], 4, 5)])
    table = samples(*rows)
    merged = ScoreTable.load([path]).add_scores(table)
    assert merged.schema == SAMPLE
    merged.validate(full=True)
    assert merged.drop(["scores"]).equals(table.drop(["scores"]))
    assert merged["scores"].to_pylist() == [
        [("relevance", 3.0), ("z", 1.0)],
        [],
        [("need", 5.0), ("relevance", 4.0)],
        None,
        [("y", 2.0)],
    ]
    sliced = ScoreTable.load([path]).add_scores(table.slice(2, 2))
    assert sliced["scores"].to_pylist() == merged["scores"].to_pylist()[2:4]
    assert ScoreTable.load([path]).add_scores(samples()).num_rows == 0


def test_scores_of_a_batch_come_from_the_table_first(samples, sample, tmp_path):
    rows = [sample("a?", "a", scores=[("need", 1.0), ("own", 9.0)]), sample("b?", "b")]
    path = write(tmp_path / "a.csv", [(rows[1]["id"], 3, 4)])
    (batch,) = samples(*rows).combine_chunks().to_batches()
    found = scores_of(batch, ["need", "own", "none"], ScoreTable.load([path]))
    np.testing.assert_array_equal(found["need"], [1, 4])
    np.testing.assert_array_equal(found["own"], [9, np.nan])
    assert all(map(math.isnan, found["none"]))
    assert scores_of(batch, ["need"], None)["need"].tolist()[0] == 1
    second = scores_of(batch.slice(1), ["need", "own"], ScoreTable.load([path]))
    np.testing.assert_array_equal([second["need"], second["own"]], [[4], [np.nan]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "its name must end in one of .parquet, .csv, .jsonl"),
        ("a.csv", "sample,good\nx,1\n", "no column `id`, but sample, good"),
        ("a.csv", f"id,why\n{IDS[0]},word\n", "no column of numbers beside `id`"),
        ("a.csv", "id,good\n12,1\n", "'12' is no sample id"),
        ("a.jsonl", '{"id": 12, "good": 1}\n', "`id` has type int64"),
        ("a.jsonl", '{"id": null, "good": 1}\n{"id": "a", "good": 1}\n', "1 rows without one"),
        ("a.csv", f"id,good\n{IDS[0]},inf\n", f"good of {IDS[0]} is inf"),
        (
            "a.csv",
            f"id,good\n{IDS[0]},1\n{IDS[0]},2\n",
            "1 samples different numbers for good, as ",
        ),
        ("a.jsonl", '{"id": "x", \n', "cannot be read as a table of scores"),
        ("a.parquet", "PAR1", "cannot be read as a table of scores"),
        ("a.csv", "", "cannot be read as a table of scores"),
        ("a.jsonl", "", "no column of numbers beside `id`, or no row"),
        ("a.csv", "id,good\n", "no column of numbers beside `id`, or no row"),
    ],
)
def test_what_is_no_table_of_scores(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        ScoreTable.load([path])
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="missing.csv cannot be read"):
        ScoreTable.load([tmp_path / "missing.csv"])


def test_the_same_number_twice_is_no_fault(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"id,good,bad\n{IDS[0]},1,\n{IDS[0]},1,2\n")
    found = ScoreTable.load([path]).look_up(pa.array(IDS[:1]))
    assert (found["good"].tolist(), found["bad"].tolist()) == ([1], [2])


def test_known_forms_are_those_of_the_docs():
    assert set(scores_module._READERS) == {".parquet", ".csv", ".jsonl", ".ndjson"}
