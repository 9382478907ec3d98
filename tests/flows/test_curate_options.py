"""What curation is asked for beside its recipe: other sets, scores, sweeps, buckets."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from cambrian_data.catalog import query
from cambrian_data.curation.ingest.file import ingest_file
from cambrian_data.engine.corpus import INSTRUCTION_IMAGES, INSTRUCTIONS
from cambrian_data.records import RunFailed, UserError
from cambrian_data.shards import verify_shards
from cambrian_data.workspace import Workspace
from flows.curate import CurateOptions, plan_curate, run_curate
from tests.trees import tree

ALL = ("mixture.ratios=null", "mixture.size=null", "mixture.on_conflict=shrink")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    workspace = Workspace.create(tmp_path_factory.mktemp("options") / "ws")
    ingest_file(
        workspace, file=INSTRUCTIONS, images=INSTRUCTION_IMAGES, name="instructions", workers=1
    )
    return workspace


@pytest.fixture
def fresh(pool, tmp_path):
    shutil.copytree(pool.root, tmp_path / "copy")
    return Workspace.create(tmp_path / "copy")


def curate(workspace, *settings, **options):
    options = {"recipe": "tiny", "name": "m", "with_shards": False, **options}
    return run_curate(workspace, CurateOptions(settings=[*ALL, *settings], **options))


def rows(workspace, sql):
    return query(workspace, sql).to_pylist()


def drops(result):
    return {step["stage"]: step["drops"] for step in result["flow"]}


def test_samples_of_a_benchmark_are_dropped_with_what_they_matched(fresh, tmp_path):
    said = rows(
        fresh,
        "SELECT s.id, t.value AS answer FROM samples s, unnest(s.conversations) AS u(t) "
        "WHERE t.\"from\" = 'gpt' AND len(string_split(t.value, ' ')) > 14 ORDER BY 1 LIMIT 2",
    )
    file = tmp_path / "bench.jsonl"
    lines = [
        {"id": f"b{n}", "question": "Say it.", "answer": r["answer"]} for n, r in enumerate(said)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = curate(fresh, against=[str(file)])
    assert drops(result)["decontaminate"]["text_match"] >= 2
    found = rows(fresh, "SELECT sample_id, kind, matched_id FROM matches WHERE mixture = 'm'")
    assert {row["id"] for row in said} <= {row["sample_id"] for row in found}
    assert {row["kind"] for row in found} == {"text"}
    why = rows(fresh, "SELECT detail FROM drops WHERE reason = 'text_match'")
    assert all("bench.jsonl" in row["detail"] for row in why)


def test_another_data_set_of_the_pool_is_not_mixed_with_itself(fresh, tmp_path):
    file = tmp_path / "stage1.jsonl"
    file.write_text("".join(INSTRUCTIONS.read_text().splitlines(keepends=True)[:20]))
    ingest_file(fresh, file=file, images=INSTRUCTION_IMAGES, name="stage1", workers=1)
    result = curate(fresh, against=["stage1"])
    assert result["datasets"] == ["instructions"]
    shared = rows(
        fresh,
        "SELECT count(*) AS n FROM samples s WHERE dataset = 'instructions' AND len(images) > 0 "
        "AND images[1].sha256 IN (SELECT images[1].sha256 FROM samples WHERE dataset = 'stage1')",
    )[0]["n"]
    assert drops(result)["decontaminate"]["picture_match"] >= shared > 0
    with pytest.raises(UserError, match="'stage1' is both an input"):
        curate(fresh, "datasets=[stage1]", against=["stage1"])


def test_scores_join_the_samples_and_drop_those_below(fresh, tmp_path):
    ids = [row["id"] for row in rows(fresh, "SELECT DISTINCT id FROM samples ORDER BY id")]
    file = tmp_path / "scores.csv"
    file.write_text("id,relevance\n" + "".join(f"{id},{n % 5 + 1}\n" for n, id in enumerate(ids)))
    low = sum(n % 5 + 1 < 3 for n in range(len(ids)))
    result = curate(fresh, f"scores=[{file}]", "quality.min_scores={relevance: 3}")
    assert drops(result)["quality"] == {"low_score": low}
    kept = rows(fresh, "SELECT scores['relevance'] AS score FROM mixture_m")
    assert len(kept) == result["samples"] and {row["score"] for row in kept} == {3.0, 4.0, 5.0}
    best = curate(
        fresh,
        f"scores=[{file}]",
        "mixture.choice=quality",
        "mixture.score=relevance",
        "mixture.max_per_source=2",
    )
    scores = rows(fresh, "SELECT source, min(scores['relevance']) AS low FROM mixture_m GROUP BY 1")
    assert best["samples"] < result["samples"] and min(row["low"] for row in scores) >= 4


def test_changed_scores_are_read_again(fresh, tmp_path):
    (sample,) = rows(fresh, "SELECT id FROM samples ORDER BY id LIMIT 1")
    file = tmp_path / "scores.csv"
    for score, lost in ((1, 1), (5, 0)):
        file.write_text(f"id,relevance\n{sample['id']},{score}\n")
        result = curate(fresh, f"scores=[{file}]", "quality.min_scores={relevance: 3}")
        assert sum(drops(result)["quality"].values()) == lost


def test_a_sweep_plans_every_value_and_writes_no_mixture(fresh):
    options = CurateOptions(recipe="tiny", name="m", settings=ALL)
    result = plan_curate(fresh, options, sweep=["cap=5,10,20"])
    assert [row["label"] for row in result["sweep"]] == ["cap=5", "cap=10", "cap=20"]
    sizes = [row["size"] for row in result["sweep"]]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    folder = fresh.root / result["sweep_folder"]
    assert len(list(folder.glob("*.json"))) == 4
    assert "m" not in fresh.names("mixtures")


def test_only_the_mixture_is_made_anew_where_only_its_size_changes(fresh):
    curate(fresh)
    (folder,) = (fresh.root / "curation").glob("*")
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.arrow")}
    result = curate(fresh, "mixture.max_per_source=7")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.arrow")} == stamps
    counts = rows(fresh, "SELECT count(*) AS n FROM mixture_m GROUP BY source, category")
    assert sum(row["n"] for row in counts) == result["samples"]
    assert max(row["n"] for row in counts) <= 7


def smaller_copies(folder: Path, tmp_path: Path) -> tuple[Path, Path, int]:
    """Write some pictures again as JPEG files of half the size, with rows that say the same."""
    target, lines, taken = tmp_path / "small", [], 0
    target.mkdir()
    for line in INSTRUCTIONS.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        name = row.get("image")
        if not name or not (folder / name).is_file() or taken == 6:
            continue
        picture = Image.open(folder / name).convert("RGB")
        data = io.BytesIO()
        picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(data, "JPEG")
        (target / f"{taken}.jpg").write_bytes(data.getvalue())
        lines.append(json.dumps({**row, "image": f"{taken}.jpg", "source": "small.json"}))
        taken += 1
    (tmp_path / "small.jsonl").write_text("\n".join(lines))
    return tmp_path / "small.jsonl", target, taken


def test_look_alikes_are_told_of_counted_as_one_or_removed(fresh, tmp_path):
    file, folder, taken = smaller_copies(INSTRUCTION_IMAGES, tmp_path)
    ingest_file(fresh, file=file, images=folder, name="small", workers=1)
    told = curate(fresh, "pictures.max_group=100")
    clusters = rows(fresh, "SELECT * FROM clusters WHERE stage = 'picture_dedup'")
    assert sum(not row["kept"] for row in clusters) >= taken - 1
    before = drops(told)["exact_dedup"].get("exact_duplicate", 0)
    grouped = curate(fresh, "pictures.max_group=100", "pictures.on_duplicate=group")
    gone = drops(grouped)["exact_dedup"]["exact_duplicate"] - before
    assert gone >= taken - 1
    removed = curate(fresh, "pictures.max_group=100", "pictures.on_duplicate=remove")
    assert drops(removed)["picture_dedup"]["picture_duplicate"] >= gone
    sources = {
        row["source"]
        for row in rows(
            fresh, "SELECT DISTINCT source FROM drops WHERE reason = 'picture_duplicate'"
        )
    }
    assert "small.json" in {source.split(":")[0] for source in sources}


def test_shards_are_sent_on_and_only_once(fresh):
    address = "memory://bucket/shards"
    first = curate(fresh, with_shards=True, shards_to=address)["shards"]
    assert first["sent"] == first["shards"] and first["sent_to"] == address
    assert verify_shards(address).problems == []
    again = curate(fresh, with_shards=True, shards_to=address)["shards"]
    assert again["sent"] == 0 and again["already_there"] == first["shards"]
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_repeated_samples_fill_a_small_category(fresh):
    counts = {
        row["category"]: row["n"]
        for row in rows(fresh, "SELECT category, count(DISTINCT id) AS n FROM samples GROUP BY 1")
    }
    small = min(counts, key=lambda name: counts[name])
    ratios = "mixture.ratios={" + ", ".join(f"{name}: 1" for name in counts) + "}"
    result = curate(
        fresh,
        ratios,
        "mixture.on_conflict=repeat",
        "mixture.repeat_limit=2",
        "mixture.max_per_source=1000",
    )
    got = rows(
        fresh,
        f"SELECT max(n) AS n FROM (SELECT count(*) AS n FROM mixture_m "
        f"WHERE category = '{small}' GROUP BY id)",
    )[0]["n"]
    assert got == 2
    assert result["flow"][-1]["repeated"] > 0
    assert len({row["take"] for row in result["plan"]["categories"]}) == 1


def test_rules_that_drop_everything_are_named(fresh):
    with pytest.raises(RunFailed, match=r"none is left to mix .*quality few_words 92"):
        curate(fresh, "quality.min_words=100000")


def test_damaged_work_before_the_plan_is_made_again(fresh):
    before = curate(fresh)
    made = tree(fresh.root)
    for path in [*(fresh.root / "curation").rglob("*.npy"), *fresh.root.rglob("*.arrow")]:
        path.write_bytes(b"junk")
    shutil.rmtree(fresh.mixture("m"))
    assert curate(fresh) == before
    assert tree(fresh.root) == made
