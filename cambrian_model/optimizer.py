"""Which parameters learn in a stage, at which rate, and how the rate moves.

Groups as in the published scripts (golden case E): the SVA's samplers and queries, the projections
around them and unfrozen towers may have rates of their own; biases and norms do not decay.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from torch import nn
from torch.optim import AdamW

from cambrian_data.records import UserError
from cambrian_model.model import CambrianModel
from cambrian_model.recipe import Stage, StageRecipe
from cambrian_model.vision import freeze_towers

_KINDS = {
    "connector.vision_sampler_": "sampler",
    "connector.vision_query": "sampler",
    "connector.mm_projector": "projector",
    "towers.": "tower",
}
"""Beginnings of names -> kind of parameters; all others are of the kind `base`."""
_ADAPTER = ".lora_"


def set_trainable(
    model: CambrianModel,
    stage: Stage,
    *,
    unfreeze: Collection[str] = (),
    freeze: Collection[str] = (),
    embeddings: bool = False,
) -> None:
    """Let the parts learn that a stage trains: the connector, and in stage 2 the language model.

    Args:
        unfreeze: towers that learn too, by key.
        freeze: parts that stay as they are: projector (the connector's last one), connector,
            decoder.
        embeddings: with adapters in the language model, whether the embeddings of its tokens and
            its head learn beside them.
    """
    freeze_towers(model.towers, unfrozen=tuple(unfreeze))
    model.connector.requires_grad_("connector" not in freeze)
    if "projector" in freeze:
        model.connector.get_submodule("mm_projector").requires_grad_(False)
    learns = stage == "finetune" and "decoder" not in freeze
    has_adapters = any(_ADAPTER in name for name, _ in model.decoder.named_parameters())
    for name, parameter in model.decoder.named_parameters():
        if parameter.is_floating_point():  # 4-bit weights are not
            parameter.requires_grad_(learns and (not has_adapters or _ADAPTER in name))
    if learns and has_adapters and embeddings:
        decoder: Any = model.decoder
        for part in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
            if part is not None:
                part.requires_grad_(True)


def kind_of(name: str) -> str:
    """Return the kind of a parameter of CambrianModel: base, sampler, projector or tower."""
    return next((kind for start, kind in _KINDS.items() if name.startswith(start)), "base")


def parameter_groups(model: nn.Module, config: StageRecipe) -> list[dict[str, Any]]:
    """Return AdamW's groups over what learns, each with its kind and its highest rate."""
    fixed = _without_decay(model)
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((kind_of(name), name not in fixed), []).append(parameter)
    rates = config.rates()
    return [
        {
            "params": parameters,
            "name": kind if decays else f"{kind}, no decay",
            "base_lr": rates[kind],
            "lr": 0.0,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (kind, decays), parameters in groups.items()
    ]


def _without_decay(model: nn.Module) -> set[str]:
    """Return the names of biases and of all parameters of norms (LayerNorm, any RMSNorm)."""
    fixed = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    for path, module in model.named_modules():
        if "Norm" in type(module).__name__:  # Dinov2 and ConvNeXt have their own, too
            fixed |= {f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)}
    return fixed


def build_optimizer(model: nn.Module, config: StageRecipe) -> AdamW:
    """Return AdamW over what learns; `set_rate` gives it its rates step by step.

    Raises:
        UserError: nothing learns.
    """
    groups = parameter_groups(model, config)
    if not groups:
        raise UserError(
            "nothing learns in this stage; take a part out of its freeze, or name a tower in "
            "model.unfreeze"
        )
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    is_fused = devices <= {"cpu", "cuda", "mps"}
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=is_fused)


def rate_share(step: int, steps: int, warmup_ratio: float, schedule: str = "cosine") -> float:
    """Return the share of the highest rate at a step from 0: a rise, then a cosine to 0."""
    warmup = math.ceil(steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_rate(optimizer: AdamW, share: float) -> None:
    """Set every group to a share of its highest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * share


def rates_now(optimizer: AdamW) -> dict[str, float]:
    """Return the rate of each kind of parameters at this step."""
    return {group["name"].split(",")[0]: group["lr"] for group in optimizer.param_groups}
