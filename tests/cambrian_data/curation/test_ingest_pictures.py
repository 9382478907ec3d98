"""Pictures of an ingested set in a folder: found, checked, kept, and known the next time."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cambrian_data.curation.ingest import picture_folder
from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.curation.ingest.picture_folder import FolderPictures
from cambrian_data.curation.ingest.pictures import (
    CACHE,
    Found,
    Outcome,
    PictureProblem,
    open_pictures,
)
from cambrian_data.records import UserError
from cambrian_data.workspace import Workspace, file_sha256


def png(shade: int = 7, size: tuple[int, int] = (24, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 20, 40)).save(buffer, "PNG")
    return buffer.getvalue()


def add(root: Path, path: str, data: bytes | None = None) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png() if data is None else data)
    return file


def reason(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, PictureProblem) else ""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def asked(workspace: Workspace, where: Any, paths: list[str], **options: Any) -> dict[str, Outcome]:
    options = {"check": "decode", **options}
    pictures = open_pictures(where, workspace=workspace, **options)
    return pickle.loads(pickle.dumps(pictures)).look_up(paths)


# ----------------------------------------------------------------------------------- checks


def test_none_opens_nothing(workspace):
    found = asked(workspace, "/nowhere/at/all", ["a/b.jpg"], check="none")["a/b.jpg"]
    assert isinstance(found, Found)
    assert found.row == {"sha256": None, "path": "a/b.jpg", "width": None, "height": None}


def test_exists_looks_and_does_not_read(workspace, root):
    add(root, "a/good.png", b"no picture")
    (root / "a" / "folder.png").mkdir()
    os.mkfifo(root / "a" / "pipe.png")
    paths = ["a/good.png", "a/gone.png", "a/folder.png", "a/pipe.png", "b/gone.png", "a"]
    found = asked(workspace, root, paths, check="exists")
    assert [reason(found[path]) for path in paths] == ["", *["image_missing"] * 5]


def test_decode_keeps_what_is_a_picture(workspace, root):
    add(root, "a/good.png")
    add(root, "a/broken.png", b"\x89PNG\r\n\x1a\n")
    paths = ["a/good.png", "a/broken.png", "a/gone.png"]
    found = asked(workspace, root, paths)
    good = found["a/good.png"]
    assert isinstance(good, Found)
    assert (good.row["width"], good.row["height"]) == (24, 16)
    assert file_sha256(workspace.root / good.row["path"]) == good.row["sha256"]
    assert [reason(found[path]) for path in paths] == ["", "image_unreadable", "image_missing"]


def test_small_and_long_pictures_are_kept_and_bombs_are_not(workspace, root, shared):
    add(root, "small.png", png(size=(1, 1)))
    add(root, "long.png", png(size=(1, 150)))
    for file in sorted((shared / "webdata" / "images" / "bomb").iterdir()):
        add(root, f"bombs/{file.name}", file.read_bytes())
    bombs = [f"bombs/{file.name}" for file in (root / "bombs").iterdir()]
    found = asked(workspace, root, ["small.png", "long.png", *bombs], threads=2)
    assert [reason(found[path]) for path in ("small.png", "long.png")] == ["", ""]
    assert "image_unreadable" in {reason(found[path]) for path in bombs}
    for path in bombs:
        outcome = found[path]
        if isinstance(outcome, Found):  # one whose bomb is not its pixels, which alone are kept
            assert max(outcome.row["width"], outcome.row["height"]) <= 1600


def test_a_file_that_is_too_large_is_not_read(workspace, root):
    add(root, "a.png", b"x" * 2000)
    found = asked(workspace, root, ["a.png"], max_bytes=1500)["a.png"]
    assert isinstance(found, PictureProblem)
    assert "2000 bytes" in found.detail


@pytest.mark.parametrize("check", ["exists", "decode"])
def test_no_place_of_pictures_is_told_once_a_row_has_one(workspace, check):
    assert asked(workspace, None, [], check=check) == {}
    with pytest.raises(UserError, match="--images"):
        asked(workspace, None, ["a.jpg"], check=check)


def test_a_place_that_is_not_there_is_told(workspace, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        open_pictures(tmp_path / "none", workspace=workspace, check="exists")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match="neither a folder nor a tar file"):
        open_pictures(tmp_path / "a.txt", workspace=workspace, check="exists")


# ------------------------------------------------------------------------------------ paths


@pytest.mark.parametrize("check", ["exists", "decode"])
def test_links_that_lead_out_are_never_opened(workspace, root, tmp_path, check):
    add(tmp_path / "secret", "x.png")
    add(root, "in/x.png")
    (root / "file.png").symlink_to(tmp_path / "secret" / "x.png")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "within").symlink_to("in")
    (root / "same.png").symlink_to("in/x.png")
    (root / "nowhere.png").symlink_to("gone.png")
    (root / "loop").symlink_to("loop")
    paths = ["file.png", "out/x.png", "within/x.png", "same.png", "nowhere.png", "loop/x.png"]
    outside, missing = "image_outside_folder", "image_missing"
    found = asked(workspace, root, paths, check=check)
    assert [reason(found[path]) for path in paths] == [outside, outside, "", "", missing, missing]
    allowed = PathRules(follow_links=True)
    found = asked(workspace, root, paths, check=check, rules=allowed)
    assert [reason(found[path]) for path in paths] == ["", "", "", "", missing, missing]


def test_odd_paths_are_missing_and_raise_nothing(workspace, root):
    paths = ["x" * 300 + ".png", "a\0b.png", "a/" * 3000 + "x.png", "\ud800.png", ".", "a//b"]
    found = asked(workspace, root, paths)
    assert {reason(outcome) for outcome in found.values()} == {"image_missing"}


def test_paths_that_lead_out_by_their_spelling_are_outside(workspace, root, tmp_path):
    add(tmp_path, "secret/x.png")
    found = asked(workspace, root, ["../secret/x.png"])
    assert reason(found["../secret/x.png"]) == "image_outside_folder"


def test_case_is_found_and_told(workspace, root):
    add(root, "COCO/Train/Bild.JPG")
    add(root, "COCO/Train/exact.png")
    add(root, "COCO/Train/EXACT.png")
    found = asked(workspace, root, ["coco/train/bild.jpg", "COCO/Train/exact.png"], check="exists")
    first, exact = found["coco/train/bild.jpg"], found["COCO/Train/exact.png"]
    assert isinstance(first, Found)
    assert (first.row["path"], first.mended) == ("COCO/Train/Bild.JPG", ("path_case",))
    assert isinstance(exact, Found)
    assert (exact.row["path"], exact.mended) == ("COCO/Train/exact.png", ())
    strict = PathRules(ignore_case=False)
    found = asked(workspace, root, ["coco/train/bild.jpg"], check="exists", rules=strict)
    assert reason(found["coco/train/bild.jpg"]) == "image_missing"


def test_other_suffixes_are_tried_in_order(workspace, root):
    add(root, "a/1.png")
    add(root, "a/1.webp")
    add(root, "a/2.JPEG")
    rules = PathRules(extensions=[".webp", ".png", ".jpeg"])
    found = asked(workspace, root, ["a/1.jpg", "A/2.png", "a/3.jpg"], check="exists", rules=rules)
    one, two, three = (found[path] for path in ("a/1.jpg", "A/2.png", "a/3.jpg"))
    assert isinstance(one, Found)
    assert (one.row["path"], one.mended) == ("a/1.webp", ("path_extension",))
    assert isinstance(two, Found)
    assert two.row["path"] == "a/2.JPEG"
    assert set(two.mended) == {"path_case", "path_extension"}
    assert reason(three) == "image_missing"


def test_listings_are_bounded_and_made_again(root, monkeypatch):
    monkeypatch.setattr(picture_folder, "_MAX_NAMES", 5)
    monkeypatch.setattr(picture_folder, "_MAX_FOLDERS", 3)
    paths = [f"{folder}/{name}.png" for folder in "abcdef" for name in "123"]
    for path in paths:
        add(root, path, b"")
    place = FolderPictures(root, PathRules())
    for _ in range(2):
        found = place.find([*paths, "z/1.png"], with_times=True)
        assert [path for path in found if isinstance(found[path], PictureProblem)] == ["z/1.png"]


# ------------------------------------------------------------------------------------ cache


def test_a_second_run_opens_no_picture(workspace, root, monkeypatch):
    add(root, "good.png")
    add(root, "bad.png", b"no picture")
    paths = ["good.png", "bad.png"]
    first = asked(workspace, root, paths)
    monkeypatch.setattr(FolderPictures, "read", None)
    second = asked(workspace, root, paths)
    assert [_plain(first[path]) for path in paths] == [_plain(second[path]) for path in paths]


def _plain(outcome: Outcome) -> Any:
    if isinstance(outcome, PictureProblem):
        return outcome.reason, outcome.detail
    return {key: value for key, value in outcome.row.items() if value is not None}


def test_a_file_that_changed_is_read_again(workspace, root):
    file = add(root, "a.png", png(1))
    before = asked(workspace, root, ["a.png"])["a.png"]
    file.write_bytes(png(2))
    os.utime(file, ns=(1, 1))
    after = asked(workspace, root, ["a.png"])["a.png"]
    assert isinstance(before, Found)
    assert isinstance(after, Found)
    assert before.row["sha256"] != after.row["sha256"]


def test_a_stored_picture_that_is_gone_or_cut_is_made_again(workspace, root):
    add(root, "a.png")
    found = asked(workspace, root, ["a.png"])["a.png"]
    assert isinstance(found, Found)
    stored = workspace.root / found.row["path"]
    for damage in (stored.unlink, lambda: stored.write_bytes(b"cut")):
        damage()
        again = asked(workspace, root, ["a.png"])["a.png"]
        assert isinstance(again, Found)
        assert again.row["sha256"] == found.row["sha256"]
        assert file_sha256(stored) == found.row["sha256"]


def test_the_cache_may_be_deleted_or_damaged(workspace, root):
    add(root, "a.png")
    first = asked(workspace, root, ["a.png"])["a.png"]
    for content in (None, b"no database" * 1000):
        for file in (workspace.root / "cache").iterdir():
            file.unlink()
        if content:
            (workspace.root / CACHE).write_bytes(content)
        assert _plain(asked(workspace, root, ["a.png"])["a.png"]) == _plain(first)


def test_another_limit_is_another_check(workspace, root):
    add(root, "a.png")
    assert reason(asked(workspace, root, ["a.png"])["a.png"]) == ""
    size = (root / "a.png").stat().st_size
    found = asked(workspace, root, ["a.png"], max_bytes=max(1024, size - 1))
    assert reason(found["a.png"]) == ("image_unreadable" if size > 1024 else "")


def test_two_spellings_are_one_picture(workspace, root):
    add(root, "a.png")
    found = asked(workspace, root, ["a.png", "A.png"])
    first, second = found["a.png"], found["A.png"]
    assert isinstance(first, Found)
    assert isinstance(second, Found)
    assert first.row == second.row
    assert second.mended == ("path_case",)


def test_the_fingerprint_follows_the_files(workspace, root):
    file = add(root, "a/b.png")

    def fingerprint(check: str) -> str | None:
        return open_pictures(root, workspace=workspace, check=check).fingerprint()

    assert fingerprint("none") is None
    names, times = fingerprint("exists"), fingerprint("decode")
    os.utime(file, ns=(1, 1))
    assert fingerprint("exists") == names
    assert fingerprint("decode") != times
    add(root, "a/c.png")
    assert fingerprint("exists") != names


# ------------------------------------------------------------------------- pictures in rows


def test_pictures_inside_of_rows_are_kept_by_content(workspace):
    pictures = open_pictures(None, workspace=workspace, check="decode")
    found = pictures.keep({"x/1.png": png(1), "x/same.png": png(1), "x/bad.png": b"bad"})
    one, same, bad = found.values()
    assert isinstance(one, Found)
    assert isinstance(same, Found)
    assert one.row == same.row
    assert reason(bad) == "image_unreadable"
    again = pictures.keep({"other.png": png(1)})["other.png"]
    assert isinstance(again, Found)
    assert again.row["sha256"] == one.row["sha256"]
    unread = open_pictures(None, workspace=workspace, check="none").keep({"x/1.png": b"bad"})
    assert reason(unread["x/1.png"]) == ""


def test_planted_faults_are_all_found(workspace, planted):
    pool = planted("--scale", "0.00001", "--images", "--missing", "0.3", "--faulty", "0")
    named: dict[int, str] = {}
    for number, line in enumerate(pool.path.read_bytes().splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("image"), str):
            named[number] = row["image"]
    wanted = {path for path in named.values() if path not in ("", "None")}
    found = asked(workspace, pool.images, sorted(wanted), check="exists")
    missing = {n for n, path in named.items() if path in wanted and reason(found[path])}
    assert missing
    assert missing == set(pool.lines("image_missing"))
