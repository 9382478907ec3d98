"""The engine's flow on the embedded corpus."""

from __future__ import annotations

import pytest

from cambrian_data.catalog import query
from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.images import ImagesConfig, decode_picture
from cambrian_data.engine.options import EngineOptions
from cambrian_data.records import RunFailed, UserError
from cambrian_data.runs import read_runs
from cambrian_data.workspace import Workspace
from flows.engine import run_engine
from tests.trees import tree


@pytest.fixture(scope="module")
def physics(tmp_path_factory):
    """A workspace with one finished run, and what the run returned."""
    workspace = Workspace.create(tmp_path_factory.mktemp("engine") / "ws")
    return workspace, run_engine(workspace, EngineOptions(topic="physics", offline=True))


def rows(workspace, sql):
    return query(workspace, sql).to_pylist()


def test_the_funnel_is_what_the_tables_hold(physics):
    workspace, result = physics
    for table, count in result["funnel"].items():
        view = {"pictures": "images"}.get(table, table)
        assert rows(workspace, f"SELECT count(*) AS n FROM {view}") == [{"n": count}], table
        assert count > 0
    assert result["funnel"]["topics"] >= 25 and result["funnel"]["samples"] >= 100


def test_drops_are_counted_and_kept(physics):
    workspace, result = physics
    kept = rows(workspace, "SELECT stage, reason, count(*)::INT AS n FROM drops GROUP BY ALL")
    counted = [
        {"stage": stage, "reason": reason, "n": n}
        for stage, reasons in result["drops"].items()
        for reason, n in reasons.items()
    ]
    key = lambda row: (row["stage"], row["reason"])  # noqa: E731
    assert sorted(kept, key=key) == sorted(counted, key=key)
    planted = {"missing", "corrupt", "too_small", "no_caption", "short_text", "skipped_section"}
    assert planted <= {row["reason"] for row in kept}


def test_every_picture_is_the_one_its_caption_stood_under(physics):
    workspace, _ = physics
    corpus = load_corpus()
    samples = rows(
        workspace,
        "SELECT s.images[1].sha256 AS sha256, s.images[1].path AS path, s.provenance AS origin, "
        "f.image_url, f.caption, f.image_sha256, p.url, p.id AS page "
        "FROM samples s JOIN figures f ON f.id = s.figure_id JOIN pages p ON p.id = f.page_id",
    )
    assert len(samples) == len(rows(workspace, "FROM samples"))
    for row in samples:
        stored = decode_picture(corpus.read_picture(row["image_url"]), ImagesConfig())
        assert stored.sha256 == row["sha256"] == row["image_sha256"]
        assert (workspace.root / row["path"]).read_bytes() == stored.data
        origin = row["origin"]
        assert origin["image_url"] == row["image_url"] and origin["caption"] == row["caption"]
        assert origin["page_url"] == row["url"] and origin["page_id"] == row["page"]
        html = corpus.read_page(row["url"]).decode()
        assert row["image_url"].rsplit("/", 1)[1] in html


def test_provenance_is_complete(physics):
    workspace, _ = physics
    for row in rows(workspace, "SELECT provenance FROM samples"):
        origin = row["provenance"]
        assert origin["generator"] == "extractive" and origin["model"] is None
        for name in (
            "page_url",
            "page_title",
            "caption",
            "license",
            "author",
            "retrieved_at",
            "topic",
            "field",
            "query",
            "hit_rank",
            "prompt_version",
        ):
            assert origin[name], name


def test_no_template_is_over_thirty_percent(physics):
    """A template shows as equal questions once what stands in the figure is taken out."""
    workspace, _ = physics
    top = rows(
        workspace,
        "SELECT conversations[1].value AS q, count(*) / (SELECT count(*) FROM samples) AS share "
        "FROM samples GROUP BY 1 ORDER BY 2 DESC LIMIT 1",
    )
    assert top[0]["share"] <= 0.30


