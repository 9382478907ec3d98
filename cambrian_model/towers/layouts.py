"""How towers' weights are named elsewhere: transformers, OpenCLIP, timm, segment_anything.

A layout is told by one name that it always has. Its rules turn names into those of the modules in
`models`; what is dropped is listed, and everything else is an error: nothing is left out in
silence. Source of the tables: the definitions of these libraries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Rule = tuple[str, tuple[str, ...]]
"""Pattern of a name -> the names of what it is: one, or equal parts along the first dimension."""

_WB = r"(weight|bias)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to name a tower's weights."""

    title: str
    probe: str
    """A name that tells the layout, after one of the prefixes."""
    prefixes: tuple[str, ...]
    """What may stand before every name of the tower, the longest first."""
    rules: tuple[Rule, ...] = ()
    """Tried in order; a name that none fits keeps itself where `keeps_names`."""
    keeps_names: bool = False
    target: str = ""
    """Put before the new names."""
    drops: tuple[str, ...] = ()
    """Patterns of names in the tower that no feature depends on."""
    beside: tuple[str, ...] = ()
    """Patterns of names beside the tower: the text tower and other parts of the whole model."""

    def find_prefix(self, names: Iterable[str]) -> str | None:
        """Return the prefix under which names are of this layout, or None."""
        known = set(names)
        return next((p for p in self.prefixes if p + self.probe in known), None)

    def translate(self, name: str, prefix: str) -> tuple[str, ...] | None:
        """Return the new names of one: none where it is dropped, None where it is unknown."""
        if not name.startswith(prefix):
            return () if _fits(name, self.beside) else None
        inner = name.removeprefix(prefix)
        if _fits(inner, self.drops):
            return ()
        for pattern, templates in self.rules:
            match = re.fullmatch(pattern, inner)
            if match:
                return tuple(self.target + match.expand(template) for template in templates)
        if _fits(name, self.beside):
            return ()
        return (self.target + inner,) if self.keeps_names else None


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


# --------------------------------------------------------------------------------- what is beside

_CLIP_TEXT = (r"text_model\..*", r"(text|visual)_projection\.weight", r"logit_(scale|bias)")
_OPEN_CLIP_TEXT = (
    r"text\..*",
    r"transformer\..*",
    r"token_embedding\.weight",
    r"positional_embedding",
    r"ln_final\..*",
    r"text_projection(\.weight)?",
    r"attn_mask",
    r"logit_(scale|bias)",
)
_SAM_REST = (r"prompt_encoder\..*", r"mask_decoder\..*", r"shared_image_embedding\..*")
_CLASSIFIER = (r"classifier\..*",)


def _layer(name: str, *new: str) -> Rule:
    """Return the rule of a linear layer or a norm."""
    return rf"{name}\.{_WB}", tuple(f"{text}.\\{re.compile(name).groups + 1}" for text in new)


def _qkv(old: str, new: str, separator: str = r"\.") -> Rule:
    groups = re.compile(old).groups
    parts = tuple(f"{new}.{part}_proj.\\{groups + 1}" for part in "qkv")
    return rf"{old}{separator}{_WB}", parts


_TO = r"encoder.layers.\1"

