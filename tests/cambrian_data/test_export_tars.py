"""Exports as WebDataset: the mixture's own shards, or packed for the export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import webdataset

from cambrian_data.build import MANIFEST, Build
from cambrian_data.export import export_webdataset
from cambrian_data.packing import SHARDS_VERSION, plan_packing, publish_shards
from cambrian_data.records import content_id, table_of
from cambrian_data.shards import ShardError, ShardsConfig, read_shards, verify_shards
from cambrian_data.workspace import Workspace, read_sealed
from tests.mixtures import make_sample, picture, put_mixture
from tests.trees import put_dataset


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A data set and a mixture of eight samples, two of them text alone."""
    rows = [make_sample(n, images=[picture(workspace, n)]) for n in range(6)]
    rows += [make_sample(10 + n, "language") for n in range(2)]
    put_dataset(workspace, "d", "k" * 20, table_of("samples", rows))
    put_mixture(workspace, "mix", rows)
    return workspace


def make_shards(workspace: Workspace) -> Path:
    """Make the mixture's own shards, as curation does."""
    mixture = workspace.mixture("mix")
    key = (read_sealed(mixture / MANIFEST) or {})["key"]
    build = Build(workspace, workspace.shards("mix"), content_id(key, SHARDS_VERSION))
    packing = plan_packing(workspace, build, mixture, ShardsConfig(max_samples=3), 0)
    stage = packing.sort_stage()
    cut = packing.cut([stage.run(piece) for piece in packing.parts()])
    stage = packing.write_stage()
    publish_shards(packing, "mix", cut, [stage.run(piece) for piece in cut.pieces])
    return build.target


def test_samples_are_packed_where_there_are_no_shards(filled: Workspace) -> None:
    for name in ("d", "mix"):
        result = export_webdataset(filled, name, config=ShardsConfig(max_samples=3))
        folder = Path(result["folder"])
        assert (result["samples"], result["pictures"], result["text_only"]) == (8, 6, 2)
        assert result["files"] == 3 and verify_shards(folder).problems == []
        found = {sample.record["id"]: sample for sample in read_shards(folder)}
        assert len(found) == 8
        assert "webdataset" in (folder / "README.md").read_text()
    assert [p.name for p in (filled.root / "exports").iterdir() if p.name.startswith(".")] == []


def test_plain_webdataset_reads_them(filled: Workspace) -> None:
    folder = Path(export_webdataset(filled, "mix")["folder"])
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    rows = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(rows) == 8
    assert all("conversations" in json.loads(row["json"]) for row in rows)
    assert sum(any(key.startswith("0.") for key in row) for row in rows) == 6


def test_the_own_shards_of_a_mixture_are_taken(filled: Workspace) -> None:
    shards = make_shards(filled)
    before = {path.name: path.read_bytes() for path in shards.glob("*.tar")}
    folder = Path(export_webdataset(filled, "mix")["folder"])
    assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == before
    linked = Path(export_webdataset(filled, "mix", images="link")["folder"])
    assert all(path.is_symlink() for path in linked.glob("*.tar"))


def test_shards_of_another_mixture_are_not_taken(filled: Workspace) -> None:
    make_shards(filled)
    put_mixture(filled, "mix", [make_sample(99)])
    result = export_webdataset(filled, "mix")
    assert (result["samples"], result["files"]) == (1, 1)


def test_a_damaged_shard_is_refused(filled: Workspace) -> None:
    victim = sorted(make_shards(filled).glob("*.tar"))[0]
    data = bytearray(victim.read_bytes())
    data[700] ^= 255
    victim.write_bytes(data)
    with pytest.raises(ShardError, match=f"{victim.name} is damaged"):
        export_webdataset(filled, "mix")
    assert not (filled.root / "exports" / "mix").exists()


def test_lost_pictures_are_named(filled: Workspace) -> None:
    row = make_sample(0, images=[picture(filled, 0)])
    (filled.root / row["images"][0]["path"]).unlink()
    result = export_webdataset(filled, "mix")
    assert (result["samples"], result["left_out"]) == (7, 1)
    about = json.loads((Path(result["folder"]) / "export.json").read_bytes())
    assert about["left_out_rows"][0]["id"] == row["id"]
