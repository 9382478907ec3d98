"""Kind A: a stack of sampler layers; outputs after each layer, loss and all gradients."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cambrian_model.sva import VisionSampler, Windows
from tests.cambrian_model.golden.cases import Case


def build(case: Case, make: Callable[..., nn.Module] = VisionSampler) -> nn.Module:
    """Return the sampler of a case with its weights, loaded strictly."""
    config = case.config
    sampler = make(
        config["vision_hidden_size"],
        config["kv_size_list"],
        query_width=config["q_dim"],
        context_width=config["context_dim"],
        key_width=config["kv_dim"],
        num_heads=config.get("num_heads", 16),
        num_layers=config["num_of_layers"],
        layer_type=config["layer_type"],
    )
    prefix = config["weight_key_prefix"]
    sampler.load_state_dict({key.removeprefix(prefix): w for key, w in case.weights.items()})
    return sampler


def check(case: Case, make: Callable[..., nn.Module] = VisionSampler) -> None:
    """Assert that everything named in `compare` is as published; `make` builds the sampler."""
    found = _run(case, build(case, make))
    patterns = case.meta["compare"]
    expected = {
        name: tensor
        for name, tensor in case.io.items()
        if any(fnmatch(name, pattern) for pattern in patterns)
    }
    for pattern in patterns:
        assert any(fnmatch(name, pattern) for name in expected), f"{pattern} names nothing"
    for name, tensor in expected.items():
        assert name in found, f"{case.name}: {name} was not computed"
        limit = case.tolerance("grad" if name.startswith("grad.") else "output")
        if name == "output.loss":
            limit = {key: max(value, 1e-4) for key, value in limit.items()}
        value = found[name].reshape(tensor.shape)
        assert_close(value, tensor, **limit, msg=lambda text, name=name: f"{name}: {text}")


def _run(case: Case, sampler: nn.Module) -> dict[str, Tensor]:
    """Return all outputs and gradients under the names of the case."""
    inputs = {
        name: tensor.clone().requires_grad_(tensor.is_floating_point())
        for name, tensor in case.group("input.").items()
    }
    towers = range(len(case.config["kv_size_list"]))
    queries = inputs["queries"].flatten(0, 1)
    windows = Windows(
        keys=[inputs[f"latents_{tower}"] for tower in towers],
        masks=[inputs[f"mask_{tower}"] for tower in towers],
        context=inputs["context"].flatten(0, 1),
        picture=torch.arange(queries.shape[0]),
    )
    found: dict[str, Tensor] = {}

    def keep(number: int) -> Callable[[object, object, Tensor], None]:
        return lambda _layer, _inputs, output: found.update({f"output.layer_{number}": output})

    for number, layer in enumerate(sampler.layers):
        layer.register_forward_hook(keep(number))
    found["output.queries"] = sampler(queries, windows)
    loss = (found["output.queries"].view_as(inputs["loss_weight"]) * inputs["loss_weight"]).sum()
    loss.backward()
    found["output.loss"] = loss
    prefix = case.config["weight_key_prefix"]
    learned = {f"grad.input.{name}": tensor.grad for name, tensor in inputs.items()}
    learned |= {f"grad.{prefix}{name}": p.grad for name, p in sampler.named_parameters()}
    found |= {name: grad for name, grad in learned.items() if grad is not None}
    return {name: tensor.detach() for name, tensor in found.items()}
