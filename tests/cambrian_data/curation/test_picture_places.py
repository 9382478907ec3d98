"""Pictures in tar files and below a web address."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.curation.ingest.picture_tars import TarPictures
from cambrian_data.curation.ingest.pictures import Found, Outcome, PictureProblem, open_pictures
from cambrian_data.records import RunFailed, UserError
from cambrian_data.web.http import HttpConfig
from cambrian_data.workspace import Workspace
from tests.webs import Web

HTTP = HttpConfig(contact="tests@example.org", requests_per_second=10_000, max_tries=1)


def png(shade: int = 7) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (shade, 20, 40)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def reason(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, PictureProblem) else ""


def asked(workspace: Workspace, where: Any, paths: list[str], **options: Any) -> dict[str, Outcome]:
    options = {"check": "decode", **options}
    pictures = open_pictures(where, workspace=workspace, **options)
    return pickle.loads(pickle.dumps(pictures)).look_up(paths)


# -------------------------------------------------------------------------------- tar files


@pytest.mark.parametrize("check", ["exists", "decode"])
def test_pictures_are_found_in_tar_files(workspace, tmp_path, check):
    write_tar(tmp_path / "a.tar", {"./coco/1.png": png(1), "coco/Two.PNG": png(2)})
    write_tar(tmp_path / "b.tar", {"coco/1.png": png(9), "gqa/3.webp": png(3)})
    paths = ["coco/1.png", "coco/two.png", "gqa/3.jpg", "gqa/4.png"]
    rules = PathRules(extensions=[".webp"])
    found = asked(workspace, tmp_path / "*.tar", paths, check=check, rules=rules)
    assert [reason(found[path]) for path in paths] == ["", "", "", "image_missing"]
    mends = [outcome.mended for outcome in found.values() if isinstance(outcome, Found)]
    assert mends == [(), ("path_case",), ("path_extension",)]


def test_the_first_tar_file_and_the_last_member_hold(workspace, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for data in (png(1), png(2)):
            header = tarfile.TarInfo("x.png")
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    write_tar(tmp_path / "b.tar", {"x.png": png(3), "y.png": png(2)})
    found = asked(workspace, tmp_path / "*.tar", ["x.png", "y.png"])
    first, second = found["x.png"], found["y.png"]
    assert isinstance(first, Found)
    assert isinstance(second, Found)
    assert first.row["sha256"] == second.row["sha256"]


def test_other_tar_files_in_the_index_are_not_seen(workspace, tmp_path):
    write_tar(tmp_path / "a.tar", {"x.png": png(1)})
    write_tar(tmp_path / "b.tar", {"y.png": png(2)})
    assert reason(asked(workspace, tmp_path / "a.tar", ["x.png"])["x.png"]) == ""
    found = asked(workspace, tmp_path / "b.tar", ["x.png", "y.png"])
    assert [reason(found[path]) for path in ("x.png", "y.png")] == ["image_missing", ""]


def test_a_tar_file_is_listed_again_when_it_changed(workspace, tmp_path, monkeypatch):
    from cambrian_data.curation.ingest import picture_tars

    path = write_tar(tmp_path / "a.tar", {"x.png": png(1)})
    first = asked(workspace, path, ["x.png"])["x.png"]
    listed = []
    monkeypatch.setattr(picture_tars, "members_of", lambda file: listed.append(file) or iter(()))
    monkeypatch.setattr(TarPictures, "read", None)
    second = asked(workspace, path, ["x.png"])["x.png"]
    assert isinstance(first, Found)
    assert isinstance(second, Found)
    assert first.row["sha256"] == second.row["sha256"]
    assert listed == []
    os.utime(path, ns=(1, 1))
    assert reason(asked(workspace, path, ["x.png"])["x.png"]) == "image_missing"
    assert len(listed) == 1


def test_links_in_a_tar_file_are_never_followed(workspace, tmp_path):
    path = write_tar(tmp_path / "a.tar", {"real.png": png(1), "../up.png": png(2)})
    with tarfile.open(path, "a") as tar:
        header = tarfile.TarInfo("link.png")
        header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(header)
    found = asked(workspace, path, ["real.png", "link.png", "../up.png"])
    assert [reason(outcome) for outcome in found.values()] == ["", *["image_outside_folder"] * 2]


def test_a_member_that_is_too_large_is_not_read(workspace, tmp_path):
    path = write_tar(tmp_path / "a.tar", {"x.png": b"x" * 3000})
    found = asked(workspace, path, ["x.png"], max_bytes=2000)["x.png"]
    assert reason(found) == "image_unreadable"


def test_a_tar_file_that_was_cut_is_refused(workspace, tmp_path):
    path = write_tar(tmp_path / "a.tar", {"x.png": png(1), "y.png": b"y" * 4000})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match="damaged or cut"):
        open_pictures(path, workspace=workspace, check="exists")


# ---------------------------------------------------------------------------------- the web


def answer(path: str, _: dict[str, str]) -> tuple[int, dict[str, str], bytes] | None:
    if path in ("/set/a b/1.png", "/set/c.webp"):
        return 200, {"Content-Type": "image/png"}, png(1)
    if path == "/set/bad.png":
        return 200, {"Content-Type": "image/png"}, b"no picture"
    if path == "/set/large.png":
        return 200, {"Content-Type": "image/png"}, b"x" * 5000
    return (503, {}, b"") if path.startswith("/set/busy") else None


def test_pictures_are_fetched_once(workspace):
    rules = PathRules(extensions=[".webp"])
    paths = ["a b/1.png", "c.jpg", "bad.png", "gone.png", "large.png"]
    options: dict[str, Any] = {"rules": rules, "http": HTTP, "allow_private": True}
    unreadable = "image_unreadable"
    expected = ["", "", unreadable, "image_missing", unreadable]
    with Web(answer) as web:
        for _ in range(2):
            found = asked(workspace, f"{web.base}/set/", paths, max_bytes=4000, **options)
            assert [reason(found[path]) for path in paths] == expected
        assert len(web.asked("/set/a b/1.png")) == 1
        assert len(web.asked("/set/bad.png")) == 1


def test_private_addresses_are_refused_unless_allowed(workspace):
    for address in ("http://127.0.0.1:8/x", "http://169.254.169.254/x", "http://[::1]/"):
        with pytest.raises(UserError, match="--allow-private-hosts"):
            open_pictures(address, workspace=workspace, check="decode", http=HTTP)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://user:secretpw@host/x", "--images 'http://host/x' cannot be asked: a user name"),
        ("http://user:secretpw@ho st/x", "--images 'http://...' cannot be asked: not an address"),
        ("http://host/x?key=secretpw", "--images 'http://host/x' was given with a ?"),
        ("http://127.0.0.1:9/x", "--images 'http://127.0.0.1:9/x' is no address of the open"),
        ("file:///etc", "--images 'file:///etc': addresses of the kind file:// are not read"),
        ("s3://user:secretpw@bucket/x", "addresses of the kind s3:// are not read"),
    ],
)
def test_addresses_that_are_not_asked_are_told_without_secrets(workspace, address, said):
    with pytest.raises(UserError) as caught:
        open_pictures(address, workspace=workspace, check="decode", http=HTTP)
    message = str(caught.value)
    assert said in message and "secretpw" not in message
    assert message.count("--allow-private-hosts") == ("127.0.0.1" in address)


def test_a_redirect_to_a_private_address_is_refused(workspace):
    def lead(path: str, _: dict[str, str]) -> tuple[int, dict[str, str], bytes] | None:
        return (302, {"Location": "file:///etc/passwd"}, b"") if path != "/robots.txt" else None

    with Web(lead) as web:
        found = asked(workspace, web.base, ["x.png"], http=HTTP, allow_private=True)
    assert reason(found["x.png"]) == "image_missing"


def test_an_address_needs_a_contact_and_decode(workspace):
    with pytest.raises(UserError, match="contact"):
        open_pictures("https://example.org/x", workspace=workspace, check="decode")
    with pytest.raises(UserError, match="decode"):
        open_pictures("https://example.org/x", workspace=workspace, check="exists", http=HTTP)
    with pytest.raises(UserError, match="no \\? fits"):
        open_pictures("https://example.org/?x=", workspace=workspace, check="decode", http=HTTP)


def test_a_host_that_does_not_answer_stops_the_run(workspace):
    paths = [f"busy{number}.png" for number in range(30)]
    with Web(answer) as web, pytest.raises(RunFailed, match="run the same command again"):
        asked(workspace, f"{web.base}/set", paths, http=HTTP, allow_private=True)


def test_processes_share_the_rate(workspace):
    pictures = open_pictures(
        "https://example.org/x", workspace=workspace, check="decode", http=HTTP, processes=4
    )
    copy = pickle.loads(pickle.dumps(pictures))
    assert copy._source._config.requests_per_second == HTTP.requests_per_second / 4
