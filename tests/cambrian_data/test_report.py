from __future__ import annotations

import io
import re
import shutil
from collections import Counter
from pathlib import Path

import jinja2
import pytest
from PIL import Image

from cambrian_data.build import MANIFEST
from cambrian_data.catalog import query, write_catalog
from cambrian_data.records import UserError, drop
from cambrian_data.report import shown_images, write_report
from cambrian_data.report.page import render, size
from cambrian_data.report.texts import shorten, web_address
from cambrian_data.report.thumbnails import ThumbnailError, thumbnail, thumbnails_of
from cambrian_data.workspace import Workspace
from tests.mixtures import make_sample, picture
from tests.reports import (
    HOSTILE,
    drops_part,
    hostile_rows,
    make,
    report,
    rows_of,
    section,
)

# ------------------------------------------------------------------------------- numbers


def test_numbers_are_those_of_the_tables(workspace):
    rows = make(workspace, rows_of(workspace))
    numbers, page, _ = report(workspace)
    shas = {image["sha256"] for row in rows for image in row["images"]}
    summary = numbers["summary"]
    assert summary["samples"] == len(rows) == 12
    assert summary["pictures"] == len(shas)
    assert summary["text_only"] == sum(not row["images"] for row in rows)
    assert summary["with_system_prompt"] == sum(row["system"] is not None for row in rows)
    assert {row["category"]: row["samples"] for row in numbers["categories"]} == Counter(
        row["category"] for row in rows
    )
    words = sorted(len(row["conversations"][1]["value"].split()) for row in rows)
    assert numbers["answers"]["words"]["max"] == words[-1]
    assert numbers["answers"]["words"]["p50"] == words[5]
    assert sum(bar["answers"] for bar in numbers["answers"]["histogram"]) == 12
    prompts = {row["text"]: row["samples"] for row in numbers["answers"]["system_prompts"]}
    assert prompts == Counter(row["system"] for row in rows)
    assert numbers["questions"]["openings"] == [{"opening": "what is number", "questions": 12}]
    assert "12 samples for a multimodal language model" in page.get_text()


def test_drops_are_counted_with_examples_in_the_order_of_the_stages(workspace):
    make(workspace, rows_of(workspace))
    refused = [drop("ingest", f"r{n}", "bad_json", detail=f"line {n}", raw="{") for n in range(3)]
    drops_part(workspace, workspace.pool("d"), refused)
    numbers, page, _ = report(workspace)
    found = {(row["stage"], row["reason"]): row["rows"] for row in numbers["drops"]}
    assert found["ingest", "bad_json"] == 3
    assert found["exact_dedup", "exact_duplicate"] == 1
    assert sum(found.values()) == 3 + 17 - 12
    assert [row["stage"] for row in numbers["drops"]][:2] == ["ingest", "exact_dedup"]
    assert [e["detail"] for e in numbers["drops"][0]["examples"]] == ["line 0", "line 1"]
    assert "line 1" in section(page, "drops")


def test_copies_stand_side_by_side_and_say_which_one_stayed(workspace):
    make(workspace, rows_of(workspace))
    numbers, page, _ = report(workspace)
    stage = numbers["duplicates"]["stages"][0]
    assert (stage["stage"], stage["clusters"], stage["members"]) == ("exact_dedup", 1, 2)
    assert (stage["dropped"], stage["pairs"], stage["largest"]) == (1, 1, 2)
    copies = numbers["duplicates"]["examples"][0]["copies"]
    assert [copy["is_dropped"] for copy in copies] == [False, True]
    assert [copy["origin"]["line"] for copy in copies] == [0, 99]
    assert len(page.find(id="duplicates").find_all("img")) == 2


def test_equal_workspaces_give_equal_bytes(workspace, tmp_path):
    make(workspace, rows_of(workspace))
    first = write_report(workspace, "mix")
    before = [Path(first[kind]).read_bytes() for kind in ("html", "json")]
    moved = shutil.copytree(workspace.root, tmp_path / "elsewhere")
    shutil.rmtree(moved / "reports")
    second = write_report(Workspace(moved), "mix")
    assert [Path(second[kind]).read_bytes() for kind in ("html", "json")] == before
    assert str(workspace.root).encode() not in b"".join(before)
    assert list(workspace.tmp.iterdir()) == []


def test_the_queries_of_the_page_run(workspace):
    make(workspace, rows_of(workspace), name="my-mix.1")
    write_catalog(workspace)
    for entry in report(workspace, "my-mix.1")[0]["queries"]:
        assert query(workspace, entry["sql"]).column_names


# ---------------------------------------------------------------------- what may be missing


def test_a_mixture_that_is_not_there_names_those_that_are(workspace):
    with pytest.raises(UserError, match=r"no mixture 'x' .*has none.*cambrian data curate"):
        write_report(workspace, "x")
    make(workspace, rows_of(workspace))
    with pytest.raises(UserError, match=r"no mixture '\.\./mix' .*it has mix"):
        write_report(workspace, "../mix")
    (workspace.mixture("mix") / MANIFEST).unlink()
    with pytest.raises(UserError, match="not finished"):
        write_report(workspace, "mix")


def test_a_bare_mixture_says_what_is_missing(workspace):
    make(workspace, [make_sample(n, "language") for n in range(30, 33)], made_by=None)
    shutil.rmtree(workspace.pool("d"))
    numbers, page, _ = report(workspace)
    assert numbers["summary"]["pictures"] == numbers["summary"]["shards"] == 0
    assert "no longer in the pool" in page.find("header").get_text()
    assert "no record of how" in section(page, "origin")
    assert "No row was dropped" in section(page, "drops")
    assert "No two samples" in section(page, "duplicates")
    assert "No model was trained" in section(page, "training")
    assert "no records of the runs" in section(page, "again")
    assert "Text alone" in section(page, "samples")
    for part in page.find_all("section"):
        assert len(part.get_text().split()) > 8


