from __future__ import annotations

import io
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import jinja2
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from cambrian_data.build import MANIFEST, Build
from cambrian_data.catalog import query, write_catalog
from cambrian_data.curation.assemble import curate, read_mixture, write_mixture
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.pool import read_datasets
from cambrian_data.records import (
    UserError,
    bytes_id,
    content_id,
    draw,
    drop,
    sample_id,
    silent,
    table_of,
)
from cambrian_data.report import write_report
from cambrian_data.report.charts import loss_chart, nice_ticks, smooth
from cambrian_data.report.examples import choose
from cambrian_data.report.flow_chart import HEIGHT, SLOT, TOP, flow_chart
from cambrian_data.report.page import render, size
from cambrian_data.report.texts import shorten, web_address
from cambrian_data.report.thumbnails import ThumbnailError, thumbnail, thumbnails_of
from cambrian_data.report.training import curve, read_losses
from cambrian_data.runs import RunRecord
from cambrian_data.workspace import Workspace
from tests.trees import put_dataset

RECIPE = {
    "datasets": ["*"],
    "max_drop_share": 0.9,
    "mixture": {
        "ratios": {"ocr": 1, "general": 1, "language": 1},
        "size": 12,
        "on_conflict": "fill",
    },
}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"<b>{{ 7 * 7 }}"


def picture(workspace: Workspace, shade: int) -> dict:
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 90, 40)).save(sink, "PNG")
    sha256, path = workspace.store_picture(sink.getvalue(), "png")
    return {"sha256": sha256, "path": workspace.relative(path), "width": 40, "height": 30}


def sample(number: int, category: str, images: list, **more) -> dict:
    answer = more.pop("answer", "red" if number % 2 else "It is a long red line. " * (number + 1))
    marks = "<image>\n" * len(images)
    turns = [
        {"from": "human", "value": f"{marks}What is number {number}?"},
        {"from": "gpt", "value": answer},
    ]
    return {
        "id": sample_id(turns, images),
        "source": f"set.json:{category}",
        "dataset": "d",
        "category": category,
        "images": images,
        "conversations": turns,
        "origin": {"file": "set.jsonl", "line": number, "id": str(number)},
    } | more


def rows_of(workspace: Workspace) -> list[dict]:
    rows = [sample(n, "general", [picture(workspace, n)]) for n in range(8)]
    rows += [sample(n, "ocr", [picture(workspace, n)]) for n in range(20, 23)]
    rows += [sample(n, "language", []) for n in range(30, 35)]
    rows.append(rows[0] | {"origin": {"file": "set.jsonl", "line": 99, "id": "copy"}})
    return rows


def make(
    workspace: Workspace, rows: list[dict], name: str = "mix", mixture: dict | None = None, **about
) -> None:
    """Put rows into the pool as the data set `d` and make a mixture of them."""
    about = {"made_by": "ingest", "rows": len(rows) + 1, "images": 9, **about}
    put_dataset(workspace, "d", content_id(rows), table_of("samples", rows), **about)
    recipe = CurateRecipe.model_validate(RECIPE | ({"mixture": mixture} if mixture else {}))
    curated = curate(read_datasets(workspace, ["d"]), recipe, silent)
    manifest = {"recipe": "mine", "datasets": ["d"], "plan": curated.plan.to_json()}
    write_mixture(workspace, Build(workspace, workspace.mixture(name), "key"), curated, manifest)


def report(workspace: Workspace, name: str = "mix") -> tuple[dict, BeautifulSoup, str]:
    result = write_report(workspace, name)
    html = Path(result["html"]).read_text(encoding="utf-8")
    numbers = json.loads(Path(result["json"]).read_bytes())
    return numbers, BeautifulSoup(html, "lxml"), html


def section(page: BeautifulSoup, name: str) -> str:
    found = page.find(id=name)
    assert found is not None, name
    return " ".join(found.get_text(" ").split())


def drops_part(workspace: Workspace, folder: Path, rows: list[dict]) -> None:
    workspace.write_table(folder / "drops" / "part-extra.parquet", table_of("drops", rows))


# ------------------------------------------------------------------------------- numbers


def test_numbers_are_those_of_the_tables(workspace):
    make(workspace, rows_of(workspace))
    numbers, page, _ = report(workspace)
    rows = read_mixture(workspace.mixture("mix")).to_pylist()
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
    assert numbers["duplicates"]["stages"] == [
        {"stage": "exact_dedup", "clusters": 1, "members": 2, "dropped": 1}
    ]
    copies = numbers["duplicates"]["example"]["copies"]
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
    make(workspace, [sample(n, "language", []) for n in range(30, 33)], made_by=None)
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
    rows = [sample(n, "general", [picture(workspace, n)]) for n in range(4)]
    outside = {"sha256": None, "path": "../../etc/passwd", "width": 1, "height": 1}
    rows.append(sample(7, "general", [outside]))
    rows.append(sample(9, "general", [outside | {"path": "set/9.jpg"}]))
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
    found = thumbnails_of(workspace, [{"images": [image]}], None)
    assert "cannot be decoded" in next(iter(found.values()))["problem"]


