"""LoRA and QLoRA: low-rank adapters on the language model's linear layers, and back to a plain one.

The adapters of `peft` are put into `model.decoder` in place: its class, its hooks and its path stay
what they were. What learns is then the adapters and the connector, and the tokens' embeddings and
the head where the recipe asks. `merge_adapters` gives a plain model under its plain names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.files.published import load_connector, save_connector
from cambrian_model.files.weights import StrictLoad, read_weights

if TYPE_CHECKING:
    from cambrian_model.model import CambrianModel
    from cambrian_model.recipe import AdapterRecipe

ADAPTER_FILE, CONNECTOR_FILE = "adapter_model.safetensors", "connector.safetensors"
_NAME = "default"
_PREFIX = "base_model.model."
"""Before names in a file, as peft itself writes them: it can load the folder too."""


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise UserError("adapters need the package peft; pip install peft") from None
    return peft


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise UserError(
            "adapters.quantize 4bit needs the package bitsandbytes; pip install bitsandbytes, or "
            "set quantize to none"
        ) from None
    return bitsandbytes


# ----------------------------------------------------------------------------------- adding


def add_adapters(model: CambrianModel, recipe: AdapterRecipe) -> CambrianModel:
    """Put adapters into the language model; it computes the same until they learn.

    With `quantize` its own weights are brought to 4 bits first, on the device where they are.

    Raises:
        UserError: peft or bitsandbytes is not installed, no layer has such a name, or the model
            has adapters already.
    """
    peft = _peft()
    if has_adapters(model):
        raise UserError("the language model has adapters already; merge them first")
    if recipe.quantize == "4bit":
        quantize_decoder(model)
    targets = recipe.target_modules
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):  # they are drawn on the CPU
        torch.default_generator.manual_seed(recipe.seed)
        _inject(model, config)
    train_adapters(model, embeddings=recipe.train_embeddings)
    return model


def _inject(model: CambrianModel, config: Any) -> None:
    try:
        _peft().inject_adapter_in_model(config, model.decoder, adapter_name=_NAME)
    except ValueError as error:  # no module has such a name
        names = sorted({name.rpartition(".")[2] for name, _ in _linear_layers(model.decoder)})
        raise UserError(
            f"adapters.target_modules {config.target_modules}: {str(error).splitlines()[0]}; the "
            f"linear layers are {', '.join(names)}"
        ) from None
    for _, parameter in _own_parameters(model):
        parameter.data = parameter.data.float()


def train_adapters(model: CambrianModel, *, embeddings: bool = False) -> None:
    """Let the adapters learn and the connector, and nothing else of the language model.

    Args:
        embeddings: whether the tokens' embeddings and the head learn too.
    """
    model.decoder.requires_grad_(False)
    model.connector.requires_grad_(True)
    for _, parameter in _own_parameters(model):
        parameter.requires_grad_(True)
    for module in (model.decoder.get_input_embeddings(), model.decoder.get_output_embeddings()):
        if embeddings and module is not None:
            module.requires_grad_(True)


def has_adapters(model: CambrianModel) -> bool:
    """Return whether the language model has adapters."""
    return any(True for _ in _own_parameters(model))


def _own_parameters(model: CambrianModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the adapters' parameters by their names in the language model."""
    for name, parameter in model.decoder.named_parameters():
        if ".lora_" in name:
            yield name, parameter


def _linear_layers(decoder: Any) -> list[tuple[str, nn.Linear]]:
    """Return the linear layers of a language model but its head, by name."""
    head = decoder.get_output_embeddings()
    return [
        (name, module)
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]


# ---------------------------------------------------------------------------------- 4 bits


