"""The engine's stages over one run folder: topics, search, pages, vqa.

Each method of `EngineStages` turns one chunk of rows into a `StageOutput`; together with its
`Units` it is a `Stage` that a flow maps over chunks, or a test calls directly. Everything goes
through the services that are passed in. A unit in which something failed that may work later, or
that the budget left undone, is not complete: the next run of the same command tries it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cambrian_data.engine import vqa
from cambrian_data.engine.corpus import load_corpus
from cambrian_data.engine.fetch import FETCH_VERSION
from cambrian_data.engine.origins import provenance
from cambrian_data.engine.reading import PICTURES_VERSION, PageReader, merged
from cambrian_data.engine.recipe import EngineRecipe
from cambrian_data.engine.search import SEARCH_VERSION, search_topics
from cambrian_data.engine.services import EngineServices
from cambrian_data.engine.topics import TOPICS_VERSION, Wanted, expand, topics_from_corpus
from cambrian_data.llm.exchange import LlmAnswer, LlmRequest
from cambrian_data.records import RunFailed, drop
from cambrian_data.runs import count_drops
from cambrian_data.units import Stage, StageOutput, Unit, Units
from cambrian_data.workspace import Workspace

if TYPE_CHECKING:
    from cambrian_data.llm.client import LlmClient

Rows = list[dict[str, Any]]

EXTRACT_VERSION = "3"
"""Raised when extraction gives other figures, captions, sections or prose."""
VERSIONS = {
    "topics": TOPICS_VERSION,
    "search": SEARCH_VERSION,
    "pages": f"{FETCH_VERSION}.{EXTRACT_VERSION}.{PICTURES_VERSION}",
    "vqa": "1",
}
"""Version of every stage; part of the run's name and of every unit's key."""


@dataclass(frozen=True, slots=True)
class EngineStages:
    """The stages of one engine run."""

    workspace: Workspace
    folder: Path
    recipe: EngineRecipe
    services: EngineServices

    def _stage(self, name: str, work: Callable[[Sequence[Any]], StageOutput], config: Any) -> Stage:
        units = Units(self.workspace, self.folder, name, version=VERSIONS[name], config=config)
        return Stage(units, work, is_complete)

    @property
    def topics(self) -> Stage:
        """Chunks of what the user asked for (field, subfield, topic) to the table `topics`."""
        config = [
            self.services.identity,
            self.recipe.topics.model_dump(mode="json"),
            self.recipe.llm_that_counts(),
        ]
        return self._stage("topics", self._find_topics, config)

    @property
    def search(self) -> Stage:
        """Chunks of topics to the table `hits`."""
        config = [self.services.backend.name, self.recipe.search.model_dump(mode="json")]
        return self._stage("search", self._search, config)

    @property
    def pages(self) -> Stage:
        """Chunks of addresses to the tables `pages`, `figures` and `images`, pictures stored."""
        parts = [part.model_dump(mode="json") for part in (self.recipe.extract, self.recipe.images)]
        return self._stage("pages", self._read, [*parts, self.recipe.http_that_counts()])

    @property
    def vqa(self) -> Stage:
        """Chunks of figures, each with its origin, to the table `samples`."""
        config = [
            self.services.identity,
            self.recipe.vqa.categories,
            self.recipe.llm_that_counts(),
        ]
        return self._stage("vqa", self._write_samples, config)

    # ------------------------------------------------------------------------------- work

    def _find_topics(self, asked: Sequence[dict[str, Any]]) -> StageOutput:
        unreadable = [row for row in asked if "reason" in row]
        wanted = [row for row in asked if "reason" not in row]
        drops: Rows = []
        num_left = 0
        keys: list[str] = []
        if self.services.backend.name == "corpus" and self.services.llm is None:
            corpus = load_corpus()
            names = [w["topic"] or w["subfield"] or w["field"] for w in wanted]
            found = {row["id"]: row for name in names for row in topics_from_corpus(name, corpus)}
            rows = list(found.values())
        else:
            client = _NotedClient(self.services.llm) if self.services.llm else None
            rows, drops, num_left = expand(
                [Wanted(**row) for row in wanted],
                self.services.backend,
                client,
                self.recipe.topics,
            )
            keys = sorted(client.keys) if client else []
        drops = [*unreadable, *drops]
        return StageOutput(
            {"topics": rows, "drops": drops},
            numbers={
                "out": len(rows),
                "drops": count_drops(drops),
                "left": num_left,
                "llm_keys": keys,
            },
        )

    def _search(self, topics: Sequence[dict[str, Any]]) -> StageOutput:
        hits, drops, num_passing = search_topics(topics, self.services.backend, self.recipe.search)
        return StageOutput(
            {"hits": hits, "drops": drops},
            numbers={"out": len(hits), "drops": count_drops(drops), "passing": num_passing},
        )

    def _read(self, urls: Sequence[str]) -> StageOutput:
        reader = PageReader(self.services.fetcher, self.services.pictures, self.recipe.extract)
        read = merged([reader.read(url) for url in urls])
        if self.services.interrupted.is_set():  # what could not be had says nothing of the web
            raise RunFailed("the run was ended")
        drops = {
            stage: count_drops([row for row in read.drops if row["stage"] == stage])
            for stage in ("fetch", "extract", "images")
        }
        numbers = {
            "out": len(read.pages),
            "figures": len(read.figures),
            "pictures": len(read.images),
            "drops_by_stage": drops,
            "passing": read.num_passing,
        }
        tables = {
            "pages": read.pages,
            "figures": read.figures,
            "images": read.images,
            "drops": read.drops,
        }
        return StageOutput(tables, numbers=numbers, pictures=read.files)

    def _write_samples(self, joined: Sequence[dict[str, Any]]) -> StageOutput:
        fresh = [row for row in joined if not row["is_repeated"]]
        written = self.services.writer.write(fresh)
        samples: dict[str, dict[str, Any]] = {}
        drops: Rows = list(written.drops)
        drops += [duplicate(row["figure"]["id"], row) for row in joined if row["is_repeated"]]
        for row in fresh:
            figure = row["figure"]
            about = written.about.get(figure["id"], {})
            for sample in vqa.samples_of(
                figure,
                row["picture"],
                written.questions.get(figure["id"], ()),
                provenance(row, about),
                self.recipe.vqa,
            ):
                if sample["id"] in samples:
                    drops.append(duplicate(sample["id"], row))
                samples.setdefault(sample["id"], sample)
        return StageOutput(
            {"samples": list(samples.values()), "drops": drops},
            numbers={
                "in": len(joined),
                "out": len(samples),
                "drops": count_drops(drops),
                "left": written.num_left,
                "passing": written.num_passing,
                "kinds": dict(Counter(written.kinds)),
                "llm_keys": written.llm_keys,
            },
        )


class _NotedClient:
    """Asks a language model and notes the keys of its answers."""

    def __init__(self, llm: LlmClient) -> None:
        self._llm = llm
        self.keys: set[str] = set()

    def ask(self, requests: Iterable[LlmRequest]) -> list[LlmAnswer]:
        """Return the answers in the order of the requests."""
        answers = self._llm.ask(requests)
        self.keys.update(answer.key for answer in answers)
        return answers


def is_complete(unit: Unit) -> bool:
    """Whether a unit has nothing left that a later run could do."""
    return not unit.numbers.get("left") and not unit.numbers.get("passing")


def duplicate(record: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return the drop of a sample or figure that is there already."""
    figure = row["figure"]
    return drop("vqa", record, "duplicate", source=figure["image_url"], raw=figure["caption"])
