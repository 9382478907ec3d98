"""The engine's recipe: one config, put together from those of its stages."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from cambrian_data.engine.extract import ExtractConfig
from cambrian_data.engine.images import ImagesConfig
from cambrian_data.engine.search import SearchConfig
from cambrian_data.engine.topics import TopicsConfig
from cambrian_data.engine.vqa import VqaConfig
from cambrian_data.llm.config import LlmConfig
from cambrian_data.recipes import Config
from cambrian_data.web.http import HttpConfig


class EngineRecipe(Config):
    """From a topic to VQA samples. Found under `recipes/data/`."""

    description: str = ""
    """What the recipe is for, in a sentence."""
    seed: int = 0
    """Every choice is made by a hash of this and an id; `vqa` and its writer take it over where
    they name none."""
    max_drop_share: float = Field(default=0.9, ge=0, le=1)
    """The run fails when a stage drops more than this share of what came in."""
    topics: TopicsConfig = TopicsConfig()
    search: SearchConfig = SearchConfig()
    http: HttpConfig = HttpConfig()
    extract: ExtractConfig = ExtractConfig()
    images: ImagesConfig = ImagesConfig()
    llm: LlmConfig = LlmConfig()
    vqa: VqaConfig = VqaConfig()

    def content_that_counts(self) -> dict[str, Any]:
        """Return what a run's output depends on: rates, time-outs and limits on spending do not."""
        content = self.model_dump(mode="json", exclude={"description", "http", "llm"})
        return content | {"http": self.http_that_counts(), "llm": self.llm_that_counts()}

    def http_that_counts(self) -> dict[str, Any]:
        """Return what decides which pages and pictures can be had."""
        return self.http.model_dump(mode="json", include={"max_page_bytes", "max_redirects"})

    def llm_that_counts(self) -> dict[str, Any]:
        """Return what decides how a model answers; which model and server, the services say."""
        return self.llm.model_dump(mode="json", include={"temperature", "seed"})

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, data: Any) -> Any:
        """Give the seed and the language to the sections that name none of their own."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "seed" in data:
            _fill(data, ("vqa",), "seed", data["seed"])
            _fill(data, ("vqa", "writer"), "seed", data["seed"])
        search = data.get("search")
        if isinstance(search, dict) and "language" in search:
            _fill(data, ("topics",), "language", search["language"])
        return data


def _fill(data: dict[str, Any], place: tuple[str, ...], key: str, value: Any) -> None:
    """Set a key in a nested section unless it is there; what is no section is left as it is."""
    for name in place:
        section = data.get(name, {})
        if not isinstance(section, dict):
            return
        data[name] = data = dict(section)
    data.setdefault(key, value)