def test_thumbnails_are_small_and_large_pictures_are_refused():
    sink = io.BytesIO()
    Image.new("RGBA", (1200, 300), (0, 0, 0, 0)).save(sink, "PNG")
    shown = thumbnail(sink.getvalue())
    assert (shown["width"], shown["height"]) == (480, 120)
    sink = io.BytesIO()
    Image.new("1", (20_000, 6_000)).save(sink, "PNG")
    with pytest.raises(ThumbnailError, match="too many pixels"):
        thumbnail(sink.getvalue())


# ------------------------------------------------------------------------------ untrusted text


def hostile_rows(workspace: Workspace) -> list[dict]:
    known = {
        "page_url": "javascript:alert(1)",
        "page_title": HOSTILE,
        "caption": HOSTILE,
        "section": [HOSTILE],
        "license": HOSTILE,
        "author": HOSTILE,
        "generator": HOSTILE,
        "topic": HOSTILE,
    }
    rows = [
        sample(n, "general", [picture(workspace, n)], answer=f"{n}{HOSTILE}" + "x" * 8_000)
        for n in range(3)
    ]
    rows[0] |= {"provenance": known, "system": HOSTILE, "source": HOSTILE}
    rows.append(rows[0] | {"source": f"{HOSTILE} 2"})
    rows[1] |= {"provenance": known | {"page_url": "https://example.org/a?b=1&c=2"}}
    rows[2] |= {"category": HOSTILE, "original": HOSTILE}
    return rows


def test_hostile_text_stays_text(workspace):
    make(workspace, hostile_rows(workspace), mixture={"ratios": None})
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


# --------------------------------------------------------------------- runs behind, training


