"""What of a recipe a run's tables depend on."""

from __future__ import annotations

import pytest

from cambrian_data.engine.recipe import EngineRecipe

OTHERS = {
    "http": {"requests_per_second": 1.0, "timeout_s": 9, "contact": "me@example.org"},
    "llm": {"max_open_calls": 2, "max_tries": 1, "requests_per_minute": 10},
}


def counts(**sections: object) -> dict[str, object]:
    return EngineRecipe.model_validate(sections).content_that_counts()


@pytest.mark.parametrize("section", OTHERS)
def test_rates_and_limits_on_spending_leave_a_run_what_it_is(section):
    for key, value in OTHERS[section].items():
        assert counts(**{section: {key: value}}) == counts(), key


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("http", "max_page_bytes", 9),
        ("http", "max_redirects", 1),
        ("llm", "temperature", 1.5),
        ("llm", "seed", 3),
        ("search", "hits_per_topic", 9),
        ("images", "require_license", ["CC0"]),
    ],
)
def test_what_changes_the_tables_makes_another_run(section, key, value):
    assert counts(**{section: {key: value}}) != counts()


def test_the_language_is_handed_down():
    recipe = EngineRecipe.model_validate({"search": {"language": "de"}, "seed": 7})
    assert (recipe.topics.language, recipe.vqa.seed, recipe.vqa.writer.seed) == ("de", 7, 7)
    own = {"search": {"language": "de"}, "topics": {"language": "fr"}}
    assert EngineRecipe.model_validate(own).topics.language == "fr"
