"""Models as the published code stores them: a folder of theirs -> a `CambrianModel`, and back.

Their config.json is that of the language model with settings of towers and connector beside it;
`published_config` reads and writes it. Weights are loaded strictly, one tensor at a time: what is
missing, unknown or of another shape is told by name. Towers that were trained lie inside, the
others bring weights of their own. `load_connector` reads a file of stage 1 (`mm_projector.bin`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cambrian_data.records import UserError
from cambrian_model.files.names import own_name, published_name
from cambrian_model.files.published_config import (
    is_published,
    published_config,
    read_published_config,
)
from cambrian_model.files.weights import StrictLoad, find_weight_files, read_json, read_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from cambrian_model.model import CambrianModel

__all__ = [
    "export_published",
    "is_published",
    "load_connector",
    "load_published",
    "load_tokenizer",
    "published_config",
    "read_published_config",
    "save_connector",
]

_DERIVED = "rotary_emb.inv_freq"
"""Ends the names of buffers that old files hold; they follow from the config."""
_CONNECTOR_PARTS = ("mm_projector", "vision_sampler_", "vision_query", "image_newline")
_TOWERS = "towers."
_LOG = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------ folders


def load_published(
    folder: str | Path,
    *,
    tower_weights: Mapping[str, str | Path] | None = None,
    template: str | None = None,
    dtype: torch.dtype | None = None,
) -> CambrianModel:
    """Build a published model and load all its weights.

    Args:
        folder: config.json and weights, as the published code saved them.
        tower_weights: our name of a tower -> where its weights are, for towers that do not lie in
            the folder; others take the registry's own.
        template: how conversations are written; found from the language model if not given.
        dtype: of the weights; float32 if not given.
    Raises:
        UserError: the folder lacks something, the weights do not fit, or a tower has none.
    """
    from cambrian_model.files.saved import empty_weights
    from cambrian_model.model import CambrianModel

    folder = Path(folder)
    content = read_json(folder / "config.json")
    config = read_published_config(content, template=template)
    strange = sorted(set(tower_weights or {}) - set(config.towers))
    if strange:
        raise UserError(
            f"tower_weights names {', '.join(strange)}, and the towers of {folder} are "
            f"{', '.join(config.towers)}"
        )
    with empty_weights(dtype):
        model = CambrianModel(config)
    model.decoder.tie_weights()
    inside = _load_all_but_towers(model, folder)
    _load_towers(model, inside, tower_weights or {}, folder)
    _compare_position(model, content, folder)
    return model.eval()


def _load_all_but_towers(model: CambrianModel, folder: Path) -> dict[int, dict[str, Tensor]]:
    """Load language model and connector; returns the towers' tensors by the tower's number."""
    from cambrian_model.files.saved import shared_names

    load = StrictLoad(model)
    inside: dict[int, dict[str, Tensor]] = {}
    for file in find_weight_files(folder):
        for name, value in read_weights(file):
            own = own_name(name)
            if own.startswith(_TOWERS):
                number, _, rest = own.removeprefix(_TOWERS).partition(".")
                inside.setdefault(int(number), {})[rest] = value
            elif not name.endswith(_DERIVED):
                load.put(own, value, name)
    missing = [
        published_name(name)
        for name, same in shared_names(model).items()
        if not (name.startswith(_TOWERS) or same & load.loaded)
    ]
    load.finish(folder, missing)
    return inside


def _load_towers(
    model: CambrianModel,
    inside: Mapping[int, dict[str, Tensor]],
    sources: Mapping[str, str | Path],
    folder: Path,
) -> None:
    """Load each tower from the folder's tensors, or else from its own weights."""
    from cambrian_model.towers.weights import load_tower_state, load_tower_weights

    strange = sorted(number for number in inside if number >= len(model.towers))
    if strange:
        raise UserError(
            f"{folder}: the weights hold a tower number {strange[0]}, and the config names "
            f"{len(model.towers)} towers"
        )
    for number, (name, tower) in enumerate(zip(model.config.towers, model.towers, strict=True)):
        state = inside.get(number)
        if state is not None and state.keys() == tower.state_dict().keys():
            tower.load_state_dict(state)
        elif state is not None:
            state = {key.removeprefix("vision_tower."): value for key, value in state.items()}
            load_tower_state(tower, state, f"{folder}, tower {name}")
        elif name in sources or tower.spec.weights is not None:
            load_tower_weights(tower, sources.get(name))
        else:
            raise UserError(
                f"{folder} holds no weights of the tower {name}, and there are none to download; "
                "export the model with its towers"
            )