def quantize_decoder(model: CambrianModel, *, compute_dtype: torch.dtype | None = None) -> None:
    """Bring the language model's linear layers to 4 bits (nf4), but not the head.

    Do it when the model is on its device: a GPU is far faster at it.

    Args:
        compute_dtype: what they compute in; bfloat16, on the CPU float32, if not given.
    Raises:
        UserError: bitsandbytes is not installed, or too old for this device.
    """
    library = _bitsandbytes()
    device = model.device
    if compute_dtype is None:
        compute_dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    for name, linear in _linear_layers(model.decoder):
        if type(linear) is not nn.Linear:
            continue  # it is quantised already
        small = library.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=compute_dtype,
            quant_type="nf4",
            device="meta",
        )
        small.weight = library.nn.Params4bit(
            linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
        )
        small.bias = linear.bias
        # On some CPUs it would reorder the weights when it is evaluated, and could then neither
        # learn nor be made plain again.
        small.support_avx512bf16_for_cpu = False
        small.train(linear.training)
        try:
            model.decoder.set_submodule(name, small.to(device))
        except (RuntimeError, NotImplementedError) as error:
            raise UserError(
                f"bitsandbytes {library.__version__} cannot bring weights to 4 bits on "
                f"{device.type}: {error}; use a newer one or a GPU"
            ) from None
    model.decoder.is_loaded_in_4bit = True  # what peft looks at


def _dequantized(layer: Any, dtype: torch.dtype) -> nn.Linear:
    """Return a plain linear layer with the values of one in 4 bits."""
    functional = _bitsandbytes().functional
    weight = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    plain = nn.Linear(
        layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta"
    )
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        plain.bias = layer.bias
    return plain


# ---------------------------------------------------------------------------------- merging


def merge_adapters(model: CambrianModel) -> CambrianModel:
    """Add the adapters to the weights and take them out; 4 bits become plain weights again.

    Returns:
        The model, changed in place: it computes the same as with its adapters.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    decoder, dtype = model.decoder, model.connector.image_newline.dtype
    wrapped: list[tuple[str, Any]] = [
        (n, m) for n, m in decoder.named_modules() if isinstance(m, BaseTunerLayer)
    ]
    for name, layer in wrapped:
        base = layer.get_base_layer()
        plain = base if type(base) is nn.Linear else _dequantized(base, dtype)
        with torch.no_grad():
            delta: Tensor = layer.get_delta_weight(_NAME)
            plain.weight.copy_(plain.weight.float() + delta.float())
        decoder.set_submodule(name, plain)
    for name, linear in _linear_layers(decoder):
        if hasattr(linear.weight, "quant_state"):
            decoder.set_submodule(name, _dequantized(linear, dtype))
    decoder.is_loaded_in_4bit = False
    if hasattr(decoder, "peft_config"):
        del decoder.peft_config
    return model


# ------------------------------------------------------------------------------------ files


def save_adapters(
    model: CambrianModel, folder: str | Path, *, base: str | Path | None = None
) -> None:
    """Write what was trained: adapters, embeddings if they learn, and the connector.

    Args:
        base: folder of the model that they were trained on, to be written beside them.
    Raises:
        UserError: the model has no adapters.
    """
    from safetensors.torch import save_file

    if not has_adapters(model):
        raise UserError("the model has no adapters to save; use save_pretrained")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = model.decoder.peft_config[_NAME]
    if base is not None:
        config.base_model_name_or_path = str(base)
    config.save_pretrained(folder)
    weights = {
        _PREFIX + name.replace(f".{_NAME}.", "."): parameter.detach().cpu().contiguous()
        for name, parameter in model.decoder.named_parameters()
        if parameter.requires_grad or ".lora_" in name
    }
    save_file(weights, folder / ADAPTER_FILE, {"format": "pt"})
    (folder / ADAPTER_FILE).chmod(0o644)
    save_connector(model, folder / CONNECTOR_FILE)


def load_adapters(model: CambrianModel, folder: str | Path) -> CambrianModel:
    """Put saved adapters and their connector into the model that they were trained on.

    Raises:
        UserError: the folder holds none, or they do not fit the model.
    """
    folder = Path(folder)
    if has_adapters(model):
        raise UserError("the language model has adapters already; merge them first")
    try:
        config = _peft().LoraConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder} holds no adapters: {error}") from None
    _inject(model, config)
    load = StrictLoad(model.decoder)
    for name, value in read_weights(folder / ADAPTER_FILE):
        own = name.removeprefix(_PREFIX)
        for part in (".lora_A.", ".lora_B."):
            own = own.replace(part, f"{part}{_NAME}.")
        load.put(own, value, name)
    missing = [name for name, _ in _own_parameters(model) if name not in load.loaded]
    load.finish(folder / ADAPTER_FILE, missing)
    load_connector(model, folder / CONNECTOR_FILE)
    embeddings = any(".lora_" not in name for name in load.loaded)
    train_adapters(model, embeddings=embeddings)
    return model
