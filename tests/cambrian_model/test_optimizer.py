"""Which parts learn at which rate, the square-root rule, and how the rate moves; see golden E."""

from __future__ import annotations

import pytest
import torch

from cambrian_data.records import UserError
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.optimizer import (
    build_optimizer,
    kind_of,
    parameter_groups,
    rate_share,
    rates_now,
    set_rate,
    set_trainable,
)
from cambrian_model.recipe import StageRecipe

DECODER = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONNECTOR = {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "query_grids": [4]}


def small_model(**connector) -> CambrianModel:
    config = CambrianConfig(
        towers=["tiny-clip", "tiny-convnext"], connector=CONNECTOR | connector, decoder=DECODER
    )
    with torch.device("meta"):
        return CambrianModel(config)


def stage(**changes) -> StageRecipe:
    return StageRecipe(**({"steps": 10, "lr": 1e-3} | changes))


def learning(model) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}


def test_stage_1_trains_the_connector_with_its_samplers_in_the_language_model():
    model = small_model(in_decoder={"start": 0, "stride": 1, "count": 2})
    set_trainable(model, "pretrain")
    names = learning(model)
    assert all(name.startswith("connector.") for name in names)
    assert any(name.startswith("connector.vision_sampler_layers.1.") for name in names)


@pytest.mark.parametrize(
    ("freeze", "gone"),
    [
        (("projector",), "connector.mm_projector."),
        (("connector",), "connector."),
        (("decoder",), "decoder."),
    ],
)
def test_parts_that_are_frozen_do_not_learn(freeze, gone):
    model = small_model()
    set_trainable(model, "finetune")
    every = learning(model)
    set_trainable(model, "finetune", freeze=freeze)
    assert learning(model) == {name for name in every if not name.startswith(gone)}


def test_towers_are_unfrozen_by_key_and_have_a_rate_of_their_own():
    model = small_model()
    set_trainable(model, "finetune", unfreeze=("tiny-convnext",))
    towers = {name.split(".")[1] for name in learning(model) if name.startswith("towers.")}
    assert towers == {"1"}
    assert model.towers[1].frozen is False and model.towers[0].frozen is True
    groups = parameter_groups(model, stage(tower_lr=2e-6, weight_decay=0.1))
    rates = {(g["name"], g["base_lr"], g["weight_decay"]) for g in groups}
    assert {("tower", 2e-6, 0.1), ("tower, no decay", 2e-6, 0.0)} <= rates
    with pytest.raises(UserError, match="clip-l"):
        set_trainable(model, "finetune", unfreeze=("clip-l",))


def test_norms_of_any_kind_and_biases_do_not_decay():
    model = small_model()
    set_trainable(model, "finetune", unfreeze=("tiny-clip", "tiny-convnext"))
    names = {id(value): name for name, value in model.named_parameters()}
    groups = parameter_groups(model, stage(weight_decay=0.1))
    fixed = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert "decoder.model.norm.weight" in fixed
    assert any("layer_norm" in name and name.startswith("towers.0") for name in fixed)
    assert any("layernorm" in name and name.startswith("towers.1") for name in fixed)
    assert not any("proj.weight" in name for name in fixed)
    assert sum(len(group["params"]) for group in groups) == len(learning(model))


def test_every_kind_has_its_rate_and_all_follow_the_batch():
    rates = {"lr": 1e-3, "sampler_lr": 1e-4, "projector_lr": 5e-4, "tower_lr": 1e-5}
    plain = stage(batch_size=64, base_batch_size=64, **rates).rates()
    assert plain == {"base": 1e-3, "sampler": 1e-4, "projector": 5e-4, "tower": 1e-5}
    quarter = stage(batch_size=16, base_batch_size=64, **rates)
    assert quarter.rate_factor == 0.5
    assert quarter.rates() == {kind: rate / 2 for kind, rate in plain.items()}
    assert "0.5" in quarter.rate_rule and "16" in quarter.rate_rule
    assert stage(batch_size=16, **rates).rates() == plain  # no base, no rule
    model = small_model()
    set_trainable(model, "pretrain")
    optimizer = build_optimizer(model, quarter)
    set_rate(optimizer, 0.5)
    assert rates_now(optimizer) == {"base": 2.5e-4, "sampler": 2.5e-5, "projector": 1.25e-4}


def test_kinds_are_told_by_the_beginning_of_a_name():
    assert kind_of("connector.vision_sampler_layers.0.layers.0.norm.bias") == "sampler"
    assert kind_of("connector.mm_projector_aux_2.0.weight") == "projector"
    assert kind_of("connector.image_newline") == "base"
    assert kind_of("decoder.model.layers.0.mm_projector.weight") == "base"


def test_settings_of_adamw_are_those_of_the_recipe():
    model = small_model()
    set_trainable(model, "pretrain")
    optimizer = build_optimizer(model, stage(betas=(0.8, 0.9), eps=1e-6))
    assert all((g["betas"], g["eps"]) == ((0.8, 0.9), 1e-6) for g in optimizer.param_groups)


def test_the_rate_rises_and_falls():
    shares = [rate_share(step, 100, 0.1) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == shares[10] == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0 < shares[-1] < 0.001
    assert [rate_share(step, 100, 0.1, "constant") for step in (0, 10, 99)] == [0.1, 1.0, 1.0]
