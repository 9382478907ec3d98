"""Data sets and mixtures as LLaVA JSONL, and back."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cambrian_data.build import Build
from cambrian_data.curation.ingest.file import ingest_file
from cambrian_data.export import export, export_llava, folder, llava_row
from cambrian_data.records import RunFailed, UserError, sample_id, table_of
from cambrian_data.units import Units
from cambrian_data.workspace import Workspace, WorkspaceError
from tests.reference import shared
from tests.trees import put_dataset


def stored(workspace: Workspace, number: int) -> dict[str, object]:
    """Store a picture and return how a sample refers to it."""
    file = workspace.tmp / "picture.jpg"
    values = np.random.default_rng(number).integers(0, 256, (80, 90 + number, 3))
    Image.fromarray(values.astype(np.uint8)).save(file, quality=70)
    from cambrian_data.engine.images import ImagesConfig
    from cambrian_data.pictures import keep_picture

    row, _ = keep_picture(workspace, file.read_bytes(), ImagesConfig())
    file.unlink()
    return {name: row[name] for name in ("sha256", "path", "width", "height")}


def sample(images: list[dict[str, object]], question: str, **more: object) -> dict[str, object]:
    tokens = "<image>\n" * len(images)
    turns = [
        {"from": "human", "value": tokens + question},
        {"from": "gpt", "value": 'Because \u2028 \u7269\u7406 \U0001f600 "it" does.'},
    ]
    return {
        "id": sample_id(turns, images),
        "source": "filtered_data_engine_161k.json:data_engine",
        "dataset": "x",
        "category": "science",
        "images": images,
        "conversations": turns,
        **more,
    }


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace with a data set of five samples: one, one, two and no pictures, a prompt."""
    pictures = [stored(workspace, number) for number in range(3)]
    rows = [
        sample(pictures[:1], "Why?"),
        sample(pictures[:1], "How?", system="Answer in a word."),
        sample(pictures[1:], "What differs?"),
        sample([], "And without a picture?"),
        sample([], "And\nin lines?", origin={"file": "f", "line": 3, "id": "7"}),
    ]
    put_dataset(workspace, "mine", "k" * 20, table_of("samples", rows))
    return workspace


def rows_of(result: dict[str, object]) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(str(result["file"])).read_bytes().splitlines()]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_rows_have_the_published_shape(filled: Workspace) -> None:
    result = export_llava(filled, "mine")
    assert result["folder"] == str(filled.root / "exports" / "mine")
    assert (result["samples"], result["pictures"], result["text_only"]) == (5, 3, 2)
    rows = rows_of(result)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    by_question = {row["conversations"][0]["value"].split("\n", 1)[-1]: row for row in rows}
    plain = by_question["Why?"]
    assert list(plain) == ["id", "source", "image", "conversations"]
    assert plain["conversations"][0] == {"from": "human", "value": "<image>\nWhy?"}
    assert plain["source"] == "filtered_data_engine_161k.json:data_engine"
    assert (Path(result["folder"]) / plain["image"]).read_bytes().startswith(b"\xff\xd8")
    assert by_question["How?"]["system"] == "Answer in a word."
    assert len(by_question["<image>\nWhat differs?"]["image"]) == 2
    assert "image" not in by_question["And without a picture?"]


def test_published_keys_are_those_of_the_samples(filled: Workspace) -> None:
    published = (shared("webdata") / "jsonl" / "llava_v15_mix665k_samples.jsonl").read_bytes()
    known = json.loads(published.splitlines()[0])
    row = next(row for row in rows_of(export_llava(filled, "mine")) if "image" in row)
    assert set(known) <= set(row)
    assert set(known["conversations"][0]) == set(row["conversations"][0])
    assert type(known["image"]) is str


