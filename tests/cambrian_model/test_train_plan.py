"""What a dry run tells: parameters, memory, operations, steps and hours, without any weights."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cambrian_data.recipes import load_recipe
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.optimizer import set_trainable
from cambrian_model.plan import lines, means_of_recipe, means_of_shards, plan_stage
from cambrian_model.recipe import TrainRecipe
from cambrian_model.training.flops import model_flops, peak_flops
from cambrian_model.training.memory import estimate_memory


def recipe(name, *settings) -> TrainRecipe:
    return load_recipe(name, "train", TrainRecipe, list(settings)).config


def planned(config, stage):
    return plan_stage(config, stage, means_of_recipe(config, stage))


def meta_model(config) -> CambrianModel:
    with torch.device("meta"):
        return CambrianModel(
            CambrianConfig(
                towers=list(config.model.towers),
                connector=config.model.connector.model_dump(mode="json"),
                decoder=config.model.decoder | {"vocab_size": 128},
            )
        )


def test_the_8b_recipe_is_planned_without_its_weights():
    plan = planned(recipe("8b"), "finetune")
    groups = plan["parameters"]
    assert groups["language model"] == {"learns": 8_030_261_248, "frozen": 0}
    assert groups["tower clip-l@336"]["learns"] == 0
    assert groups["all"]["frozen"] == sum(
        group["frozen"] for name, group in groups.items() if name.startswith("tower ")
    )
    assert plan["steps"] == -(-7_000_000 // 512)
    assert plan["batch"] == "512 = 8 devices x 8 a micro batch x 8 in a step"
    assert 25 < plan["memory_gb"]["total"] < 70
    assert plan["hours"] > 1
    assert plan["rates"] == {"base": 4e-5, "sampler": 4e-5, "projector": 4e-5}
    assert any("plan.mfu 0.4" in sentence for sentence in plan["assumed"])
    assert any("language model" in name for name, _ in lines(plan))


def test_stage_1_learns_the_connector_alone():
    plan = planned(recipe("8b", "pretrain.batch_size=128"), "pretrain")
    learns = {name for name, group in plan["parameters"].items() if group["learns"]}
    assert learns == {
        "projections",
        "samplers and queries",
        "samplers in the language model",
        "all",
    }
    assert plan["rates"]["sampler"] == pytest.approx(5e-5)
    assert "0.5 = sqrt(batch_size 128 / base_batch_size 512)" in plan["rate_rule"]


def test_adapters_leave_the_language_model_as_it_is():
    plan = planned(recipe("8b", "adapters={rank: 8}"), "finetune")
    assert plan["parameters"]["language model"]["learns"] == 0


def test_lengths_come_from_the_shards_where_they_are(standin_shards):
    config = recipe("tiny", "finetune.steps=null", "finetune.epochs=2")
    means = means_of_shards(standin_shards, config, "finetune")
    assert means.samples and means.samples > 40
    assert 0.5 < means.pictures <= 1
    assert 0 < means.trained_tokens < means.tokens < 256
    plan = plan_stage(config, "finetune", means)
    assert plan["steps"] == -(-2 * means.samples // 16)
    assert plan["tokens"] == round(plan["steps"] * 16 * means.tokens)


def test_what_is_not_known_is_said():
    config = recipe("tiny", "finetune.steps=null", "finetune.epochs=2", "plan.device=abacus")
    plan = planned(config, "finetune")
    assert plan["steps"] is plan["hours"] is plan["tokens"] is None
    told = " ".join(plan["assumed"])
    assert "plan.finetune_samples" in told and "abacus has no known peak" in told
    assert list(lines(plan))


def test_operations_are_those_that_torch_counts():
    """The language model's, forward, against torch's counter, which takes attention as a square."""
    config = recipe("tiny")
    model = meta_model(config)
    set_trainable(model, "pretrain")
    flops = model_flops(model)
    length = 24
    with FlopCounterMode(display=False) as counter:
        model.decoder(torch.zeros(1, length, dtype=torch.long, device="meta"))
    forward = (
        flops.token / 2 * length
        + flops.pair / 3 * length * length
        + flops.trained_token / 2 * length
    )
    assert counter.get_total_flops() == pytest.approx(forward)


def test_what_learns_costs_a_third_pass():
    model = meta_model(recipe("tiny"))
    set_trainable(model, "pretrain")
    frozen = model_flops(model)
    set_trainable(model, "finetune", unfreeze=("tiny-clip", "tiny-convnext"))
    learning = model_flops(model)
    assert learning.token == pytest.approx(1.5 * frozen.token)
    assert learning.picture > 1.5 * frozen.picture
    step = {"tokens": 10.0, "pairs": 0.0, "trained_tokens": 0.0, "pictures": 2.0}
    assert frozen.step(**step) == 10 * frozen.token + 2 * frozen.picture


def test_memory_falls_with_sharding_checkpointing_and_bf16():
    model = meta_model(recipe("tiny"))
    set_trainable(model, "finetune")
    options = {
        "bf16": False,
        "shards": 1,
        "tokens": 4096,
        "trained_tokens": 100,
        "pictures": 4,
        "checkpointing": False,
    }
    plain = estimate_memory(model, **options)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert plain.gradients == 4 * learning and plain.optimizer == 8 * learning
    assert plain.total == plain.weights + plain.gradients + plain.optimizer + plain.activations
    assert estimate_memory(model, **options | {"shards": 4}).optimizer == plain.optimizer / 4
    again = estimate_memory(model, **options | {"checkpointing": True})
    assert again.activations < plain.activations
    half = estimate_memory(model, **options | {"bf16": True})
    assert half.activations < plain.activations


@pytest.mark.parametrize(
    ("device", "precision", "tflops"),
    [
        ("NVIDIA H200", "bf16", 989),
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA A100-SXM4-40GB", "float32", 156),
        ("NVIDIA L40S", "bf16", 362),
        ("TPU v5e", "bf16", 197),
    ],
)
def test_peaks_are_known_by_the_devices_name(device, precision, tflops):
    assert peak_flops(device, precision) == tflops * 1e12


def test_a_strange_device_has_no_peak():
    assert peak_flops("cpu", "float32") is None
