"""Which parameters learn in a stage, at which rate, and how the rate moves.

Groups as in the published scripts: the SVA's samplers and queries have a rate of their own; biases
and norms do not decay.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.optim import AdamW

from cambrian_model.model import CambrianModel
from cambrian_model.recipe import Stage, StageRecipe
from cambrian_model.vision import freeze_towers

_SAMPLER_NAMES = ("connector.vision_sampler_", "connector.vision_query")


def set_trainable(model: CambrianModel, stage: Stage) -> None:
    """Let the parts learn that a stage trains: the connector, and in stage 2 the language model."""
    freeze_towers(model.towers)
    model.connector.requires_grad_(True)
    model.decoder.requires_grad_(stage == "finetune")


def parameter_groups(model: CambrianModel, config: StageRecipe) -> list[dict[str, Any]]:
    """Return AdamW's groups over what learns, each with its highest rate as `base_lr`."""
    fixed = _without_decay(model)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith(_SAMPLER_NAMES), name not in fixed)
            groups.setdefault(key, []).append(parameter)
    sampler_lr = config.sampler_lr if config.sampler_lr is not None else config.lr
    return [
        {
            "params": parameters,
            "base_lr": sampler_lr if is_sampler else config.lr,
            "lr": 0.0,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_sampler, decays), parameters in groups.items()
    ]


def _without_decay(model: nn.Module) -> set[str]:
    """Return the names of biases and of all parameters of norms (LayerNorm, any RMSNorm)."""
    fixed = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    for path, module in model.named_modules():
        if type(module).__name__.endswith("Norm"):
            fixed |= {f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)}
    return fixed


def build_optimizer(model: CambrianModel, config: StageRecipe) -> AdamW:
    """Return AdamW over what learns; `set_rate` gives it its rates step by step."""
    return AdamW(parameter_groups(model, config), lr=config.lr, betas=config.betas, fused=True)


def rate_share(step: int, steps: int, warmup_ratio: float) -> float:
    """Return the share of the highest rate at a step from 0: a rise, then a cosine to 0."""
    warmup = math.ceil(steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_rate(optimizer: AdamW, share: float) -> None:
    """Set every group to a share of its highest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * share
