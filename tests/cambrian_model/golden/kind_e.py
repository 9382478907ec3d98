"""Kind E: which parameters train, and at which rate and decay, in the published entry point."""

from __future__ import annotations

import math
from typing import Any

import torch

from cambrian_model.files.names import published_name
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.optimizer import parameter_groups, set_trainable
from cambrian_model.recipe import Stage, StageRecipe
from tests.cambrian_model.golden.cases import Case

Shapes = dict[str, list[int]]


def check(case: Case) -> None:
    """Compare every run of a case: the names that train, and lr and weight_decay of each."""
    assert case.meta["runs"]
    for run in case.meta["runs"]:
        _check_run(run)


def _check_run(run: dict[str, Any]) -> None:
    settings = run["settings"]
    shapes = {name: entry["shape"] for name, entry in run["parameters"].items()}
    with torch.device("meta"):
        model = CambrianModel(_config(settings, shapes))
    names = {id(value): published_name(name) for name, value in model.named_parameters()}
    ours = {names[id(value)]: list(value.shape) for value in model.parameters()}
    assert ours == shapes, run["stage"]
    stage: Stage = "pretrain" if settings.get("tune_mm_mlp_adapter") else "finetune"
    freeze = ("projector",) if settings.get("freeze_mm_mlp_adapter") else ()
    set_trainable(model, stage, freeze=freeze)
    trained = {names[id(value)] for value in model.parameters() if value.requires_grad}
    assert trained == {n for n, entry in run["parameters"].items() if entry["trainable"]}
    found = {
        names[id(value)]: (group["base_lr"], group["weight_decay"])
        for group in parameter_groups(model, _stage_recipe(settings))
        for value in group["params"]
    }
    expected = {
        name: (group["lr"], group["weight_decay"])
        for group in run["groups"]
        for name in group["parameters"]
    }
    assert found == expected, run["stage"]


def _stage_recipe(settings: dict[str, Any]) -> StageRecipe:
    return StageRecipe(
        steps=1,
        lr=settings["learning_rate"],
        sampler_lr=settings.get("mm_vision_sampler_lr"),
        projector_lr=settings.get("mm_projector_lr"),
        tower_lr=settings.get("mm_vision_tower_lr"),
        weight_decay=settings["weight_decay"],
    )


def _config(settings: dict[str, Any], shapes: Shapes) -> CambrianConfig:
    """Return the config of the model that a run trained; towers are stand-ins."""
    sides = [math.isqrt(count) for count in settings["tower_token_lens"]]
    connector: dict[str, Any] = {
        "kind": "sva" if "model.vision_query" in shapes else "mlp2x_gelu",
        "layer_type": "sep" if any("weight_mlp" in name for name in shapes) else "joint",
        "hidden_size": settings["vision_hidden_size"],
        "num_layers": settings["connector_depth"],
        "query_grids": [math.isqrt(count) for count in settings["query_num_list"]],
        "grid": math.isqrt(settings["image_token_len"]),
    }
    if any("vision_sampler_layers" in name for name in shapes):
        connector["in_decoder"] = {
            "start": settings["start_of_vision_sampler_layers"],
            "stride": settings["stride_of_vision_sampler_layers"],
            "count": settings["num_of_vision_sampler_layers"],
        }
    return CambrianConfig(
        tower_shapes=list(zip(settings["tower_hidden_sizes"], sides, strict=True)),
        connector=connector,
        decoder=_decoder(settings["num_hidden_layers"], shapes),
    )


def _decoder(num_layers: int, shapes: Shapes) -> dict[str, Any]:
    """Return the config of a Llama that has parameters of these shapes."""
    vocab, hidden = shapes["model.embed_tokens.weight"]
    first = "model.layers.0."
    queries = shapes[f"{first}self_attn.q_proj.weight"][0]
    keys = shapes[f"{first}self_attn.k_proj.weight"][0]
    head = math.gcd(queries, keys)
    return {
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": shapes[f"{first}mlp.gate_proj.weight"][0],
        "num_hidden_layers": num_layers,
        "num_attention_heads": queries // head,
        "num_key_value_heads": keys // head,
        "head_dim": head,
        "attention_bias": f"{first}self_attn.q_proj.bias" in shapes,
        "mlp_bias": f"{first}mlp.gate_proj.bias" in shapes,
        "tie_word_embeddings": "lm_head.weight" not in shapes,
    }
