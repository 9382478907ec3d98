"""Curation's flow on what the engine and ingest put into the pool."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from cambrian_data.catalog import query
from cambrian_data.curation.ingest.file import ingest_file
from cambrian_data.engine.corpus import INSTRUCTION_IMAGES, INSTRUCTIONS
from cambrian_data.engine.options import EngineOptions
from cambrian_data.records import RunFailed, UserError
from cambrian_data.shards import read_shards, verify_shards
from cambrian_data.workspace import Workspace, WorkspaceError
from flows.curate import CurateOptions, plan_curate, run_curate
from flows.engine import run_engine
from tests.trees import tree


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A workspace whose pool holds an engine run and the embedded instructions."""
    workspace = Workspace.create(tmp_path_factory.mktemp("curate") / "ws")
    run_engine(workspace, EngineOptions(topic="optics", offline=True))
    ingest_file(workspace, file=INSTRUCTIONS, images=INSTRUCTION_IMAGES, name="instructions")
    return workspace


@pytest.fixture
def fresh(pool, tmp_path):
    """A copy of the pool to write a mixture in."""
    shutil.copytree(pool.root, tmp_path / "copy")
    return Workspace(tmp_path / "copy")


@pytest.fixture(scope="module")
def tiny(pool):
    return curate(pool, recipe="tiny")


def curate(workspace, **options):
    return run_curate(workspace, CurateOptions(**options))


def rows(workspace, sql):
    return query(workspace, sql).to_pylist()


def test_every_row_of_the_pool_is_accounted_for(pool, tiny):
    have = rows(pool, "SELECT count(*) AS n FROM samples")[0]["n"]
    kept = rows(pool, "SELECT count(*) AS n FROM mixture_tiny")[0]["n"]
    dropped = rows(pool, "SELECT count(*) AS n FROM drops WHERE area = 'mixtures'")[0]["n"]
    assert have == kept + dropped and kept == tiny["samples"] > 0
    assert tiny["flow"][0]["in"] == have
    assert {"stage": "exact_dedup", "n": 2} in rows(
        pool, "SELECT stage, count(*) AS n FROM drops WHERE area = 'mixtures' GROUP BY 1"
    )


def test_the_mixture_has_the_planned_counts(pool, tiny):
    got = {
        r["category"]: r["n"]
        for r in rows(pool, "SELECT category, count(*) AS n FROM mixture_tiny GROUP BY 1")
    }
    planned = {c["category"]: c["take"] for c in tiny["plan"]["categories"] if c["take"]}
    assert got == planned


def test_short_answers_got_a_system_prompt(pool, tiny):
    counts = rows(
        pool,
        "SELECT system IS NOT NULL AS prompted, count(*) AS n FROM mixture_tiny "
        "WHERE len(string_split(conversations[2].value, ' ')) <= 2 GROUP BY 1",
    )
    prompted = sum(r["n"] for r in counts if r["prompted"])
    assert prompted > 0.5 * sum(r["n"] for r in counts)


def test_shards_hold_the_mixture_with_its_pictures(pool, tiny):
    folder = pool.root / tiny["shards"]["folder"]
    assert verify_shards(folder).problems == []
    mixed = {row["id"]: row for row in rows(pool, "FROM mixture_tiny")}
    packed = list(read_shards(folder))
    assert len(packed) == len(mixed) == tiny["shards"]["samples"]
    assert [sample.key for sample in packed] == [f"{n:09d}" for n in range(len(packed))]
    for sample in packed:
        row = mixed.pop(sample.record["id"])
        assert sample.record["conversations"] == row["conversations"]
        assert sample.record["system"] == row["system"]
        for picture, image in zip(sample.pictures, row["images"], strict=True):
            assert picture == (pool.root / image["path"]).read_bytes()
    assert not mixed


def test_shards_are_shuffled(pool, tiny):
    ids = [s.record["id"] for s in read_shards(pool.root / tiny["shards"]["folder"])]
    assert ids != sorted(ids)


def test_again_makes_nothing_anew_and_other_workspaces_the_same(pool, tiny, fresh):
    before = tree(pool.root)
    stamps = {p: p.stat().st_mtime_ns for p in (pool.root / "shards").rglob("*.tar")}
    assert curate(pool, recipe="tiny") == tiny
    assert {p: p.stat().st_mtime_ns for p in (pool.root / "shards").rglob("*.tar")} == stamps
    shutil.rmtree(fresh.root / "mixtures", ignore_errors=True)
    shutil.rmtree(fresh.root / "shards", ignore_errors=True)
    curate(Workspace.create(fresh.root), recipe="tiny", workers=4)
    assert tree(fresh.root) == before


