"""The config.json of published models: the language model's config with more keys beside it.

Reads it into a `CambrianConfig` and writes it back. What their form cannot say (the template, other
numbers of heads) is written under one key of our own, `cambrian`, which their code passes over.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cambrian_data.records import UserError

if TYPE_CHECKING:
    from cambrian_model.config import CambrianConfig

_KIND = "cambrian_"
_OWN = "cambrian"
_ALIASES = {"qwen": "qwen2"}
"""Language models whose published name is not that of transformers."""
_HEADS = 16
"""Attention heads of every published sampler."""
_LAYER = -2
"""Layer of CLIP towers whose features are taken, where a config does not say."""

RELEASED_TEMPLATES: tuple[tuple[str, int, range, str], ...] = (
    ("llama", 4096, range(128_000, 129_000), "llama_3"),  # cambrian-8b: Llama-3-8B-Instruct
    ("llama", 4096, range(32_000, 33_000), "vicuna_v1"),  # Vicuna 7B
    ("llama", 5120, range(32_000, 33_000), "vicuna_v1"),  # cambrian-13b: Vicuna 13B
    ("llama", 7168, range(64_000, 65_000), "chatml_direct"),  # cambrian-34b: Nous-Hermes-2-Yi
    ("phi3", 3072, range(32_000, 33_000), "phi3"),  # cambrian-phi3-3b: Phi-3-mini
)
"""Kind, width and vocabulary of a released language model -> its template."""

_CONNECTOR_KEYS = frozenset(
    {
        "connector_depth",
        "connector_only",
        "freeze_mm_mlp_adapter",
        "image_aspect_ratio",
        "image_grid_pinpoints",
        "image_position",
        "image_token_len",
        "num_of_vision_sampler_layers",
        "num_query_group",
        "query_num_list",
        "start_of_vision_sampler_layers",
        "stride_of_vision_sampler_layers",
        "tokenizer_model_max_length",
        "tokenizer_padding_side",
        "tower_hidden_sizes",
        "tune_mm_mlp_adapter",
        "unfreeze_mm_vision_tower",
        "use_mm_proj",
        "vision_hidden_size",
    }
)
_KEPT_OUT = frozenset(
    {"_name_or_path", "architectures", "auto_map", "dtype", "model_type", "torch_dtype"}
    | {"transformers_version", "use_cache", _OWN}
)
_FIXED: dict[str, Any] = {
    "image_aspect_ratio": "pad",
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
}
"""Settings that mean something else than what our model does where they have another value."""
_LOG = logging.getLogger(__name__)


def is_published(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json is one of the published form."""
    kind = config.get("model_type")
    return kind != _OWN and "mm_vision_tower_aux_list" in config


def read_published_config(
    config: Mapping[str, Any], *, template: str | None = None
) -> CambrianConfig:
    """Return our config of a published one.

    Args:
        template: how conversations are written; found from the language model if not given.
    Raises:
        UserError: a setting is missing, or asks for what is not supported.
    """
    from cambrian_model.config import CambrianConfig

    if not is_published(config):
        raise UserError(
            "this is no config of a published model: it has no mm_vision_tower_aux_list"
        )
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise UserError(f"{key} is {config[key]!r}; only {value!r} is supported")
    own = config.get(_OWN, {})
    decoder = _read_decoder(config)
    return CambrianConfig(
        **_read_towers(config, own),
        connector=_read_connector(config, own),
        decoder=decoder,
        template=template or own.get("template") or _released_template(decoder),
        system=own.get("system"),
        max_tokens=config.get("tokenizer_model_max_length", 2048),
    )


def _need(config: Mapping[str, Any], key: str) -> Any:
    if key not in config:
        raise UserError(f"the config of a published model has no {key}")
    return config[key]


def _side(num_tokens: int, key: str) -> int:
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise UserError(f"{key} is {num_tokens}, which is no square of a whole number")
    return side


