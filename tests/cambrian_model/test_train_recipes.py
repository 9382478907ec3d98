"""The training recipes that are shipped, and what a recipe refuses."""

from __future__ import annotations

import pytest

from cambrian_data.recipes import RecipeError, load_recipe, recipe_names
from cambrian_model.conversation import TEMPLATES
from cambrian_model.recipe import TrainRecipe

# README of the published code: batch, lr, SVA lr, then batch and lr of stage 2; its scripts:
# places of the samplers in the language model and the template.
PUBLISHED = {
    "8b": (512, 1e-3, 1e-4, 512, 4e-5, (0, 3, 10), "llama_3", 32),
    "13b": (512, 1e-3, 1e-4, 512, 4e-5, (0, 4, 10), "vicuna_v1", 40),
    "34b": (1024, 1e-3, 1e-4, 1024, 2e-5, (0, 7, 9), "chatml_direct", 60),
}


def load(name, *settings) -> TrainRecipe:
    return load_recipe(name, "train", TrainRecipe, list(settings)).config


def test_all_recipes_load():
    names = recipe_names("train")
    assert set(names) >= {"8b", "13b", "34b", "phi3-3b", "tiny"}
    for name in names:
        config = load(name)
        assert config.template in TEMPLATES
        for stage in ("pretrain", "finetune"):
            assert config.stage(stage).rate_factor == 1.0


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_hold_what_was_published(name):
    config = load(name)
    batch, lr, sampler_lr, batch_2, lr_2, inside, template, layers = PUBLISHED[name]
    first, second = config.pretrain, config.finetune
    assert (first.batch_size, first.lr, first.sampler_lr) == (batch, lr, sampler_lr)
    assert (second.batch_size, second.lr, second.sampler_lr) == (batch_2, lr_2, None)
    assert (first.warmup_ratio, second.warmup_ratio) == (0.06, 0.03)
    assert (first.weight_decay, first.schedule, first.epochs) == (0.0, "cosine", 1)
    assert (second.weight_decay, second.schedule, second.epochs) == (0.0, "cosine", 1)
    assert (first.group_by, second.group_by) == ("none", "length")
    assert config.max_tokens == 2048 and config.template == template
    connector = config.model.connector
    assert (connector.hidden_size, connector.num_layers, connector.query_grids) == (1024, 3, (24,))
    assert connector.in_decoder is not None
    places = connector.in_decoder.places
    assert (places[0], places[1] - places[0], len(places)) == inside
    assert places[-1] < config.model.decoder["num_hidden_layers"] == layers


def test_another_batch_changes_all_rates_by_the_square_root():
    config = load("8b", "pretrain.batch_size=128")
    assert config.pretrain.rates()["base"] == pytest.approx(5e-4)
    assert config.pretrain.rates()["sampler"] == pytest.approx(5e-5)
    assert config.finetune.rates()["base"] == 4e-5


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("finetune.steps=3", "exactly one of steps and epochs"),
        ("finetune.micro_batch_size=0", "greater than or equal to 1"),
        ("finetune.betas=[0.9, 1.0]", "less than 1"),
        ("finetune.precision=fp16", "bf16"),
        ("finetune.logs=[mlflow]", "wandb"),
        ("finetune.lr=0", "greater than 0"),
        ("model.unfreeze=[clip-b16]", "'clip-b16', which is not among the towers"),
        ("model.tower_weights={clip-b16: x}", "'clip-b16', which is not among the towers"),
        ("finetune.group_by=size", "modality"),
        ("adapters={rang: 3}", "rang"),
    ],
)
def test_a_wrong_value_is_told_with_its_field(setting, told):
    field = setting.partition("=")[0].split(".")[-1]
    with pytest.raises(RecipeError) as error:
        load("8b", setting)
    assert told in str(error.value)
    assert field in str(error.value) or "steps" in told


def test_a_recipe_needs_a_language_model():
    with pytest.raises(RecipeError, match="decoder_weights"):
        load("8b", "model.decoder={}", "model.decoder_weights=null")
