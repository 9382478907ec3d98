"""Exports as Parquet for Hugging Face and others, and the dataset card."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cambrian_data.export import export, export_hf, export_parquet
from cambrian_data.records import RunFailed, UserError, table_of
from cambrian_data.workspace import Workspace
from tests.mixtures import left_out, make_sample, picture, put_mixture
from tests.trees import put_dataset

RECIPE = {"seed": 3, "mixture": {"size": 9, "caps": {"a.json:x": 4}}, "text": "``` in a prompt"}
# What a stranger would write: nothing but the folder's name.
LOAD = """
import json, sys
from datasets import load_dataset
data = load_dataset(sys.argv[1])["train"]
rows = [
    row | {"images": [[picture.size, picture.format] for picture in row["images"]]} for row in data
]
print(json.dumps({"features": str(data.features), "rows": rows}))
"""


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A mixture of rows with one, two and no pictures, scores, prompts, one row twice."""
    known = {"license": "CC BY 4.0", "author": "A", "section": ["One", "Two"]}
    two = [picture(workspace, 1), picture(workspace, 2)]
    rows = [
        make_sample(0, images=two[:1], provenance=known, system="Be short."),
        make_sample(1, images=two, source="a|b.json:x", scores=[("relevance", 4.5)]),
        make_sample(2, "language", origin=None),
        make_sample(3, images=two[1:], original="It was longer."),
    ]
    rows.append(rows[3])
    put_dataset(workspace, "d", "k" * 20, table_of("samples", rows[:4]), made_by="ingest")
    drops = [left_out(make_sample(9), "mixture", "over_cap")]
    image = {"sha256": two[1]["sha256"], "path": two[1]["path"], "width": 40, "height": 30}
    licensed = {"images": [image | {"license": "CC0 1.0"}]}
    put_mixture(workspace, "mix", rows, drops, tables=licensed, recipe=RECIPE, rows_per_part=3)
    return workspace


