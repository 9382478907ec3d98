"""The whole way, as a user meets it: `cambrian demo`, and what it leaves behind."""

from __future__ import annotations

import io
import json

import duckdb
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tests.trees import tree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def catalog(demo):
    """Any DuckDB client, started in the workspace folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(demo[0])
        with duckdb.connect("catalog.duckdb", read_only=True) as connection:
            yield connection


def test_stage_two_halves_the_loss_and_uses_the_pictures(demo):
    pretrain, finetune = demo[1]["train"]
    assert pretrain["stage"] == "pretrain" and pretrain["steps"] > 0
    assert finetune["last_tenth_loss"] <= 0.5 * finetune["first_tenth_loss"]
    assert finetune["own_pictures_loss"] < finetune["shuffled_pictures_loss"]
    assert finetune["skipped"] == {}


def test_it_ends_with_an_answer_about_a_picture(demo):
    answer = demo[1]["answer"]
    assert answer["question"] and answer["answer"]
    Image.open(answer["picture"]).load()


def test_where_things_are_is_true(demo):
    folder, result = demo
    for name, place in result["where"].items():
        assert (folder / place).exists(), name


def test_the_three_queries_run(demo, catalog):
    for query in demo[1]["queries"]:
        assert catalog.execute(query).fetchall()


def test_samples_join_figures_join_pages(catalog):
    made, joined = catalog.execute(
        "SELECT count(*) FILTER (WHERE s.figure_id IS NOT NULL), count(p.id) FROM samples s "
        "LEFT JOIN figures f ON f.id = s.figure_id LEFT JOIN pages p ON p.id = f.page_id"
    ).fetchone()
    assert made == joined > 0


def test_every_picture_of_the_mixture_decodes(demo, catalog):
    paths = catalog.execute(
        "SELECT DISTINCT unnest(images).path FROM mixture_tiny ORDER BY 1"
    ).fetchall()
    assert len(paths) > 50
    for (path,) in paths:
        with Image.open(io.BytesIO((demo[0] / path).read_bytes())) as picture:
            picture.load()
            assert picture.mode == "RGB"


def test_the_mixture_has_every_category_of_its_recipe(demo, catalog):
    wanted = {
        c["category"] for c in demo[1]["curate"]["plan"]["categories"] if c["ratio_wanted"] > 0
    }
    got = {
        row[0] for row in catalog.execute("SELECT DISTINCT category FROM mixture_tiny").fetchall()
    }
    assert got == wanted and len(got) >= 5


def test_questions_are_of_at_least_four_kinds_and_grounded(demo, catalog):
    rows = catalog.execute(
        "SELECT provenance.generator, category, count(*) FROM samples "
        "WHERE figure_id IS NOT NULL GROUP BY ALL"
    ).fetchall()
    assert {row[0] for row in rows} == {"extractive"}
    assert {row[1] for row in rows} == {"general", "ocr", "counting", "science"}


def test_the_report_stands_alone(demo):
    html = (demo[0] / demo[1]["where"]["report"]).read_text(encoding="utf-8")
    page = BeautifulSoup(html, "lxml")
    assert not page.find_all("script")
    sources = [tag.get("src") or "" for tag in page.find_all(["img", "iframe", "link", "source"])]
    assert all(source.startswith("data:") for source in sources)
    assert len(page.find_all("img")) >= 10


def test_two_workspaces_hold_the_same_bytes(demo, command, tmp_path):
    """Everything but training, which its own tests compare bit by bit."""
    from cambrian_data.engine.corpus import INSTRUCTION_IMAGES, INSTRUCTIONS

    other = ["--workspace", tmp_path / "other", "--json"]
    for arguments in (
        ["data", "engine", "--topic", "physics", "--offline", "--workers", "1"],
        [
            "data",
            "ingest",
            INSTRUCTIONS,
            "--images",
            INSTRUCTION_IMAGES,
            "--name",
            "embedded-instructions",
        ],
        ["data", "curate", "--recipe", "tiny", "--workers", "4"],
    ):
        done = command(*arguments, *other)
        assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "other") == tree(demo[0])


def test_again_it_finds_everything_done(demo, command):
    before = tree(demo[0])
    checkpoints = sorted((demo[0] / "checkpoints").rglob("*.safetensors"))
    stamps = [path.stat().st_mtime_ns for path in checkpoints]
    done = command("demo", "--workspace", demo[0], "--json")
    assert done.returncode == 0, done.stderr
    assert tree(demo[0]) == before
    assert [path.stat().st_mtime_ns for path in checkpoints] == stamps
    assert json.loads(done.stdout)["answer"] == demo[1]["answer"]