def test_the_engine_run_behind_a_data_set_shows_its_funnel(workspace, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cambrian", "data", "engine", "--topic", "lenses"])
    make(workspace, rows_of(workspace), made_by="engine", run="physics-1")
    record = RunRecord(workspace, "physics-1", kind="engine", seed=0, inputs={"topic": "lenses"})
    record.stage("search", rows_in=5, rows_out=4, seconds=1, drops={"no_hits": 1})
    funnel = {"topics": 5, "hits": 1234, "pages": 3, "figures": 9, "pictures": 8, "samples": 17}
    record.finish("done", outputs={"dataset": "d", "funnel": funnel})
    drops_part(workspace, workspace.engine("physics-1"), [drop("search", "t", "no_hits")])
    numbers, page, _ = report(workspace)
    assert numbers["datasets"][0]["funnel"] == funnel
    steps = [" ".join(li.get_text(" ").split()) for li in page.select("#origin .funnel li")]
    assert steps[:3] == ["5 topics", "1,234 hits", "3 pages"] and steps[-1] == "17 samples"
    assert "lenses" in section(page, "origin")
    assert ("search", "no_hits") in {(row["stage"], row["reason"]) for row in numbers["drops"]}
    assert record.data["command"] in page.find(id="again").get_text()


def test_a_pool_that_changed_since_is_told(workspace):
    make(workspace, rows_of(workspace))
    record = RunRecord(workspace, "curate-1", kind="curate", seed=0, inputs={"d": "other"})
    record.finish("done", outputs={"name": "mix"})
    numbers, page, _ = report(workspace)
    assert "has changed since" in page.find("header").get_text()
    assert numbers["runs"]["records"][0]["run"] == "curate-1"


def train_files(workspace: Workspace, name: str, stage: str, **result) -> None:
    folder = workspace.checkpoints(name, stage)
    lines = [json.dumps({"step": n, "loss": 7 / n}) for n in range(1, 501)]
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 501, "lo', encoding="utf-8")
    losses = {"first_tenth_loss": 6.5, "last_tenth_loss": 1.25}
    stored = {"checkpoint": "step-000500", "steps": 500, "samples": 12, "skipped": {}} | losses
    if result:
        workspace.write_json(folder / "result.json", stored | result)


def test_training_is_explained(workspace):
    make(workspace, rows_of(workspace))
    none = {"own_pictures_loss": None, "shuffled_pictures_loss": None}
    train_files(workspace, "tiny", "pretrain", **none)
    train_files(workspace, "tiny", "finetune", own_pictures_loss=1.0, shuffled_pictures_loss=1.7)
    numbers, page, _ = report(workspace)
    stages = numbers["training"][0]["stages"]
    assert [stage["stage"] for stage in stages] == ["pretrain", "finetune"]
    assert stages[0]["curve"][-1][0] == 500 and len(stages[0]["curve"]) <= 240
    text = section(page, "training")
    assert "2.01 times as likely" in text and "1.250" in text
    assert len(page.select("#training polyline")) == 4


def test_a_model_that_does_not_look_and_a_run_that_goes_on(workspace):
    make(workspace, rows_of(workspace))
    train_files(workspace, "blind", "finetune", own_pictures_loss=2.0, shuffled_pictures_loss=2.001)
    train_files(workspace, "going", "pretrain")
    text = section(report(workspace)[1], "training")
    assert "from the question alone" in text and "not finished" in text


def test_training_on_other_shards_is_not_shown(workspace):
    make(workspace, rows_of(workspace))
    train_files(workspace, "tiny", "pretrain", own_pictures_loss=None)
    shards = str(workspace.shards("another"))
    record = RunRecord(workspace, "train-1", kind="train", seed=0, inputs={"shards": shards})
    record.finish("done", outputs={"checkpoint": "checkpoints/tiny/pretrain/step-000500"})
    assert report(workspace)[0]["training"] == []


def test_losses_are_read_and_thinned(tmp_path):
    assert read_losses(tmp_path / "none.jsonl") == []
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n[]\n{"st')
    assert read_losses(log) == [(1, 2.0)]
    points = curve([(n, 1.0) for n in range(1, 1002)])
    assert len(points) <= 240 and points[-1] == [1001, 1.0]


# --------------------------------------------------------------------------- charts, choices


def test_the_flow_keeps_order_and_distance():
    datasets = [(f"set {n}", n + 1) for n in range(20)]
    flow = [
        {"stage": "checks", "in": 210, "out": 200, "drops": {"bad_turns": 4, "too_long": 6}},
        {"stage": "mixture", "in": 200, "out": 60, "drops": {"over_cap": 100, "over_ratio": 40}},
    ]
    chart = flow_chart(datasets, flow, [("ocr", 50), ("math", 10)])
    assert chart is not None
    assert [name for _, name in sorted(chart.heads)] == [
        "data sets",
        "pool",
        "after checks",
        "mixture",
    ]
    columns: dict[float, list] = {}
    for node in chart.nodes:
        assert node.y >= TOP and node.y + node.height <= chart.height
        columns.setdefault(node.x, []).append(node)
    for nodes in columns.values():
        ordered = sorted(nodes, key=lambda node: node.y)
        for above, below in itertools.pairwise(ordered):
            assert above.y + above.height <= below.y
            assert below.middle - above.middle >= SLOT - 6
    assert len(chart.ribbons) == 8 + 1 + 2 + 2 + 2
    assert sum(n.height for n in chart.nodes if n.kind == "pool") == pytest.approx(HEIGHT, rel=0.1)
    assert any(node.name == "13 others" for node in chart.nodes)
    assert flow_chart([], [], []) is None


@pytest.mark.parametrize(("low", "high"), [(0, 6.93), (0, 0.004), (-1.2, 3), (2, 2), (0, 1e6)])
def test_ticks_are_few_round_and_reach(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8


def test_curves_share_one_scale():
    stages = [
        {"stage": "pretrain", "curve": [[1, 7.0], [2, 6.0]]},
        {"stage": "finetune", "curve": [[n, 6.0 / n] for n in range(1, 101)]},
    ]
    chart = loss_chart(stages)
    assert chart is not None and len(chart["panels"]) == 2
    narrow, wide = chart["panels"]
    assert narrow["x"] + narrow["width"] < wide["x"] and narrow["width"] > 150
    assert smooth([[1, 2.0], [2, 4.0], [3, 6.0]]) == [(1, 2.0), (2, 4.0), (3, 6.0)]
    assert loss_chart([{"stage": "pretrain", "curve": []}]) is None


def test_examples_are_spread_and_do_not_depend_on_order():
    rows = [
        {"id": bytes_id(bytes([n])), "category": category, "dataset": "d", "pictures": n % 2}
        | {"picture": f"p{n % 40}" if n % 2 else None}
        for n, category in enumerate(["general"] * 100 + ["ocr"] * 5 + ["math"])
    ]
    chosen = choose(rows, seed=0)
    assert chosen == choose(sorted(rows, key=lambda row: draw(1, row["id"])), seed=0)
    assert chosen != choose(rows, seed=1)
    by_id = {row["id"]: row for row in rows}
    counts = Counter(by_id[found]["category"] for found in chosen)
    assert counts["math"] == 1 and counts["ocr"] >= 4 and len(chosen) == 12
    assert {by_id[found]["pictures"] for found in chosen} == {0, 1}
    assert choose([], seed=0) == []


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
    pictures = thumbnails_of(workspace, numbers["examples"], numbers["duplicates"]["example"])
    assert "<h1>mix</h1>" in render(numbers, pictures)
    for missing in set(numbers) - {"version", "mixture"}:
        with pytest.raises((KeyError, jinja2.UndefinedError), match=missing):
            render({name: numbers[name] for name in numbers if name != missing}, pictures)
