"""The engine's recipe: one config, put together from those of its stages."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from cambrian_data.engine.extract import ExtractConfig
from cambrian_data.engine.images import ImagesConfig
from cambrian_data.engine.search import SearchConfig
from cambrian_data.engine.vqa import VqaConfig
from cambrian_data.recipes import Config


class EngineRecipe(Config):
    """From a topic to VQA samples. Found under `recipes/data/`."""

    description: str = ""
    """What the recipe is for, in a sentence."""
    seed: int = 0
    """Every choice is made by a hash of this and an id; `vqa` and its writer take it over where
    they name none."""
    max_drop_share: float = Field(default=0.9, ge=0, le=1)
    """The run fails when a stage drops more than this share of what came in."""
    search: SearchConfig = SearchConfig()
    extract: ExtractConfig = ExtractConfig()
    images: ImagesConfig = ImagesConfig()
    vqa: VqaConfig = VqaConfig()

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_seed(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "seed" not in data:
            return data
        section = data.get("vqa", {})
        if not isinstance(section, dict) or not isinstance(section.get("writer", {}), dict):
            return data
        writer = {"seed": data["seed"], **section.get("writer", {})}
        return {**data, "vqa": {"seed": data["seed"], **section, "writer": writer}}