def test_no_answer_is_the_whole_caption(physics):
    workspace, _ = physics
    assert (
        rows(
            workspace,
            "SELECT id FROM samples WHERE lower(rtrim(conversations[2].value, '.')) = "
            "lower(rtrim(provenance.caption, '.'))",
        )
        == []
    )


def test_the_same_command_again_makes_nothing_anew(physics):
    workspace, first = physics
    before = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("part-*.parquet")}
    again = run_engine(workspace, EngineOptions(topic="physics", offline=True))
    assert again == first
    after = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("part-*.parquet")}
    assert after == before
    assert [run["attempts"] for run in read_runs(workspace)] == [2]


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_bytes(physics, workspace, workers):
    run_engine(workspace, EngineOptions(topic="physics", offline=True), workers=workers)
    assert tree(workspace.root) == tree(physics[0].root)


def test_damage_is_mended_on_the_next_run(physics):
    workspace, _ = physics
    before = tree(workspace.root)
    for pattern in (
        "engine/*/figures/part-*.parquet",
        "pool/*/samples/part-*.parquet",
        "images/??/*.png",
    ):
        victim = next(p for p in sorted(workspace.root.glob(pattern)) if "_empty" not in str(p))
        victim.write_bytes(victim.read_bytes()[:-7])
    run_engine(workspace, EngineOptions(topic="physics", offline=True))
    assert tree(workspace.root) == before


def test_a_limit_bounds_the_pages(workspace):
    result = run_engine(workspace, EngineOptions(topic="optics", offline=True, limit=2))
    assert result["funnel"]["pages"] == 2


def test_a_plan_reads_and_writes_no_sample(physics, workspace):
    plan = run_engine(workspace, EngineOptions(topic="Optics", offline=True), dry_run=True)
    assert 0 < plan["topics"] < physics[1]["funnel"]["topics"]
    assert plan["pages"] == len(plan["urls"]) > 0 and plan["llm"]["calls"] == 0
    assert plan["topics_are_final"] and workspace.names("pool") == []
    assert read_runs(workspace) == []


def test_a_topic_that_nothing_is_found_for(workspace):
    with pytest.raises(UserError, match=r"'zzgrblx'.*Physics.*--topic"):
        run_engine(workspace, EngineOptions(topic="zzgrblx", offline=True))
    assert read_runs(workspace)[0]["status"] == "failed"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "--topic"),
        ({"topic": " "}, "names nothing"),
        ({"topic": "\udcff"}, "no valid text"),
        ({"topic": "physics"}, "CAMBRIAN_CONTACT"),
        ({"topic": "physics", "search": "bing"}, "'bing'"),
        ({"topic": "physics", "search": "brave"}, "BRAVE_API_KEY"),
        ({"topic": "physics", "search": "brave", "offline": True}, "--offline"),
        ({"topic": "physics", "llm": "gpt-4o", "offline": True}, "--llm gpt-4o"),
        ({"topic": "physics", "search": "corpus", "llm": "gpt-4o"}, "OPENAI_API_KEY"),
        ({"topic": "physics", "offline": True, "budget_usd": 1.0}, "--budget-usd"),
    ],
)
def test_what_cannot_run_says_what_to_do(workspace, asked, message):
    with pytest.raises(UserError, match=message):
        run_engine(workspace, EngineOptions(**asked), environment={})


def test_too_many_drops_stop_the_run(workspace):
    with pytest.raises(RunFailed, match=r"extract: .*short_caption"):
        run_engine(
            workspace,
            EngineOptions(topic="optics", offline=True),
            settings=["extract.min_caption_words=500"],
        )
    assert read_runs(workspace)[0]["status"] == "failed"


def test_unknown_runners_are_refused(workspace):
    with pytest.raises(UserError, match="'slurm'"):
        run_engine(workspace, EngineOptions(topic="optics", offline=True), runner="slurm")