def _read_decoder(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the language model's own settings."""
    settings = {
        key: value
        for key, value in config.items()
        if key not in _CONNECTOR_KEYS | _KEPT_OUT and not key.startswith("mm_")
    }
    return {"model_type": _decoder_kind(config), **settings}


def _decoder_kind(config: Mapping[str, Any]) -> str:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = str(config.get("model_type", "")).removeprefix(_KIND)
    kind = _ALIASES.get(kind, kind)
    if kind in CONFIG_MAPPING:
        return kind
    for architecture in config.get("architectures") or ():
        for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
            own_class = name.lower() == f"{kind}forcausallm"  # some kinds share another's class
            if own_class and architecture == f"Cambrian{name}":
                return str(kind)
    raise UserError(
        f"the config names no language model that transformers knows: model_type "
        f"{config.get('model_type')!r}, architectures {config.get('architectures')!r}; "
        "cambrian_llama is one"
    )


def _released_template(decoder: Mapping[str, Any]) -> str:
    kind, width = decoder["model_type"], decoder.get("hidden_size")
    vocabulary = decoder.get("vocab_size")
    for known, known_width, known_vocabulary, template in RELEASED_TEMPLATES:
        if (kind, width) == (known, known_width) and vocabulary in known_vocabulary:
            return template
    raise UserError(
        f"no released model has a {kind} of width {width} and {vocabulary} tokens, so that its "
        "template is not known; give template="
    )


def _read_towers(config: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `towers`, or `tower_shapes` where features come from elsewhere."""
    from cambrian_model.towers.names import from_published

    names = _need(config, "mm_vision_tower_aux_list")
    lengths = _need(config, "mm_vision_tower_aux_token_len_list")
    if len(names) != len(lengths):
        raise UserError(
            f"mm_vision_tower_aux_list names {len(names)} towers and "
            f"mm_vision_tower_aux_token_len_list {len(lengths)}"
        )
    if "towers" in own:
        return {"towers": list(own["towers"])}
    if "tower_hidden_sizes" in config:
        sides = [_side(length, "mm_vision_tower_aux_token_len_list") for length in lengths]
        widths = config["tower_hidden_sizes"]
        return {"tower_shapes": [list(shape) for shape in zip(widths, sides, strict=True)]}
    layer = config.get("mm_vision_select_layer", _LAYER)
    return {
        "towers": [
            from_published(name, length, layer) for name, length in zip(names, lengths, strict=True)
        ]
    }


def _read_connector(config: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the connector as a `ConnectorRecipe` takes it."""
    kind = config.get("mm_projector_type", "linear")
    side = _side(_need(config, "image_token_len"), "image_token_len")
    if kind == "mlp2x_gelu":
        return {"kind": kind, "query_grids": [side]}
    if kind != "sva":
        raise UserError(f"mm_projector_type is {kind!r}; sva and mlp2x_gelu are supported")
    grids = [_side(number, "query_num_list") for number in _need(config, "query_num_list")]
    if max(grids) > side:
        raise UserError(
            f"image_token_len is {side * side}, which is coarser than {max(grids) ** 2} of "
            "query_num_list"
        )
    connector = {
        "kind": kind,
        "layer_type": own.get("layer_type", "joint"),
        "num_heads": own.get("num_heads", _HEADS),
        "hidden_size": _need(config, "vision_hidden_size"),
        "num_layers": _need(config, "connector_depth"),
        "query_grids": grids,
        "grid": side,
    }
    if not config.get("connector_only", True):
        connector["in_decoder"] = {
            "start": _need(config, "start_of_vision_sampler_layers"),
            "stride": _need(config, "stride_of_vision_sampler_layers"),
            "count": _need(config, "num_of_vision_sampler_layers"),
        }
    return connector


# ------------------------------------------------------------------------------------- writing


def published_config(config: CambrianConfig) -> dict[str, Any]:
    """Return the published form of our config, to be written as config.json."""
    from cambrian_model.recipe import ConnectorRecipe

    connector = ConnectorRecipe.model_validate(config.connector)
    towers = _write_towers(config)
    own: dict[str, Any] = {
        "layer_type": connector.layer_type,
        "num_heads": connector.num_heads,
        "system": config.system,
        "template": config.template,
    }
    if config.towers:
        own["towers"] = config.towers
    if connector.kind == "sva" and (connector.layer_type, connector.num_heads) != ("joint", _HEADS):
        _LOG.warning(
            "the published code reads no layer_type and no number of heads: it will take this "
            "model's samplers (%s, %d heads) for joint ones with %d heads",
            connector.layer_type,
            connector.num_heads,
            _HEADS,
        )
    return {
        **_write_decoder(config.decoder),
        **towers,
        **_write_connector(connector),
        **_FIXED,
        "mm_use_im_patch_token": False,
        "mm_projector_type": connector.kind,
        "tokenizer_model_max_length": config.max_tokens,
        "tokenizer_padding_side": "right",
        "use_cache": True,
        "use_mm_proj": True,
        _OWN: own,
    }


def _write_decoder(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the language model's settings, with positions as older transformers read them."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from cambrian_model.config import decoder_config

    kind = settings["model_type"]
    written = dict(decoder_config(dict(settings)).to_diff_dict())
    rope = written.pop("rope_parameters", None)
    if rope and "rope_theta" in rope:  # one for all layers
        rope = dict(rope)
        written["rope_theta"] = rope.pop("rope_theta")
        rope_type = rope.pop("rope_type", "default")
        rope.pop("type", None)
        if "partial_rotary_factor" in rope:
            written["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        scaled = rope_type != "default"
        written["rope_scaling"] = (
            {"type": rope_type, "rope_type": rope_type, **rope} if scaled else None
        )
    elif rope:
        written["rope_parameters"] = rope
    for key in _KEPT_OUT:
        written.pop(key, None)
    published = {ours: theirs for theirs, ours in _ALIASES.items()}.get(kind, kind)
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, "LlamaForCausalLM")
    return {
        **written,
        "architectures": [f"Cambrian{name}"],
        "model_type": f"{_KIND}{published}",
    }


def _write_towers(config: CambrianConfig) -> dict[str, Any]:
    from cambrian_model.towers.names import to_published
    from cambrian_model.vision import tower_spec

    if config.tower_shapes:
        return {
            "mm_vision_tower_aux_list": [f"tower_{n}" for n in range(len(config.tower_shapes))],
            "mm_vision_tower_aux_token_len_list": [side**2 for _, side in config.tower_shapes],
            "tower_hidden_sizes": [width for width, _ in config.tower_shapes],
            "mm_hidden_size": sum(width for width, _ in config.tower_shapes),
        }
    names, lengths = [], []
    specs = [tower_spec(key) for key in config.towers]
    for key in config.towers:
        try:
            name, length = to_published(key)
        except UserError:
            name, length = key, tower_spec(key).grid ** 2
            _LOG.warning("the published code knows no tower %s; only this project can load it", key)
        names.append(name)
        lengths.append(length)
    return {
        "mm_vision_tower_aux_list": names,
        "mm_vision_tower_aux_token_len_list": lengths,
        "mm_hidden_size": sum(spec.width for spec in specs),
        "mm_vision_select_layer": next((s.layer for s in specs if s.layer is not None), _LAYER),
    }


def _write_connector(connector: Any) -> dict[str, Any]:
    side = connector.side
    if connector.kind != "sva":
        return {"image_token_len": side * side}
    written = {
        "connector_depth": connector.num_layers,
        "connector_only": connector.in_decoder is None,
        "image_token_len": side * side,
        "num_query_group": len(connector.query_grids),
        "query_num_list": [grid * grid for grid in connector.query_grids],
        "vision_hidden_size": connector.hidden_size,
    }
    if connector.in_decoder is not None:
        written |= {
            "num_of_vision_sampler_layers": connector.in_decoder.count,
            "start_of_vision_sampler_layers": connector.in_decoder.start,
            "stride_of_vision_sampler_layers": connector.in_decoder.stride,
        }
    return written
