"""What a stage would do, before it is begun: `cambrian train --dry-run`.

Counts parameters on a model without weights, memory by `memory`, operations by `flops`; a few
seconds and little memory for the largest recipe. What it cannot know it takes from the recipe's
`plan`, and says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cambrian_data.shards import read_index, read_shards
from cambrian_model.conversation import render, template_of
from cambrian_model.files.pretrained import build_on_meta
from cambrian_model.model import CambrianModel
from cambrian_model.optimizer import kind_of, set_trainable
from cambrian_model.pictures import num_visual_tokens
from cambrian_model.recipe import Stage, StageRecipe, TrainRecipe
from cambrian_model.templates import Template
from cambrian_model.training.flops import model_flops, peak_flops
from cambrian_model.training.memory import Memory, estimate_memory

_CHARACTERS = 4.0
"""Characters of a token, where there is no tokenizer to count with."""
_READ = 256
"""Samples that are looked at for their lengths."""
_GB, _HOUR = 1e9, 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleMeans:
    """How many samples there are, and what one of them holds on average."""

    samples: int | None
    """None where it is not known."""
    tokens: float
    """Text and visible tokens of pictures."""
    trained_tokens: float
    pictures: float
    source: str
    """A sentence that says where the numbers come from."""


def means_of_shards(place: Path | str, config: TrainRecipe, stage: Stage) -> SampleMeans:
    """Look at the first samples of shards.

    Raises:
        ShardError: there are none.
    """
    total = int(read_index(place)["samples"])
    side, most = config.model.connector.side, config.tokens_of(stage)
    template = template_of(config.template)
    tokens = trained = pictures = 0.0
    seen = 0
    for sample in itertools.islice(read_shards(place), _READ):
        turns, system = sample.record["conversations"], sample.record.get("system")
        pieces = list(render(turns, template, config.system if system is None else system))
        texts = _num_tokens([text for text, _ in pieces], template)
        answers = _num_tokens([text for text, is_trained in pieces if is_trained], template)
        sizes = [(image["width"], image["height"]) for image in sample.record["images"]]
        visual = sum(num_visual_tokens(size, side) for size in sizes)
        tokens += min(most, visual + texts)
        trained += min(most, answers)
        pictures += len(sizes)
        seen += 1
    return SampleMeans(
        samples=total,
        tokens=tokens / max(1, seen),
        trained_tokens=trained / max(1, seen),
        pictures=pictures / max(1, seen),
        source=f"the first {seen} of {total:,} samples, {_CHARACTERS:.0f} characters a token",
    )


def _num_tokens(texts: Sequence[str], template: Template) -> float:
    """Return about how many tokens texts take: one a special token, else by their characters."""
    text = "".join(texts)
    special = {token: text.count(token) for token in template.special_tokens}
    spelled = sum(len(token) * count for token, count in special.items())
    return sum(special.values()) + (len(text) - spelled) / _CHARACTERS


def means_of_recipe(config: TrainRecipe, stage: Stage) -> SampleMeans:
    """Return what the recipe's `plan` says, where no shards are at hand."""
    plan, side = config.plan, config.model.connector.side
    samples = plan.pretrain_samples if stage == "pretrain" else plan.finetune_samples
    visual = plan.pictures * num_visual_tokens((1, 1), side)
    return SampleMeans(
        samples=samples,
        tokens=min(config.tokens_of(stage), plan.text_tokens + visual),
        trained_tokens=plan.trained_tokens,
        pictures=plan.pictures,
        source=f"no shards at hand: plan.text_tokens {plan.text_tokens}, plan.trained_tokens "
        f"{plan.trained_tokens}, plan.pictures {plan.pictures:g}, square pictures"
        + ("" if samples is None else f", plan.{stage}_samples {samples:,}"),
    )


