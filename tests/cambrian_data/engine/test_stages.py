"""The engine's stages, called directly: no flow, no Prefect."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from cambrian_data.engine.fetch import Fetched, FetchError
from cambrian_data.engine.options import EngineOptions
from cambrian_data.engine.origins import Origins
from cambrian_data.engine.reading import PictureKeeper
from cambrian_data.engine.recipe import EngineRecipe
from cambrian_data.engine.services import open_services
from cambrian_data.engine.stages import EngineStages
from cambrian_data.records import table_of
from cambrian_data.web.cache import HttpCache


@pytest.fixture
def services(workspace):
    with open_services(workspace, EngineRecipe(), EngineOptions(offline=True), {}) as opened:
        yield opened


@pytest.fixture
def stages(workspace, services):
    return EngineStages(workspace, workspace.engine("run"), EngineRecipe(), services)


def hits(*rows: tuple[str, int, str]) -> pa.Table:
    return table_of(
        "hits",
        [
            {
                "topic_id": topic,
                "backend": "b",
                "query": "q",
                "rank": rank,
                "url": f"https://h/{url}",
            }
            for topic, rank, url in rows
        ],
    )


TOPICS = table_of("topics", [{"id": t, "topic": t} for t in ("t1", "t2", "t3")])


def test_addresses_are_ranked_once_each():
    origins = Origins(TOPICS, hits(("t1", 2, "b"), ("t2", 1, "c"), ("t1", 1, "a"), ("t3", 1, "b")))
    assert origins.urls(None) == ["https://h/a", "https://h/b", "https://h/c"]
    assert origins.urls(2) == ["https://h/a", "https://h/b"]
    assert Origins(TOPICS, hits()).urls(None) == []


def test_spellings_of_one_address_are_one():
    origins = Origins(TOPICS, hits(("t1", 1, "a"), ("t1", 2, "a#top")))
    assert origins.urls(None) == ["https://h/a"]


def test_a_page_counts_for_the_topic_that_ranked_it_best():
    url = "https://h/u"
    pages = table_of("pages", [{"id": "p", "url": url, "final_url": url, "content_sha256": "c"}])
    figure = {"id": "f", "page_id": "p", "image_url": "i", "image_sha256": "s"}
    lost = {"id": "g", "page_id": "p", "image_url": "j", "image_sha256": None}
    image = {"sha256": "s", "path": "x", "width": 1, "height": 1, "source_url": "i"}
    origins, seen = Origins(TOPICS, hits(("t2", 1, "u"), ("t1", 2, "u"))), set()
    tables = pages, table_of("figures", [lost, figure]), table_of("images", [image])
    (row,) = origins.join(*tables, seen=seen)
    assert row["topic"]["id"] == "t2" and row["figure"]["id"] == "f"
    assert not row["is_repeated"] and seen == {"f"}
    (again,) = origins.join(*tables, seen=seen)
    assert again["is_repeated"]


def urls_of(stages, topic):
    wanted = [{"field": "", "subfield": "", "topic": topic}]
    topics = stages.topics.units.read("topics", [stages.topics.run(wanted)])
    found = stages.search.run(topics.to_pylist())
    return Origins(topics, stages.search.units.read("hits", [found]))


def test_stages_run_one_after_the_other(stages):
    origins = urls_of(stages, "simple pendulum")
    made = stages.pages.run(origins.urls(1))
    read = stages.pages.units.read
    figures = read("figures", [made]).to_pylist()
    assert made.numbers["figures"] == len(figures) > 0 and made.numbers["out"] == 1
    for figure in figures:
        if figure["image_sha256"]:
            assert next(stages.workspace.images.glob(f"*/{figure['image_sha256']}.*")).is_file()
    assert made.numbers["drops_by_stage"]["images"] == {"missing": 1}
    tables = [read(name, [made]) for name in ("pages", "figures", "images")]
    written = stages.vqa.run(origins.join(*tables, seen=set()))
    assert written.numbers["out"] == len(stages.vqa.units.read("samples", [written])) > 0


class Broken:
    """A web where every picture is something else."""

    def __init__(self, inner):
        self.inner, self.asked = inner, []

    def page(self, url):
        return self.inner.page(url)

    def picture_facts(self, page_url, urls):
        return {}

    def picture(self, url, *, etag=None, last_modified=None):
        self.asked.append(url)
        if url.endswith(".svg"):
            raise FetchError("unreachable", "no answer", is_passing=True)
        if url.endswith(".png"):
            return Fetched(url=url, final_url=url, status=200, body=b"<html>", fetched_at="2026")
        return Fetched(url=url, final_url=url, status=200, body=b"\x89PNG", fetched_at="2026")


def broken_stages(stages, workspace, cache=None):
    fetcher = Broken(stages.services.fetcher)
    keeper = PictureKeeper(workspace, fetcher, stages.recipe.images, cache)
    services = replace(stages.services, fetcher=fetcher, pictures=keeper)
    return EngineStages(workspace, workspace.engine("broken"), stages.recipe, services), fetcher


def test_pictures_that_fail_are_dropped_with_their_reason(stages, workspace):
    broken, _ = broken_stages(stages, workspace)
    urls = urls_of(stages, "optics").urls(4)
    unit = broken.pages.run(urls)
    drops = unit.numbers["drops_by_stage"]["images"]
    assert unit.numbers["pictures"] == 0 and unit.numbers["figures"] > 0
    assert set(drops) <= {"unreachable", "not_a_picture", "corrupt"} and len(drops) > 1
    rows = broken.pages.units.read("drops", [unit]).to_pylist()
    assert sum(d["stage"] == "images" for d in rows) == unit.numbers["figures"]
    kept = broken.pages.units.read("figures", [unit]).to_pylist()
    assert all(figure["image_sha256"] is None for figure in kept)
    assert unit.numbers["passing"] == drops["unreachable"]
    assert broken.pages.finished(urls) is None  # what may pass is tried again


def test_what_became_of_a_picture_is_noted(stages, workspace):
    cache = HttpCache(workspace.root / "http-cache.sqlite", max_bytes=10**8)
    urls = urls_of(stages, "optics").urls(4)
    first, fetcher = broken_stages(stages, workspace, cache)
    first.pages.run(urls)
    second, again = broken_stages(stages, workspace, cache)
    second.pages.run(urls)
    cache.close()
    for_good = {url for url in fetcher.asked if not url.endswith((".svg", ".png"))}
    assert for_good and for_good.isdisjoint(again.asked)
    assert {url for url in fetcher.asked if url.endswith(".svg")} <= set(again.asked)


def test_a_damaged_picture_is_fetched_again(stages, workspace):
    """Of the same size too: its bytes must be what its name says."""
    cache = HttpCache(workspace.root / "http-cache.sqlite", max_bytes=10**8)
    keeper = PictureKeeper(workspace, stages.services.fetcher, stages.recipe.images, cache)
    services = replace(stages.services, pictures=keeper)
    noted = EngineStages(workspace, workspace.engine("noted"), stages.recipe, services)
    urls = urls_of(stages, "optics").urls(2)
    first = noted.pages.run(urls)
    victim = workspace.root / noted.pages.units.read("images", [first])["path"][0].as_py()
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-4] + b"xxxx")
    assert noted.pages.finished(urls) is None
    noted.pages.run(urls)
    cache.close()
    assert victim.read_bytes() == whole


def test_a_licence_can_be_required(stages, workspace):
    recipe = EngineRecipe.model_validate({"images": {"require_license": ["cc by*"]}})
    with open_services(workspace, recipe, EngineOptions(offline=True), {}) as services:
        strict = EngineStages(workspace, workspace.engine("strict"), recipe, services)
        unit = strict.pages.run(urls_of(stages, "optics").urls(2))
    assert set(unit.numbers["drops_by_stage"]["images"]) == {"license"}
    assert unit.numbers["pictures"] == 0


def test_the_seed_reaches_the_writer():
    recipe = EngineRecipe.model_validate({"seed": 7, "vqa": {"writer": {"max_questions": 2}}})
    assert (recipe.vqa.seed, recipe.vqa.writer.seed, recipe.vqa.writer.max_questions) == (7, 7, 2)
