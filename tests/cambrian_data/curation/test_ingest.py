"""A part of a file to tables: pictures, categories, counts, and the planted faults of a pool."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from cambrian_data.curation.ingest import (
    FolderPictures,
    IngestConfig,
    IngestedPart,
    category_of,
    ingest_part,
    merge_stats,
    parts_of,
    published_sizes,
)
from cambrian_data.records import CATEGORIES, SAMPLE, UserError, sample_id

NOTHING_READ = IngestConfig(check_images="none")


def row(image: str | None = None, question: str = "What?", **keys) -> dict:
    text = f"<image>\n{question}" if image else question
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "A cat."}]
    return {**({"image": image} if image else {}), "conversations": turns, **keys}


def keep(data: bytes) -> dict:
    """Stand in for the store of pictures: what starts with BAD is none."""
    if data.startswith(b"BAD"):
        raise ValueError("corrupt: no picture")
    sha256 = hashlib.sha256(data).hexdigest()
    return {"sha256": sha256, "path": f"images/{sha256[:2]}/{sha256}.png", "width": 4, "height": 3}


def ingest(folder: Path, rows: list[dict], config: IngestConfig, images=None) -> IngestedPart:
    path = folder / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (part,) = parts_of(path, config)
    return ingest_part(part, dataset="d", file_name=path.name, images=images, config=config)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "coco").mkdir(parents=True)
    (folder / "coco" / "1.png").write_bytes(b"one")
    (folder / "coco" / "same.png").write_bytes(b"one")
    (folder / "coco" / "bad.png").write_bytes(b"BAD")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


def test_samples_have_their_columns(tmp_path):
    rows = [row("coco/1.png", id=3, source="gpt77k.json"), row(system="Be brief.")]
    part = ingest(tmp_path, rows, NOTHING_READ)
    assert part.samples.schema == SAMPLE
    part.samples.validate(full=True)
    first, second = part.samples.to_pylist()
    image = {"sha256": None, "path": "coco/1.png", "width": None, "height": None}
    assert first["images"] == [image]
    assert first["id"] == sample_id(first["conversations"], first["images"])
    assert first["origin"] == {"file": "set.jsonl", "line": 0, "id": "3"}
    assert (first["source"], first["category"]) == ("gpt77k.json:coco", "general")
    assert (second["source"], second["category"]) == ("set.jsonl", "other")
    assert (second["system"], second["images"], second["dataset"]) == ("Be brief.", [], "d")
    assert part.stats["unknown_sources"] == {"set.jsonl": 1}
    assert part.stats["mended"] == {"number_id": 1, "system_key": 1}


def test_decoded_pictures_are_named_by_their_hash(tmp_path, pictures):
    rows = [
        row("coco/1.png"),
        row("coco/same.png", "Who?"),
        row("coco/bad.png"),
        row("coco/none.png"),
        row("link.png"),
        row("coco"),
    ]
    part = ingest(tmp_path, rows, IngestConfig(), FolderPictures(pictures, keep))
    one = hashlib.sha256(b"one").hexdigest()
    assert [image["sha256"] for s in part.samples.to_pylist() for image in s["images"]] == [one] * 2
    assert part.images.select(["sha256", "width", "height"]).to_pylist() == [
        {"sha256": one, "width": 4, "height": 3}
    ]
    assert [(d["origin"]["line"], d["reason"]) for d in part.drops.to_pylist()] == [
        (2, "image_unreadable"),
        (3, "image_missing"),
        (4, "image_outside_folder"),
        (5, "image_missing"),
    ]
    assert part.stats["images"] == 1


def test_picture_of_many_rows_is_stored_once(tmp_path, pictures):
    stored = []
    source = FolderPictures(pictures, lambda data: stored.append(data) or keep(data))
    rows = [row("coco/1.png"), row("coco/1.png", "Who?"), row("coco/bad.png"), row("coco/bad.png")]
    part = ingest(tmp_path, rows, IngestConfig(), source)
    assert stored == [b"one", b"BAD"]
    assert (part.stats["kept"], part.stats["dropped"]) == (2, {"image_unreadable": 2})


def test_exists_looks_without_reading(tmp_path, pictures):
    rows = [row("coco/bad.png"), row("coco/none.png")]
    config = IngestConfig(check_images="exists")
    part = ingest(tmp_path, rows, config, FolderPictures(pictures))
    assert part.samples["images"].to_pylist()[0][0]["path"] == "coco/bad.png"
    assert part.drops["reason"].to_pylist() == ["image_missing"]
    assert part.images.num_rows == 0


def test_link_out_of_the_folder_is_followed_when_asked(tmp_path, pictures):
    source = FolderPictures(pictures, keep, follow_links=True)
    part = ingest(tmp_path, [row("link.png")], IngestConfig(), source)
    assert part.stats["kept"] == 1


def test_picture_outside_is_never_opened(tmp_path):
    class Untouchable:
        def check(self, path):
            raise AssertionError(path)

        store = check

    rows = [row("../secret.png"), row("/etc/hostname")]
    part = ingest(tmp_path, rows, IngestConfig(), Untouchable())
    assert part.stats["dropped"] == {"image_outside_folder": 2}


def test_large_picture_and_long_name_are_dropped(tmp_path, pictures):
    source = FolderPictures(pictures, keep, max_bytes=2)
    part = ingest(tmp_path, [row("coco/1.png"), row("x" * 300)], IngestConfig(), source)
    assert part.drops["reason"].to_pylist() == ["image_unreadable", "image_missing"]


def test_failure_to_store_is_not_the_picture_s_fault(tmp_path, pictures):
    def full(data):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        ingest(tmp_path, [row("coco/1.png")], IngestConfig(), FolderPictures(pictures, full))


def test_rows_with_pictures_need_a_folder_and_others_do_not(tmp_path):
    with pytest.raises(UserError, match=r"coco/1\.png.*--images"):
        ingest(tmp_path, [row("coco/1.png")], IngestConfig())
    assert len(ingest(tmp_path, [row()], IngestConfig()).samples) == 1


def test_strict_wants_a_category_for_every_source(tmp_path):
    with pytest.raises(UserError, match=r"'mine\.json'.*--category"):
        ingest(tmp_path, [row(source="mine.json")], IngestConfig(check_images="none", strict=True))
    config = IngestConfig(check_images="none", strict=True, categories={"mine.json": "math"})
    part = ingest(tmp_path, [row(source="mine.json")], config)
    assert part.samples["category"].to_pylist() == ["math"]


def test_categories_of_published_sources():
    config = IngestConfig()
    assert category_of("idefics375k.json:hfdata/raven", config) == "math"
    assert category_of("idefics375k.json:hfdata/nothing", config) == "other"
    assert category_of("gpt77k.json:wikiart", config) == "general"
    assert category_of("random_3rd_dvqa_2325k.json:dvqa", config) == "ocr"
    assert category_of("scienceqa_12k.json", config) == "science"
    assert {category for category, _ in published_sizes().values()} == set(CATEGORIES)


def test_parts_do_not_matter(tmp_path):
    rows = [row(f"coco/{n}.png" if n % 3 else None, f"What is {n}?", id=n) for n in range(20)]
    rows[4]["conversations"] = []
    whole = ingest(tmp_path, rows, NOTHING_READ)
    config = IngestConfig(check_images="none", rows_per_part=7)
    parts = [
        ingest_part(p, dataset="d", file_name="set.jsonl", images=None, config=config)
        for p in parts_of(tmp_path / "set.jsonl", config)
    ]
    assert [part.stats["rows"] for part in parts] == [7, 7, 6]
    assert pa.concat_tables([part.samples for part in parts]).equals(whole.samples)
    assert pa.concat_tables([part.drops for part in parts]).equals(whole.drops)
    assert merge_stats(part.stats for part in parts) == dict(sorted(whole.stats.items()))


# ------------------------------------------------------------------------- planted faults

FATES = {
    "no_conversations": "no_conversation",
    "empty_answer": "empty_turn",
    "no_answer_turn": "no_answer",
    "unknown_role": "bad_turns",
    "placeholder_without_image": "image_token_mismatch",
    "broken_json": "bad_json",
    "not_an_object": "not_an_object",
    "null_value": "bad_turns",
    "starts_with_answer": "no_answer",
}
"""Faults that no mend covers; a picture without or with two <image> is mended."""


def test_planted_faults_are_found_and_nothing_else(planted):
    pool = planted("--scale", "0.001", "--faulty", "0.01")
    faulty = {line: FATES.get(row["note"]) for line, row in pool.lines("faulty").items()}
    assert {row["note"] for row in pool.lines("faulty").values()} >= set(FATES)
    (lines,) = parts_of(pool.path, NOTHING_READ)
    part = ingest_part(
        lines, dataset="pool", file_name="pool.jsonl", images=None, config=NOTHING_READ
    )
    found = {d["origin"]["line"]: d["reason"] for d in part.drops.to_pylist()}
    assert found == {line: reason for line, reason in faulty.items() if reason}
    assert part.stats["kept"] == len(lines) - len(found)
    notes = [row["note"] for row in pool.lines("faulty").values()]
    mended = part.stats["mended"]
    assert mended.get("image_token_added", 0) == notes.count("image_without_placeholder")
    assert mended.get("image_tokens_collapsed", 0) == notes.count("two_placeholders_one_image")
    assert part.stats["unknown_sources"] == {}


def test_planted_pictures_are_found(planted):
    engine_images = pytest.importorskip("cambrian_data.engine.images")
    config = engine_images.ImagesConfig(min_side_px=1, max_aspect=100)

    def decoded(data: bytes) -> dict:
        picture = engine_images.decode_picture(data, config)
        path = f"images/{picture.sha256}.{picture.suffix}"
        sizes = {"width": picture.width, "height": picture.height}
        return {"sha256": picture.sha256, "path": path, **sizes, "phash": picture.phash}

    pool = planted("--scale", "0.00001", "--images", "--missing", "0.3", "--faulty", "0")
    (lines,) = parts_of(pool.path, IngestConfig())
    part = ingest_part(
        lines,
        dataset="pool",
        file_name="pool.jsonl",
        images=FolderPictures(pool.images, decoded),
        config=IngestConfig(),
    )
    found = {(d["origin"]["line"], d["reason"]) for d in part.drops.to_pylist()}
    planted_faults = {(row["line"], row["kind"]) for row in pool.truth if "image" in row["kind"]}
    assert {reason for _, reason in planted_faults} == {"image_missing", "image_unreadable"}
    assert found == planted_faults
    assert part.images.num_rows > 0
    shutil.rmtree(pool.images)
