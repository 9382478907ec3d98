"""What the report says of each stage of curation: losses, duplicates, overlap, lengths."""

from __future__ import annotations

import shutil

import pytest

from cambrian_data.records import table_of
from cambrian_data.report import write_report
from cambrian_data.report.tables import Tables
from cambrian_data.workspace import Workspace
from tests.mixtures import left_out, make_sample, picture, put_mixture
from tests.reports import report, section
from tests.trees import put_dataset

ANSWER = "The tall red tower stands beside the wide river and shines in the evening sun all year."


def rows_of(workspace: Workspace) -> dict[str, list[dict]]:
    """Return rows by what becomes of them."""
    kept = [make_sample(n, "ocr", images=[picture(workspace, n)]) for n in range(6)]
    kept.append(make_sample(50, "ocr", answer=ANSWER, question="What is seen?"))
    near = make_sample(51, "ocr", answer=ANSWER.replace("red", "blue"), question="What is seen?")
    bench = make_sample(60, "math", question="How many apples are left?")
    return {
        "kept": kept,
        "near": [near | {"source": "other.json:near"}],
        "bench": [bench],
        "short": [make_sample(70 + n, "math") for n in range(4)],
    }


@pytest.fixture
def curated(workspace: Workspace) -> Workspace:
    """A mixture with a drop of most stages, a near duplicate, matches, an alarm."""
    rows = rows_of(workspace)
    put_dataset(
        workspace, "d", "k" * 20, table_of("samples", [r for part in rows.values() for r in part])
    )
    drops = [left_out(rows["near"][0], "near_dedup", "near_duplicate", detail="0.84")]
    drops += [left_out(rows["bench"][0], "decontaminate", "text_match", detail="bench")]
    drops += [left_out(row, "quality", "short_answer") for row in rows["short"]]
    first, second = rows["kept"][6]["id"], rows["near"][0]["id"]
    shas = [row["images"][0]["sha256"] for row in rows["kept"][:2]]
    clusters = [
        {"stage": "near_dedup", "cluster": first, "sample_id": first, "kept": True},
        {"stage": "near_dedup", "cluster": first, "sample_id": second, "kept": False},
        {"stage": "picture_dedup", "cluster": shas[0], "sample_id": shas[0], "kept": True},
        {"stage": "picture_dedup", "cluster": shas[0], "sample_id": shas[1], "kept": False},
    ]
    clusters[1]["similarity"] = clusters[3]["similarity"] = 0.84
    match = {"sample_id": rows["bench"][0]["id"], "kind": "text", "score": 0.75}
    matches = [match | {"against": "bench", "matched_id": rows["bench"][0]["id"]}]
    matches += [match | {"against": "/data/test.jsonl", "matched_id": "17"}]
    put_dataset(workspace, "bench", "b" * 20, table_of("samples", rows["bench"]))
    images = [
        {"sha256": sha, "path": image["path"], "width": 40, "height": 30}
        for row, sha in zip(rows["kept"], shas, strict=False)
        for image in row["images"]
    ]
    alarm = {"source": "set.json:math", "lost": 5, "have": 5, "share": 1.0, "limit": 0.5}
    put_mixture(
        workspace,
        "mix",
        rows["kept"],
        drops,
        tables={"clusters": clusters, "matches": matches, "images": images},
        stats={"alarms": [alarm], "pictures": {"groups": 1, "pictures": 6, "radius": 4}},
        recipe={"seed": 3, "mixture": {"size": 7}},
    )
    return workspace


def test_what_became_of_every_source(curated):
    numbers, page, _ = report(curated)
    by_source = {row["source"]: row for row in numbers["sources"]}
    assert by_source["set.json:ocr"]["taken"] == by_source["set.json:ocr"]["have"] == 7
    math = by_source["set.json:math"]
    assert (math["have"], math["taken"]) == (5, 0)
    assert math["lost"] == {"quality": 4, "decontaminate": 1}
    assert sum(row["have"] for row in numbers["sources"]) == numbers["flow"][0]["in"]
    for row in numbers["sources"]:
        assert row["have"] == row["taken"] + sum(row["lost"].values())
    shown = section(page, "flow")
    assert "set.json:math" in shown and "Stages that dropped nothing: checks" in shown
    assert len(page.select("#flow svg rect.node.category")) == 3 + 1  # sources, categories


def test_drops_by_source_and_reason(curated):
    numbers, page, _ = report(curated)
    matrix = numbers["drops_by_source"]
    assert [row["reason"] for row in matrix["reasons"]] == [
        "short_answer",
        "text_match",
        "near_duplicate",
    ]
    assert {row["source"]: row["rows"] for row in matrix["sources"]} == {
        "set.json:math": [4, 1, 0],
        "other.json:near": [0, 0, 1],
    }
    assert "set.json:math lost 5 of its 5 rows (100.0 %)" in section(page, "drops")


def test_numbers_by_source_are_counted_where_curation_wrote_none(workspace):
    rows = rows_of(workspace)
    put_dataset(workspace, "d", "k" * 20, table_of("samples", rows["kept"] + rows["short"]))
    drops = [left_out(row, "quality", "short_answer") for row in rows["short"]]
    none = {"sources": None, "alarms": None, "pictures": None, "system_prompts": None}
    put_mixture(workspace, "mix", rows["kept"], drops, stats=none)
    found = {row["source"]: row for row in report(workspace)[0]["sources"]}
    assert found["set.json:ocr"] | {"lost": {}} == found["set.json:ocr"]
    assert (found["set.json:ocr"]["have"], found["set.json:ocr"]["category"]) == (7, "ocr")
    assert found["set.json:math"]["lost"] == {"quality": 4}
    assert found["set.json:math"]["category"] == "(unknown)"