def _compare_position(model: CambrianModel, content: Mapping[str, Any], folder: Path) -> None:
    """Warn where the place of a picture in the prompt is not what the config says it was."""
    from cambrian_model.conversation import image_position, template_of

    told = content.get("image_position")
    if told is None or not _has_tokenizer(folder):
        return
    template, system = template_of(model.config.template), model.config.system
    found = image_position(template, load_tokenizer(folder), system)
    if found != told:
        _LOG.warning(
            "%s: image_position is %s and the template %s puts a picture at %d; positions are "
            "counted from the ids here, but the model may have learnt with another prompt",
            folder,
            told,
            model.config.template,
            found,
        )


def _has_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
    return any((folder / name).is_file() for name in names)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder; nothing is downloaded.

    Raises:
        UserError: there is none, or it is damaged.
    """
    from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

    if not _has_tokenizer(Path(folder)):
        raise UserError(f"{folder} holds no tokenizer; copy that of its language model into it")
    try:
        if (Path(folder) / "tokenizer.json").is_file():
            # As it is: a class of its own would build parts of it anew.
            return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        # Any known config: that of the folder has a model_type that transformers does not know.
        return AutoTokenizer.from_pretrained(folder, config=LlamaConfig(), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the tokenizer of {folder} cannot be read: {error}") from None


def export_published(
    model: CambrianModel,
    tokenizer: PreTrainedTokenizerBase | None,
    folder: str | Path,
    *,
    with_towers: bool | None = None,
    max_shard_size: str = "5GB",
) -> None:
    """Write a model as the published code stores it.

    Args:
        with_towers: whether the towers' weights are written too; if not given, those that learnt
            or that cannot be had elsewhere.
    Raises:
        UserError: the language model has adapters.
    """
    from cambrian_model.files.saved import shared_names, write_weights

    if hasattr(model.decoder, "peft_config"):
        raise UserError("the published form has no adapters; merge them first")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = published_config(model.config)
    if tokenizer is not None:
        from cambrian_model.conversation import image_position, template_of

        template = template_of(model.config.template)
        content["image_position"] = image_position(template, tokenizer, model.config.system)
        tokenizer.save_pretrained(folder)
    content["dtype"] = content["torch_dtype"] = str(model.dtype).removeprefix("torch.")
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    left_out = tuple(
        f"{_TOWERS}{number}."
        for number, tower in enumerate(model.towers)
        if not (_must_be_inside(tower) if with_towers is None else with_towers)
    )
    shared = shared_names(model)
    weights = {
        published_name(name): value.detach().contiguous()
        for name, value in model.state_dict().items()
        if name == min(shared[name], key=_head_last) and not name.startswith(left_out)
    }
    write_weights(weights, folder, max_shard_size=max_shard_size)


def _head_last(name: str) -> tuple[bool, str]:
    """Order tied names: published files hold the embeddings, not the head that shares them."""
    return "lm_head" in name, name


def _must_be_inside(tower: Any) -> bool:
    return tower.spec.weights is None or not tower.frozen


# -------------------------------------------------------------------------- the connector alone


def load_connector(model: CambrianModel, path: str | Path) -> None:
    """Load the connector of a stage-1 file: the published `mm_projector.bin`, or safetensors.

    Whatever stands before the connector's names, such as `base_model.model.model.`, is cut off.

    Raises:
        UserError: the file is no such file, or does not fit the model's connector.
    """
    path = Path(path)
    load = StrictLoad(model.connector)
    for name, value in read_weights(path):
        load.put(_connector_name(name), value, name)
    missing = sorted(set(load.targets) - load.loaded)
    load.finish(path, [published_name(f"connector.{name}") for name in missing])


def _connector_name(name: str) -> str:
    parts = name.split(".")
    for number, part in enumerate(parts):
        if part.startswith(_CONNECTOR_PARTS):
            return ".".join(parts[number:])
    return name


def save_connector(model: CambrianModel, path: str | Path) -> None:
    """Write the connector alone, under the names of the published stage-1 file.

    Args:
        path: ends in .safetensors, or is written as the published file is (`torch.save`).
    """
    weights = {
        published_name(f"connector.{name}"): value.detach().cpu().contiguous()
        for name, value in model.connector.state_dict().items()
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(weights, path, {"format": "pt"})
        path.chmod(0o644)
    else:
        import torch

        torch.save(weights, path)
