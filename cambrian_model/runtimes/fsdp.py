"""Spreading a model over ranks with FSDP2, or copying it to each.

Units that gather their weights alone are the layers of the language model and of towers that learn,
the connector, and the samplers inside the language model; the rest (embeddings, head) is gathered
once a step. Frozen towers stay whole on every rank: in bf16 they take little, and so each rank may
run them, or not, for itself. Runs on CPU (gloo) too, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.runtimes.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from cambrian_model.runtime import Placement


def hold_frozen_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the floating-point parameters that do not learn."""
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def replicate(model: nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Put a whole copy of rank 0's model on each rank's device."""
    _leave_meta(model, device)
    model.to(device)
    if ranks.world_size > 1:
        for _, tensor in _tensors(model):
            dist.broadcast(tensor, src=0)


def shard(model: nn.Module, ranks: Ranks, device: torch.device, placement: Placement) -> None:
    """Spread rank 0's model over the ranks; the module keeps its class's methods and names.

    Raises:
        UserError: weights that cannot be spread, or machines of different sizes.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    _check(model)
    whole = dict(_tensors(model)) if ranks.rank == 0 else {}
    mesh = _mesh(ranks, device, placement.sharding)
    policy = MixedPrecisionPolicy()
    if placement.precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    kept = {parameter for tower in _frozen_towers(model) for parameter in tower.parameters()}
    for unit in _units(model):
        unit.register_forward_hook(_own_output)
        fully_shard(unit, **options)
    fully_shard(model, **options, ignored_params=kept)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Each rank's loss is its share of the step's: sum, do not average.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    _leave_meta(model, device)
    for tower in _frozen_towers(model):
        tower.to(device)
    for name, tensor in _tensors(model):
        _receive(tensor, whole.pop(name, None), device)


def _check(model: nn.Module) -> None:
    odd = [name for name, p in model.named_parameters() if not p.is_floating_point()]
    if odd:
        raise UserError(
            f"{odd[0]} is quantized and cannot be spread over devices; set sharding to none"
        )


def _mesh(ranks: Ranks, device: torch.device, sharding: str) -> DeviceMesh:
    from torch.distributed.device_mesh import init_device_mesh

    if sharding != "hybrid":
        return init_device_mesh(device.type, (ranks.world_size,), mesh_dim_names=("shard",))
    machines, rest = divmod(ranks.world_size, ranks.local_world_size)
    if rest:
        raise UserError(
            f"sharding hybrid needs machines with equally many processes; {ranks.world_size} "
            f"ranks are no multiple of {ranks.local_world_size}; set sharding to full"
        )
    shape = (machines, ranks.local_world_size)
    return init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))


def _frozen_towers(model: nn.Module) -> list[nn.Module]:
    """Return the towers of which nothing learns."""
    towers = getattr(model, "towers", None) or []
    return [t for t in towers if not any(p.requires_grad for p in t.parameters())]


def _units(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts that gather their weights alone; each is called as a module."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    frozen = {id(part) for tower in _frozen_towers(model) for part in tower.modules()}
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer) and id(module) not in frozen:
            yield module
    connector = getattr(model, "connector", None)
    if isinstance(connector, nn.Module):
        yield from getattr(connector, "vision_sampler_layers", ())
        yield connector


def _own_output(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Return an output with copies of its views: FSDP2's hooks on a view can get lost."""
    return _copy_views(output)


def _copy_views(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone() if value._is_view() else value
    if type(value) in (list, tuple):
        return type(value)(_copy_views(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _copy_views(getattr(value, f.name)) for f in fields(value) if f.init}
        return replace(value, **changed)
    return value


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers, those that are not saved too, each once."""
    for name, parameter in model.named_parameters():
        yield name, parameter.data
    yield from model.named_buffers()


def _leave_meta(model: nn.Module, device: torch.device) -> None:
    """Give memory to a model that was built without any."""
    if any(tensor.is_meta for _, tensor in _tensors(model)):
        with keeping_ties(model):
            model.to_empty(device=device)


@contextmanager
def keeping_ties(model: nn.Module) -> Iterator[None]:
    """Keep weights that are one parameter one, where a move makes parameters anew."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((module, name))
    yield
    for (first, name), *others in owners.values():
        for module, other in others:
            setattr(module, other, getattr(first, name))


def _receive(target: Tensor, whole: Tensor | None, device: torch.device) -> None:
    """Fill a tensor, or this rank's part of it, with the whole one of rank 0."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    sent = torch.empty(target.shape, dtype=target.dtype, device=device)
    if whole is not None:
        sent.copy_(whole)
    if isinstance(target, DTensor):
        part = distribute_tensor(sent, target.device_mesh, target.placements)
        target.to_local().copy_(part.to_local())
    else:
        dist.broadcast(sent, src=0)
        target.copy_(sent)
