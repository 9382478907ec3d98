"""From a mixture to shards: every sample once, in an order that depends on the seed alone."""

from __future__ import annotations

import io
import itertools
import shutil
import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from cambrian_data.packed_rows import shuffle_keys
from cambrian_data.packing import publish_shards
from cambrian_data.records import RunFailed, UserError, bytes_id, content_id
from cambrian_data.shards import (
    ReencodeConfig,
    ShardsConfig,
    read_index,
    read_shards,
    verify_shards,
)
from cambrian_data.workspace import Workspace, WorkspaceError
from tests.cambrian_data.mixtures import (
    cut_of,
    mixed_rows,
    pack,
    packing_of,
    picture,
    row,
    run_stage,
    write_mixture,
)

SMALL = ShardsConfig(max_samples=9)


def shard_bytes(workspace: Workspace, name: str = "mix") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(workspace.shards(name).glob("*.tar"))}


@pytest.fixture
def mixture(workspace):
    """Rows of all kinds, written as a mixture of eight parts."""
    rows = mixed_rows(workspace, 53)
    write_mixture(workspace, rows)
    return rows


def test_every_sample_comes_back_once_as_it_was(workspace, mixture):
    index = pack(workspace, SMALL)
    assert (index["samples"], index["dropped"], index["ranks"]) == (53, [], None)
    assert [entry["samples"] for entry in index["shards"]] == [9, 9, 9, 9, 9, 8]
    wanted = {one["id"]: one for one in mixture}
    for position, sample in enumerate(read_shards(workspace.shards("mix"))):
        assert sample.key == f"{position:09d}"
        one = wanted.pop(sample.record["id"])
        for name in ("source", "dataset", "category", "conversations"):
            assert sample.record[name] == one[name]
        assert sample.record["system"] == one.get("system")
        assert sample.record["figure_id"] == one.get("figure_id")
        found = sample.record["provenance"] or {}
        assert {k: v for k, v in found.items() if v is not None} == one.get("provenance", {})
        for data, image, about in zip(
            sample.pictures, one["images"], sample.record["images"], strict=True
        ):
            assert data == (workspace.root / image["path"]).read_bytes()
            assert {k: about[k] for k in ("sha256", "width", "height")} == {
                k: image[k] for k in ("sha256", "width", "height")
            }
            assert about["format"] == image["path"].rpartition(".")[2].replace("jpg", "jpeg")
    assert not wanted
    assert verify_shards(workspace.shards("mix")).problems == []
    assert list((workspace.root / "staging").iterdir()) == []
    assert list(workspace.tmp.iterdir()) == []


def test_the_order_mixes_sources_and_depends_on_the_seed(workspace, mixture):
    pack(workspace, SMALL)
    first = [sample.record["id"] for sample in read_shards(workspace.shards("mix"))]
    written = [one["id"] for one in mixture]
    assert first != written and set(first) == set(written)
    pack(workspace, SMALL, seed=1)
    second = [sample.record["id"] for sample in read_shards(workspace.shards("mix"))]
    assert second != first and set(second) == set(first)


def test_parts_and_workers_change_no_byte(workspace, mixture, tmp_path):
    pack(workspace, SMALL)
    wanted = shard_bytes(workspace)
    other = Workspace.create(tmp_path / "other")
    write_mixture(other, mixed_rows(other, 53), part_rows=20)
    packing = packing_of(other, SMALL)
    with ThreadPoolExecutor(5) as pool:
        sorted_units = list(pool.map(packing.sort_stage().run, packing.parts()))
        cut = packing.cut(sorted_units)
        units = list(pool.map(packing.write_stage().run, cut.pieces))
    publish_shards(packing, "mix", cut, units)
    assert shard_bytes(other) == wanted
    assert read_index(other.shards("mix")) == read_index(workspace.shards("mix"))


def _in_another_process(pickled: bytes, piece: list[object]) -> bytes:
    return cloudpickle.dumps(cloudpickle.loads(pickled).run(piece))


def test_stages_work_in_other_processes(workspace, mixture, tmp_path):
    pack(workspace, SMALL)
    wanted = shard_bytes(workspace)
    shutil.rmtree(workspace.shards("mix"))
    packing = packing_of(workspace, SMALL)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:

        def run(stage, pieces):
            pickled = [cloudpickle.dumps(stage)] * len(pieces)
            return [cloudpickle.loads(u) for u in pool.map(_in_another_process, pickled, pieces)]

        cut = packing.cut(run(packing.sort_stage(), packing.parts()))
        units = run(packing.write_stage(), cut.pieces)
    publish_shards(packing, "mix", cut, units)
    assert shard_bytes(workspace) == wanted


def test_rows_that_stand_several_times_get_keys_and_places_of_their_own(workspace):
    rows = mixed_rows(workspace, 30)
    write_mixture(workspace, [one for one in rows for _ in range(3)], part_rows=45)
    index = pack(workspace, SMALL)
    samples = list(read_shards(workspace.shards("mix")))
    assert index["samples"] == len({sample.key for sample in samples}) == 90
    ids = [sample.record["id"] for sample in samples]
    assert sorted(ids) == sorted(one["id"] for one in rows for _ in range(3))
    assert sum(a == b for a, b in itertools.pairwise(ids)) < 12


