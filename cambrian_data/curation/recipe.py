"""The recipe of a mixture: every config of curation in one file, `recipes/data/*.yaml`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from cambrian_data.curation.duplicates.dedup import DedupConfig
from cambrian_data.curation.duplicates.look_alikes import PicturesConfig
from cambrian_data.curation.mixing.plan import MixtureConfig
from cambrian_data.curation.overlaps.against_set import AgainstConfig
from cambrian_data.curation.rules.checks import ChecksConfig
from cambrian_data.curation.rules.quality import QualityConfig
from cambrian_data.curation.system_prompts import SystemPromptsConfig
from cambrian_data.recipes import Config
from cambrian_data.shards import ShardsConfig

_SEEDED = ("mixture", "system_prompts")


class CurateRecipe(Config):
    """From the pool to a mixture and its shards."""

    description: str = ""
    """What the mixture is for."""
    seed: int = 0
    """Decides every choice; the sections that choose take it over where they name none."""
    datasets: list[str] = Field(default_factory=lambda: ["*"], min_length=1)
    """Data sets of the pool; * stands for all."""
    max_drop_share: float = Field(default=0.1, ge=0, le=1)
    """The run fails when the checks drop a larger part of the pool."""
    checks: ChecksConfig = Field(default_factory=ChecksConfig)
    """What every sample must fulfil."""
    quality: QualityConfig = Field(default_factory=QualityConfig)
    """Rules on what samples say and on their pictures; all off unless named."""
    scores: list[str] = Field(default_factory=list)
    """Files of ratings by sample id (Parquet, CSV or JSONL), joined as score columns."""
    against: list[str] = Field(default_factory=list)
    """Benchmarks and other sets whose samples may not stand in the mixture."""
    overlap: AgainstConfig = Field(default_factory=AgainstConfig)
    """What counts as standing in another set."""
    pictures: PicturesConfig = Field(default_factory=PicturesConfig)
    """What is done about pictures that look alike."""
    dedup: DedupConfig = Field(default_factory=DedupConfig)
    """Which duplicates are dropped, and which of them is kept."""
    mixture: MixtureConfig = Field(default_factory=MixtureConfig)
    """Caps, ratios and size."""
    system_prompts: SystemPromptsConfig = Field(default_factory=SystemPromptsConfig)
    """Prompts for samples with short answers."""
    shards: ShardsConfig = Field(default_factory=ShardsConfig)
    """Sizes of the tar files."""

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_seed(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for name in _SEEDED:
            section = data.get(name, {})
            if isinstance(section, dict) and "seed" in data:
                data[name] = {"seed": data["seed"], **section}
        return data
