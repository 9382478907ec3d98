"""Which parameters learn at which rate, against golden case E, and how the rate moves."""

from __future__ import annotations

import math

import pytest
import torch

from cambrian_model.connector import SpatialVisionAggregator, TowerShape
from cambrian_model.model import published_name
from cambrian_model.optimizer import parameter_groups, rate_share
from cambrian_model.recipe import ConnectorRecipe, StageRecipe


def test_groups_and_rates_equal_published(read_case):
    meta, _, _ = read_case("e_param_groups")
    run = next(run for run in meta["runs"] if run["stage"] == "pretrain_with_decay")
    settings = run["settings"]
    sides = [math.isqrt(count) for count in settings["tower_token_lens"]]
    model = torch.nn.Module()
    model.connector = SpatialVisionAggregator(
        ConnectorRecipe(
            hidden_size=settings["vision_hidden_size"],
            query_grids=(4,),
            num_layers=settings["connector_depth"],
        ),
        [TowerShape(*shape) for shape in zip(settings["tower_hidden_sizes"], sides, strict=True)],
        run["parameters"]["model.image_newline"]["shape"][0],
    )
    names = {id(parameter): published_name(name) for name, parameter in model.named_parameters()}
    config = StageRecipe(
        steps=1,
        lr=settings["learning_rate"],
        sampler_lr=settings["mm_vision_sampler_lr"],
        weight_decay=settings["weight_decay"],
    )
    found = {
        names[id(parameter)]: (group["base_lr"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for parameter in group["params"]
    }
    expected = {
        name: (group["lr"], group["weight_decay"])
        for group in run["groups"]
        for name in group["parameters"]
        if "vision_sampler_layers" not in name  # those inside the language model
    }
    assert len(found) > 60
    assert found == expected


def test_the_rate_rises_and_falls():
    shares = [rate_share(step, 100, 0.1) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == shares[10] == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0 < shares[-1] < 0.001
