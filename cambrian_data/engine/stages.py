"""The engine's stages over one run folder: topics, hits, pages, figures, samples, pool.

Each method of `EngineStages` turns one chunk of rows into a `StageOutput`; together with its
`Units` it is a `Stage` that a flow maps over chunks, or a test calls directly. Everything goes
through the services that are passed in: a search backend and a fetcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cambrian_data.engine import extract, images, vqa
from cambrian_data.engine.corpus import Corpus
from cambrian_data.engine.fetch import FETCH_VERSION, Fetcher, FetchError, fetch_pages
from cambrian_data.engine.recipe import EngineRecipe
from cambrian_data.engine.search import SEARCH_VERSION, SearchBackend, search_topics
from cambrian_data.engine.topics import TOPICS_VERSION, topics_from_corpus
from cambrian_data.pictures import keep_picture
from cambrian_data.records import drop, figure_id
from cambrian_data.runs import count_drops
from cambrian_data.units import Stage, StageOutput, Units
from cambrian_data.workspace import Workspace

Rows = list[dict[str, Any]]

FIGURES_VERSION = "1"
"""Raised when extraction or the treatment of pictures changes what it gives."""
VERSIONS = {
    "topics": TOPICS_VERSION,
    "search": SEARCH_VERSION,
    "fetch": FETCH_VERSION,
    "figures": FIGURES_VERSION,
    "vqa": vqa.EXTRACTIVE_VERSION,
}
"""Version of every stage; part of the run's name and of every unit's key."""


@dataclass(frozen=True, slots=True)
class EngineStages:
    """The stages of one engine run."""

    workspace: Workspace
    folder: Path
    recipe: EngineRecipe
    corpus: Corpus
    backend: SearchBackend
    fetcher: Fetcher

    def _stage(self, name: str, work: Any, config: Any) -> Stage:
        units = Units(self.workspace, self.folder, name, version=VERSIONS[name], config=config)
        return Stage(units, work)

    @property
    def topics(self) -> Stage:
        """Chunks of [what the user asked for] to the table `topics`."""
        return self._stage("topics", self._find_topics, None)

    @property
    def search(self) -> Stage:
        """Chunks of topics to the table `hits`."""
        config = [self.backend.name, self.recipe.search.model_dump(mode="json")]
        return self._stage("search", self._search, config)

    @property
    def fetch(self) -> Stage:
        """Chunks of addresses to the table `pages`."""
        return self._stage("fetch", self._fetch, None)

    @property
    def figures(self) -> Stage:
        """Chunks of rows of `pages` to the tables `figures` and `images`, pictures stored."""
        config = [
            part.model_dump(mode="json") for part in (self.recipe.extract, self.recipe.images)
        ]
        return self._stage("figures", self._figures, config)

    @property
    def vqa(self) -> Stage:
        """One chunk of all figures, each with its origin, to the table `samples`."""
        return self._stage("vqa", self._write_samples, self.recipe.vqa.model_dump(mode="json"))

    # ------------------------------------------------------------------------------- work

    def _find_topics(self, wanted: Sequence[str]) -> StageOutput:
        rows = [row for topic in wanted for row in topics_from_corpus(topic, self.corpus)]
        return StageOutput({"topics": rows}, numbers={"out": len(rows)})

    def _search(self, topics: Sequence[dict[str, Any]]) -> StageOutput:
        hits, drops = search_topics(topics, self.backend, self.recipe.search)
        return StageOutput(
            {"hits": hits, "drops": drops},
            numbers={"out": len(hits), "drops": count_drops(drops)},
        )

    def _fetch(self, urls: Sequence[str]) -> StageOutput:
        pages, drops = fetch_pages(urls, self.fetcher)
        return StageOutput(
            {"pages": pages, "drops": drops},
            numbers={"out": len(pages), "drops": count_drops(drops)},
        )

    def _figures(self, pages: Sequence[dict[str, Any]]) -> StageOutput:
        figures: Rows = []
        pictures: Rows = []
        files: list[Path] = []
        extract_drops: Rows = []
        image_drops: Rows = []
        for page in pages:
            found, dropped = self._extract(page)
            extract_drops += dropped
            for row in found:
                try:
                    picture, path = self._store(row)
                except (FetchError, images.PictureError) as error:
                    image_drops.append(_picture_drop(row, error))
                else:
                    row["image_sha256"] = picture["sha256"]
                    pictures.append(picture)
                    files.append(path)
                figures.append(row)
        numbers = {
            "out": len(figures),
            "pictures": len({picture["sha256"] for picture in pictures}),
            "drops": count_drops(extract_drops),
            "picture_drops": count_drops(image_drops),
        }
        tables = {"figures": figures, "images": pictures, "drops": extract_drops + image_drops}
        return StageOutput(tables, numbers=numbers, pictures=files)

    def _extract(self, page: dict[str, Any]) -> tuple[Rows, Rows]:
        """Return the figures of one page as rows, and drops for those that the recipe refuses."""
        body = self.fetcher.page(page["url"]).body
        try:
            found = extract.extract(body, page["final_url"])
        except extract.PageError as error:
            source = page["final_url"]
            return [], [drop("extract", page["id"], "unreadable", detail=str(error), source=source)]
        kept, refused = extract.filter_figures(found, self.recipe.extract)
        drops = [
            drop(
                "extract",
                _figure_row(figure, page["id"])["id"],
                reason,
                detail=detail,
                source=page["final_url"],
                raw=f"{figure.image_url}\n{figure.caption or ''}",
            )
            for figure, reason, detail in refused
        ]
        if not found:
            drops.append(drop("extract", page["id"], "no_figures", source=page["final_url"]))
        return [_figure_row(figure, page["id"]) for figure in kept], drops

    def _store(self, figure: dict[str, Any]) -> tuple[dict[str, Any], Path]:
        """Fetch, check and store the picture of a figure; return its row of `images`."""
        fetched = self.fetcher.picture(figure["image_url"])
        return keep_picture(
            self.workspace,
            fetched.body,
            self.recipe.images,
            source_url=figure["image_url"],
            license=fetched.license,
            license_url=fetched.license_url,
            author=fetched.author,
        )

    def _write_samples(self, joined: Sequence[dict[str, Any]]) -> StageOutput:
        config = self.recipe.vqa
        questions = vqa.questions_of(
            ((row["figure"], row["page"]["title"] or "") for row in joined), config
        )
        samples: dict[str, dict[str, Any]] = {}
        drops: Rows = []
        for row in joined:
            figure = row["figure"]
            written = vqa.samples_of(
                figure, row["picture"], questions.get(figure["id"], ()), _provenance(row), config
            )
            if not written:
                drops.append(_vqa_drop(figure, figure["id"], "no_question"))
            for sample in written:
                if sample["id"] in samples:
                    drops.append(_vqa_drop(figure, sample["id"], "duplicate"))
                samples.setdefault(sample["id"], sample)
        return StageOutput(
            {"samples": list(samples.values()), "drops": drops},
            numbers={"out": len(samples), "drops": count_drops(drops)},
        )


def _vqa_drop(figure: dict[str, Any], record: str, reason: str) -> dict[str, Any]:
    return drop("vqa", record, reason, source=figure["image_url"], raw=figure["caption"])


def _provenance(row: dict[str, Any]) -> dict[str, Any]:
    """Return where a figure's samples come from: page, picture, topic, search."""
    page, picture, topic, hit = row["page"], row["picture"], row["topic"], row["hit"]
    return {
        "page_url": page["final_url"],
        "page_title": page["title"],
        "revision": page["revision"],
        "retrieved_at": page["fetched_at"],
        "license": picture["license"] or page["license"],
        "author": picture["author"],
        "topic": topic["topic"],
        "field": topic["field"],
        "subfield": topic["subfield"],
        "query": hit["query"],
        "hit_rank": hit["rank"],
    }


