"""A whole file into the pool."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cambrian_data.catalog import query
from cambrian_data.curation.ingest import file as module
from cambrian_data.curation.ingest import lines, rows
from cambrian_data.curation.ingest import pieces as pieces
from cambrian_data.curation.ingest.file import ingest_file
from cambrian_data.records import RunFailed, UserError
from cambrian_data.runs import read_runs
from cambrian_data.workspace import Workspace, WorkspaceError
from tests.trees import put_dataset, tree

REPOSITORY = Path(__file__).parent.parent.parent.parent


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
    monkeypatch.setattr(module, "_make", lambda *_: pytest.fail("read again"))
    assert run(workspace, data) == first
    monkeypatch.undo()
    victim = next(workspace.root.glob("pool/mine/samples/part-*.parquet"))
    os.utime(data / "mine.jsonl", (1, 1))
    victim.write_bytes(b"damaged")
    assert run(workspace, data) == first and tree(workspace.root) == before
    assert [r["attempts"] for r in read_runs(workspace)] == [3]
    assert not list((workspace.root / "staging").iterdir())


def test_a_changed_file_or_folder_is_read_again(workspace, data):
    run(workspace, data)
    Image.new("RGB", (80, 80), "red").save(data / "images" / "a" / "nothing.png")
    assert run(workspace, data)["samples"] == 39
    with (data / "mine.jsonl").open("a") as file:
        file.write(json.dumps(row(60)) + "\n")
    assert run(workspace, data)["samples"] == 40
    assert len(query(workspace, "FROM samples")) == 40


def small_parts(monkeypatch, rows=10):
    config = module.IngestConfig(rows_per_part=rows, check_images="none")
    monkeypatch.setattr(module, "_config", lambda *_: config)


def test_interrupted_between_parts_it_goes_on(tmp_path, workspace, data, monkeypatch):
    small_parts(monkeypatch)
    run(workspace, data)
    other, made, real = Workspace.create(tmp_path / "other"), [], pieces.ingest_lines

    def dies(lines, **options):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(options["first_line"])
        return real(lines, **options)

    monkeypatch.setattr(pieces, "ingest_lines", dies)
    with pytest.raises(KeyboardInterrupt):
        run(other, data)
    assert read_runs(other)[0]["status"] == "interrupted"
    assert other.names("pool") == []
    again = []
    monkeypatch.setattr(
        pieces,
        "ingest_lines",
        lambda lines, **o: (again.append(o["first_line"]), real(lines, **o))[1],
    )
    run(other, data)
    assert (made, again) == ([0, 10], [20, 30])
    assert tree(other.root) == tree(workspace.root)


def test_a_file_changed_after_an_interrupt_is_not_mixed_up(tmp_path, data, monkeypatch):
    small_parts(monkeypatch)
    workspace, made, real = Workspace.create(tmp_path / "ws"), [], pieces.ingest_lines

    def dies(lines, **options):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(options["first_line"])
        return real(lines, **options)

    monkeypatch.setattr(pieces, "ingest_lines", dies)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, data)
    monkeypatch.undo()
    small_parts(monkeypatch)
    file = data / "mine.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    lines.insert(15, json.dumps(row(777)) + "\n")  # in the second part; all behind it moves
    file.write_text("".join(lines))
    run(workspace, data)
    fresh = Workspace.create(tmp_path / "fresh")
    run(fresh, data)
    assert tree(workspace.root) == tree(fresh.root)


def test_file_that_changes_while_it_is_read_is_refused(workspace, data, monkeypatch):
    small_parts(monkeypatch)
    file, real = data / "mine.jsonl", pieces.ingest_lines

    def grows(lines, **options):
        file.write_text("{}\n" * 12 + file.read_text()[: file.stat().st_size // 2])
        return real(lines, **options)

    monkeypatch.setattr(pieces, "ingest_lines", grows)
    with pytest.raises(UserError, match="changed while it was read"):
        run(workspace, data)
    assert workspace.names("pool") == []


def test_file_that_grows_behind_what_was_read_is_refused(workspace, data, monkeypatch):
    real = pieces.ingest_lines

    def grows(lines, **options):
        with (data / "mine.jsonl").open("a") as file:
            file.write("\n")
        return real(lines, **options)

    monkeypatch.setattr(pieces, "ingest_lines", grows)
    with pytest.raises(UserError, match="changed while it was read"):
        run(workspace, data, check_images="none")
    monkeypatch.undo()
    assert run(workspace, data, check_images="none")["rows"] == 40


def test_rows_too_large_for_memory_are_read_one_by_one(tmp_path, workspace, monkeypatch):
    """A piece that one row makes longer than memory should hold, in pieces of any size."""
    turns = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
    good = json.dumps({"conversations": turns})
    (tmp_path / "t.jsonl").write_text(f"{good}\n{'x' * 5000}\n{good}\n\n{good}")
    for module_ in (lines, rows, pieces):
        monkeypatch.setattr(module_, "MAX_ROW_BYTES", 1000)
    config = module.IngestConfig(bytes_per_part=200, check_images="none")
    monkeypatch.setattr(module, "_config", lambda *_: config)
    result = run(workspace, tmp_path, file=tmp_path / "t.jsonl", images=None)
    assert (result["samples"], result["drops"]) == (3, {"too_large": 1})
    found = query(workspace, "SELECT origin.line AS line FROM samples ORDER BY line").to_pylist()
    assert [one["line"] for one in found] == [0, 2, 4]


@pytest.fixture
def long_file(tmp_path):
    """Rows enough for several processes to be at work."""
    turns = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello. " * 200}]
    with (tmp_path / "long.jsonl").open("w") as file:
        for number in range(8_000):
            file.write(json.dumps({"id": number, "conversations": turns}) + "\n")
    return tmp_path / "long.jsonl"


def test_any_number_of_processes_gives_the_same_bytes(tmp_path, long_file, monkeypatch):
    small_parts(monkeypatch, 1_000)
    trees = []
    for workers in (1, 3):
        workspace = Workspace.create(tmp_path / f"ws{workers}")
        result = ingest_file(workspace, file=long_file, name="long", workers=workers)
        assert result["samples"] == 8_000
        trees.append(tree(workspace.root))
    assert trees[0] == trees[1] and len(trees[0]) > 8


KILLED = """
import sys
from pathlib import Path
from cambrian_data.curation.ingest import file as module
from cambrian_data.workspace import Workspace
config = module.IngestConfig(rows_per_part=500, check_images="none")
module._config = lambda *_: config
workspace = Workspace.create(sys.argv[1])
module.ingest_file(workspace, file=Path(sys.argv[2]), name="long", workers=2)
"""


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path, long_file, monkeypatch):
    command = [sys.executable, "-c", KILLED]
    root = tmp_path / "killed"
    first = subprocess.Popen([*command, str(root), str(long_file)], cwd=REPOSITORY)
    deadline = time.monotonic() + 60
    while len(list(root.glob("staging/*/manifests/ingest/*.json"))) < 3:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.005)
    first.kill()
    first.wait()
    kept = {path: path.stat().st_mtime_ns for path in root.glob("staging/*/samples/*.parquet")}
    assert 3 <= len(kept) <= 16
    names = {path.name for path in kept}
    subprocess.run([*command, str(root), str(long_file)], cwd=REPOSITORY, check=True)
    found = {path.name: path.stat().st_mtime_ns for path in root.glob("pool/long/samples/*")}
    assert len(found) == 16 and names <= set(found)
    assert sum(found[path.name] == written for path, written in kept.items()) >= 3
    small_parts(monkeypatch, 500)
    fresh = Workspace.create(tmp_path / "fresh")
    ingest_file(fresh, file=long_file, name="long", workers=1)
    assert tree(root) == tree(fresh.root)


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
    with pytest.raises(UserError, match=r"no category .*'mine.json:a' \(38 rows\)"):
        run(workspace, data, strict=True)
    with pytest.raises(UserError, match="--workers 0"):
        run(workspace, data, workers=0)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no rows"):
        run(workspace, data, file=tmp_path / "empty.jsonl")
    assert workspace.names("pool") == []


def test_strict_names_all_unknown_sources_of_all_parts(workspace, tmp_path, monkeypatch):
    small_parts(monkeypatch, 2)
    (tmp_path / "many.jsonl").write_text(
        "\n".join(json.dumps(row(n, source=f"{n // 2}.json")) for n in range(7))
    )
    with pytest.raises(UserError, match=r"4 of its sources: '0.json:a' \(2 rows\).*'3.json:a'"):
        run(workspace, tmp_path, file=tmp_path / "many.jsonl", images=None, strict=True)
    assert workspace.names("pool") == [] and not list((workspace.root / "staging").iterdir())
    run(workspace, tmp_path, file=tmp_path / "many.jsonl", images=None)
    with pytest.raises(UserError, match="4 of its sources"):
        run(workspace, tmp_path, file=tmp_path / "many.jsonl", images=None, strict=True)


def test_other_formats_are_read_the_same_way(workspace, data, tmp_path):
    result = run(workspace, data)
    (tmp_path / "set").mkdir()
    packed = gzip.compress((data / "mine.jsonl").read_bytes())
    (tmp_path / "set" / "mine.jsonl.gz").write_bytes(packed)
    for name, file in (("packed", tmp_path / "set" / "mine.jsonl.gz"), ("set", tmp_path / "set")):
        again = run(workspace, data, file=file, name=name)
        assert again == {**result, "dataset": name}
        assert run(workspace, data, file=file, name=name) == again
    good = [json.loads(line) for line in (data / "mine.jsonl").read_text().splitlines()[:7]]
    (tmp_path / "mine.json").write_text(json.dumps(good, indent=1))
    pq.write_table(pa.Table.from_pylist(good), tmp_path / "mine.parquet")
    for name in ("mine.json", "mine.parquet"):
        assert run(workspace, data, file=tmp_path / name, name=name)["samples"] == 7
    ids = query(workspace, "SELECT dataset, count(DISTINCT id) AS n FROM samples GROUP BY dataset")
    assert {one["dataset"]: one["n"] for one in ids.to_pylist()} == {
        "mine": 38,
        "packed": 38,
        "set": 38,
        "mine.json": 7,
        "mine.parquet": 7,
    }


def test_useless_files_are_refused(workspace, data, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + b"0" * 600)
    with pytest.raises(UserError, match="Parquet"):
        run(workspace, data, file=tmp_path / "x.parquet")
    (tmp_path / "wide.jsonl").write_text(json.dumps(row(1)), encoding="utf-16")
    with pytest.raises(UserError, match="UTF-16 text.*iconv"):
        run(workspace, data, file=tmp_path / "wide.jsonl")
    (tmp_path / "words.jsonl").write_text("these are\nno rows\n")
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"none of the 2 rows .*bad_json 2"):
            run(workspace, data, file=tmp_path / "words.jsonl", name="words")
    assert len(query(workspace, "FROM drops")) == 2
    assert read_runs(workspace)[0]["status"] == "failed"


def test_path_rules_can_be_given_as_a_file(workspace, data):
    (data / "rules.yaml").write_text("renames: {old: a}\n")
    (data / "old.jsonl").write_text(json.dumps(row(1, image="old/1.png")))
    result = run(workspace, data, file=data / "old.jsonl", path_rules=data / "rules.yaml")
    assert (result["samples"], result["mended"]["path_rule"]) == (1, 1)
    (data / "rules.yaml").write_text("renamed: {old: a}\n")
    with pytest.raises(UserError, match="renamed"):
        run(workspace, data, file=data / "old.jsonl", path_rules=data / "rules.yaml")


def test_another_file_needs_leave_to_replace(workspace, data):
    run(workspace, data)
    other = data / "other.jsonl"
    other.write_text((data / "mine.jsonl").read_text().splitlines()[0])
    with pytest.raises(UserError, match=r"was made from .*mine\.jsonl.*--replace"):
        run(workspace, data, file=other)
    assert run(workspace, data, file=other, replace=True)["samples"] == 1


def test_categories_can_be_given(workspace, data):
    run(workspace, data, categories={"mine.json": "general"}, strict=True)
    found = query(workspace, "SELECT DISTINCT category FROM samples").to_pylist()
    assert found == [{"category": "general"}]


def test_a_set_of_another_origin_is_replaced_only_on_request(tmp_path, workspace, data):
    run(workspace, data)
    other = tmp_path / "elsewhere" / "mine.jsonl"
    other.parent.mkdir()
    other.write_text(json.dumps(row(1)) + "\n")
    with pytest.raises(UserError, match=r"was made from .*--replace"):
        run(workspace, data, file=other)
    assert run(workspace, data, file=other, replace=True)["samples"] == 1
    moved = tmp_path / "moved" / "mine.jsonl"
    moved.parent.mkdir()
    other.rename(moved)
    assert run(workspace, data, file=moved)["samples"] == 1


def test_what_the_engine_made_is_replaced_only_on_request(workspace, data):
    run(workspace, data)
    made = pq.read_table(next(workspace.pool("mine").rglob("samples/part-*.parquet")))
    put_dataset(workspace, "mine", "key", made, made_by="engine", run="r")
    with pytest.raises(UserError, match=r"cambrian data engine.*--replace"):
        run(workspace, data)


def test_a_failed_file_does_not_take_the_name(tmp_path, workspace, data):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no json\n")
    with pytest.raises(RunFailed):
        run(workspace, data, file=bad)
    assert run(workspace, data)["samples"] == 38