def test_a_run_that_was_broken_off_goes_on(workspace, mixture):
    pack(workspace, SMALL)
    wanted = shard_bytes(workspace)
    shutil.rmtree(workspace.shards("mix"))
    packing = packing_of(workspace, SMALL)
    parts = packing.parts()
    for part in parts[:3]:
        packing.sort_stage().run(part)
    again = packing_of(workspace, SMALL)
    done = [again.sort_stage().finished(part) is not None for part in again.parts()]
    assert done == [True] * 3 + [False] * 5
    cut = cut_of(again)
    for piece in cut.pieces[1:3]:
        again.write_stage().run(piece)
    stage = packing_of(workspace, SMALL).write_stage()
    assert [stage.finished(piece) is not None for piece in cut.pieces[:4]] == [0, 1, 1, 0]
    pack(workspace, SMALL)
    assert shard_bytes(workspace) == wanted


def test_only_a_damaged_shard_is_written_again(workspace, mixture):
    pack(workspace, SMALL)
    wanted = shard_bytes(workspace)
    victim = workspace.shards("mix") / "shard-000002.tar"
    victim.write_bytes(victim.read_bytes()[:-1])
    stamps = {p.name: p.stat().st_mtime_ns for p in victim.parent.glob("*.tar")}
    pack(workspace, SMALL)
    assert shard_bytes(workspace) == wanted
    now = {p.name: p.stat().st_mtime_ns for p in victim.parent.glob("*.tar")}
    assert [name for name in now if now[name] != stamps[name]] == [victim.name]


@pytest.mark.parametrize("harm", ["missing", "damaged"])
@pytest.mark.parametrize("ranks", [None, 2])
def test_lost_pictures_are_named_and_tried_again(workspace, mixture, harm, ranks):
    config = ShardsConfig(max_samples=9, equal_for_ranks=ranks)
    pack(workspace, config)
    wanted = shard_bytes(workspace)
    one = mixture[4]
    path = workspace.root / one["images"][0]["path"]
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + b"!")
    for entry in workspace.shards("mix").glob("*.tar"):
        entry.unlink()
    index = pack(workspace, config)
    lost = {other["id"] for other in mixture if one["images"][0] in other["images"]}
    assert {dropped["id"] for dropped in index["dropped"]} == lost
    assert all(one["images"][0]["path"] in dropped["detail"] for dropped in index["dropped"])
    packed = {sample.record["id"] for sample in read_shards(workspace.shards("mix"))}
    assert not packed & lost
    assert verify_shards(workspace.shards("mix")).problems == []
    path.write_bytes(data)
    assert pack(workspace, config)["dropped"] == []
    assert shard_bytes(workspace) == wanted


def test_pictures_that_were_not_read_are_not_packed(workspace):
    one = row(workspace, 1, picture(1))
    one["images"] = [{"path": "catalog.duckdb", "sha256": None, "width": None, "height": None}]
    write_mixture(workspace, [one, row(workspace, 2)])
    index = pack(workspace, SMALL)
    assert index["samples"] == 1
    assert "--check-images decode" in index["dropped"][0]["detail"]


def test_a_smaller_mixture_leaves_no_file_behind(workspace, mixture):
    packing = packing_of(workspace, SMALL)
    (packing.folder / "shard-000099.tar").write_bytes(b"of an earlier plan")
    pack(workspace, SMALL)
    assert len(shard_bytes(workspace)) == 6


def test_a_mixture_that_is_not_there_is_said(workspace, mixture):
    packing = packing_of(workspace, SMALL)
    victim = next((workspace.mixture("mix") / "samples").glob("*.parquet"))
    victim.write_bytes(b"")
    with pytest.raises(WorkspaceError, match=victim.name):
        packing.parts()


def test_shards_that_differ_from_what_was_written_are_not_published(workspace, mixture):
    packing = packing_of(workspace, SMALL)
    cut = cut_of(packing)
    units = run_stage(packing.write_stage(), cut.pieces)
    victim = packing.folder / "shard-000001.tar"
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    with pytest.raises(RunFailed, match="shard-000001"):
        publish_shards(packing, "mix", cut, units)
    assert not workspace.shards("mix").exists()


def test_no_shard_is_held_in_memory(workspace):
    big = 3 * 2**20
    rows = [row(workspace, number) for number in range(12)]
    for number, one in enumerate(rows):
        data = bytes([number]) * big
        sha256, path = workspace.store_picture(data, "jpg")
        about = {"sha256": sha256, "path": workspace.relative(path), "width": 1, "height": 1}
        one["images"] = [about]
    write_mixture(workspace, rows)
    packing = packing_of(workspace, ShardsConfig())
    cut = cut_of(packing)
    tracemalloc.start()
    try:
        run_stage(packing.write_stage(), cut.pieces)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(cut.pieces) == 1
    assert peak < 5 * big


