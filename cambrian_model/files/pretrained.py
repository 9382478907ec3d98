"""The fresh model of a recipe: what is pretrained is loaded, the rest has random weights.

The language model comes from its config, or from a folder or hub id with its own tokenizer
(`decoder_weights`); towers from the registry's or the recipe's places; the connector is drawn, or
read from a file of stage 1. `build_on_meta` builds the same without weights or memory, to count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from cambrian_data.records import UserError
from cambrian_model.conversation import Template, template_of
from cambrian_model.files.published import load_connector
from cambrian_model.files.weights import DAMAGES
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.recipe import TrainRecipe
from cambrian_model.tokenizer import train_tokenizer
from cambrian_model.towers.weights import load_tower_weights
from cambrian_model.vision import tower_spec

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_UNSAID = frozenset({"transformers_version", "architectures", "dtype", "_name_or_path"})
_LOG = logging.getLogger(__name__)


def build_model(
    recipe: TrainRecipe,
    texts: Callable[[], Iterable[str]],
    *,
    dtype: torch.dtype | None = None,
) -> tuple[CambrianModel, PreTrainedTokenizerBase]:
    """Build a recipe's model before its first step, and its tokenizer.

    Args:
        texts: returns the texts of the shards; asked only where a tokenizer is to be made.
        dtype: of all weights; float32 if not given.
    Raises:
        UserError: something pretrained is not there, or does not fit.
    """
    for name in recipe.model.towers:
        tower_spec(name)
    template = template_of(recipe.template)
    source = recipe.model.decoder_weights
    decoder: PreTrainedModel | None = None
    tokenizer: PreTrainedTokenizerBase
    if source is None:
        own_texts = chain(texts(), [recipe.system or template.system])
        tokenizer = train_tokenizer(own_texts, recipe.tokenizer.vocab_size, template)
        settings = recipe.model.decoder | _ids_of(tokenizer) | {"vocab_size": len(tokenizer)}
    else:
        tokenizer = _load_tokenizer(source)
        fit_tokenizer(tokenizer, template)
        decoder = load_decoder(source, recipe.model.decoder, dtype=dtype)
        _make_room(decoder, len(tokenizer))
        decoder.config.pad_token_id = tokenizer.pad_token_id
        settings = _settings_of(decoder.config)
    model = CambrianModel(model_config(recipe, settings), decoder=decoder)
    if dtype is not None:
        nn.Module.to(model, dtype)
    for name, tower in zip(recipe.model.towers, model.towers, strict=True):
        place = recipe.model.tower_weights.get(name)
        if place is not None or tower.spec.weights is not None:
            load_tower_weights(tower, place)
    if recipe.model.connector_weights is not None:
        load_connector(model, recipe.model.connector_weights)
    return model, tokenizer


def model_config(recipe: TrainRecipe, decoder: dict[str, Any]) -> CambrianConfig:
    """Return the config of a recipe's model.

    Args:
        decoder: settings of the language model, with its vocabulary.
    """
    return CambrianConfig(
        towers=list(recipe.model.towers),
        connector=recipe.model.connector.model_dump(mode="json"),
        decoder=decoder,
        template=recipe.template,
        system=recipe.system,
        max_tokens=recipe.max_tokens,
    )


def build_on_meta(recipe: TrainRecipe, *, vocab_size: int | None = None) -> CambrianModel:
    """Build a recipe's model without weights: for counting parameters.

    Args:
        vocab_size: that of the tokenizer, where it is made from the shards.
    Raises:
        UserError: the language model's config is neither in the recipe nor at hand.
    """
    settings = dict(recipe.model.decoder)
    if "model_type" not in settings:
        assert recipe.model.decoder_weights is not None
        settings = _settings_of(_load_config(recipe.model.decoder_weights, settings))
    if vocab_size is not None:
        settings["vocab_size"] = vocab_size
    settings.setdefault("vocab_size", recipe.tokenizer.vocab_size)
    with torch.device("meta"):
        return CambrianModel(model_config(recipe, settings))


# ---------------------------------------------------------------------------- language model


def load_decoder(
    source: str, changes: dict[str, Any], *, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """Load a pretrained language model, strictly.

    Args:
        source: a folder or a hub id.
        changes: settings that its config gets.
    Raises:
        UserError: it is not there, or its weights do not fit its config.
    """
    config = _load_config(source, changes)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=dtype or torch.float32, output_loading_info=True
        )
    except (*DAMAGES, SafetensorError) as error:
        raise UserError(_not_loaded(source, error)) from None
    decoder: PreTrainedModel = loaded[0]
    report: dict[str, Any] = loaded[1]
    faults = {
        kind: sorted(map(str, report[f"{kind}_keys"]))
        for kind in ("missing", "unexpected", "mismatched")
        if report[f"{kind}_keys"]
    }
    if faults:
        told = "; ".join(f"{len(keys)} {kind}: {keys[:5]}" for kind, keys in faults.items())
        raise UserError(
            f"model.decoder_weights {source}: the weights do not fit the config: {told}; take "
            "back what model.decoder changes of it"
        )
    return decoder


def _load_config(source: str, changes: dict[str, Any]) -> PreTrainedConfig:
    check_place(source)
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(_not_loaded(source, error)) from None
    kind = changes.get("model_type", config.model_type)
    if kind != config.model_type:
        raise UserError(
            f"model.decoder.model_type is {kind!r} and model.decoder_weights {source} is a "
            f"{config.model_type!r} model; leave model_type out or give other weights"
        )
    for key, value in changes.items():
        if key != "model_type":
            setattr(config, key, value)
    return config


def check_place(source: str) -> None:
    """Look whether a pretrained language model can be had, before hours are spent on the rest.

    Asks the hub once and briefly: transformers would try for a minute where there is no network.

    Raises:
        UserError: there is no such folder, or neither the cache nor the hub has it.
    """
    looks_local = source.startswith((".", "/", "~")) or source.count("/") != 1
    if looks_local and not Path(source).is_dir():
        raise UserError(
            f"model.decoder_weights {source}: there is no such folder; give a folder with "
            "config.json and weights, or a hub id such as org/name"
        )
    if looks_local:
        return
    import httpx2  # what huggingface_hub speaks with
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE or isinstance(try_to_load_from_cache(source, "config.json"), str):
        return  # transformers says at once what is missing
    try:
        HfApi().model_info(source, timeout=5)
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        raise UserError(_not_loaded(source, error)) from None


def _not_loaded(source: str, error: Exception) -> str:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return (
        f"model.decoder_weights {source} could not be loaded: {reason}. Download it where there is "
        "a network (`hf download`, after `hf auth login` for gated ones) and give its folder, or "
        "leave decoder_weights out to train the language model from random weights"
    )


def _settings_of(config: PreTrainedConfig) -> dict[str, Any]:
    """Return a language model's config as `CambrianConfig.decoder` holds it."""
    kept = {key: value for key, value in config.to_diff_dict().items() if key not in _UNSAID}
    return {"model_type": config.model_type, **kept}


