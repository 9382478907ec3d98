"""Shards as others read them: plain webdataset, and datasets without any hint."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from cambrian_data.shards import ReencodeConfig, ShardsConfig, parse_record, read_shards
from tests.cambrian_data.mixtures import mixed_rows, pack, picture, row, write_mixture

SMALL = ShardsConfig(max_samples=9)


@pytest.fixture
def load(monkeypatch, tmp_path):
    """The function that loads shards with `datasets`, and nothing but their names."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def load(folder, **options):
        return datasets.load_dataset(
            "webdataset",
            data_files={"train": f"{folder}/*.tar"},
            split="train",
            cache_dir=str(tmp_path / "cache"),
            **options,
        )

    return load


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").tobytes()


def check(loaded, packed):
    """Compare rows of `datasets` with samples: every text, every picture."""
    assert len(loaded) == len(packed)
    for one, sample in zip(loaded, packed, strict=True):
        assert one["__key__"] == sample.key
        record = one["json"]
        assert record["conversations"] == sample.record["conversations"]
        assert (record["id"], record["system"] or None) == (
            sample.record["id"],
            sample.record["system"],
        )
        names = [image["file"] for image in sample.record["images"]]
        shown = {name: one[name] for name in one if name[0].isdigit() and one[name] is not None}
        assert list(shown) == names
        for name, data in zip(names, sample.pictures, strict=True):
            assert shown[name].convert("RGB").tobytes() == pixels(data)


def test_webdataset_decodes_every_sample(workspace):
    wds = pytest.importorskip("webdataset")
    write_mixture(workspace, mixed_rows(workspace, 40))
    pack(workspace, SMALL)
    folder = workspace.shards("mix")
    files = [str(path) for path in sorted(folder.glob("*.tar"))]
    plain = list(wds.WebDataset(files, shardshuffle=False))
    decoded = list(wds.WebDataset(files, shardshuffle=False).decode("pil"))
    packed = list(read_shards(folder))
    assert len(plain) == len(packed) == 40
    for raw, shown, sample in zip(plain, decoded, packed, strict=True):
        assert raw["__key__"] == sample.key
        assert parse_record(raw["json"]) == sample.record
        names = [image["file"] for image in sample.record["images"]]
        assert sorted(name for name in raw if name[0].isdigit()) == names
        for name, data in zip(names, sample.pictures, strict=True):
            assert raw[name] == data
            assert shown[name].convert("RGB").tobytes() == pixels(data)


def test_ranks_of_webdataset_get_equally_many(workspace, monkeypatch):
    wds = pytest.importorskip("webdataset")
    write_mixture(workspace, mixed_rows(workspace, 41))
    pack(workspace, ShardsConfig(max_samples=6, equal_for_ranks=3))
    files = [str(path) for path in sorted(workspace.shards("mix").glob("*.tar"))]
    monkeypatch.setenv("WORLD_SIZE", "3")
    counts, keys = [], set()
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        reader = wds.WebDataset(files, shardshuffle=False, nodesplitter=wds.split_by_node)
        mine = [sample["__key__"] for sample in reader]
        counts.append(len(mine))
        keys.update(mine)
    assert counts == [13, 13, 13]
    assert len(keys) == 39


def test_datasets_loads_samples_of_all_kinds(workspace, load):
    write_mixture(workspace, mixed_rows(workspace, 53))
    pack(workspace, SMALL)
    packed = list(read_shards(workspace.shards("mix")))
    check(load(workspace.shards("mix")), packed)
    streamed = list(load(workspace.shards("mix"), streaming=True))
    assert [one["__key__"] for one in streamed] == [sample.key for sample in packed]


@pytest.mark.parametrize("most", [0, 1, 4])
def test_datasets_loads_where_few_samples_have_most_pictures(workspace, load, most):
    """One sample alone has four pictures; it stands in a file of its own, which is read first."""
    rows = [row(workspace, number) for number in range(20)]
    if most:
        rows += [row(workspace, number, picture(number)) for number in range(20, 40)]
    if most > 1:
        pictures = [picture(number) for number in range(50, 50 + most)]
        rows.append(row(workspace, 50, *pictures, system="Look."))
    write_mixture(workspace, rows)
    index = pack(workspace, ShardsConfig())
    assert [entry["samples"] for entry in index["shards"]][:1] == ([1] if most > 1 else [len(rows)])
    check(load(workspace.shards("mix")), list(read_shards(workspace.shards("mix"))))


def test_datasets_loads_pictures_that_were_written_anew(workspace, load):
    write_mixture(workspace, mixed_rows(workspace, 20))
    pack(workspace, ShardsConfig(reencode=ReencodeConfig(format="webp", quality=80)))
    check(load(workspace.shards("mix")), list(read_shards(workspace.shards("mix"))))