_SIGLIP_TIMM = Layout(
    title="timm (OpenCLIP)",
    probe="patch_embed.proj.weight",
    prefixes=("visual.trunk.", "trunk.", ""),
    rules=(
        _layer(r"patch_embed\.proj", "embeddings.patch_embedding"),
        (r"pos_embed", ("embeddings.position_embedding.weight",)),
        _layer(r"blocks\.(\d+)\.norm([12])", rf"{_TO}.layer_norm\2"),
        _qkv(r"blocks\.(\d+)\.attn\.qkv", f"{_TO}.self_attn"),
        _layer(r"blocks\.(\d+)\.attn\.proj", f"{_TO}.self_attn.out_proj"),
        _layer(r"blocks\.(\d+)\.mlp\.fc([12])", rf"{_TO}.mlp.fc\2"),
        _layer("norm", "post_layernorm"),
    ),
    drops=(r"attn_pool\..*",),
    beside=_OPEN_CLIP_TEXT,
)
_VIT_OPEN_CLIP = Layout(
    title="OpenCLIP",
    probe="conv1.weight",
    prefixes=("visual.", ""),
    rules=(
        (r"class_embedding", ("embeddings.class_embedding",)),
        (r"positional_embedding", ("embeddings.position_embedding.weight",)),
        (r"conv1\.weight", ("embeddings.patch_embedding.weight",)),
        _layer("ln_pre", "pre_layrnorm"),  # so it is spelled there
        _layer("ln_post", "post_layernorm"),
        _layer(r"transformer\.resblocks\.(\d+)\.ln_([12])", rf"{_TO}.layer_norm\2"),
        _qkv(r"transformer\.resblocks\.(\d+)\.attn\.in_proj", f"{_TO}.self_attn", "_"),
        _layer(r"transformer\.resblocks\.(\d+)\.attn\.out_proj", f"{_TO}.self_attn.out_proj"),
        _layer(r"transformer\.resblocks\.(\d+)\.mlp\.c_fc", f"{_TO}.mlp.fc1"),
        _layer(r"transformer\.resblocks\.(\d+)\.mlp\.c_proj", f"{_TO}.mlp.fc2"),
    ),
    drops=(r"proj",),
    beside=_OPEN_CLIP_TEXT,
)
_STAGE = r"encoder.stages.\1"
_CONVNEXT_TIMM = Layout(
    title="timm (OpenCLIP)",
    probe="stem.0.weight",
    prefixes=("visual.trunk.", "trunk.", ""),
    rules=(
        _layer(r"stem\.0", "embeddings.patch_embeddings"),
        _layer(r"stem\.1", "embeddings.layernorm"),
        _layer(r"stages\.(\d+)\.downsample\.([01])", rf"{_STAGE}.downsampling_layer.\2"),
        _layer(r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw", rf"{_STAGE}.layers.\2.dwconv"),
        _layer(r"stages\.(\d+)\.blocks\.(\d+)\.norm", rf"{_STAGE}.layers.\2.layernorm"),
        _layer(r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc([12])", rf"{_STAGE}.layers.\2.pwconv\3"),
        (r"stages\.(\d+)\.blocks\.(\d+)\.gamma", (rf"{_STAGE}.layers.\2.layer_scale_parameter",)),
    ),
    drops=(r"head\..*",),
    beside=(r"visual\.head\..*", *_OPEN_CLIP_TEXT),
)
_DINOV2_LAYER = r"(encoder\.layer\.\d+)"
_DINOV2 = Layout(
    title="transformers",
    probe="embeddings.cls_token",
    prefixes=("dinov2.", ""),
    rules=(
        # Files on the hub have the names of transformers before 5.
        *(
            _layer(rf"{_DINOV2_LAYER}\.attention\.attention\.{old}", rf"\1.attention.{new}_proj")
            for old, new in (("query", "q"), ("key", "k"), ("value", "v"))
        ),
        _layer(rf"{_DINOV2_LAYER}\.attention\.output\.dense", r"\1.attention.o_proj"),
        _layer(rf"{_DINOV2_LAYER}\.mlp\.weights_in", r"\1.mlp.gate_proj", r"\1.mlp.up_proj"),
        _layer(rf"{_DINOV2_LAYER}\.mlp\.weights_out", r"\1.mlp.down_proj"),
    ),
    keeps_names=True,
    beside=_CLASSIFIER,
)
_SAM_LAYER = r"layers.\1"
_SAM_ORIGINAL = Layout(
    title="segment_anything",
    probe="patch_embed.proj.weight",
    prefixes=("image_encoder.", ""),
    rules=(
        (r"pos_embed", ("pos_embed",)),
        _layer(r"patch_embed\.proj", "patch_embed.projection"),
        _layer(r"blocks\.(\d+)\.norm([12])", rf"{_SAM_LAYER}.layer_norm\2"),
        _layer(r"blocks\.(\d+)\.(attn\.qkv|attn\.proj|mlp\.lin[12])", rf"{_SAM_LAYER}.\2"),
        (r"blocks\.(\d+)\.attn\.(rel_pos_[hw])", (rf"{_SAM_LAYER}.attn.\2",)),
    ),
    target="vision_encoder.",
    drops=(r"neck\..*",),
    beside=_SAM_REST,
)


LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "siglip": (
        Layout(
            title="transformers",
            probe="embeddings.patch_embedding.weight",
            prefixes=("vision_model.", ""),
            keeps_names=True,
            drops=(r"head\..*", r"embeddings\.position_ids"),
            beside=_CLIP_TEXT,
        ),
        _SIGLIP_TIMM,
    ),
    "clip": (
        Layout(
            title="transformers",
            probe="embeddings.class_embedding",
            prefixes=("vision_model.", ""),
            keeps_names=True,
            drops=(r"embeddings\.position_ids",),
            beside=_CLIP_TEXT,
        ),
        _VIT_OPEN_CLIP,
    ),
    "dinov2": (_DINOV2,),
    "convnext": (
        Layout(
            title="transformers",
            probe="embeddings.patch_embeddings.weight",
            prefixes=("convnext.", ""),
            keeps_names=True,
            drops=(r"layernorm\..*",),
            beside=_CLASSIFIER,
        ),
        _CONVNEXT_TIMM,
    ),
    "sam": (
        Layout(
            title="transformers",
            probe="patch_embed.projection.weight",
            prefixes=("vision_encoder.", ""),
            keeps_names=True,
            target="vision_encoder.",
            drops=(r"neck\..*",),
            beside=_SAM_REST,
        ),
        _SAM_ORIGINAL,
    ),
}
"""Layouts of each kind of tower (`TowerBody.kind`)."""