def _make_room(decoder: PreTrainedModel, num_tokens: int) -> None:
    """Give the language model a row for every token; new rows are the mean of the old ones."""
    before = decoder.get_input_embeddings().weight.shape[0]  # type: ignore[index]
    if num_tokens <= before:  # rows beyond the tokenizer's are common
        return
    decoder.resize_token_embeddings(num_tokens, mean_resizing=False)
    for module in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
        if module is not None:
            assert isinstance(module.weight, Tensor)
            with torch.no_grad():
                module.weight[before:] = module.weight[:before].mean(dim=0)


# --------------------------------------------------------------------------------- tokenizer


def _load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer beside a language model: its tokenizer.json as it is, if it has one."""
    from transformers.utils import cached_file

    check_place(source)
    try:
        found = cached_file(source, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
        if found is not None:
            return PreTrainedTokenizerFast.from_pretrained(source)
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(_not_loaded(source, error)) from None


def _ids_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def fit_tokenizer(tokenizer: PreTrainedTokenizerBase, template: Template) -> list[str]:
    """Make a pretrained tokenizer know a template's special tokens, and give it a pad token.

    Padding takes the template's pad token where the tokenizer has it, else the tokenizer's own.

    Returns:
        The tokens that had to be added; they are logged, since they begin untrained.
    """
    from transformers import AddedToken

    vocabulary = tokenizer.get_vocab()
    written = "".join(
        (
            template.start,
            template.system_open,
            template.system_close,
            template.user_open,
            template.user_close,
            template.assistant_open,
            template.assistant_close,
        )
    )
    added = [t for t in template.special_tokens if t in written and t not in vocabulary]
    pad = template.pad_token if template.pad_token in vocabulary else tokenizer.pad_token
    if pad is None:
        pad = template.pad_token
        added.append(pad)
    new = [AddedToken(token, special=True, normalized=False) for token in added]
    tokenizer.add_tokens(new, special_tokens=True)
    tokenizer.pad_token = pad
    if added:
        _LOG.warning(
            "the tokenizer has no %s: added for the template; a language model that was trained "
            "with another template learns them from nothing",
            ", ".join(added),
        )
    return added
