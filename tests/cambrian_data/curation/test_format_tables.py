"""Rows of Parquet and Arrow files, as `datasets` and others write them, whole and damaged."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cambrian_data.curation.ingest.formats import SourceRow, batches, open_source
from cambrian_data.curation.ingest.formats.flatbuffer import unfolded_size
from cambrian_data.curation.ingest.formats.parquet import check_footers
from cambrian_data.curation.ingest.formats.rows import picture_name
from cambrian_data.records import UserError

datasets = pytest.importorskip("datasets")


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def llava(number: int) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"q{number}"}, {"from": "gpt", "value": f"a{number}"}]
    return {"id": str(number), "conversations": turns}


def all_rows(path: Path, max_rows: int = 7, max_bytes: int = 10**9) -> list[SourceRow]:
    source = open_source(path, scratch=path.parent / "scratch")
    copy = pickle.loads(pickle.dumps(source))
    pieces = json.loads(json.dumps(list(source.pieces(max_rows=max_rows, max_bytes=max_bytes))))
    found = []
    for piece in pieces:
        read = list(copy.read(piece))
        assert len(read) == piece["rows"] <= max_rows
        assert [one.line for one in read] == list(range(piece["first"], piece["first"] + len(read)))
        found += read
    return found


def row_ids(rows: list[SourceRow]) -> list[str]:
    return [one.row["id"] for one in rows if one.row is not None]


# --------------------------------------------------------------------------------- Parquet


@pytest.mark.parametrize("group", [1, 3, 10, 100])
@pytest.mark.parametrize("max_rows", [1, 7, 40, 1000])
def test_row_groups_are_joined_and_cut(tmp_path, group, max_rows):
    path = tmp_path / "a.parquet"
    table = pa.Table.from_pylist([llava(number) for number in range(100)])
    pq.write_table(table, path, row_group_size=group)
    found = all_rows(path, max_rows)
    assert [one.row for one in found] == [llava(number) for number in range(100)]
    assert {one.file for one in found} == {"a.parquet"}


def test_pieces_hold_no_more_bytes_than_asked(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{"id": str(n), "question": "q", "answer": f"{n}" * 5000} for n in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=25)
    source = open_source(path, scratch=tmp_path)
    pieces = list(source.pieces(max_rows=1000, max_bytes=100_000))
    assert len(pieces) > 5
    assert all(piece["bytes"] <= 100_000 for piece in pieces)
    assert row_ids(all_rows(path, 1000, 100_000)) == [str(n) for n in range(100)]


def test_other_columns_are_passed_over(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{**llava(n), "embedding": [0.5] * 10, "rating": 3} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert [one.row for one in all_rows(path)] == [llava(n) for n in range(3)]


def test_a_table_without_conversations_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [1], "url": ["x"]}), path)
    with pytest.raises(UserError, match=r"columns \['id', 'url'\]"):
        all_rows(path)


def test_pictures_inside_of_rows(tmp_path):
    path = tmp_path / "a.parquet"
    one, two = png(1), png(2)
    rows = [
        {"id": "0", "image": {"bytes": one, "path": "coco/1.png"}},
        {"id": "1", "image": {"bytes": None, "path": "coco/2.png"}},
        {"id": "2", "images": [{"bytes": one, "path": None}, {"bytes": two, "path": None}]},
        {"id": "3"},
    ]
    made = [{**row, "conversations": llava(0)["conversations"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(made, _picture_schema()), path)
    found = all_rows(path)
    first = picture_name(one, "coco/1.png")
    assert found[0].row is not None
    assert found[0].row["image"] == first
    assert found[0].pictures == {first: one}
    assert found[1].row is not None
    assert found[1].row["image"] == "coco/2.png"
    assert found[2].pictures == {picture_name(one): one, picture_name(two): two}
    assert found[2].row is not None
    assert found[2].row["images"] == [picture_name(one), picture_name(two)]
    assert not found[3].pictures
    assert [bool(row.mended) for row in found] == [True, False, True, False]


def _picture_schema() -> pa.Schema:
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    return pa.schema(
        {
            "id": pa.string(),
            "image": picture,
            "images": pa.list_(picture),
            "conversations": pa.list_(turn),
        }
    )


def test_a_picture_that_is_too_large_is_a_problem(tmp_path):
    path = tmp_path / "a.parquet"
    turns = llava(0)["conversations"]
    rows = [{"image": {"bytes": b"x" * n, "path": None}, "conversations": turns} for n in (5, 50)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    source = open_source(path, scratch=tmp_path, max_picture_bytes=10)
    found = [
        row for piece in source.pieces(max_rows=9, max_bytes=999) for row in source.read(piece)
    ]
    assert found[0].problem is None
    assert found[1].problem is not None
    assert found[1].problem[0] == "image_unreadable"


def test_a_damaged_page_costs_the_rows_behind_it(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{"id": str(n), "question": "q", "answer": str(n) * 50} for n in range(4000)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1000, compression="zstd")
    whole = path.read_bytes()
    start = pq.ParquetFile(path).metadata.row_group(2).column(2).dictionary_page_offset
    path.write_bytes(whole[: start + 20] + b"\xff" * 400 + whole[start + 420 :])
    found = all_rows(path, 1000)
    assert len(found) == 4000
    lost = [one.line for one in found if one.problem]
    assert lost == list(range(2000, 3000))
    assert {one.problem[0] for one in found if one.problem} == {"damaged"}


def test_a_parquet_file_that_was_cut_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([llava(n) for n in range(100)]), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="cut short"):
        all_rows(path)


def test_an_end_that_crashes_the_reader_is_told(tmp_path):
    whole_path = tmp_path / "whole.parquet"
    pq.write_table(pa.Table.from_pylist([llava(n) for n in range(100)]), whole_path)
    whole = whole_path.read_bytes()
    footer_bytes = int.from_bytes(whole[-8:-4], "little")
    generator = np.random.default_rng(0)
    paths = []
    for number in range(500):
        data = bytearray(whole)
        for _ in range(3):
            at = int(generator.integers(len(data) - 8 - footer_bytes, len(data) - 8))
            data[at] = int(generator.integers(0, 256))
        paths.append(tmp_path / f"{number}.parquet")
        paths[-1].write_bytes(data)
    check_footers([whole_path])
    with pytest.raises(UserError, match=r"\d+\.parquet cannot be read as Parquet"):
        check_footers([whole_path, *paths])


def test_types_nested_too_deeply_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    kind: pa.DataType = pa.int32()
    for _ in range(300):
        kind = pa.struct([("a", kind)])
    pq.write_table(pa.table({"conversations": pa.nulls(2, kind)}), path)
    with pytest.raises(UserError, match="cannot be read"):
        all_rows(path)


def test_one_long_text_in_every_row_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "a.parquet"
    text = pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), ["x" * 2**21])
    table = pa.table({"question": text, "answer": ["a"] * 20_000})
    pq.write_table(table, path)  # 40 GB of text in some kilobytes
    source = open_source(path, scratch=tmp_path)
    piece = next(iter(source.pieces(max_rows=50_000, max_bytes=10**9)))
    before = pa.total_allocated_bytes()
    for number, row in zip(range(100), source.read(piece), strict=False):
        assert row.row is not None
        assert len(row.row["question"]) == 2**21
        assert pa.total_allocated_bytes() - before < 600 * 2**20, number


def test_a_row_of_too_much_text_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "MAX_UNFOLDED_BYTES", 1000)
    monkeypatch.setattr(batches, "MAX_ROW_BYTES", 2000)
    path = tmp_path / "a.parquet"
    rows = [{"id": str(n), "question": "q" * 10**n, "answer": "a"} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert [one.problem and one.problem[0] for one in all_rows(path)] == [
        *(None, None, None, None),
        "too_large",
    ]


def test_text_that_is_no_utf8_costs_its_row_alone(tmp_path):
    path = tmp_path / "a.parquet"
    texts = pa.array([b"good", b"\xff\xfe", b"fine"]).cast(pa.binary())
    answers = pa.StringArray.from_buffers(3, texts.buffers()[1], texts.buffers()[2])
    pq.write_table(pa.table({"question": ["q"] * 3, "answer": answers}), path)
    found = all_rows(path)
    assert [one.problem and one.problem[0] for one in found] == [None, "bad_encoding", None]


def test_more_rows_than_bytes_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.nulls(5_000_000, pa.string())}), path)
    with pytest.raises(UserError, match="no rows with text can be"):
        all_rows(path, 50_000)


# ----------------------------------------------------------------------------------- Arrow


def test_a_saved_data_set_is_read(tmp_path):
    made = datasets.Dataset.from_list([llava(n) for n in range(30)])
    made.save_to_disk(str(tmp_path / "set"), num_shards=3)
    found = all_rows(tmp_path / "set")
    assert [one.row for one in found] == [{**llava(n), "source": "set"} for n in range(30)]
    assert len({one.file for one in found}) == 3


def test_saved_splits_are_read(tmp_path):
    splits = {
        "train": datasets.Dataset.from_list([llava(0)]),
        "test": datasets.Dataset.from_list([llava(1)]),
    }
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "set"))
    found = all_rows(tmp_path / "set")
    assert row_ids(found) == ["0", "1"]
    assert [Path(one.file).parts[0] for one in found] == ["train", "test"]


def test_a_saved_data_set_that_lacks_a_file_is_refused(tmp_path):
    made = datasets.Dataset.from_list([llava(n) for n in range(30)])
    made.save_to_disk(str(tmp_path / "set"), num_shards=3)
    next((tmp_path / "set").glob("*00001*.arrow")).unlink()
    with pytest.raises(UserError, match="lacks"):
        all_rows(tmp_path / "set")


def test_picture_features_are_read(tmp_path):
    features = datasets.Features({"images": [datasets.Image()], "texts": _texts()})
    rows = {
        "images": [[Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")]],
        "texts": [[{"user": "q", "assistant": "a", "source": "s"}]],
    }
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(str(tmp_path / "set"))
    made.to_parquet(str(tmp_path / "b.parquet"))
    for path in (tmp_path / "set", tmp_path / "b.parquet"):
        (found,) = all_rows(path)
        assert found.row is not None
        assert len(found.pictures) == 2
        assert list(found.pictures) == found.row["images"]
        assert all(data.startswith(b"\x89PNG") for data in found.pictures.values())
        assert found.row["texts"] == [{"user": "q", "assistant": "a", "source": "s"}]


def _texts() -> list[dict[str, Any]]:
    text = datasets.Value("string")
    return [{"user": text, "assistant": text, "source": text}]


def write_arrow(
    path: Path, rows: int, compression: str | None, new: Any = pa.ipc.new_stream
) -> None:
    table = pa.Table.from_pylist([llava(n) for n in range(rows)])
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=10)


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_streams_and_files_are_read(tmp_path, compression, new):
    path = tmp_path / "a.arrow"
    write_arrow(path, 35, compression, new)
    assert row_ids(all_rows(path, 20)) == [str(n) for n in range(35)]


@pytest.mark.parametrize("max_rows", [3, 10, 25, 1000])
def test_large_batches_are_cut(tmp_path, max_rows):
    path = tmp_path / "a.arrow"
    write_arrow(path, 35, None)
    assert row_ids(all_rows(path, max_rows)) == [str(n) for n in range(35)]


def test_dictionary_columns_are_read(tmp_path):
    path = tmp_path / "a.arrow"
    table = pa.table({"id": ["0", "1"], "question": pa.array(["q", "q"]).dictionary_encode()})
    table = table.append_column("answer", pa.array(["a", "b"]))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    assert [one.row and one.row["question"] for one in all_rows(path)] == ["q", "q"]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.99])
def test_an_arrow_file_that_was_cut_gives_what_it_holds(tmp_path, share):
    path = tmp_path / "a.arrow"
    write_arrow(path, 100, None)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    *good, lost = all_rows(path)
    assert row_ids(good) == [str(n) for n in range(len(good))]
    assert len(good) >= 10
    assert lost.problem is not None
    assert lost.problem[0] == "damaged"
    assert f"from row {len(good)} on" in lost.problem[1]


def test_no_arrow_file_is_told(tmp_path):
    path = tmp_path / "a.arrow"
    path.write_bytes(b"\xff\xff\xff\xff" + b"\x10\0\0\0" + b"nonsense" * 20)
    with pytest.raises(UserError, match="no Arrow file"):
        all_rows(path)


def test_a_packed_batch_is_measured_before_it_is_unpacked(tmp_path, monkeypatch):
    from cambrian_data.curation.ingest.formats import arrow

    path = tmp_path / "a.arrow"
    table = pa.table({"question": ["0" * 10**6] * 20, "answer": ["a"] * 20})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    with pa.memory_map(str(path)) as file:
        messages = list(pa.ipc.MessageReader.open_stream(file))
        size = unfolded_size(messages[1].metadata.to_pybytes(), messages[1].body)
    assert 20 * 10**6 < size < 21 * 10**6
    assert path.stat().st_size < 10**5
    monkeypatch.setattr(arrow, "_MAX_BATCH_BYTES", 10**7)
    (lost,) = all_rows(path)
    assert lost.problem is not None
    assert "unfolds to" in lost.problem[1]


def test_damaged_headers_are_told_not_raised(tmp_path):
    path = tmp_path / "a.arrow"
    write_arrow(path, 40, "zstd")
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        at = int(generator.integers(400, len(whole) - 8))
        path.write_bytes(whole[:at] + generator.bytes(4) + whole[at + 4 :])
        try:
            found = all_rows(path)
        except UserError:
            continue
        assert found
