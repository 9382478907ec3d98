"""The engine's stages, called directly: no flow, no Prefect."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.fetch import CorpusFetcher, Fetched, FetchError
from cambrian_data.engine.recipe import EngineRecipe
from cambrian_data.engine.search import CorpusSearch
from cambrian_data.engine.stages import EngineStages, figures_with_origin, rank_urls
from cambrian_data.records import table_of


@pytest.fixture
def stages(workspace):
    corpus = load_corpus()
    return EngineStages(
        workspace,
        workspace.engine("run"),
        EngineRecipe(),
        corpus,
        CorpusSearch(corpus),
        CorpusFetcher(corpus),
    )


def hits(*rows: tuple[str, int, str]) -> pa.Table:
    return table_of(
        "hits",
        [
            {"topic_id": topic, "backend": "b", "query": "q", "rank": rank, "url": url}
            for topic, rank, url in rows
        ],
    )


def test_addresses_are_ranked_once_each():
    table = hits(("t1", 2, "b"), ("t2", 1, "c"), ("t1", 1, "a"), ("t3", 1, "b"))
    assert rank_urls(table, None) == ["a", "b", "c"]
    assert rank_urls(table, 2) == ["a", "b"]
    assert rank_urls(hits(), None) == []


def test_a_page_counts_for_the_topic_that_ranked_it_best():
    topics = table_of("topics", [{"id": t, "topic": t} for t in ("t1", "t2")])
    pages = table_of("pages", [{"id": "p", "url": "u", "final_url": "u", "content_sha256": "c"}])
    figure = {"id": "f", "page_id": "p", "image_url": "i", "image_sha256": "s"}
    lost = {"id": "g", "page_id": "p", "image_url": "j", "image_sha256": None}
    image = {"sha256": "s", "path": "x", "width": 1, "height": 1, "source_url": "i"}
    (row,) = figures_with_origin(
        topics,
        hits(("t2", 1, "u"), ("t1", 2, "u")),
        pages,
        table_of("figures", [lost, figure]),
        table_of("images", [image]),
    )
    assert row["topic"]["id"] == "t2" and row["figure"]["id"] == "f"


def test_stages_run_one_after_the_other(stages):
    (topics,) = [stages.topics.run(["simple pendulum"])]
    found = stages.search.run(stages.topics.units.read("topics", [topics]).to_pylist())
    urls = rank_urls(stages.search.units.read("hits", [found]), 1)
    fetched = stages.fetch.run(urls)
    pages = stages.fetch.units.read("pages", [fetched]).to_pylist()
    made = stages.figures.run(pages)
    figures = stages.figures.units.read("figures", [made]).to_pylist()
    assert made.numbers["out"] == len(figures) > 0
    for figure in figures:
        if figure["image_sha256"]:
            assert next(stages.workspace.images.glob(f"*/{figure['image_sha256']}.*")).is_file()
    assert made.numbers["picture_drops"] == {"missing": 1}


class Broken:
    """A web where every picture is something else."""

    def __init__(self, inner):
        self.inner = inner

    def page(self, url):
        return self.inner.page(url)

    def picture(self, url):
        if url.endswith(".svg"):
            raise FetchError("unreachable", "no answer")
        return Fetched(
            url=url, final_url=url, status=200, body=b"<html>not found</html>", fetched_at=""
        )


def test_pictures_that_fail_are_dropped_with_their_reason(stages, workspace):
    broken = EngineStages(
        workspace,
        workspace.engine("broken"),
        EngineRecipe(),
        stages.corpus,
        stages.backend,
        Broken(stages.fetcher),
    )
    pages = broken.fetch.units.read(
        "pages", [broken.fetch.run([page.url for page in stages.corpus.pages[:2]])]
    ).to_pylist()
    unit = broken.figures.run(pages)
    assert unit.numbers["pictures"] == 0 and unit.numbers["out"] > 0
    assert set(unit.numbers["picture_drops"]) <= {"unreachable", "not_a_picture"}
    drops = broken.figures.units.read("drops", [unit]).to_pylist()
    assert sum(d["stage"] == "images" for d in drops) == unit.numbers["out"]
    kept = broken.figures.units.read("figures", [unit]).to_pylist()
    assert all(figure["image_sha256"] is None for figure in kept)


def test_the_seed_reaches_the_writer():
    recipe = EngineRecipe.model_validate({"seed": 7, "vqa": {"writer": {"max_questions": 2}}})
    assert (recipe.vqa.seed, recipe.vqa.writer.seed, recipe.vqa.writer.max_questions) == (7, 7, 2)