# ------------------------------------------------------------------------------- options


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_pictures_are_written_anew_by_recipe(workspace, format):
    large = picture(8, "PNG", side=60)
    rows = [row(workspace, 1, large), row(workspace, 2, large, picture(3)), row(workspace, 3)]
    write_mixture(workspace, rows)
    config = ShardsConfig(reencode=ReencodeConfig(format=format, max_side_px=30))
    index = pack(workspace, config)
    assert index["samples"] == 3
    originals = {image["sha256"] for one in rows for image in one["images"]}
    for sample in read_shards(workspace.shards("mix")):
        for data, about in zip(sample.pictures, sample.record["images"], strict=True):
            with Image.open(io.BytesIO(data)) as image:
                assert image.format == format.upper()
                assert image.size == (about["width"], about["height"])
                assert max(image.size) <= 30
            assert about["sha256"] == bytes_id(data)
            assert about["original_sha256"] in originals
            assert about["format"] == format
            assert about["file"].endswith({"jpeg": ".jpg"}.get(format, f".{format}"))
    assert verify_shards(workspace.shards("mix")).problems == []
    assert all((workspace.root / i["path"]).is_file() for one in rows for i in one["images"])


def test_a_damaged_shelf_is_noticed(workspace):
    write_mixture(workspace, [row(workspace, n, picture(n)) for n in range(4)])
    config = ShardsConfig(reencode=ReencodeConfig())
    pack(workspace, config)
    wanted = shard_bytes(workspace)
    shutil.rmtree(workspace.shards("mix"))
    packing = packing_of(workspace, config)
    cut_of(packing)
    shelf = sorted((packing.scratch / "pictures").rglob("*"))
    files = [path for path in shelf if path.is_file()]
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:-3])
    files[1].write_bytes(b"!" + files[1].read_bytes()[1:])
    pack(workspace, config)
    assert shard_bytes(workspace) == wanted


def test_what_cannot_be_decoded_is_not_written_anew(workspace):
    one = row(workspace, 1)
    sha256, path = workspace.store_picture(b"\x89PNG\r\n\x1a\nno picture", "png")
    about = {"sha256": sha256, "path": workspace.relative(path), "width": 1, "height": 1}
    write_mixture(workspace, [{**one, "images": [about]}, row(workspace, 2)])
    index = pack(workspace, ShardsConfig(reencode=ReencodeConfig()))
    assert index["samples"] == 1
    assert "cannot be written anew" in index["dropped"][0]["detail"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_ranks_get_equally_many(workspace, mixture, ranks):
    index = pack(workspace, ShardsConfig(max_samples=4, equal_for_ranks=ranks))
    counts = [entry["samples"] for entry in index["shards"]]
    assert len({sum(counts[rank::ranks]) for rank in range(ranks)}) == 1
    assert len(counts) % ranks == 0 and max(counts) <= 4
    left = index["ranks"]["left_over"]
    assert len(left) == 53 % ranks
    assert index["ranks"]["samples_per_rank"] == 53 // ranks
    packed = [sample.record["id"] for sample in read_shards(workspace.shards("mix"))]
    assert sorted(packed + left) == sorted(one["id"] for one in mixture)
    assert verify_shards(workspace.shards("mix")).problems == []


def test_more_ranks_than_samples_are_refused(workspace, mixture):
    with pytest.raises(UserError, match="equal_for_ranks = 54, and the mixture has 53"):
        pack(workspace, ShardsConfig(equal_for_ranks=54))


def test_pictures_keep_their_endings_where_asked(workspace, mixture):
    pack(workspace, ShardsConfig(uniform_names=False))
    names = {
        (image["file"].rpartition(".")[2], image["format"])
        for sample in read_shards(workspace.shards("mix"))
        for image in sample.record["images"]
    }
    assert names == {("png", "png"), ("jpg", "jpeg")}


# ------------------------------------------------------------------------------- the order


def test_a_place_depends_on_its_own_row_alone():
    ids = [content_id(number) for number in range(200)]
    keys = shuffle_keys(ids, 3)
    assert len(np.unique(keys)) == 200
    assert shuffle_keys(ids[::-1], 3).tolist() == keys[::-1].tolist()
    assert shuffle_keys(ids[7:9], 3).tolist() == keys[7:9].tolist()
    assert (shuffle_keys(ids, 4) != keys).all()
    low, high = np.histogram(keys.astype(float), bins=2, range=(0, 2.0**64))[0]
    assert 70 < low < 130 and low + high == 200


def test_copies_and_ids_of_any_kind_have_places():
    keys = shuffle_keys(["a", "b", "a", "a", "\u00e9" * 40, ""], 0)
    assert len(np.unique(keys)) == 6
    assert keys[0] == shuffle_keys(["a"], 0)[0]
    assert shuffle_keys([], 0).tolist() == []
