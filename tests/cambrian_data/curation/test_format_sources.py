"""What a file or folder is taken for, and the rows of JSON files."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.ingest.formats import (
    FolderRows,
    PlainJson,
    SourceRow,
    open_source,
    unpack,
)
from cambrian_data.curation.ingest.formats.rows import picture_name, take_pictures
from cambrian_data.records import UserError


def row(number: int) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"q{number}"}, {"from": "gpt", "value": f"a{number}"}]
    return {"id": number, "conversations": turns}


def lines(start: int, end: int) -> bytes:
    return b"".join(json.dumps(row(number)).encode() + b"\n" for number in range(start, end))


def all_rows(source: Any, max_rows: int = 3, max_bytes: int = 10**9) -> list[SourceRow]:
    """Read a source piece by piece, as other processes do: pieces go through JSON."""
    copy = pickle.loads(pickle.dumps(source))
    pieces = json.loads(json.dumps(list(source.pieces(max_rows=max_rows, max_bytes=max_bytes))))
    found = []
    for piece in pieces:
        read = list(copy.read(piece))
        assert len(read) == piece["rows"]
        assert [one.line for one in read] == list(range(piece["first"], piece["first"] + len(read)))
        found += read
    return found


def ids(rows: list[SourceRow]) -> list[Any]:
    return [(one.row or json.loads(one.data))["id"] for one in rows]


# ------------------------------------------------------------------------------------ JSON


@given(
    texts=st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")), max_size=30),
    max_rows=st.integers(1, 9),
    max_bytes=st.integers(1, 60),
    ends=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_lines_are_cut_without_losing_any(tmp_path_factory, texts, max_rows, max_bytes, ends):
    data = b"\n".join(texts) + (b"\n" if ends else b"")
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    path.write_bytes(data)
    source = PlainJson(path, "a.jsonl", True)
    pieces = list(source.pieces(max_rows=max_rows, max_bytes=max_bytes))
    is_bare = data == b"\xef\xbb\xbf"
    assert sum(piece["bytes"] for piece in pieces) == (0 if is_bare else len(data))
    assert all(piece["rows"] <= max_rows for piece in pieces)
    found = [one.data for one in all_rows(source, max_rows, max_bytes)]
    expected = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert found == [line.rstrip(b"\r") for line in expected]


def test_a_byte_order_mark_and_blocks_are_no_matter(tmp_path, monkeypatch):
    from cambrian_data.curation.ingest.formats import jsonrows

    monkeypatch.setattr(jsonrows, "_CHUNK", 64)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines(0, 20))
    for max_rows, max_bytes in [(7, 10**6), (10**6, 200), (1, 1), (100, 10**6)]:
        assert ids(all_rows(PlainJson(path, "a", True), max_rows, max_bytes)) == list(range(20))


def test_an_array_is_cut_between_elements(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row(number) for number in range(10)]))
    source = open_source(path, scratch=tmp_path / "scratch")
    assert isinstance(source, PlainJson)
    assert not source.is_lines
    assert ids(all_rows(source, 3)) == list(range(10))
    assert len(list(source.pieces(max_rows=100, max_bytes=300))) > 2


# ---------------------------------------------------------------------------------- packed


@pytest.mark.parametrize("packing", ["gzip", "zstd", "bz2"])
def test_packed_lines_are_read(tmp_path, packing):
    suffix = {"gzip": "gz", "zstd": "zst", "bz2": "bz2"}[packing]
    path = tmp_path / f"a.jsonl.{suffix}"
    with pa.CompressedOutputStream(str(path), packing) as file:
        file.write(lines(0, 7))
    source = open_source(path, scratch=tmp_path / "scratch")
    assert isinstance(source, PlainJson)
    assert source.is_lines
    assert source.name == path.name
    assert ids(all_rows(source)) == list(range(7))
    before = source.path.stat().st_mtime_ns
    again = open_source(path, scratch=tmp_path / "scratch")
    assert isinstance(again, PlainJson)
    assert again.path.stat().st_mtime_ns == before
    assert again.identity() == source.identity()


def test_gzip_of_several_members_is_read_whole(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines(0, 4)) + gzip.compress(lines(4, 6)))
    assert ids(all_rows(open_source(path, scratch=tmp_path / "s"))) == list(range(6))


def test_a_bomb_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "_FREE_RATIO_BYTES", 2**20)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"0" * 2**24))
    with pytest.raises(UserError, match="300 times"):
        open_source(path, scratch=tmp_path / "s")
    assert list((tmp_path / "s").iterdir()) == []


def test_a_packed_file_that_was_cut_is_told(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(os.urandom(10_000))[:-100])
    with pytest.raises(UserError, match="cut short"):
        open_source(path, scratch=tmp_path / "s")


def test_packed_twice_is_refused(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(gzip.compress(lines(0, 2))))
    with pytest.raises(UserError, match="packed twice"):
        open_source(path, scratch=tmp_path / "s")


# --------------------------------------------------------------------------------- folders


def test_a_folder_is_read_file_by_file(tmp_path):
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "b.jsonl").write_bytes(lines(3, 5))
    pq.write_table(pa.Table.from_pylist([row(n) for n in range(3)]), folder / "data" / "a.parquet")
    (folder / "data" / "c.json.gz").write_bytes(gzip.compress(json.dumps([row(5)]).encode()))
    (folder / "README.md").write_text("about")
    (folder / ".hidden.jsonl").write_text("no rows")
    source = open_source(folder, scratch=tmp_path / "scratch")
    assert isinstance(source, FolderRows)
    found = all_rows(source)
    assert ids(found) == list(range(6))
    assert [one.file for one in found] == ["data/a.parquet"] * 3 + ["data/b.jsonl"] * 2 + [
        "data/c.json.gz"
    ]
    assert [entry[0] for entry in source.identity()] == sorted({one.file for one in found})


def test_rows_of_shards_are_of_the_folder_and_others_of_their_file(tmp_path):
    folder = tmp_path / "tally"
    folder.mkdir()
    for name in ("train-00000-of-00002.jsonl", "part_001.jsonl", "part_002.jsonl", "geo170.jsonl"):
        (folder / name).write_bytes(lines(0, 1) + b'{"id": 1, "source": "own"}\n{"id": 2\n[3]\n')
    texts = [{"user": "q", "assistant": "a", "source": "theirs"}]
    pq.write_table(pa.Table.from_pylist([{"texts": texts}]), folder / "t-00-of-01.parquet")
    found = {}
    for one in all_rows(open_source(folder, scratch=tmp_path / "s"), 9):
        found.setdefault(one.file, []).append((one.row or {}).get("source"))
    assert found == {
        "train-00000-of-00002.jsonl": ["tally", "own", None, None],
        "part_001.jsonl": ["tally", "own", None, None],
        "part_002.jsonl": ["tally", "own", None, None],
        "geo170.jsonl": [None] * 4,
        "t-00-of-01.parquet": [None],
    }


def test_a_link_out_of_the_folder_is_not_opened(tmp_path):
    (tmp_path / "secret.jsonl").write_bytes(lines(0, 1))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(UserError, match="is a link to"):
        open_source(folder, scratch=tmp_path / "scratch")


def test_a_snapshot_of_the_hub_may_link_to_its_own_store(tmp_path):
    snapshot = tmp_path / "datasets--x--y" / "snapshots" / "abc"
    blobs = tmp_path / "datasets--x--y" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "f00").write_bytes(lines(0, 2))
    (snapshot / "train.jsonl").symlink_to("../../blobs/f00")
    assert ids(all_rows(open_source(snapshot, scratch=tmp_path / "s"))) == [0, 1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04rest", "a zip file"),
        (b"\x7fELF", "a program"),
        (b"\x89PNG\r\n", "a picture"),
        (b"abc\0\1\2", "neither text"),
    ],
)
def test_other_kinds_are_named(tmp_path, data, said):
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said):
        open_source(path, scratch=tmp_path)


def test_nothing_is_told(tmp_path):
    with pytest.raises(UserError, match="there is no file or folder"):
        open_source(tmp_path / "none", scratch=tmp_path)
    with pytest.raises(UserError, match="https://example.org/x.jsonl is an .* download it first"):
        open_source(Path("https://me:pw@example.org/x.jsonl"), scratch=tmp_path)
    with pytest.raises(UserError, match="/dev/zero is no ordinary file"):
        open_source(Path("/dev/zero"), scratch=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no file of rows"):
        open_source(tmp_path / "empty", scratch=tmp_path)


# ------------------------------------------------------------------------ pictures in rows


def test_pictures_in_rows_are_named_by_their_content():
    both = {"bytes": b"one", "path": "coco/train/1.JPG"}
    made = {"image": both, "images": [{"bytes": b"two", "path": None}, {"path": "x/y.png"}]}
    pictures, mended = take_pictures(made)
    first, second = picture_name(b"one", "coco/train/1.JPG"), picture_name(b"two")
    assert made == {"image": first, "images": [second, "x/y.png"]}
    assert first.startswith("coco/train/")
    assert first.endswith(".jpg")
    assert pictures == {first: b"one", second: b"two"}
    assert mended == {"embedded_pictures"}


@pytest.mark.parametrize("path", ["../../etc/x.png", "/root/x.png", "C:\\pictures\\x.png"])
def test_a_path_on_another_machine_gives_no_folder(path):
    assert "/" not in picture_name(b"data", path)


def test_turns_stored_as_columns_become_turns():
    made: dict[str, Any] = {"conversations": {"from": ["human", "gpt"], "value": ["q", "a"]}}
    _, mended = take_pictures(made)
    assert made["conversations"] == [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a"},
    ]
    assert mended == {"turn_columns"}


def test_a_drop_keeps_the_row_as_text():
    huge = SourceRow("a", 0, row={"id": 2**70, "text": "x" * 10**6, "b": b"123", "n": float("nan")})
    text = json.loads(huge.text())
    assert text["b"] == "<3 bytes>"
    assert len(text["text"]) < 10_000
    lone = SourceRow("a", 0, row={"text": "\ud800"})
    assert json.loads(lone.text()) == {"text": "?"}
    assert SourceRow("a", 0, data=b"{").text() == b"{"


def test_a_large_file_is_known_by_blocks_and_time(tmp_path, monkeypatch):
    from cambrian_data.curation.ingest.formats import rows

    monkeypatch.setattr(rows, "_WHOLE_BYTES", 2**17)
    path = Path(tmp_path / "a")
    path.write_bytes(os.urandom(2**18))
    os.utime(path, ns=(1, 1))
    first = rows.file_identity(path, "a")
    os.utime(path, ns=(2, 2))
    assert rows.file_identity(path, "a") != first
    os.utime(path, ns=(1, 1))
    assert rows.file_identity(path, "a") == first
