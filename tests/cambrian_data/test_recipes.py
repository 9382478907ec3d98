from __future__ import annotations

from pathlib import Path

import pytest

from cambrian_data.recipes import Config, RecipeError, find_recipe, load_recipe, recipe_names


class Inner(Config):
    size: int = 3
    caps: dict[str, int] = {}


class Kind(Config):
    name: str = ""


class Outer(Config):
    seed: int = 0
    mixture: Inner = Inner()
    maybe: Inner | None = None
    kinds: list[Kind] = []
    table: dict[str, Kind] = {}


def recipe(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def load(folder: Path, text: str, *settings: str):
    return load_recipe(recipe(folder, text), "data", Outer, settings)


def fails(folder: Path, text: str, *settings: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(folder, text, *settings)
    return str(caught.value)


def test_a_path_is_read_and_typed(tmp_path):
    found = load(tmp_path, "seed: 4\nmixture: {size: 9}\n")
    assert found.name == "mine"
    assert found.config.seed == 4 and found.config.mixture.size == 9
    assert found.content()["mixture"] == {"size": 9, "caps": {}}


def test_the_hash_is_of_the_content_not_of_the_spelling(tmp_path):
    first = load(tmp_path, "seed: 4\n").sha256
    assert first == load(tmp_path, "# a word\nmixture: {size: 3}\nseed: 4\n").sha256
    assert first != load(tmp_path, "seed: 5\n").sha256
    assert first != load(tmp_path, "seed: 4\n", "mixture.size=4").sha256


def test_an_empty_recipe_is_all_defaults(tmp_path):
    assert load(tmp_path, "").config == Outer()


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ("sed: 4", "'sed'", "'seed'"),
        ("mixture: {sise: 4}", "'mixture.sise'", "'mixture.size'"),
        ("maybe: {sise: 4}", "'maybe.sise'", "'maybe.size'"),
        ("kinds: [{nam: x}]", "'kinds.0.nam'", "'kinds.0.name'"),
        ("table: {a: {nam: x}}", "'table.a.nam'", "'table.a.name'"),
    ],
)
def test_unknown_keys_name_the_nearest_known_one(tmp_path, text, wrong, right):
    message = fails(tmp_path, text)
    assert wrong in message and right in message and "mine.yaml" in message


def test_settings_are_applied_and_checked(tmp_path):
    config = load(tmp_path, "seed: 1", "seed=2", "mixture.caps={a.json: 5}", "maybe.size=7").config
    assert (config.seed, config.mixture.caps, config.maybe.size) == (2, {"a.json": 5}, 7)
    message = fails(tmp_path, "", "mixture.sise=4")
    assert message.startswith("--set") and "'mixture.size'" in message


@pytest.mark.parametrize("setting", ["seed", "=3", "mixture..size=3", "seed.a=3", "seed=[1"])
def test_settings_that_cannot_be_read(tmp_path, setting):
    assert setting.split("=")[0] in fails(tmp_path, "seed: 1", setting)


def test_wrong_values_name_the_field_and_the_value(tmp_path):
    message = fails(tmp_path, "mixture: {size: many}")
    assert "mixture.size" in message and "'many'" in message


def test_broken_yaml_names_the_line(tmp_path):
    assert "line 3" in fails(tmp_path, "seed: 1\nmixture: {size: 3\n")
    assert "mapping" in fails(tmp_path, "- 1\n- 2\n")
    assert "twice" in fails(tmp_path, "seed: 1\nseed: 2\n")


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(str(path), "data", Outer)


def test_yaml_tags_run_nothing(tmp_path):
    assert "YAML" in fails(tmp_path, "seed: !!python/object/apply:os.system [exit]\n")


def test_what_would_grow_without_bound_is_refused(tmp_path):
    bomb = "a: &a [1, 1]\nb: &b [*a, *a]\nseed: *b\n"
    assert "aliases" in fails(tmp_path, bomb)
    assert "too deep" in fails(tmp_path, "seed: " + "[" * 5000 + "]" * 5000)
    assert "64-bit" in fails(tmp_path, f"seed: {2**70}")
    assert "out of range" in fails(tmp_path, "seed: " + "9" * 5000)
    assert len(fails(tmp_path, f"seed: {'x' * 100_000}")) < 1000


def test_names_that_are_not_there(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'tiny'"):
        find_recipe("tinny", "data")
    with pytest.raises(RecipeError, match=r"nowhere\.yaml"):
        find_recipe("nowhere.yaml", "data")


def test_recipes_that_come_with_the_project():
    assert {"engine_science", "tiny"} <= set(recipe_names("data"))
    assert "tiny" in recipe_names("train")