def test_words_of_near_duplicates_are_marked(curated):
    numbers, page, _ = report(curated)
    groups = {group["stage"]: group for group in numbers["duplicates"]["examples"]}
    copies = groups["near_dedup"]["copies"]
    assert [copy["is_dropped"] for copy in copies] == [False, True]
    assert copies[1]["similarity"] == pytest.approx(0.84)
    marks = [mark.get_text().strip() for mark in page.select("#duplicates mark")]
    assert marks == ["Marked", "red", "blue"]
    assert "0.840 alike" in section(page, "duplicates")


def test_pictures_that_look_alike_are_shown_by_their_hash(curated):
    numbers, page, _ = report(curated)
    groups = {group["stage"]: group for group in numbers["duplicates"]["examples"]}
    copies = groups["picture_dedup"]["copies"]
    assert [copy["is_dropped"] for copy in copies] == [False, True]
    assert all(copy["images"][0]["path"].startswith("images/") for copy in copies)
    assert "radius 4" in section(page, "duplicates")


def test_overlap_shows_both_sides_where_they_can_be_read(curated):
    numbers, page, _ = report(curated)
    sets = {row["against"]: row for row in numbers["overlap"]["sets"]}
    assert sets["bench"]["samples"] == 1 and sets["bench"]["most"] == pytest.approx(0.75)
    by_set = {match["against"]: match for match in numbers["overlap"]["examples"]}
    assert by_set["bench"]["matched"]["turns"] == by_set["bench"]["sample"]["turns"]
    assert by_set["/data/test.jsonl"]["matched"] is None
    shown = section(page, "overlap")
    assert "How many apples are left?" in shown
    assert "Row 17 of /data/test.jsonl; its text is not kept" in shown


def test_a_pool_that_is_gone_leaves_the_numbers(curated):
    shutil.rmtree(curated.pool("d"))
    numbers, page, _ = report(curated)
    assert numbers["duplicates"]["stages"] and numbers["overlap"]["sets"]
    assert "no longer in the pool" in section(page, "overlap")


def test_lengths_stand_by_source_before_and_after(workspace):
    bins = ["1", "2-5", "> 5"]
    lengths = {"answers": 9, "p10": 1, "p50": 2, "p90": 9, "max": 9, "histogram": [4, 3, 2]}
    after = lengths | {"answers": 5, "p50": 4, "histogram": [0, 3, 2]}
    source = {"samples": 9, "assigned": 4, "kinds": {"short": 4, "long": 5}}
    stats = {
        "bins": bins,
        "assigned": {"short": 4},
        "sources": {"a.json:x": source | {"unprompted_before": lengths, "unprompted_after": after}},
    }
    rows = [make_sample(n) for n in range(3)]
    put_dataset(workspace, "d", "k" * 20, table_of("samples", rows))
    put_mixture(workspace, "mix", rows, stats={"system_prompts": stats})
    numbers, page, _ = report(workspace)
    assert numbers["answers"]["sources"][0]["after"]["histogram"] == [0, 3, 2]
    cells = [cell.get_text() for cell in page.select("#answers tr:has(svg) td")]
    assert cells[:2] == ["9", "4"] and cells[-4:] == ["2", "4", "9", "5"]
    assert len(page.select("#answers svg rect.before")) == 3


def test_twelve_samples_of_each_category(workspace):
    rows = [make_sample(n, ("ocr", "math")[n % 2], source=f"s{n % 5}") for n in range(80)]
    rows += [make_sample(100 + n, "code") for n in range(3)]
    put_dataset(workspace, "d", "k" * 20, table_of("samples", rows))
    put_mixture(workspace, "mix", rows, rows_per_part=7)
    numbers, page, _ = report(workspace)
    shown = [row["category"] for row in numbers["examples"]]
    assert shown == ["code"] * 3 + ["math"] * 12 + ["ocr"] * 12
    assert len({row["source"] for row in numbers["examples"] if row["category"] == "ocr"}) == 5
    assert len(page.select("#samples article")) == 27


def test_rows_are_fetched_from_the_groups_that_hold_them(workspace):
    rows = [make_sample(n) for n in range(50)]
    put_mixture(workspace, "mix", [*rows, rows[3]], rows_per_part=20)
    files = sorted((workspace.mixture("mix") / "samples").glob("*.parquet"))
    wanted = {rows[n]["id"] for n in (0, 3, 19, 20, 49)} | {"absent"}
    with Tables(workspace, {"m": ("samples", files), "none": ("samples", [])}) as tables:
        found = tables.fetch("m", "id", wanted, ("source", "origin"))
        assert tables.fetch("none", "id", wanted, ("source",)) == []
        assert tables.fetch("m", "id", [], ("source",)) == []
    assert [row["id"] for row in found] == sorted(row["id"] for row in found)
    assert sorted(row["origin"]["line"] for row in found) == [0, 3, 3, 19, 20, 49]
    assert list(workspace.tmp.iterdir()) == []


def test_a_report_reads_a_mixture_without_optional_numbers(workspace):
    rows = [make_sample(n) for n in range(3)]
    put_dataset(workspace, "d", "k" * 20, table_of("samples", rows))
    put_mixture(workspace, "mix", rows)
    write_report(workspace, "mix")
    numbers, page, _ = report(workspace)
    assert numbers["alarms"] == [] and numbers["overlap"]["sets"] == []
    assert "held against none" in section(page, "overlap")
    for part in page.find_all("section"):
        assert len(part.get_text().split()) > 8
