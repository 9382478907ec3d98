"""The recipe of a mixture: how its sections hang together."""

from __future__ import annotations

from cambrian_data.curation.ingest.part import IngestConfig, category_of
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.recipes import load_recipe


def test_seed_is_handed_down_where_a_section_has_none():
    recipe = CurateRecipe.model_validate({"seed": 5, "mixture": {"seed": 7}})
    assert (recipe.mixture.seed, recipe.system_prompts.seed) == (7, 5)
    assert CurateRecipe().mixture.seed == 0


def test_settings_reach_the_sections():
    recipe = load_recipe("tiny", "data", CurateRecipe, ["mixture.size=50", "seed=3"]).config
    assert (recipe.mixture.size, recipe.mixture.seed) == (50, 3)


def test_sources_of_the_demo_have_their_categories():
    config = IngestConfig()
    assert category_of("shapes_counting.json:shapes", config) == "counting"
    assert category_of("plot_reading.json:plots", config) == "ocr"
    assert category_of("science_chat.json", config) == "language"
