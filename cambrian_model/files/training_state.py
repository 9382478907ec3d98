"""All that resuming needs: weights, optimizer states, random generators and the run's own numbers.

Everything goes by the parameters' names, never by their number, so a checkpoint can be read by any
number of ranks. Whole copies are written by rank 0: `model*.safetensors` with `config.json` (what
`from_pretrained` reads) and `training.pt`. Spread ones go to `sharded/` (`sharded`).
A snapshot is copied to the CPU at once, so that it can be written while training goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cambrian_data.records import UserError
from cambrian_model.files.names import own_name, published_name
from cambrian_model.files.weights import DAMAGES, reason_of

if TYPE_CHECKING:
    from cambrian_model.runtime import Runtime

STATE_NAME = "training.pt"

OptimizerState = dict[str, dict[str, Tensor]]


def snapshot(
    runtime: Runtime, model: nn.Module, optimizer: Optimizer, extra: dict[str, Any], tokenizer: Any
) -> Callable[[Path], None]:
    """Copy the state now and return what writes it; see `Runtime.snapshot`."""
    rest = {"extra": extra, "rng": runtime.gather(runtime.rng_state())}
    if runtime.is_sharded:
        from cambrian_model.files.sharded import stage

        tensors = {f"model.{name}": value for name, value in named_weights(model).items()}
        for name, key, value in _optimizer_items(model, optimizer):
            tensors[f"optimizer.{name}.{key}"] = value
        write_shards = stage(runtime, tensors)

        def write_sharded(folder: Path) -> None:
            write_shards(folder)
            if runtime.is_main:
                write_settings(model, tokenizer, folder)
                torch.save(rest, folder / STATE_NAME)

        return write_sharded
    if not runtime.is_main:
        return lambda folder: None
    weights = {published_name(name): _copy(value) for name, value in named_weights(model).items()}
    states: OptimizerState = {}
    for name, key, value in _optimizer_items(model, optimizer):
        states.setdefault(name, {})[key] = _copy(value)

    def write(folder: Path) -> None:
        from cambrian_model.files.saved import write_weights

        write_settings(model, tokenizer, folder)
        write_weights(weights, folder)
        torch.save(rest | {"optimizer": states}, folder / STATE_NAME)

    return write


def load_state(
    runtime: Runtime, folder: Path, model: nn.Module, optimizer: Optimizer
) -> dict[str, Any]:
    """Set everything to a checkpoint's state; see `Runtime.load_state`."""
    from cambrian_model.files.sharded import is_sharded, load_shards

    try:
        stored = torch.load(folder / STATE_NAME, weights_only=True, map_location="cpu")
    except DAMAGES as error:
        raise UserError(
            f"{folder / STATE_NAME} is damaged: {reason_of(error)}; remove {folder} to "
            "go on from an older checkpoint"
        ) from None
    weights = named_weights(model)
    learning = _learning(model, optimizer)
    if is_sharded(folder):
        states = load_shards(runtime, folder, weights, learning)
    else:
        _load_whole(runtime, folder, weights)
        states = _placed(runtime, folder, stored["optimizer"], learning)
    _set_states(optimizer, list(learning), states)
    if runtime.rank < len(stored["rng"]):
        runtime.set_rng_state(stored["rng"][runtime.rank])
    return stored["extra"]


def write_settings(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write the model's config and the tokenizer."""
    config: Any = getattr(model, "config", None)
    if config is not None:
        # FSDP2 gives a model a class of its own; its published base is what loads it again.
        kinds = [kind for kind in type(model).__mro__ if not kind.__name__.startswith("FSDP")]
        config.architectures = [kinds[0].__name__]
        config.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and saved buffers by name; of tied ones the first name by the alphabet."""
    found: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    for name, value in state.items():
        found[id(value)] = min(found.get(id(value), name), name)
    return {name: state[name] for name in sorted(found.values())}


def _learning(model: nn.Module, optimizer: Optimizer) -> dict[str, nn.Parameter]:
    """Return the optimizer's parameters by name."""
    names = {id(value): name for name, value in named_weights(model).items()}
    return {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}


def _set_states(optimizer: Optimizer, names: list[str], states: OptimizerState) -> None:
    """Give the optimizer states by name; it puts counters where its kind wants them.

    Args:
        names: of the optimizer's parameters, in its order.
    """
    whole = optimizer.state_dict()
    whole["state"] = {number: states[name] for number, name in enumerate(names) if name in states}
    optimizer.load_state_dict(whole)


def _optimizer_items(model: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, str, Tensor]]:
    """Yield parameter name, key and value of all that the optimizer keeps."""
    for name, parameter in _learning(model, optimizer).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            yield name, key, value


def _copy(value: Tensor) -> Tensor:
    """Return a copy on the CPU that later steps do not change."""
    on_cpu = value.detach().to("cpu", memory_format=torch.contiguous_format)
    return on_cpu.clone() if on_cpu.data_ptr() == value.data_ptr() else on_cpu


def _load_whole(runtime: Runtime, folder: Path, weights: dict[str, Tensor]) -> None:
    """Fill the weights, or this rank's parts of them, from the files of a whole model.

    Raises:
        UserError: a weight is missing or of another shape.
    """
    from cambrian_model.files.weights import find_weight_files, read_weights

    missing = set(weights)
    files = find_weight_files(folder)
    for published, value in (item for file in files for item in read_weights(file)):
        target = weights.get(own_name(published))
        if target is None or target.shape != value.shape:
            raise misfit(folder, own_name(published))
        runtime.fill(target, value)
        missing.remove(own_name(published))
    if missing:
        raise misfit(folder, min(missing))


def _placed(
    runtime: Runtime, folder: Path, states: OptimizerState, learning: dict[str, nn.Parameter]
) -> OptimizerState:
    """Return whole optimizer states laid out as their parameters are."""
    placed: OptimizerState = {}
    for name, values in states.items():
        if name not in learning:
            raise misfit(folder, name)
        parameter = learning[name]
        for key, value in values.items():
            if value.shape == parameter.shape:
                target = runtime.like(parameter, value.dtype)
                runtime.fill(target, value)
                value = target
            placed.setdefault(name, {})[key] = value
    return placed


def misfit(folder: Path, name: str) -> UserError:
    """Return the error of a checkpoint that does not fit."""
    return UserError(
        f"{folder}: the checkpoint does not fit the model at {name}; resume with the recipe that "
        "it was trained with"
    )