def _figure_row(figure: extract.Figure, page: str) -> dict[str, Any]:
    section = list(figure.section)
    return {
        "id": figure_id(page, figure.image_url, figure.caption or "", section),
        "page_id": page,
        "image_url": figure.image_url,
        "image_sha256": None,
        "caption": figure.caption,
        "alt": figure.alt,
        "section": section,
        "text": figure.text,
        "position": figure.position,
    }


def _picture_drop(figure: dict[str, Any], error: Any) -> dict[str, Any]:
    return drop(
        "images",
        figure["id"],
        error.reason,
        detail=error.detail,
        source=figure["image_url"],
        raw=figure["caption"],
    )


def rank_urls(hits: pa.Table, limit: int | None) -> list[str]:
    """Return the addresses to fetch, each once, best rank first, ties by address."""
    best: dict[str, int] = {}
    for url, rank in zip(hits["url"].to_pylist(), hits["rank"].to_pylist(), strict=True):
        best[url] = min(rank, best.get(url, rank))
    return sorted(best, key=lambda url: (best[url], url))[:limit]


def figures_with_origin(
    topics: pa.Table, hits: pa.Table, pages: pa.Table, figures: pa.Table, images_table: pa.Table
) -> Rows:
    """Join each figure that has a picture to its picture, page, best hit and topic, sorted by id.

    A page that several topics led to counts for the topic that ranked it best, ties by topic id.
    """
    topic_of = {row["id"]: row for row in topics.to_pylist()}
    hit_of: dict[str, dict[str, Any]] = {}
    for hit in hits.to_pylist():
        known = hit_of.get(hit["url"])
        if known is None or (hit["rank"], hit["topic_id"]) < (known["rank"], known["topic_id"]):
            hit_of[hit["url"]] = hit
    page_of = {row["id"]: row for row in pages.to_pylist()}
    picture_of = {(row["sha256"], row["source_url"]): row for row in images_table.to_pylist()}
    joined = []
    for figure in figures.to_pylist():
        if figure["image_sha256"] is None:
            continue
        page = page_of[figure["page_id"]]
        hit = hit_of[page["url"]]
        picture = picture_of[figure["image_sha256"], figure["image_url"]]
        joined.append(
            {
                "figure": figure,
                "page": page,
                "hit": hit,
                "picture": picture,
                "topic": topic_of[hit["topic_id"]],
            }
        )
    return sorted(joined, key=lambda row: row["figure"]["id"])
