"""The engine's recipe: one config, put together from those of its stages."""

from __future__ import annotations

from pydantic import Field

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
    """Every choice is made by a hash of this and an id."""
    max_drop_share: float = Field(default=0.9, ge=0, le=1)
    """The run fails when a stage drops more than this share of what came in."""
    search: SearchConfig = SearchConfig()
    extract: ExtractConfig = ExtractConfig()
    images: ImagesConfig = ImagesConfig()
    vqa: VqaConfig = VqaConfig()