def test_an_export_is_ingested_to_the_same_samples(filled: Workspace, tmp_path: Path) -> None:
    result = export_llava(filled, "mine", tmp_path / "out")
    other = Workspace.create(tmp_path / "other")
    file = Path(result["file"])
    back = ingest_file(other, file=file, name="back", images=file.parent)
    assert (back["rows"], back["samples"], back["drops"]) == (5, 5, {})
    assert back["unknown_sources"] == {}
    columns = ["id", "category", "images", "conversations", "system"]
    before, after = (
        {
            row["id"]: row
            for part in parts
            for row in pq.read_table(part, columns=columns).to_pylist()
        }
        for parts in (
            (filled.pool("mine") / "samples").iterdir(),
            (other.pool("back") / "samples").iterdir(),
        )
    )
    assert before == after


def test_equal_samples_give_equal_bytes(filled: Workspace, tmp_path: Path) -> None:
    first = files_of(Path(export_llava(filled, "mine", tmp_path / "a")["folder"]))
    again = files_of(Path(export_llava(filled, "mine", tmp_path / "b")["folder"]))
    assert first == again
    (tmp_path / "a" / "images" / "stale").write_text("of an earlier export")
    assert files_of(Path(export_llava(filled, "mine", tmp_path / "a")["folder"])) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "ws"]


