"""The recipe of a mixture, and the tiny one on a pool like the demo's."""

from __future__ import annotations

from collections import Counter

from cambrian_data.curation.checks import check
from cambrian_data.curation.dedup import exact_dedup
from cambrian_data.curation.ingest import IngestConfig, category_of
from cambrian_data.curation.mixture import count_sources, plan_mixture, select
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.curation.system_prompts import assign
from cambrian_data.recipes import load_recipe
from cambrian_data.records import table_of


def test_seed_is_handed_down_where_a_section_has_none():
    recipe = CurateRecipe.model_validate({"seed": 5, "mixture": {"seed": 7}})
    assert (recipe.mixture.seed, recipe.system_prompts.seed) == (7, 5)
    assert CurateRecipe().mixture.seed == 0


def test_settings_reach_the_sections():
    recipe = load_recipe("tiny", "data", CurateRecipe, ["mixture.size=50", "seed=3"]).config
    assert (recipe.mixture.size, recipe.mixture.seed) == (50, 3)


def test_tiny_recipe_makes_a_mixture_of_every_category(sample):
    sizes = {
        ("data_engine:physics", "general"): 150,
        ("data_engine:physics", "ocr"): 120,
        ("data_engine:physics", "counting"): 60,
        ("data_engine:physics", "science"): 170,
        ("shapes_counting.json:shapes", "counting"): 80,
        ("plot_reading.json:plots", "ocr"): 70,
        ("science_chat.json", "language"): 60,
    }
    table = table_of(
        "samples",
        [
            sample(
                f"What is {n} of {source} {category}?",
                "A cat." if n % 2 else "A cat " * 9 + "sleeps.",
                source=source,
                category=category,
            )
            for (source, category), size in sizes.items()
            for n in range(size)
        ],
    )
    recipe = load_recipe("tiny", "data", CurateRecipe).config
    checked = check(table, recipe.checks)
    unique, _ = exact_dedup(checked.kept, recipe.dedup)
    plan = plan_mixture(count_sources(unique.kept), recipe.mixture)
    chosen = select(unique.kept, plan, recipe.mixture)
    prompted, stats = assign(chosen.kept, recipe.system_prompts)
    assert prompted.num_rows == plan.size == 300
    categories = Counter(prompted["category"].to_pylist())
    assert set(categories) == set(recipe.mixture.ratios or ())
    assert max(Counter(prompted["source"].to_pylist()).values()) <= 240
    assert set(stats["assigned"]) == {"short", "chat"}


def test_sources_of_the_demo_have_their_categories():
    config = IngestConfig()
    assert category_of("shapes_counting.json:shapes", config) == "counting"
    assert category_of("plot_reading.json:plots", config) == "ocr"
    assert category_of("science_chat.json", config) == "language"
