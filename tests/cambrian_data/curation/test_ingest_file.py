"""A whole file into the pool."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from cambrian_data.catalog import query
from cambrian_data.curation import ingest_file as module
from cambrian_data.curation.ingest_file import ingest_file
from cambrian_data.records import RunFailed, UserError
from cambrian_data.runs import read_runs
from cambrian_data.workspace import Workspace, WorkspaceError
from tests.trees import tree


def row(number, **more):
    turns = [
        {"from": "human", "value": f"<image>\nWhat is {number}?"},
        {"from": "gpt", "value": "A colour."},
    ]
    return {
        "id": number,
        "source": "mine.json",
        "image": f"a/{number % 5}.png",
        "conversations": turns,
    } | more


@pytest.fixture
def data(tmp_path):
    """Forty rows, one of them cut, one without its picture, and five pictures."""
    (tmp_path / "images" / "a").mkdir(parents=True)
    for number in range(5):
        picture = Image.new("RGB", (70 + number, 60), (40 * number, 9, 9))
        picture.save(tmp_path / "images" / "a" / f"{number}.png")
    lines = [json.dumps(row(number)) for number in range(38)]
    lines.insert(7, json.dumps(row(99))[:40])
    lines.append(json.dumps(row(50, image="a/nothing.png")))
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(workspace, data, **more):
    options = {"file": data / "mine.jsonl", "images": data / "images", "name": "mine"}
    return ingest_file(workspace, **options | more)


def test_every_row_is_kept_or_dropped_with_its_line(workspace, data):
    result = run(workspace, data)
    assert (result["rows"], result["samples"], result["pictures"]) == (40, 38, 5)
    assert result["drops"] == {"bad_json": 1, "image_missing": 1}
    assert result["mended"]["number_id"] == 38
    assert result["unknown_sources"] == {"mine.json:a": 38}
    drops = query(workspace, "SELECT reason, origin.line AS line, raw FROM drops ORDER BY line")
    assert [(d["reason"], d["line"]) for d in drops.to_pylist()] == [
        ("bad_json", 7),
        ("image_missing", 39),
    ]
    samples = query(workspace, "SELECT dataset, images[1].path AS p, origin FROM samples")
    for sample in samples.to_pylist():
        assert sample["dataset"] == "mine" and sample["origin"]["file"] == "mine.jsonl"
        assert (workspace.root / sample["p"]).is_file()


def test_again_nothing_is_read_anew_and_damage_is_mended(workspace, data, monkeypatch):
    first = run(workspace, data)
    before = tree(workspace.root)
    monkeypatch.setattr(module, "_ingest_parts", lambda *_: pytest.fail("read again"))
    assert run(workspace, data) == first
    monkeypatch.undo()
    victim = next(workspace.root.glob("pool/mine/samples/part-*.parquet"))
    victim.write_bytes(b"damaged")
    assert run(workspace, data) == first and tree(workspace.root) == before
    assert [r["attempts"] for r in read_runs(workspace)] == [3]


def test_a_changed_file_or_folder_is_read_again(workspace, data):
    run(workspace, data)
    Image.new("RGB", (80, 80), "red").save(data / "images" / "a" / "nothing.png")
    assert run(workspace, data)["samples"] == 39
    with (data / "mine.jsonl").open("a") as file:
        file.write(json.dumps(row(60)) + "\n")
    assert run(workspace, data)["samples"] == 40
    assert len(query(workspace, "FROM samples")) == 40


def test_killed_between_parts_it_goes_on(tmp_path, workspace, data, monkeypatch):
    config = module.IngestConfig(rows_per_part=10)
    monkeypatch.setattr(module, "_config", lambda *_: config)
    run(workspace, data)
    other, made, real = Workspace.create(tmp_path / "other"), [], module.ingest_part

    def dies(lines, **options):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(len(lines))
        return real(lines, **options)

    monkeypatch.setattr(module, "ingest_part", dies)
    with pytest.raises(KeyboardInterrupt):
        run(other, data)
    assert read_runs(other)[0]["status"] == "interrupted"
    made.clear()
    made_before = 2
    monkeypatch.setattr(
        module, "ingest_part", lambda lines, **o: (made.append(len(lines)), real(lines, **o))[1]
    )
    run(other, data)
    assert len(made) == 4 - made_before
    assert tree(other.root) == tree(workspace.root)


def test_rows_without_pictures_need_no_folder(workspace, tmp_path):
    turns = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
    (tmp_path / "t.jsonl").write_text(json.dumps({"id": "a", "conversations": turns}))
    assert ingest_file(workspace, file=tmp_path / "t.jsonl", name="t")["samples"] == 1


def test_mistakes_are_explained(workspace, data, tmp_path):
    with pytest.raises(UserError, match=r"no file .*gone\.jsonl"):
        run(workspace, data, file=data / "gone.jsonl")
    with pytest.raises(UserError, match="no folder"):
        run(workspace, data, images=data / "gone")
    with pytest.raises(UserError, match="--images"):
        run(workspace, data, images=None)
    with pytest.raises(UserError, match="'maybe'"):
        run(workspace, data, check_images="maybe")
    with pytest.raises(WorkspaceError, match="'a/b'"):
        run(workspace, data, name="a/b")
    with pytest.raises(UserError, match="no category"):
        run(workspace, data, strict=True)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no rows"):
        run(workspace, data, file=tmp_path / "empty.jsonl")
    assert workspace.names("pool") == []


def test_other_formats_and_useless_files_are_refused(workspace, data, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + b"0" * 600)
    with pytest.raises(UserError, match="a Parquet file"):
        run(workspace, data, file=tmp_path / "x.parquet")
    with pytest.raises(UserError, match="is a folder"):
        run(workspace, data, file=data)
    (tmp_path / "words.jsonl").write_text("these are\nno rows\n")
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"none of the 2 rows .*bad_json 2"):
            run(workspace, data, file=tmp_path / "words.jsonl", name="words")
    assert len(query(workspace, "FROM drops")) == 2
    assert read_runs(workspace)[0]["status"] == "failed"


def test_another_file_needs_leave_to_replace(workspace, data):
    run(workspace, data)
    other = data / "other.jsonl"
    other.write_text((data / "mine.jsonl").read_text().splitlines()[0])
    with pytest.raises(UserError, match=r"was made from mine\.jsonl.*--replace"):
        run(workspace, data, file=other)
    assert run(workspace, data, file=other, replace=True)["samples"] == 1


def test_categories_can_be_given(workspace, data):
    run(workspace, data, categories={"mine.json": "general"}, strict=True)
    found = query(workspace, "SELECT DISTINCT category FROM samples").to_pylist()
    assert found == [{"category": "general"}]
