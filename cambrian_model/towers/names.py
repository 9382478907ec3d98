"""Published names of vision towers (`mm_vision_tower_aux_list`) -> names of the registry, and back.

A published name is a base with `-resN` (side of the input in px) and `-interpN` (number of tokens)
behind it. Only names whose towers could be used in a published model are read; of the others it is
said what stands in their way.
"""

from __future__ import annotations

import difflib
import math
import re

from cambrian_data.records import UserError
from cambrian_model.towers.registry import FAMILIES, tower_spec

PUBLISHED_TOWERS: dict[str, str] = {
    "siglip/CLIP-ViT-SO400M-14-384": "siglip-so400m@384",
    "siglip/CLIP-ViT-SO400M-14": "siglip-so400m@224",
    "openai/clip-vit-large-patch14-336": "clip-l@336",
    "openai/clip-vit-large-patch14": "clip-l@224",
    "openai/clip-vit-base-patch16": "clip-b16",
    "openai/clip-vit-base-patch32": "clip-b32",
    "facebook/dinov2-small": "dinov2-small@518",
    "facebook/dinov2-base": "dinov2-base@518",
    "facebook/dinov2-large": "dinov2-large@518",
    "facebook/dinov2-giant": "dinov2-giant@518",
    "facebook/dinov2-giant-res378": "dinov2-giant@378",
    "facebook/dinov2-giant-imagenet1k-1-layer": "dinov2-giant-imagenet1k@518",
    "clip-convnext-XXL-multi-stage": "convnext-xxl@1024",
    "clip-convnext-XXL": "convnext-xxl@1024:stages=last",
    "clip-convnext-L-multi-stage": "convnext-l@1024",
    "clip-convnext-L": "convnext-l@1024:stages=last",
    "sam_vit_b": "sam-b",
    "sam_vit_l": "sam-l",
    "sam_vit_h": "sam-h",
    "apple/DFN5B-CLIP-ViT-H-14-378": "dfn-h",
    "apple/DFN2B-CLIP-ViT-L-14": "dfn-l",
}
"""Published name -> ours; `from_published` reads other sizes and numbers of tokens too."""

_OTHER_SPELLINGS = {
    "timm/ViT-SO400M-14-SigLIP-384": "siglip/CLIP-ViT-SO400M-14-384",
    "timm/ViT-SO400M-14-SigLIP": "siglip/CLIP-ViT-SO400M-14",
}

_COMPARED = "the published code compares its whole name, to which it has added -interpN"
_UNUSABLE = {
    "eva/": _COMPARED,
    "timm/eva": "the published code sends this name to no tower",
    "mae-vit-": _COMPARED,
    "maws/": _COMPARED,
    "moco-vit-": _COMPARED,
    "ijepa-vit-": _COMPARED,
    "supervised-vit-": _COMPARED,
    "hybrid-midas": _COMPARED,
    "large-midas": _COMPARED,
    "large-beit-midas": _COMPARED,
    "hybridmodel": "it is several towers in one; name them one by one",
    "diffusion": "its features come from random noise and are never interpolated",
    "sam_b_downsample": "its own layers are never run; sam_vit_b is the same tower without them",
}
"""Beginnings of names that the published code accepts and cannot use in a model."""


def from_published(name: str, token_len: int | None = None, select_layer: int = -2) -> str:
    """Return the registry's name of a published tower.

    Args:
        name: one of `mm_vision_tower_aux_list`.
        token_len: its entry in `mm_vision_tower_aux_token_len_list`, which outranks `-interpN`.
        select_layer: `mm_vision_select_layer`, which only CLIP towers heed.
    Raises:
        UserError: the name never worked or is none, or its size or number of tokens cannot be.
    """
    base, px, interp = _take_apart(name)
    base = _OTHER_SPELLINGS.get(base, base)
    if base not in PUBLISHED_TOWERS:
        raise UserError(f"published vision tower {name!r}: {_why_not(base)}")
    ours = PUBLISHED_TOWERS[base]
    head, *options = ours.split(":")
    family = head.split("@")[0]
    if px is not None and FAMILIES[family].px_step is not None:
        ours = ":".join([f"{family}@{px}", *options])
    elif px is not None and px != tower_spec(ours).px:
        raise UserError(f"published vision tower {name!r}: this one has {tower_spec(ours).px} px")
    tokens = token_len if token_len is not None else interp
    if tokens is not None:
        side = math.isqrt(max(tokens, 0))
        if side < 1 or side * side != tokens:
            raise UserError(f"published vision tower {name!r}: {tokens} tokens are no square")
        ours += f":grid={side}"
    if tower_spec(ours).layer is not None:
        ours += f":layer={select_layer}"
    return tower_spec(ours).name


def to_published(name: str) -> tuple[str, int]:
    """Return a tower's published name and its number of tokens; the inverse of `from_published`.

    Raises:
        UserError: it has none.
    """
    spec = tower_spec(name)
    wanted = _without_place(spec.name)
    by_ours = {_without_place(ours): published for published, ours in PUBLISHED_TOWERS.items()}
    if wanted in by_ours:
        return by_ours[wanted], spec.grid**2
    for ours, published in by_ours.items():
        if _without_px(ours) == _without_px(wanted) and "-res" not in published:
            return f"{published}-res{spec.px}", spec.grid**2
    raise UserError(
        f"the vision tower {name!r} has no published name; those that have one are "
        f"{', '.join(by_ours)}"
    )


def _without_place(name: str) -> str:
    """Return a canonical name without what a published config says elsewhere."""
    parts = name.split(":")
    return ":".join(part for part in parts if not part.startswith(("grid=", "layer=")))


def _without_px(name: str) -> str:
    return re.sub(r"@\d+", "", name)


def _take_apart(name: str) -> tuple[str, int | None, int | None]:
    """Return the base of a published name, its size in px and its number of tokens."""
    px, tokens = re.search(r"-res(\d+)", name), re.search(r"-interp(\d+)", name)
    base = re.sub(r"-(?:res|interp)\d+", "", name)
    return base, px and int(px[1]), tokens and int(tokens[1])


def _why_not(base: str) -> str:
    usable = f"those that work are {', '.join(PUBLISHED_TOWERS)}"
    for beginning, reason in _UNUSABLE.items():
        if base.startswith(beginning):
            return f"it never worked in a model: {reason}; {usable}"
    near = difflib.get_close_matches(base, PUBLISHED_TOWERS, n=2)
    asked = f"did you mean {' or '.join(near)}? " if near else ""
    return f"there is no such tower; {asked}{usable}"
