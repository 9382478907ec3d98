"""Rows of a file as raw bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.ingest import lines
from cambrian_data.curation.ingest.lines import Lines, cut_parts, line_pieces, read_rows
from cambrian_data.records import UserError

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(['"]},{["', "\\", '\\"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_lines_carry_number_and_place(tmp_path):
    path = write(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"a":1}\r\n\n["x"]\n{"b"')
    rows = list(read_rows(path))
    assert [(row.line, row.data) for row in rows] == [
        (0, b'{"a":1}'),
        (1, b""),
        (2, b'["x"]'),
        (3, b'{"b"'),
    ]
    content = path.read_bytes()
    assert [content[row.offset : row.end].strip() for row in rows] == [row.data for row in rows]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_reading_goes_on_after_any_row(tmp_path, name):
    values = [{"n": n, "text": '"]}, {['} for n in range(7)]
    text = json.dumps(values, indent=1) if name == "a.json" else "\n".join(map(json.dumps, values))
    path = write(tmp_path, name, text.encode())
    rows = list(read_rows(path))
    assert [json.loads(row.data) for row in rows] == values
    for number, row in enumerate(rows):
        assert list(read_rows(path, row.next)) == rows[number + 1 :]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(VALUES, max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    chunk=st.integers(1, 9),
)
def test_array_elements_are_those_that_json_reads(tmp_path_factory, values, indent, chunk):
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    path = write(tmp_path_factory.mktemp("array"), "a.json", text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_CHUNK", chunk)
        patch.setattr(lines, "_is_array", lambda path, file: True)
        rows = list(read_rows(path))
    assert [json.loads(row.data) for row in rows] == values
    assert [row.line for row in rows] == list(range(len(values)))


def test_array_that_was_cut_ends_in_a_row_that_cannot_be_read(tmp_path):
    path = write(tmp_path, "a.json", b'[{"a": 1}, {"b": "two')
    assert [row.data for row in read_rows(path)] == [b'{"a": 1}', b'{"b": "two']


def test_json_file_of_lines_is_read_as_lines(tmp_path):
    path = write(tmp_path, "a.json", b'{"a": 1}\n{"b": 2}\n')
    assert [row.data for row in read_rows(path)] == [b'{"a": 1}', b'{"b": 2}']


def test_row_too_large_is_cut_and_the_next_one_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(lines, "_CHUNK", 10)
    path = write(tmp_path, "a.jsonl", b"x" * 950 + b"\n{}\n" + b"y" * 50)
    rows = list(read_rows(path))
    assert [(row.line, len(row.data)) for row in rows] == [(0, 101), (1, 2), (2, 50)]
    assert rows[1].offset == 951


def test_array_without_an_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(lines, "_CHUNK", 10)
    path = write(tmp_path, "a.json", b'[{"a": 1}, {"b": "' + b"x" * 1000)
    with pytest.raises(UserError, match="element 1 of the array, at byte 10"):
        list(read_rows(path))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing.jsonl"):
        list(read_rows(tmp_path / "nothing.jsonl"))


def test_parts_are_bounded_by_rows_and_by_bytes(tmp_path):
    path = write(tmp_path, "a.jsonl", b"\n".join([b"1234"] * 10))
    sizes = [len(part) for part in cut_parts(read_rows(path), max_rows=4, max_bytes=100)]
    assert sizes == [4, 4, 2]
    sizes = [len(part) for part in cut_parts(read_rows(path), max_rows=4, max_bytes=8)]
    assert sizes == [2] * 5


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.binary(max_size=12).filter(lambda row: b"\n" not in row), max_size=20),
    max_rows=st.integers(1, 7),
    max_bytes=st.integers(1, 60),
    chunk=st.integers(1, 40),
    is_marked=st.booleans(),
    is_ended=st.booleans(),
)
def test_pieces_hold_all_lines_once(
    tmp_path_factory, rows, max_rows, max_bytes, chunk, is_marked, is_ended
):
    text = b"\n".join(rows) + (b"\n" if is_ended else b"")
    data = (b"\xef\xbb\xbf" if is_marked else b"") + text
    path = write(tmp_path_factory.mktemp("pieces"), "a.jsonl", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_CHUNK", chunk)
        pieces = list(line_pieces(path, max_rows=max_rows, max_bytes=max_bytes))
    expected = [(row.line, row.data) for row in read_rows(path)]
    found = []
    for piece in pieces:
        block = Lines(data[piece.start : piece.end])
        assert len(block) == piece.num_lines <= max_rows
        assert piece.end - piece.start < max_bytes + max(map(len, rows), default=0) + 2
        found += [
            (piece.first_line + number, block[number].rstrip(b"\r")) for number in range(len(block))
        ]
    assert found == expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b'{"a": 1}\n{}', True),
        (b"{}\r\n{}\r\n", True),
        (b"{}\n\n{}\n", False),
        (b'{"a":\n{}}\n', False),
        (b'{"a": [{}\n,{}]}\n', False),
        (b" {}\n", False),
        (b"{\n}\n", False),
        (b"\r\n", False),
    ],
)
def test_lines_that_look_like_objects(block, expected):
    assert Lines(block).look_like_objects() is expected
