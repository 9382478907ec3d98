"""The model that a stage starts with: a recipe's fresh one, or that of a folder, on every rank.

Rank 0 alone loads weights; the others get them when the model is placed on the devices.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cambrian_model.config import CambrianConfig, decoder_config
from cambrian_model.files.pretrained import build_model
from cambrian_model.loading.shard_index import shard_texts
from cambrian_model.model import CambrianModel
from cambrian_model.recipe import ConnectorRecipe, Stage, TrainRecipe
from cambrian_model.runtime import Runtime
from cambrian_model.training.run_folder import TrainError
from cambrian_model.vision import tower_spec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)


def shared_model(
    recipe: TrainRecipe, stage: Stage, shards: Path | str, start: Path | None, runtime: Runtime
) -> tuple[CambrianModel, PreTrainedTokenizerBase]:
    """Return model and tokenizer; on other ranks than 0 the model has no weights yet."""
    settings: dict[str, Any] | None = None
    tokenizer: Any = None
    if runtime.is_main:
        model, tokenizer = model_and_tokenizer(recipe, shards, start)
        settings = model.config.to_dict()
    settings, tokenizer = runtime.gather((settings, tokenizer))[0]
    if not runtime.is_main:
        with torch.device("meta"):
            model = CambrianModel(CambrianConfig.from_dict(settings))
    if stage == "finetune" and recipe.adapters is not None:
        from cambrian_model.adapters import add_adapters

        if recipe.adapters.quantize != "none":
            nn.Module.to(model, runtime.device)  # there it is done in seconds
        add_adapters(model, recipe.adapters)
    return model, tokenizer


def model_and_tokenizer(
    recipe: TrainRecipe, shards: Path | str, start: Path | None
) -> tuple[CambrianModel, PreTrainedTokenizerBase]:
    """Return those of a folder, or a recipe's fresh ones.

    Raises:
        TrainError: the folder holds another model than the recipe names.
    """
    if start is None:
        return build_model(recipe, lambda: shard_texts(shards))
    from cambrian_model.files.published import load_tokenizer
    from cambrian_model.files.sharded import consolidate, is_sharded

    folder = consolidate(start) if is_sharded(start) else start
    model = _load(recipe, folder)
    assert isinstance(model.config, CambrianConfig)
    check_fits(recipe, model.config, start.name)
    model.config.max_tokens = recipe.max_tokens
    if recipe.model.connector_weights is not None:
        _LOG.warning(
            "model.connector_weights %s is not used: training goes on from %s",
            recipe.model.connector_weights,
            start.name,
        )
    return model, load_tokenizer(folder)


def _load(recipe: TrainRecipe, folder: Path) -> CambrianModel:
    """Return the model of a folder; of a published one the recipe says what its files do not."""
    from cambrian_model.files.published import is_published, load_published

    try:
        content = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        content = {}  # told by what loads it
    if is_published(content):
        weights = recipe.model.tower_weights
        return load_published(folder, tower_weights=weights, template=recipe.template)
    return CambrianModel.from_pretrained(folder)


def check_fits(recipe: TrainRecipe, have: CambrianConfig, name: str) -> None:
    """Compare a recipe's model with the one that is to be trained.

    Raises:
        TrainError: they differ; the message names the part and both values.
    """
    wanted: dict[str, Any] = {
        "towers": [tower_spec(name).name for name in recipe.model.towers],
        "connector": _told(recipe.model.connector),
        "template": recipe.template,
        "system": recipe.system,
    }
    found = {
        "towers": [tower_spec(name).name for name in have.towers],
        "connector": _told(ConnectorRecipe.model_validate(have.connector)),
        "template": have.template,
        "system": have.system,
    }
    if recipe.model.decoder:
        # The vocabulary and its special ids come from the tokenizer.
        named = [
            key for key in recipe.model.decoder if not key.endswith(("token_id", "vocab_size"))
        ]
        for key, settings in (("wanted", recipe.model.decoder), ("found", {})):
            full = decoder_config({**have.decoder, **settings}).to_dict()
            (wanted if key == "wanted" else found)["decoder"] = {n: full.get(n) for n in named}
    for part, value in wanted.items():
        if found[part] != value:
            raise TrainError(
                f"the recipe's {part} differs from that of the checkpoint {name}: "
                f"{value!r} and {found[part]!r}; pretrain with this recipe first, or name another "
                "checkpoint with --from"
            )


def _told(connector: ConnectorRecipe) -> dict[str, Any]:
    return connector.model_dump(mode="json") | {"grid": connector.side}
