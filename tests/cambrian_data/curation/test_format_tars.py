"""Rows of WebDataset tar files, and what lies where in a tar file, hostile ones too."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cambrian_data.curation.ingest.formats import SourceRow, open_source, webdataset
from cambrian_data.curation.ingest.formats.rows import picture_name
from cambrian_data.curation.ingest.formats.tar import Member, TarError, is_tar, members_of
from cambrian_data.records import UserError

wds = pytest.importorskip("webdataset")

TURNS = [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]
PNG, JPG = b"\x89PNG one", b"\xff\xd8\xff two"


def write_tar(
    path: Path, members: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT
) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def add_special(path: Path, name: str, kind: bytes, target: str = "/etc/passwd") -> None:
    with tarfile.open(path, "a") as tar:
        header = tarfile.TarInfo(name)
        header.type, header.linkname = kind, target
        tar.addfile(header)


def all_rows(path: Path, max_rows: int = 3, **options: Any) -> list[SourceRow]:
    source = open_source(path, scratch=path.parent / "scratch", **options)
    copy = pickle.loads(pickle.dumps(source))
    pieces = json.loads(json.dumps(list(source.pieces(max_rows=max_rows, max_bytes=10**9))))
    found = []
    for piece in pieces:
        read = list(copy.read(piece))
        assert len(read) == piece["rows"] <= max_rows
        assert [one.line for one in read] == list(range(piece["first"], piece["first"] + len(read)))
        found += read
    return found


def packed(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode()


# -------------------------------------------------------------------------------- tar files


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_python_finds(tmp_path, form):
    names = ["a.txt", "./b//c.txt", "x" * 99, "y" * 60 + "/" + "z" * 90, "ö.txt"]
    if form != tarfile.USTAR_FORMAT:
        names += ["n" * 300, "long/" * 60 + "ü.jpg"]
    path = write_tar(tmp_path / "a.tar", [(n, n.encode() * i) for i, n in enumerate(names)], form)
    with path.open("rb") as file:
        found = list(members_of(file))
        data = [(file.seek(member.offset), file.read(member.size))[1] for member in found]
    assert data == [name.encode() * number for number, name in enumerate(names)]
    assert [member.name for member in found] == [name.replace("./b//", "b/") for name in names]
    assert not any(member.refused for member in found)
    with tarfile.open(path) as tar:
        assert [member.offset for member in found] == [one.offset_data for one in tar]
    with path.open("rb") as file:
        assert list(members_of(file, found[2].start, found[3].end)) == found[2:4]


def test_a_size_beyond_octal_digits_is_read(tmp_path):
    header = tarfile.TarInfo("a.jpg")
    header.size = 2**40
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    with path.open("rb") as file, pytest.raises(TarError, match=str(2**40)):
        list(members_of(file))


def test_what_is_no_plain_file_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("../../etc/x.jpg", b"1"), ("/abs.jpg", b"2")])
    for name, kind in [("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("d", tarfile.CHRTYPE)]:
        add_special(path, f"{name}.jpg", kind)
    add_special(path, "folder", tarfile.DIRTYPE)
    add_special(path, "pipe.jpg", tarfile.FIFOTYPE)
    with path.open("rb") as file:
        refused = {member.name: member.refused for member in members_of(file)}
    assert list(refused) == ["../../etc/x.jpg", "/abs.jpg", "l.jpg", "h.jpg", "d.jpg", "pipe.jpg"]
    assert all(refused.values())
    assert refused["l.jpg"] == "a symbolic link"


def test_a_list_of_attributes_without_end_is_not_read(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**32
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT))
    with path.open("rb") as file, pytest.raises(TarError, match="a header of"):
        list(members_of(file))


def test_random_damage_ends_the_reading_and_no_more(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"{n}.jpg", b"x" * 700) for n in range(20)])
    whole, generator = path.read_bytes(), np.random.default_rng(1)
    for _ in range(300):
        at = int(generator.integers(0, len(whole) - 8))
        data = whole[:at] + generator.bytes(8) + whole[at + 8 :]
        found: list[Member] = []
        try:
            for member in members_of(io.BytesIO(data)):
                found.append(member)
        except TarError:
            pass
        assert len(found) <= 20
    assert not is_tar(b"\0" * 512)
    assert not is_tar(b"{" * 600)


# ------------------------------------------------------------------------------------- rows


def test_what_webdataset_writes_is_read(tmp_path):
    path = tmp_path / "a.tar"
    with wds.TarWriter(str(path)) as sink:
        for number in range(7):
            row = {"id": number, "conversations": TURNS, "image": f"coco/{number}.jpg"}
            sink.write({"__key__": f"{number:04d}", "jpg": JPG + bytes([number]), "json": row})
    found = all_rows(path)
    assert len(found) == 7
    for number, one in enumerate(found):
        data = JPG + bytes([number])
        name = picture_name(data, f"coco/{number}.jpg")
        assert one.row == {"id": number, "conversations": TURNS, "image": name}
        assert one.pictures == {name: data}
        assert name.startswith("coco/")
        assert one.mended == {"embedded_pictures"}


def test_several_pictures_are_matched_by_name_or_in_order(tmp_path):
    both = [("k.1.png", PNG), ("k.0.jpg", JPG)]
    shapes: list[tuple[Any, list[bytes]]] = [
        (["0.jpg", "1.png"], [JPG, PNG]),
        ([{"file": "1.png", "sha256": "x"}, {"file": "0.jpg"}], [PNG, JPG]),
        (["coco/a.jpg", "coco/b.jpg"], [PNG, JPG]),
        (["x/k.0.jpg", "x/k.1.png"], [JPG, PNG]),
        (None, [PNG, JPG]),
    ]
    for images, expected in shapes:
        row = packed({"id": 1, "images": images, "conversations": TURNS})
        (one,) = all_rows(write_tar(tmp_path / "a.tar", [("k.json", row), *both]))
        assert one.row is not None
        names = one.row["images" if images else "image"]
        assert [one.pictures[name] for name in names] == expected


def test_a_picture_that_is_not_in_the_tar_stays_a_path(tmp_path):
    row = packed({"image": ["coco/1.jpg", "gqa/2.jpg", "gqa/3.jpg"], "conversations": TURNS})
    (one,) = all_rows(write_tar(tmp_path / "a.tar", [("k.2.jpg", JPG), ("k.json", row)]))
    assert one.row is not None
    assert one.row["image"] == ["coco/1.jpg", "gqa/2.jpg", "gqa/3.jpg"]


def test_captions_and_text_only_rows(tmp_path):
    members = [
        ("a.txt", b" A cat. \n"),
        ("a.jpg", JPG),
        ("b.json", packed({"conversations": TURNS})),
        ("c.json", packed({"url": "x"})),
        ("c.caption", b"A dog."),
        ("c.png", PNG),
        ("d.jpg", JPG),
        ("e.txt", b"\xff\xfe"),
    ]
    rows = all_rows(write_tar(tmp_path / "a.tar", members))
    assert rows[0].row == {"caption": "A cat.", "id": "a", "image": picture_name(JPG, "a.jpg")}
    assert rows[1].row == {"id": "b", "conversations": TURNS, "image": None}
    assert rows[2].row is not None
    assert rows[2].row["caption"] == "A dog."
    assert rows[3].problem is not None
    assert rows[3].problem[0] == "no_conversation"
    assert rows[4].problem is not None
    assert rows[4].problem[0] == "bad_encoding"


def test_json_that_is_none_is_left_to_the_rows_reader(tmp_path):
    members = [("a.json", b'{"id": '), ("b.json", b"[1]"), ("c.json", b'{"id": NaN, "text": "x"}')]
    rows = all_rows(write_tar(tmp_path / "a.tar", members))
    assert [one.data for one in rows[:2]] == [b'{"id": ', b"[1]"]
    assert [one.row for one in rows[:2]] == [None, None]
    assert rows[2].row is not None


def test_hostile_members_cost_their_row(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [("../../x.json", packed({"conversations": TURNS})), ("a.json", packed({"a": 1}))],
    )
    add_special(path, "a.jpg", tarfile.SYMTYPE)
    add_special(path, "b.json", tarfile.LNKTYPE, "a.json")
    assert [one.problem and one.problem[0] for one in all_rows(path)] == [
        "image_outside_folder"
    ] * 3


def test_members_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "MAX_ROW_BYTES", 100)
    members = [
        ("a.json", b" " * 101),
        ("b.json", packed({"conversations": []})),
        ("b.jpg", b"x" * 2000),
        *((f"c.{number}.jpg", b"") for number in range(1000)),
    ]
    rows = all_rows(write_tar(tmp_path / "a.tar", members), max_picture_bytes=1000)
    assert [one.problem and one.problem[0] for one in rows] == [
        "too_large",
        "image_unreadable",
        "too_large",
    ]


@pytest.mark.parametrize("share", [0.2, 0.55, 0.9])
def test_a_tar_file_that_was_cut_gives_what_comes_before(tmp_path, share):
    row = packed({"conversations": TURNS})
    members = [
        (f"{n:03d}.{end}", data) for n in range(20) for end, data in [("json", row), ("jpg", JPG)]
    ]
    path = write_tar(tmp_path / "a.tar", members)
    data = path.read_bytes()
    path.write_bytes(data[: int(20 * 2 * 1024 * share) + 100])
    *good, lost = all_rows(path)
    assert len(good) >= int(20 * share) - 1
    assert all(len(one.pictures) == 1 for one in good)
    assert lost.problem is not None
    assert lost.problem[0] == "damaged"
    assert f"row {len(good)}" in lost.problem[1]


def test_a_tar_file_of_nothing_is_told(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.json", b"x" * 2000)])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as a tar file"):
        all_rows(path)


def test_own_shards_are_read_and_their_index_is_not(tmp_path):
    row = packed({"id": "f", "source": "a.json:coco", "images": [], "conversations": TURNS})
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "shard-000000.tar", [("000000.json", row)])
    (folder / "index.json").write_text("{}")
    (one,) = all_rows(folder)
    assert one.row is not None
    assert one.row["source"] == "a.json:coco"
    assert one.file == "shard-000000.tar"
