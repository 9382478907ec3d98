"""One set of rows and pictures in every format: the same samples, ids and sources."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cambrian_data.curation.ingest.file import ingest_file
from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.workspace import Workspace

datasets = pytest.importorskip("datasets")


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (number * 9, 99, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def path_of(number: int) -> str:
    return f"mnt/disks/x/{('coco', 'gqa')[number % 2]}/{number}.png"


def made_rows() -> list[dict[str, Any]]:
    rows = []
    for number in range(12):
        is_text = number % 4 == 3
        question = f"question {number}?" if is_text else f"<image>\nquestion {number}?"
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": f"answer {number}"}]
        row: dict[str, Any] = {"id": str(number), "source": "a.json", "conversations": turns}
        rows.append(row if is_text else {**row, "image": path_of(number)})
    return rows


def write_all(folder: Path) -> dict[str, tuple[Path, Path | None]]:
    """Write the set in every format; return its path and where its pictures lie, by format."""
    rows, pictures = made_rows(), folder / "pictures"
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rows.json").write_text(json.dumps(rows))
    with pa.CompressedOutputStream(str(folder / "rows.jsonl.zst"), "zstd") as file:
        file.write((folder / "rows.jsonl").read_bytes())
    (folder / "shards").mkdir()
    with (
        tarfile.open(folder / "shards" / "0.tar", "w") as shard,
        tarfile.open(folder / "pictures.tar", "w") as tar,
    ):
        for number, row in enumerate(rows):
            _add(shard, f"{number:03d}.json", json.dumps(row).encode())
            if "image" in row:
                _add(shard, f"{number:03d}.png", png(number))
                below = row["image"].removeprefix("mnt/disks/x/")
                _add(tar, below, png(number))
                (pictures / below).parent.mkdir(parents=True, exist_ok=True)
                (pictures / below).write_bytes(png(number))
    table = pa.Table.from_pylist([_embedded(row) for row in rows])
    pq.write_table(table, folder / "rows.parquet", row_group_size=5)
    datasets.Dataset(table).save_to_disk(str(folder / "saved"), num_shards=2)
    lines = folder / "rows.jsonl"
    return {
        "lines": (lines, pictures),
        "array": (folder / "rows.json", pictures),
        "packed": (folder / "rows.jsonl.zst", pictures),
        "tarred": (lines, folder / "pictures.tar"),
        "shards": (folder / "shards", None),
        "parquet": (folder / "rows.parquet", None),
        "saved": (folder / "saved", None),
    }


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))


def _embedded(row: dict[str, Any]) -> dict[str, Any]:
    if "image" not in row:
        return {**row, "image": None}
    return {**row, "image": {"bytes": png(int(row["id"])), "path": row["image"]}}


def test_every_format_gives_the_same_samples(workspace: Workspace, tmp_path: Path) -> None:
    rules = PathRules(strip_prefixes=["mnt/disks/x"])
    found = {}
    for name, (path, pictures) in write_all(tmp_path).items():
        result = ingest_file(
            workspace, file=path, name=name, images=pictures, path_rules=rules, workers=1
        )
        assert (result["samples"], result["drops"]) == (12, {}), name
        table = pyarrow.dataset.dataset(workspace.pool(name) / "samples").to_table()
        found[name] = sorted(zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True))
    assert {source for _, source in found["lines"]} == {"a.json", "a.json:coco", "a.json:gqa"}
    for name, samples in found.items():
        assert samples == found["lines"], name