def loaded(folder: str, cache: Path) -> dict:
    """Return what `datasets` makes of a folder, in a process without a network of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, folder],
        env={"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def read(result: dict) -> pa.Table:
    files = sorted((Path(result["folder"]) / "data").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])


def test_datasets_loads_the_folder_at_first_try(filled: Workspace, tmp_path: Path) -> None:
    result = export(filled, "mix", to="hf")
    assert (result["samples"], result["pictures"], result["text_only"]) == (5, 5, 1)
    found = loaded(result["folder"], tmp_path / "hf")
    assert "'images': List(Image(" in found["features"]
    rows = found["rows"]
    assert sorted(len(row["images"]) for row in rows) == [0, 1, 1, 1, 2]
    assert {tuple(map(str, image)) for row in rows for image in row["images"]} == {
        ("[40, 30]", "PNG")
    }
    scored = next(row for row in rows if row["source"] == "a|b.json:x")
    assert scored["scores"] == [{"name": "relevance", "score": 4.5}]
    assert scored["conversations"][0]["from"] == "human"
    first = next(row for row in rows if row["system"])
    assert first["provenance"]["section"] == ["One", "Two"]
    assert sum(row["original"] == "It was longer." for row in rows) == 2


def test_pictures_are_byte_for_byte_those_of_the_workspace(filled: Workspace) -> None:
    for row in read(export_hf(filled, "mix")).to_pylist():
        for image in row["images"]:
            assert image["bytes"] == (filled.root / image["path"]).read_bytes()


def test_without_pictures_their_paths_stand(filled: Workspace, tmp_path: Path) -> None:
    table = read(export_hf(filled, "mix", images="none"))
    assert "images" not in table.column_names
    assert all(
        path.startswith("images/") for row in table["image_paths"].to_pylist() for path in row
    )


def test_files_are_cut_by_size_and_numbered(filled: Workspace, monkeypatch) -> None:
    monkeypatch.setattr("cambrian_data.export.tables.GROUP_ROWS", 2)
    result = export_hf(filled, "mix", file_bytes=1)
    names = sorted(path.name for path in (Path(result["folder"]) / "data").iterdir())
    assert len(names) == result["files"] > 1
    assert names[0] == f"train-00000-of-{len(names):05d}.parquet"
    assert sum(pq.read_metadata(Path(result["folder"]) / "data" / n).num_rows for n in names) == 5


def test_equal_samples_give_equal_bytes(filled: Workspace, tmp_path: Path) -> None:
    def files(out: str) -> dict[str, bytes]:
        folder = Path(export_hf(filled, "mix", tmp_path / out)["folder"])
        return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert files("a") == files("b")


def test_lost_pictures_leave_their_samples_out(filled: Workspace) -> None:
    rows = read(export_hf(filled, "mix")).to_pylist()
    lost = next(row["images"][0]["path"] for row in rows if row["system"])
    (filled.root / lost).unlink()
    result = export_hf(filled, "mix")
    assert (result["samples"], result["left_out"]) == (3, 2)
    about = json.loads((Path(result["folder"]) / "export.json").read_bytes())
    assert "No such file" in about["left_out_rows"][0]["detail"]
    card = (Path(result["folder"]) / "README.md").read_text()
    assert "2 samples were left out of this export" in card
    assert export_parquet(filled, "mix")["left_out"] == 2


def test_pictures_that_were_not_read_cannot_be_inside(workspace: Workspace) -> None:
    unread = {"sha256": None, "path": "coco/1.jpg", "width": None, "height": None}
    put_dataset(workspace, "u", "k" * 20, table_of("samples", [make_sample(1, images=[unread])]))
    with pytest.raises(RunFailed, match=r"coco/1.jpg was not read.*--check-images decode"):
        export_hf(workspace, "u")
    assert not (workspace.root / "exports" / "u").exists()
    assert export_hf(workspace, "u", images="none")["samples"] == 1


def test_the_card_says_where_everything_comes_from(filled: Workspace) -> None:
    text = (Path(export_hf(filled, "mix")["folder"]) / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    about = yaml.safe_load(header)
    assert about["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert about["size_categories"] == ["n<1K"] and about["license"] == "other"
    assert "| a\\|b.json:x | general | 1 | 0 | as published by its owners | CC0 1.0 |" in body
    assert "| set.json:general | general | 3 | 0 | CC BY 4.0 | CC0 1.0 |" in body
    assert "| set.json:language | language | 1 | 1 | as published by its owners | - |" in body
    assert "| mixture | over_cap | 1 |" in body and "| mixture | 6 | 5 |" in body
    recipe = body.split("````yaml\n", 1)[1].split("\n````", 1)[0]  # one tick more than it holds
    assert yaml.safe_load(recipe) == RECIPE
    assert "| d | read from a published file | 4 |" in body
    assert "nyu-visionx/Cambrian-10M" in body


def test_hostile_names_stay_in_their_cells(workspace: Workspace) -> None:
    rows = [make_sample(1, source="x | y\n## Owned <script>alert(1)</script> [a](b)")]
    put_dataset(workspace, "d", "k" * 20, table_of("samples", rows))
    text = (Path(export_hf(workspace, "d")["folder"]) / "README.md").read_text()
    assert "\n## Owned" not in text and "<script>" not in text and "[a](b)" not in text
    assert "no record" not in text and "## Recipe" not in text


def test_flat_rows_can_be_read_by_anything(filled: Workspace) -> None:
    result = export(filled, "mix", to="parquet")
    frame = pl.read_parquet(Path(result["folder"]) / "data" / "*.parquet")
    assert frame.height == result["samples"] == 5 and result["pictures"] == 2
    row = frame.filter(pl.col("source") == "a|b.json:x").row(0, named=True)
    assert row["num_turns"] == 2 and row["question"].endswith("What is number 1?")
    assert row["answer"] == "red" and len(row["image"]) == len(row["image_sha256"]) == 2
    for path in row["image"]:
        assert (Path(result["folder"]) / path).read_bytes() == (filled.root / path).read_bytes()
    assert frame.filter(pl.col("license") == "CC BY 4.0").height == 1
    assert frame["origin_line"].null_count() == 1
    assert "configs" not in (Path(result["folder"]) / "README.md").read_text()


def test_empty_data_sets(workspace: Workspace) -> None:
    put_dataset(workspace, "none", "k" * 20, table_of("samples", []))
    with pytest.raises(UserError, match="none has no samples"):
        export_hf(workspace, "none")
    result = export_parquet(workspace, "none")
    assert (result["samples"], result["files"], len(read(result))) == (0, 1, 0)


def test_nothing_else_is_replaced(filled: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("by hand")
    with pytest.raises(UserError, match="no earlier export"):
        export_hf(filled, "mix", tmp_path / "mine")


def test_memory_is_that_of_a_few_rows(workspace: Workspace) -> None:
    rows = [make_sample(n, answer="word " * 4000) for n in range(3000)]
    put_dataset(workspace, "large", "k" * 20, table_of("samples", rows))
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    steps: list[int] = []
    tracemalloc.start()
    result = export_hf(
        workspace, "large", progress=lambda *_, **__: steps.append(pool.bytes_allocated())
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result["samples"] == 3000 and peak < 20_000_000
    assert max(steps) - before < 150_000_000