def test_pictures_that_cannot_be_shown_say_why(workspace):
    rows = [make_sample(n, "general", images=[picture(workspace, n)]) for n in range(4)]
    outside = {"sha256": None, "path": "../../etc/passwd", "width": 1, "height": 1}
    rows.append(make_sample(7, "general", images=[outside]))
    rows.append(make_sample(9, "general", images=[outside | {"path": "set/9.jpg"}]))
    make(workspace, rows)
    (workspace.root / rows[0]["images"][0]["path"]).unlink()
    (workspace.root / rows[1]["images"][0]["path"]).write_bytes(b"another picture")
    broken = workspace.root / "images" / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    _, page, _ = report(workspace)
    shown = section(page, "samples")
    assert "No picture: its file is missing" in shown
    assert "damaged: it is not what its hash says" in shown
    assert "not kept in the workspace" in shown
    assert "read without its pictures" in shown
    assert len(page.find(id="samples").find_all("img")) == 2
    image = {"sha256": None, "path": "images/broken.png", "width": 1, "height": 1}
    found = thumbnails_of(workspace, [image])
    assert "cannot be decoded" in next(iter(found.values()))["problem"]


def test_thumbnails_are_small_and_large_pictures_are_refused():
    sink = io.BytesIO()
    Image.new("RGBA", (1200, 300), (0, 0, 0, 0)).save(sink, "PNG")
    shown = thumbnail(sink.getvalue())
    assert (shown["width"], shown["height"]) == (400, 100)
    sink = io.BytesIO()
    Image.new("1", (20_000, 6_000)).save(sink, "PNG")
    with pytest.raises(ThumbnailError, match="too many pixels"):
        thumbnail(sink.getvalue())


# ------------------------------------------------------------------------------ untrusted text


def test_hostile_text_stays_text(workspace):
    make(workspace, hostile_rows(workspace))
    raw = [drop("ingest", HOSTILE, "bad_json", detail=HOSTILE, raw=HOSTILE, source=HOSTILE)]
    drops_part(workspace, workspace.pool("d"), raw)
    numbers, page, html = report(workspace)
    assert numbers["summary"]["samples"] == len(numbers["examples"]) == 3
    assert page.find("script") is None
    assert not page.find_all(lambda tag: any(name.startswith("on") for name in tag.attrs))
    assert not {tag.name for tag in page.find_all(True)} & {"iframe", "object", "embed"}
    shown = section(page, "samples")
    for place in ("caption", "section", "page", "topic", "written by", "System prompt"):
        assert f"{place} {HOSTILE}" in shown, place
    for part in ("mixture", "drops", "answers", "duplicates", "licences"):
        assert "<script>alert(1)" in section(page, part), part
    assert HOSTILE not in html and page.find("b", string=re.compile("49")) is None
    assert len(html) < 300_000 and "x" * 2_000 not in html
    addresses = {link["href"] for link in page.find_all("a")}
    assert {a for a in addresses if not a.startswith("#")} <= {"https://example.org/a?b=1&c=2"}


def test_the_page_loads_nothing(workspace):
    make(workspace, rows_of(workspace))
    _, page, html = report(workspace)
    loaded = [tag["src"] for tag in page.find_all(src=True)]
    assert loaded and all(address.startswith("data:image/webp;base64,") for address in loaded)
    assert not page.find_all(["script", "link", "iframe", "object", "embed", "base", "form"])
    assert not page.find_all(srcset=True) and not page.find_all(style=re.compile("url"))
    assert "@import" not in html and "url(" not in html
    policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert "default-src 'none'" in policy and "img-src data:;" in policy
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.find_all("a", href=re.compile("^#"))} <= set(ids)


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [
        ("https://en.wikipedia.org/wiki/Lens", True),
        ("http://example.org", True),
        ("https://corpus.invalid/wiki/Lens", False),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("https://", False),
        ("//example.org", False),
        ("http://[bad", False),
        ("https://example.org/\u202egnp", False),
        ("", False),
        (None, False),
    ],
)
def test_only_web_addresses_are_linked(url, is_shown):
    assert web_address(url) == (url if is_shown else None)


def test_shortened_text_has_no_hidden_signs():
    assert shorten("a\x00b\u202ec", 10) == "a b c"
    assert shorten("x" * 50, 5) == "xxxxx ..."
    assert shorten(None, 5) == ""


def test_sizes_are_readable():
    assert [size(n) for n in (None, 0, 999, 1500, 7_546_880, 3 * 10**11)] == [
        "-",
        "0 B",
        "999 B",
        "1.5 kB",
        "7.5 MB",
        "300 GB",
    ]


def test_every_part_of_the_template_names_what_it_is_given(workspace):
    """A name that is not given raises instead of being shown as nothing."""
    make(workspace, rows_of(workspace))
    numbers, _, _ = report(workspace)
    pictures = thumbnails_of(workspace, shown_images(numbers))
    assert "<h1>mix</h1>" in render(numbers, pictures)
    for missing in set(numbers) - {"version", "mixture"}:
        with pytest.raises((KeyError, jinja2.UndefinedError), match=missing):
            render({name: numbers[name] for name in numbers if name != missing}, pictures)