def plan_stage(config: TrainRecipe, stage: Stage, means: SampleMeans) -> dict[str, Any]:
    """Return what a stage would do.

    Returns:
        Names and numbers to be shown, with `parameters` by group, `rates`, `memory_gb` a device,
        `steps`, `tokens`, `hours` (None where it is not known) and `assumed`, sentences.
    Raises:
        UserError: the model cannot be built.
    """
    part, plan = config.stage(stage), config.plan
    model = build_on_meta(config)
    has_adapters = stage == "finetune" and config.adapters is not None
    freeze = (*part.freeze, "decoder") if has_adapters else part.freeze
    set_trainable(model, stage, unfreeze=config.model.unfreeze, freeze=freeze)
    precision = _precision(part, plan.device)
    steps = part.num_steps(means.samples) if means.samples else part.steps
    micro = min(part.micro_batch_size or part.batch_size, -(-part.batch_size // plan.devices))
    memory = estimate_memory(
        model,
        bf16=precision == "bf16",
        shards=1 if part.sharding == "none" or has_adapters else plan.devices,
        tokens=micro * config.tokens_of(stage),
        trained_tokens=round(micro * means.trained_tokens),
        pictures=round(micro * max(1, means.pictures)),
        checkpointing=part.gradient_checkpointing,
    )
    flops = model_flops(model).step(
        tokens=part.batch_size * means.tokens,
        pairs=part.batch_size * means.tokens * (means.tokens + 1) / 2,
        trained_tokens=part.batch_size * means.trained_tokens,
        pictures=part.batch_size * means.pictures,
    )
    peak = peak_flops(plan.device, precision)
    hours = None
    if steps is not None and peak is not None:
        hours = steps * flops / (plan.devices * peak * plan.mfu) / _HOUR
    return {
        "parameters": parameters_by_group(model),
        "samples": means.samples,
        "steps": steps,
        "tokens": round(steps * part.batch_size * means.tokens) if steps else None,
        "batch": _batch(part, plan.devices, micro),
        "rates": {kind: rate for kind, rate in part.rates().items() if _has(model, kind)},
        "rate_rule": part.rate_rule,
        "devices": f"{plan.devices} x {plan.device}, {precision}",
        "memory_gb": _in_gb(memory),
        "tflop_per_step": round(flops / 1e12, 3),
        "hours": round(hours, 2) if hours is not None else None,
        "assumed": _assumed(config, stage, means, peak, has_adapters),
    }


def parameters_by_group(model: CambrianModel) -> dict[str, dict[str, int]]:
    """Return the numbers of parameters that learn and that do not, by part of the model."""
    groups: dict[str, dict[str, int]] = {}
    for name, parameter in model.named_parameters():
        group = groups.setdefault(_group_of(name, model.config.towers), {"learns": 0, "frozen": 0})
        group["learns" if parameter.requires_grad else "frozen"] += parameter.numel()
    total = {key: sum(group[key] for group in groups.values()) for key in ("learns", "frozen")}
    return groups | {"all": total}


def _group_of(name: str, towers: list[str]) -> str:
    top, _, rest = name.partition(".")
    if top == "towers":
        return f"tower {towers[int(rest.partition('.')[0])]}"
    if top == "decoder":
        return "language model"
    if rest.startswith("vision_sampler_layers"):
        return "samplers in the language model"
    return "samplers and queries" if kind_of(name) == "sampler" else "projections"


def _has(model: CambrianModel, kind: str) -> bool:
    learning = (name for name, value in model.named_parameters() if value.requires_grad)
    return any(kind_of(name) == kind for name in learning)


def _precision(part: StageRecipe, device: str) -> str:
    if part.precision != "auto":
        return part.precision
    return "float32" if device.lower() in ("cpu", "mps") else "bf16"


def _batch(part: StageRecipe, devices: int, micro: int) -> str:
    rounds = -(-part.batch_size // (devices * micro))
    return f"{part.batch_size} = {devices} devices x {micro} a micro batch x {rounds} in a step"


def _in_gb(memory: Memory) -> dict[str, float]:
    names = ("weights", "gradients", "optimizer", "activations", "total")
    return {name: round(getattr(memory, name) / _GB, 2) for name in names}


def _assumed(
    config: TrainRecipe, stage: Stage, means: SampleMeans, peak: float | None, has_adapters: bool
) -> list[str]:
    """Return the sentences that say what the numbers rest on."""
    plan = config.plan
    told = [f"lengths: {means.source}"]
    if means.samples is None and config.stage(stage).steps is None:
        told.append(f"steps are not known: give --shards, or set plan.{stage}_samples")
    if peak is None:
        told.append(f"hours are not known: plan.device {plan.device} has no known peak")
    else:
        told.append(
            f"hours: plan.mfu {plan.mfu:g} of the peak of {peak / 1e12:.0f} TFLOP/s of a "
            f"{plan.device} (plan.device), {plan.devices} of them (plan.devices)"
        )
    told.append(
        f"memory: a micro batch of the longest samples ({config.tokens_of(stage)} tokens); "
        "allocators and libraries take some 10 percent more"
    )
    if has_adapters:
        told.append("adapters: the few parameters that they add are not counted")
    return told


def lines(plan: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield the plan's numbers as names and texts, for people."""
    for name, group in plan["parameters"].items():
        yield f"parameters, {name}", f"{group['learns']:,} learn, {group['frozen']:,} do not"
    for name in ("samples", "steps", "tokens", "batch"):
        if plan[name] is not None:
            yield name, plan[name] if isinstance(plan[name], str) else f"{plan[name]:,}"
    yield "highest rates", ", ".join(f"{kind} {rate:.3g}" for kind, rate in plan["rates"].items())
    yield "rates", plan["rate_rule"]
    yield "devices", plan["devices"]
    memory = ", ".join(f"{name} {value:g}" for name, value in plan["memory_gb"].items())
    yield "memory of a device, GB", memory
    yield "operations of a step", f"{plan['tflop_per_step']:,} TFLOP"
    if plan["hours"] is not None:
        yield "hours", f"{plan['hours']:,}"
