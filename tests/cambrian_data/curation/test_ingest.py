"""A part of a file to tables: pictures, categories, counts, and the planted faults of a pool."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cambrian_data.curation.ingest import counts as ingest_counts
from cambrian_data.curation.ingest import part as module
from cambrian_data.curation.ingest.counts import MORE, most_frequent
from cambrian_data.curation.ingest.formats import SourceRow
from cambrian_data.curation.ingest.lines import line_pieces, read_rows
from cambrian_data.curation.ingest.part import (
    IngestConfig,
    IngestedPart,
    category_of,
    ingest_lines,
    ingest_part,
    merge_stats,
    parts_of,
    published_sizes,
)
from cambrian_data.curation.ingest.path_rules import PathRules
from cambrian_data.curation.ingest.pictures import open_pictures
from cambrian_data.records import CATEGORIES, SAMPLE, UserError, sample_id
from cambrian_data.workspace import Workspace

NOTHING_READ = IngestConfig(check_images="none")


def row(image: str | None = None, question: str = "What?", **keys) -> dict:
    text = f"<image>\n{question}" if image else question
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "A cat."}]
    return {**({"image": image} if image else {}), "conversations": turns, **keys}


def ingest(folder: Path, rows: list[dict], config: IngestConfig, images=None) -> IngestedPart:
    """Read rows by the quick way, and see that the slow way gives the same."""
    path = folder / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = {"dataset": "d", "file_name": path.name, "images": images, "config": config}
    quick = ingest_lines(path.read_bytes(), first_line=0, **options)
    (lines,) = parts_of(path, config)
    assert_same(quick, ingest_part(lines, **options))
    return quick


def assert_same(one: IngestedPart, other: IngestedPart) -> None:
    assert one.samples.to_pylist() == other.samples.to_pylist()
    assert one.drops.to_pylist() == other.drops.to_pylist()
    assert one.images.equals(other.images)
    assert one.stats == other.stats


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "coco").mkdir(parents=True)
    Image.new("RGB", (64, 60), "red").save(folder / "coco" / "1.png")
    shutil.copy(folder / "coco" / "1.png", folder / "coco" / "same.png")
    (folder / "coco" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    Image.new("RGB", (64, 60), "blue").save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


def opened(tmp_path: Path, folder: Path | None, check: str = "decode", **more):
    workspace = Workspace.create(tmp_path / "ws")
    return open_pictures(folder, workspace=workspace, check=check, **more)


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
        row("coco/1.png", id=1),
        row("coco/same.png", "Who?"),
        row("coco/bad.png", id=2),
        row("coco/none.png"),
        row("link.png"),
        row("coco"),
    ]
    part = ingest(tmp_path, rows, IngestConfig(), opened(tmp_path, pictures))
    (one,) = part.images["sha256"].to_pylist()
    found = part.samples.to_pylist()
    assert [image["sha256"] for s in found for image in s["images"]] == [one] * 2
    assert [image["width"] for s in found for image in s["images"]] == [64] * 2
    assert found[0]["id"] == sample_id(found[0]["conversations"], found[0]["images"])
    assert [(d["origin"]["line"], d["reason"]) for d in part.drops.to_pylist()] == [
        (2, "image_unreadable"),
        (3, "image_missing"),
        (4, "image_outside_folder"),
        (5, "image_missing"),
    ]
    assert json.loads(part.drops["raw"][0].as_py()) == rows[2]
    assert (part.stats["images"], part.stats["mended"]) == (1, {"number_id": 1})


def test_exists_looks_without_reading(tmp_path, pictures):
    rows = [row("coco/bad.png"), row("coco/none.png")]
    config = IngestConfig(check_images="exists")
    part = ingest(tmp_path, rows, config, opened(tmp_path, pictures, "exists"))
    assert part.samples["images"].to_pylist()[0][0]["path"] == "coco/bad.png"
    assert part.drops["reason"].to_pylist() == ["image_missing"]
    assert part.images.num_rows == 0


def test_picture_outside_is_never_looked_up(tmp_path):
    rows = [row("../secret.png"), row("/etc/hostname"), row("..\\secret.png")]
    part = ingest(tmp_path, rows, IngestConfig(), images=None)  # nobody there to be asked
    assert part.stats["dropped"] == {"image_outside_folder": 3}


def test_path_rules_come_first(tmp_path, pictures):
    rules = PathRules(strip_prefixes=["mnt/disks"], renames={"old": "coco"})
    config = IngestConfig(path_rules=rules)
    rows = [row("/mnt/disks/old/1.png"), row("coco/1.png", "Who?"), row("/mnt/1.png")]
    part = ingest(tmp_path, rows, config, opened(tmp_path, pictures, rules=rules))
    assert part.samples["source"].to_pylist() == ["set.jsonl:coco"] * 2
    assert part.stats["mended"] == {"path_rule": 1}
    assert part.stats["dropped"] == {"image_outside_folder": 1}


def test_rows_with_pictures_need_a_place_and_others_do_not(tmp_path):
    with pytest.raises(UserError, match=r"coco/1\.png.*--images"):
        ingest(tmp_path, [row("coco/1.png")], IngestConfig())
    assert len(ingest(tmp_path, [row()], IngestConfig()).samples) == 1


def test_rows_of_other_formats_bring_pictures_and_problems(tmp_path, pictures):
    image = (pictures / "coco" / "1.png").read_bytes()
    rows = [
        SourceRow("a.parquet", 0, row=row("x/0.png"), pictures={"x/0.png": image}),
        SourceRow(
            "a.parquet", 1, row=row("coco/1.png", "Who?"), mended=frozenset({"turn_columns"})
        ),
        SourceRow("a.parquet", 2, problem=("bad_json", "cut")),
        SourceRow("a.parquet", 3, row={"id": 5, "conversations": []}),
        SourceRow("a.parquet", 4, row=row("coco/none.png")),
    ]
    part = ingest_part(
        rows,
        dataset="d",
        file_name="a.parquet",
        images=opened(tmp_path, pictures),
        config=IngestConfig(),
    )
    assert part.samples["origin"].to_pylist()[1] == {"file": "a.parquet", "line": 1, "id": None}
    first, second = part.samples["images"].to_pylist()
    assert first[0]["sha256"] == second[0]["sha256"] and part.stats["images"] == 1
    assert part.stats["mended"] == {"turn_columns": 1}
    assert [(d["origin"]["line"], d["reason"]) for d in part.drops.to_pylist()] == [
        (2, "bad_json"),
        (3, "no_conversation"),
        (4, "image_missing"),
    ]
    assert json.loads(part.drops["raw"][2].as_py())["image"] == "coco/none.png"


def test_counts_of_unknown_sources_are_bounded(monkeypatch):
    monkeypatch.setattr(ingest_counts, "_MAX_UNKNOWN", 3)
    counts = most_frequent({"a": 1, "b": 5, "c": 1, "d": 2})
    assert counts == {"b": 5, "d": 2, MORE: 2}
    merged = merge_stats([{"unknown_sources": counts}, {"unknown_sources": {"e": 9}}])
    assert merged["unknown_sources"] == {"b": 5, "e": 9, MORE: 4}


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
    options = {"dataset": "d", "file_name": "set.jsonl", "images": None, "config": NOTHING_READ}
    data = (tmp_path / "set.jsonl").read_bytes()
    parts = [
        ingest_lines(data[piece.start : piece.end], first_line=piece.first_line, **options)
        for piece in line_pieces(tmp_path / "set.jsonl", max_rows=7, max_bytes=10**9)
    ]
    assert [part.stats["rows"] for part in parts] == [7, 7, 6]
    assert pa.concat_tables([part.samples for part in parts]).equals(whole.samples)
    assert pa.concat_tables([part.drops for part in parts]).equals(whole.drops)
    assert merge_stats(part.stats for part in parts) == dict(sorted(whole.stats.items()))


# --------------------------------------------------------------- the quick and the slow way

PLAIN_TEXTS = ["What?", "<image>\nWhat?", "x < y", "\u4e2d\u6587 \U0001f600", "a" * 300]
ODD_TEXTS = ["", " ", "\u00a0\u2028", "<image>", "a <image> b", "<image><image>\n", '\t"\\/']
WRONG_TEXTS = ["\x00", "\ud800", "\x7f"]
TEXTS = st.sampled_from(PLAIN_TEXTS) | st.sampled_from([*PLAIN_TEXTS, *ODD_TEXTS, *WRONG_TEXTS])
ROLES = st.sampled_from(["human", "gpt", "human", "gpt", "user", "assistant", "system", "tool", 1])
TURN = st.fixed_dictionaries(
    {"from": ROLES, "value": TEXTS | st.sampled_from([None, 1, ["x"]])},
    optional={"text": st.none(), "tool_calls": st.sampled_from([None, [1]])},
)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3).map(
    lambda pairs: [
        {"from": role, "value": text}
        for pair in pairs
        for role, text in zip(("human", "gpt"), pair, strict=True)
    ]
)
GOOD_PATHS = ["a.jpg", "coco/1.jpg", "hfdata/x/1.jpg", "hfdata/1.jpg", "a b/c d.jpg", "a:b/c.jpg"]
ODD_PATHS = ["./a.jpg", "a//b.jpg", "a/../b.jpg", ".hidden/a.jpg", "a/.b.jpg", "a\\b.jpg", "a/"]
BAD_PATHS = [
    "../a.jpg",
    "/a.jpg",
    "C:/a.jpg",
    "..\\a.jpg",
    "http://x.org/a.jpg",
    ".",
    "..",
    "a\x00b",
]
PATHS = st.sampled_from(GOOD_PATHS) | st.sampled_from(["", "None", *ODD_PATHS, *BAD_PATHS])
IDS = st.sampled_from(
    ["x", "", 1, -0.0, 1.0, 2**63, 2**64, -(2**63) - 1, 1e300, True, None, [1], "\u00e9", "\ud800"]
)
ROW = st.fixed_dictionaries(
    {"conversations": PAIRS | PAIRS | st.lists(TURN, max_size=5)},
    optional={
        "id": IDS,
        "source": st.sampled_from(["s.json", " ", "", None, 3, "s.json:a", "A: b", "http://x"]),
        "image": PATHS | st.lists(PATHS, max_size=2) | st.sampled_from([None, 5, {"bytes": "x"}]),
        "images": PATHS | st.none(),
        "model": st.just("m"),
        "system": TEXTS,
        "video": st.sampled_from([None, "a.mp4"]),
    },
)
NOT_ROWS = [b"", b" \r", b"{}", b"[]", b"1", b"null", b'"x"', b"{", b'{"id": 1', b"{} {}"]
WRONG_BYTES = [b"\xff\xfe", b"{\x00}\x00", b'{"a": "\xe9"}', b"\xef\xbb\xbf{}", b"[" * 2000]
ODD_JSON = [b'{"conversations": NaN}', b'{"a": 1e999}', b'{"id": 1, "id": "b"}', b'{"\\u0069d": 3}']
ODD_LINES = st.sampled_from([*NOT_ROWS, *WRONG_BYTES, *ODD_JSON])


@st.composite
def _lines(draw) -> bytes:
    row = draw(ROW)
    indent = draw(st.sampled_from([None, None, None, 0]))  # with one it stands on several lines
    text = json.dumps(row, ensure_ascii=draw(st.booleans()), indent=indent)
    data = text.encode("utf-8", draw(st.sampled_from(["surrogatepass", "replace"])))
    before, after = draw(
        st.sampled_from([(b"", b""), (b"", b"\r"), (b" ", b" "), (b"\xef\xbb\xbf", b"")])
    )
    return before + data + after


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(_lines() | ODD_LINES, max_size=8), block=st.integers(1, 400))
def test_the_quick_way_is_the_slow_way(tmp_path_factory, lines, block):
    data = b"\n".join(lines)
    path = tmp_path_factory.mktemp("quick") / "set.jsonl"
    path.write_bytes(b"{}\n" + data)  # so that a mark in front is not the file's own
    options = {"dataset": "d", "file_name": "set.jsonl", "images": None, "config": NOTHING_READ}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", block)
        patch.setattr(module, "_PLAIN_BYTES", block)
        quick = ingest_lines(path.read_bytes(), first_line=0, **options)
    slow = ingest_part(read_rows(path), **options)
    assert_same(quick, slow)
    quick.samples.validate(full=True)
    for sample in quick.samples.to_pylist():
        assert sample["id"] == sample_id(sample["conversations"], sample["images"])


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
    options = {"dataset": "p", "file_name": "pool.jsonl", "images": None, "config": NOTHING_READ}
    part = ingest_lines(pool.path.read_bytes(), first_line=0, **options)
    assert_same(part, ingest_part(read_rows(pool.path), **options))
    found = {d["origin"]["line"]: d["reason"] for d in part.drops.to_pylist()}
    assert found == {line: reason for line, reason in faulty.items() if reason}
    assert part.stats["kept"] == part.stats["rows"] - len(found)
    notes = [row["note"] for row in pool.lines("faulty").values()]
    mended = part.stats["mended"]
    assert mended.get("image_token_added", 0) == notes.count("image_without_placeholder")
    assert mended.get("image_tokens_collapsed", 0) == notes.count("two_placeholders_one_image")
    assert part.stats["unknown_sources"] == {}


def test_planted_pictures_are_found(planted, tmp_path):
    pool = planted("--scale", "0.00001", "--images", "--missing", "0.3", "--faulty", "0")
    part = ingest_lines(
        pool.path.read_bytes(),
        first_line=0,
        dataset="p",
        file_name="pool.jsonl",
        images=opened(tmp_path, pool.images),
        config=IngestConfig(),
    )
    found = {(d["origin"]["line"], d["reason"]) for d in part.drops.to_pylist()}
    planted_faults = {(row["line"], row["kind"]) for row in pool.truth if "image" in row["kind"]}
    assert {reason for _, reason in planted_faults} == {"image_missing", "image_unreadable"}
    assert found == planted_faults
    assert part.images.num_rows > 0
    shutil.rmtree(pool.images)