def test_pictures_are_links_where_that_is_possible(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inodes(**options: str) -> set[bool]:
        out = Path(export_llava(filled, "mine", **options)["folder"])
        return {
            path.stat().st_ino == (filled.root / path.relative_to(out)).stat().st_ino
            for path in out.rglob("*.jpg")
        }

    assert inodes() == {True}
    monkeypatch.setattr(folder.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    assert inodes() == {False}
    assert inodes(images="link") == {True}
    assert inodes(images="none") == set()
    out = filled.root / "exports" / "mine"
    row = next(row for row in rows_of({"file": out / "mine.jsonl"}) if "image" in row)
    assert (filled.root / str(row["image"])).is_file() or type(row["image"]) is list


def test_a_prompt_can_stand_in_the_question() -> None:
    turns = [{"from": "human", "value": "<image>\nHow?"}, {"from": "gpt", "value": "So."}]
    row = {
        "id": "i",
        "source": "s",
        "images": [{"path": "p"}],
        "conversations": turns,
        "system": "Be short.",
    }
    written = llava_row(row, system="question")
    assert written["conversations"][0]["value"] == "<image>\nHow?\nBe short."
    assert "system" not in written
    assert turns[0]["value"] == "<image>\nHow?"


def test_mixtures_are_exported_and_names_looked_up(filled: Workspace) -> None:
    build = Build(filled, filled.mixture("mine"), "k" * 20)
    units = Units(filled, build.folder(), "curate", version="1", config="c")
    units.commit(units.key(0), {"samples": table_of("samples", [sample([], "Mixed?")])})
    build.publish({"samples": 1})
    with pytest.raises(UserError, match="--from pool or --from mixture"):
        export_llava(filled, "mine")
    assert export_llava(filled, "mine", kind="mixture")["samples"] == 1
    assert export_llava(filled, "mine", kind="pool")["samples"] == 5
    with pytest.raises(UserError, match=r"no pool or mixture 'yours'.*pool: mine; mixture: mine"):
        export_llava(filled, "yours")


def test_a_lost_picture_costs_its_samples_alone(filled: Workspace) -> None:
    rows = rows_of(export_llava(filled, "mine"))
    lost = next(row["image"] for row in rows if isinstance(row.get("image"), str))
    (filled.root / str(lost)).unlink()
    result = export_llava(filled, "mine")
    assert (result["samples"], result["left_out"]) == (3, 2)
    about = json.loads((Path(result["folder"]) / "export.json").read_bytes())
    assert "No such file" in about["left_out_rows"][0]["detail"]
    other = next(p for p in (filled.root / "images").rglob("*.jpg"))
    other.write_bytes(b"changed")
    assert export_llava(filled, "mine")["left_out"] == 3


def test_pictures_that_were_not_read_are_named(workspace: Workspace) -> None:
    unread = {"sha256": None, "path": "coco/1.jpg", "width": None, "height": None}
    put_dataset(workspace, "u", "k" * 20, table_of("samples", [sample([unread], "What?")]))
    with pytest.raises(RunFailed, match=r"coco/1.jpg was not read.*--check-images decode"):
        export_llava(workspace, "u")
    assert not (workspace.root / "exports" / "u").exists()
    assert rows_of(export_llava(workspace, "u", images="none"))[0]["image"] == "coco/1.jpg"


def test_nothing_else_is_replaced(filled: Workspace, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("by hand")
    with pytest.raises(UserError, match="no earlier export"):
        export_llava(filled, "mine", tmp_path / "notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine.txt"]


def test_a_failed_export_leaves_the_earlier_one(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(Path(export_llava(filled, "mine")["folder"]))
    calls = []

    def fails(*arguments: object) -> None:
        calls.append(arguments)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_llava(filled, "mine", progress=fails)
    assert calls
    assert files_of(filled.root / "exports" / "mine") == before
    assert [path.name for path in (filled.root / "exports").iterdir()] == ["mine"]


def test_a_damaged_data_set_is_not_exported(filled: Workspace) -> None:
    part = next((filled.pool("mine") / "samples").iterdir())
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(WorkspaceError, match="is missing or damaged"):
        export_llava(filled, "mine")


def test_unknown_formats_and_options_are_named(filled: Workspace) -> None:
    with pytest.raises(UserError, match=r"--to 'csv': known are llava, hf, parquet, webdataset"):
        export(filled, "mine", to="csv")
    with pytest.raises(UserError, match=r"--images 'link' with --to hf: known are copy, none"):
        export(filled, "mine", to="hf", images="link")
    with pytest.raises(UserError, match=r"--system 'question' is for --to llava"):
        export(filled, "mine", to="parquet", system="question")
    assert export(filled, "mine", system="question")["to"] == "llava"


def test_an_empty_data_set_gives_an_empty_file(workspace: Workspace) -> None:
    put_dataset(workspace, "none", "k" * 20, table_of("samples", []))
    result = export_llava(workspace, "none")
    assert (result["samples"], Path(result["file"]).read_bytes()) == (0, b"")


def test_parts_are_merged_in_order(workspace: Workspace) -> None:
    """Rows with one id, from several places and parts, always come in the same order."""
    build = Build(workspace, workspace.pool("parts"), "k" * 20)
    units = Units(workspace, build.folder(), "pool", version="1", config="c")
    places = [("b", 2), ("a", 9), ("b", 1), (None, None), ("a", 10)]
    for number in range(250):
        file, line = places[number % 5]
        row = sample([], f"{number // 10}?", source=f"{file}:{line}")
        row["origin"] = {"file": file, "line": line, "id": None} if file else None
        units.commit(units.key(number % 3, number), {"samples": table_of("samples", [row])})
    build.publish({"samples": 250})
    rows = rows_of(export_llava(workspace, "parts"))
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    order = ["None:None", "a:9", "a:10", "b:1", "b:2"]
    assert [row["source"] for row in rows[:10:2]] == order
    assert [row["source"] for row in rows[1:10:2]] == order


def test_memory_does_not_grow_with_the_samples(workspace: Workspace, tmp_path: Path) -> None:
    text = "word " * 2000
    rows = [sample([], f"{number} {text}") for number in range(3000)]
    put_dataset(workspace, "large", "k" * 20, table_of("samples", rows))
    steps = []
    tracemalloc.start()
    result = export_llava(
        workspace, "large", tmp_path / "out", progress=lambda *numbers, **_: steps.append(numbers)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result["bytes"] > 30_000_000
    assert peak < 20_000_000
    assert steps[-1] == ("export", 3000, 3000)