def test_another_recipe_replaces_the_mixture_as_a_whole(fresh):
    curate(fresh, recipe="tiny")
    result = curate(fresh, recipe="tiny", settings=["mixture.size=50"])
    assert result["samples"] == 50
    parts = list((fresh.mixture("tiny") / "samples").glob("part-*.parquet"))
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 50
    assert result["shards"]["samples"] == 50


@pytest.mark.parametrize(
    "pattern",
    [
        "mixtures/tiny/samples/*.parquet",
        "shards/tiny/*.tar",
        "shards/tiny/index.json",
        "mixtures/tiny/plan.json",
    ],
)
def test_damage_is_mended_on_the_next_run(pool, tiny, pattern):
    before = tree(pool.root)
    victim = sorted(pool.root.glob(pattern))[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 255
    victim.write_bytes(data)
    curate(pool, recipe="tiny")
    assert tree(pool.root) == before


def test_a_damaged_pool_is_refused_by_name(fresh):
    victim = sorted(fresh.root.glob("pool/instructions/samples/part-*.parquet"))[0]
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(WorkspaceError, match=rf"{victim.name} is missing or damaged"):
        curate(fresh, recipe="tiny")


def test_a_lost_picture_drops_its_samples_until_it_is_back(fresh):
    image = rows(
        fresh,
        "SELECT images[1].path AS p FROM samples WHERE len(images) = 1 "
        "AND source LIKE 'shapes%' ORDER BY id LIMIT 1",
    )[0]["p"]
    whole = curate(fresh, recipe="tiny", name="whole")
    data = (fresh.root / image).read_bytes()
    (fresh.root / image).unlink()
    lossy = curate(fresh, recipe="tiny", name="lossy")
    assert lossy["shards"]["dropped"] >= 1
    assert lossy["shards"]["samples"] == lossy["samples"] - lossy["shards"]["dropped"]
    (fresh.root / image).write_bytes(data)
    mended = curate(fresh, recipe="tiny", name="lossy")
    assert mended["shards"]["dropped"] == 0
    for path in (fresh.root / "shards" / "whole").glob("*.tar"):
        assert (fresh.root / "shards" / "lossy" / path.name).read_bytes() == path.read_bytes()
    assert mended["samples"] == whole["samples"]


def test_too_many_lost_pictures_stop_the_run(fresh):
    for path in fresh.images.glob("*/*.png"):
        path.unlink()
    with pytest.raises(RunFailed, match="missing or damaged"):
        curate(fresh, recipe="tiny", name="gone")


def test_pictures_that_were_not_read_are_not_packed(fresh, tmp_path):
    """A row could name any file of the workspace as its picture."""
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
    row = {
        "id": "x",
        "image": "catalog.duckdb",
        "conversations": turns,
        "source": "shapes_counting.json",
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    ingest_file(fresh, file=tmp_path / "rows.jsonl", name="unread", check_images="none")
    with pytest.raises(RunFailed, match="was not read"):
        curate(fresh, recipe="tiny", settings=["datasets=[unread]", "mixture.ratios=null"])


def test_dry_runs_write_nothing(fresh):
    before = tree(fresh.root)
    plan = plan_curate(fresh, CurateOptions(recipe="tiny", settings=["mixture.size=40"]))
    assert plan["plan"]["size"] == 40
    assert tree(fresh.root) == before


def test_users_mistakes_are_explained(fresh, workspace):
    with pytest.raises(UserError, match="the pool of .* is empty"):
        curate(workspace, recipe="tiny")
    with pytest.raises(UserError, match=r"no data set 'nothing' .*instructions"):
        curate(fresh, recipe="tiny", settings=["datasets=[nothing]"])
    with pytest.raises(UserError, match=r"mixture\.max_per_source"):
        curate(fresh, recipe="tiny", settings=["mixture.max_per_sorce=3"])


def test_too_many_bad_samples_stop_the_run(fresh):
    with pytest.raises(RunFailed, match="max_drop_share"):
        curate(fresh, recipe="tiny", settings=["checks.max_characters=20"])
    assert not fresh.mixture("tiny").exists() or fresh.mixture("tiny").is_dir()
