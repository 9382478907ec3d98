"""The recipes of mixtures on the published sizes, and the tables that docs/mixture.md shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cambrian_data.curation.ingest.part import IngestConfig, category_of, published_sizes
from cambrian_data.curation.mixing.plan import (
    PUBLISHED_RATIOS,
    MixtureConfig,
    MixturePlan,
    plan_mixture,
)
from cambrian_data.curation.mixing.sweep import compare, parse_sweep
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.recipes import load_recipe, recipes_folder
from cambrian_data.records import CATEGORIES

DOCS = Path(__file__).parents[3] / "docs" / "mixture.md"
RECIPES = ("7m", "7m_released", "10m", "665k", "alignment")
STUDY = "cap=150000,250000,350000,450000"

SHAREGPT4V = "sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k.json"


def published_counts() -> dict[str, tuple[str, int]]:
    return {
        source: (category, thousands * 1000)
        for source, (category, thousands) in published_sizes().items()
        if thousands
    }


def config_of(recipe: str) -> MixtureConfig:
    return load_recipe(recipe, "data", CurateRecipe).config.mixture


def plan_of(recipe: str, **update: Any) -> MixturePlan:
    return plan_mixture(published_counts(), config_of(recipe).model_copy(update=update))


def takes(plan: MixturePlan) -> dict[str, int]:
    return {share.source: share.take for share in plan.sources}


# -------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("recipe", [*RECIPES, "tiny"])
def test_every_recipe_loads_and_says_what_it_is_for(recipe):
    assert (recipes_folder() / "data" / f"{recipe}.yaml").is_file()
    config = load_recipe(recipe, "data", CurateRecipe).config
    assert len(config.description) > 40
    assert set(config.mixture.ratios or ()) <= set(CATEGORIES)


def test_published_recipe_makes_four_million():
    plan = plan_of("7m")
    available = {share.category: share.available // 1000 for share in plan.categories}
    assert available == {
        "language": 836,
        "general": 1_895,
        "ocr": 1_245,
        "counting": 600,
        "math": 426,
        "code": 397,
        "science": 205,
    }
    assert (plan.binding, plan.binds) == ("language", "ratio")
    assert 3_990_000 < plan.size == plan.binding_size < 4_010_000
    assert plan.slip < 1e-5
    whole = sum(PUBLISHED_RATIOS.values())
    for share in plan.categories:
        wanted = PUBLISHED_RATIOS[share.category] / whole
        assert share.ratio_wanted == pytest.approx(wanted, abs=1e-6)
    assert max(takes(plan).values()) <= 350_000


def test_seven_million_cannot_be_had_under_the_published_cap():
    filled = plan_of("7m", on_conflict="fill")
    assert filled.size == sum(share.available for share in filled.categories) < 7_000_000
    assert filled.binds == "pool"
    repeated = plan_of("7m", on_conflict="repeat", repeat_limit=2)
    assert 4_000_000 < repeated.size < 7_000_000


def test_released_recipe_comes_near_the_published_file():
    plan = plan_of("7m_released")
    given = takes(plan)
    assert given["dvqa_2325k.json:dvqa"] == 775_000
    assert given["synthdog_500k_modified.json:synthdog"] == 500_000
    assert given["orca_994k.json"] == 994_000
    assert given["websight_800k.json:websight"] == 10_000
    thousands = {share.category: share.take / 1000 for share in plan.categories}
    near = {"language": 1480, "general": 2000, "ocr": 1820, "counting": 600, "math": 426}
    for category, number in near.items():
        assert thousands[category] == pytest.approx(number, rel=0.03)
    assert 6_500_000 <= plan.size <= 7_000_000
    assert all(abs(share.ratio_got - share.ratio_wanted) < 0.03 for share in plan.categories)


def test_released_recipe_knows_the_third_of_dvqa_by_its_name():
    counts = published_counts()
    counts["random_3rd_dvqa_2325k.json:dvqa"] = ("ocr", 775_000)
    del counts["dvqa_2325k.json:dvqa"]
    plan = plan_mixture(counts, config_of("7m_released"))
    assert plan.size == plan_of("7m_released").size
    assert plan.unused_caps == ("dvqa_2325k.json:dvqa",)


def test_everything_recipe_takes_everything():
    plan = plan_of("10m")
    assert plan.size == sum(number for _, number in published_counts().values())
    counts = {"some.json:new": ("other", 5), "a": ("ocr", 10_000_000)}
    assert plan_mixture(counts, config_of("10m")).size == 10_000_005


def test_llava_recipe_from_the_published_pool_and_from_its_own_file():
    given = {source for source, take in takes(plan_of("665k")).items() if take}
    assert given == {
        *(f"{SHAREGPT4V}:{folder}" for folder in ("vg", "gqa", "ocr_vqa", "textvqa")),
        "lvis_instruct4v_220k.json:coco",
        "wizardlm_143k.json",
    }
    assert plan_of("665k").size == 520_688
    name = "llava_v1_5_mix665k.json"
    own = {"coco": 364_100, "gqa": 72_140, "ocr_vqa": 80_000, "textvqa": 21_953, "vg": 86_417}
    own = {f"{name}:{folder}": count for folder, count in own.items()} | {name: 40_688}
    counts = {source: (category_of(source, IngestConfig()), n) for source, n in own.items()}
    assert takes(plan_mixture(counts, config_of("665k"))) == own
    assert counts[name][0] == "language"


def test_alignment_recipe_takes_what_has_a_picture():
    plan = plan_of("alignment")
    for share in plan.sources:
        assert share.take == (share.have if ":" in share.source or "gpt" in share.source else 0)
    recipe = load_recipe("alignment", "data", CurateRecipe).config
    assert not recipe.system_prompts.short and not recipe.system_prompts.choice


def test_tiny_recipe_holds_its_size_on_a_pool_like_the_demo_makes():
    counts = {
        ("data_engine:physics", "general"): 150,
        ("data_engine:physics", "ocr"): 120,
        ("data_engine:physics", "counting"): 60,
        ("data_engine:physics", "science"): 170,
        ("shapes_counting.json:shapes", "counting"): 80,
        ("plot_reading.json:plots", "ocr"): 70,
        ("science_chat.json", "language"): 60,
    }
    config = config_of("tiny")
    plan = plan_mixture(counts, config)
    assert plan.size == config.size == 300
    assert {share.category for share in plan.categories if share.take} == set(config.ratios or ())
    assert sum(s.take for s in plan.sources if s.source == "data_engine:physics") <= 240


# -------------------------------------------------------------------------------- sources


def test_every_published_source_has_its_category():
    config = IngestConfig()
    for source, (category, _) in published_sizes().items():
        assert category_of(source, config) == category in CATEGORIES
    assert len(published_sizes()) == 60
    found = {
        "gpt77k.json:coco": "general",
        "gpt77k.json:some_other_folder": "general",
        "gpt4v_77k.jsonl:vg": "general",
        "gpt4o_60k.jsonl:coco": "general",
        "random_3rd_dvqa_2325k.json:dvqa": "ocr",
        "scienceqa_12k.json": "science",
        "data_engine:physics": "science",
        "alignment_2.5m.jsonl:sbu558k": "general",
        "alignment_2.5m.jsonl:llava_pretrain": "general",
        "sketchyvqa_8k.json:oodvqa": "general",
        "idefics375k.json:hfdata/tqa": "math",
        # One file, several sets: what is not listed has no category.
        "idefics375k.json:hfdata/unheard_of": "other",
        f"{SHAREGPT4V}:sam": "other",
        "nobody_knows.json:it": "other",
    }
    assert {source: category_of(source, config) for source in found} == found


# ---------------------------------------------------------------------------------- docs


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def category_table(plan: MixturePlan) -> str:
    heads = ("category", "have", "after caps", "take", "wanted %", "got %", "allows")
    rows = [
        (
            f"**{share.category}**" if share.category == plan.binding else share.category,
            f"{share.have:,}",
            f"{share.available:,}",
            f"{share.take:,}",
            f"{100 * share.ratio_wanted:.2f}",
            f"{100 * share.ratio_got:.2f}",
            f"{share.allows:,}",
        )
        for share in plan.categories
    ]
    whole = [sum(getattr(c, name) for c in plan.categories) for name in ("have", "available")]
    return table(heads, [*rows, ("all", *(f"{n:,}" for n in whole), f"{plan.size:,}", "", "", "")])


def comparison_table(plans: Iterable[tuple[str, MixturePlan]], names: Sequence[str]) -> str:
    rows = compare(plans)
    heads = ("", "size", "binds", "slip", "sources at cap", *names)
    return table(
        heads,
        [
            (
                f"`{row['label']}`",
                f"{row['size']:,}",
                row["binding"] if row["binds"] == "ratio" else row["binds"],
                f"{100 * row['slip']:.2f}",
                row["sources_capped"],
                *(f"{row[f'take.{name}']:,}" for name in names),
            )
            for row in rows
        ],
    )


def documented_tables() -> list[str]:
    names = list(PUBLISHED_RATIOS)
    counts = published_counts()
    study = [(v.label, plan_mixture(counts, v.config)) for v in parse_sweep(STUDY, config_of("7m"))]
    what_gives = [
        (v.label, plan_mixture(counts, v.config))
        for v in parse_sweep("on_conflict=shrink,fill,repeat", config_of("7m"))
    ]
    return [
        comparison_table([(name, plan_of(name)) for name in RECIPES], names),
        category_table(plan_of("7m")),
        category_table(plan_of("7m_released")),
        comparison_table(what_gives, names),
        comparison_table(study, names),
    ]


@pytest.mark.parametrize("number", range(5))
def test_tables_in_the_docs_are_what_the_planner_says(number):
    wanted = documented_tables()[number]
    assert wanted in DOCS.read_text(encoding="utf-8"), f"docs/mixture.md should have:\n{wanted}"
