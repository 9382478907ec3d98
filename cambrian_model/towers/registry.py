"""The registry of vision towers: `FAMILY[@PX][:option=value]...` -> what is built, and its facts.

A name is read strictly and has one canonical spelling (`TowerSpec.name`): what differs from the
defaults, in a fixed order. The defaults are those of the released models. Nothing is built here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from cambrian_data.records import UserError
from cambrian_model.towers.models import (
    ClipTower,
    ConvNextTower,
    Dinov2Tower,
    SamTower,
    SiglipTower,
    TowerBody,
)

Colour = tuple[float, float, float]

CLIP_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Colour = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
HALF: Colour = (0.5, 0.5, 0.5)
# White becomes 0, so that of a figure a tower without training sees the ink and not the paper.
PAPER_MEAN: Colour = (1.0, 1.0, 1.0)
PAPER_STD: Colour = (0.25, 0.25, 0.25)

MAX_GRID = 512
RELEASED_TOWERS = ("siglip-so400m@384", "clip-l@336", "dinov2-giant@378", "convnext-xxl@1024")
"""The towers of the released models, in their order; 24, 24, 24 and 96 tokens a side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerSpec:
    """What the rest needs to know of a tower, and how it is built."""

    name: str
    """Canonical name: equal towers have equal names."""
    family: str
    px: int
    """Side of its square input."""
    grid: int
    """Side of the map that it returns, to which its own is interpolated."""
    width: int
    """Width of its features."""
    mean: Colour
    """Subtracted from pixels in 0..1."""
    std: Colour
    pad_mean: Colour
    """Colour of the padding; the wrappers of the released models took CLIP's for several towers."""
    layer: int | None
    """Hidden state that is taken, where the family lets it be chosen."""
    weights: str | None
    """Hub id of its weights; None: random from the seed."""
    build: Callable[[], TowerBody]
    """Makes the module, freshly initialised: pixels -> features at its own grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """A name, read: what `_Family.make` is asked for."""

    px: int
    grid: int
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """Towers of one architecture that differ in input size and options."""

    px: tuple[int, ...]
    """Input sizes that exist, the default first."""
    px_step: int | None = None
    """Where given, any multiple of it will do as well."""
    grid: Callable[[Mapping[str, str]], int]
    width: Callable[[Mapping[str, str]], int]
    make: Callable[[_Request], Callable[[], TowerBody]]
    weights: Callable[[int], str | None]
    mean: Colour = CLIP_MEAN
    std: Colour = CLIP_STD
    pad_mean: Colour = CLIP_MEAN
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values that each option may have, the default first."""


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


# ---------------------------------------------------------------------------------- families


def _siglip(hidden: int, mlp: int, layers: int, heads: int, weights: dict[int, str]) -> _Family:
    activations = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}

    def make(request: _Request) -> Callable[[], TowerBody]:
        config = _vit(hidden, mlp, layers, heads, request.px, 14)
        # The released models ran it in timm, with the exact GELU; transformers' default is tanh.
        config["hidden_act"] = activations[request.options["act"]]
        return partial(SiglipTower, config | {"layer_norm_eps": 1e-6})

    return _Family(
        px=tuple(weights), grid=_always(24), width=_always(hidden), make=make,
        weights=weights.get, mean=HALF, std=HALF, options={"act": tuple(activations)},
    )  # fmt: skip


def _clip(
    hidden: int, layers: int, heads: int, patch: int, weights: dict[int, str], *, dfn: bool = False
) -> _Family:
    """CLIP, or the models of Data Filtering Networks, of which the last norm's output is taken."""
    choices = {} if dfn else {"layer": tuple(str(-2 - n) for n in (0, -1, *range(1, layers)))}

    def make(request: _Request) -> Callable[[], TowerBody]:
        config = _vit(hidden, 4 * hidden, layers, heads, request.px, patch)
        config["hidden_act"] = "quick_gelu"
        return partial(
            ClipTower, config, int(request.options.get("layer", -1)), with_final_norm=dfn
        )

    return _Family(
        px=tuple(weights), grid=_always(24), width=_always(hidden), make=make,
        weights=weights.get, options=choices,
    )  # fmt: skip


def _vit(
    hidden: int, mlp: int, layers: int, heads: int, image_px: int, patch: int
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image_px,
        "patch_size": patch,
    }


def _dinov2(hidden: int, layers: int, weights: str, px: int = 518) -> _Family:
    config = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "image_size": 518,
        "patch_size": 14,
        "use_swiglu_ffn": hidden == 1536,
    }
    return _Family(
        px=(px,), px_step=14, grid=_always(24), width=_always(hidden),
        make=_always(partial(Dinov2Tower, config)), weights=_always(weights),
        mean=IMAGENET_MEAN, std=IMAGENET_STD, pad_mean=IMAGENET_MEAN,
    )  # fmt: skip


def _convnext(width: int, depths: tuple[int, ...], eps: float, weights: str) -> _Family:
    widths = [width * 2**stage for stage in range(4)]
    config = {"hidden_sizes": widths, "depths": list(depths), "hidden_act": "gelu"}

    def make(request: _Request) -> Callable[[], TowerBody]:
        stages = request.options["stages"]
        return partial(ConvNextTower, config, request.grid, stages=stages, norm_eps=eps)

    return _Family(
        px=(1024,), px_step=32, make=make, weights=_always(weights),
        grid=lambda options: 96 if options["stages"] == "all" else 24,
        width=lambda options: sum(widths) if options["stages"] == "all" else widths[-1],
        options={"stages": ("all", "last")},
    )  # fmt: skip


def _sam(hidden: int, layers: int, heads: int, weights: str) -> _Family:
    config = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "mlp_dim": 4 * hidden,
        # Four layers see the whole picture, the last of each quarter.
        "global_attn_indexes": [layers * (quarter + 1) // 4 - 1 for quarter in range(4)],
    }
    return _Family(
        # 48: the nearest to its own 64 that a query grid of 24 divides.
        px=(1024,), grid=_always(48), width=_always(hidden),
        make=_always(partial(SamTower, config)), weights=_always(weights),
        mean=IMAGENET_MEAN, std=IMAGENET_STD, pad_mean=IMAGENET_MEAN,
    )  # fmt: skip


def _tiny_clip() -> _Family:
    return _Family(
        px=(96,), grid=_always(4), width=_always(64), weights=_always(None),
        make=_always(partial(ClipTower, _vit(64, 128, 2, 4, 96, 24))),
        mean=PAPER_MEAN, std=PAPER_STD, pad_mean=PAPER_MEAN,
    )  # fmt: skip


def _tiny_convnext() -> _Family:
    # Blocks start with a layer scale of 1e-6 by default: without training they would do nothing.
    config = {"hidden_sizes": [32, 64], "depths": [1, 1], "num_stages": 2, "patch_size": 6}
    config |= {"layer_scale_init_value": 1.0, "initializer_range": 0.2}
    return _Family(
        px=(96,), grid=_always(8), width=_always(96), weights=_always(None),
        make=lambda request: partial(ConvNextTower, config, request.grid),
        mean=PAPER_MEAN, std=PAPER_STD, pad_mean=PAPER_MEAN,
    )  # fmt: skip


_SIGLIP = {n: f"google/siglip-so400m-patch14-{n}" for n in (384, 224)}
_CLIP_L = {336: "openai/clip-vit-large-patch14-336", 224: "openai/clip-vit-large-patch14"}
_LAION_L = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"
_LAION_XXL = "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup"

FAMILIES: dict[str, _Family] = {
    "siglip-so400m": _siglip(1152, 4304, 27, 16, _SIGLIP),
    "clip-l": _clip(1024, 24, 16, 14, _CLIP_L),
    "clip-b16": _clip(768, 12, 12, 16, {224: "openai/clip-vit-base-patch16"}),
    "clip-b32": _clip(768, 12, 12, 32, {224: "openai/clip-vit-base-patch32"}),
    "dinov2-small": _dinov2(384, 12, "facebook/dinov2-small"),
    "dinov2-base": _dinov2(768, 12, "facebook/dinov2-base"),
    "dinov2-large": _dinov2(1024, 24, "facebook/dinov2-large"),
    "dinov2-giant": _dinov2(1536, 40, "facebook/dinov2-giant", px=378),
    "dinov2-giant-imagenet1k": _dinov2(1536, 40, "facebook/dinov2-giant-imagenet1k-1-layer"),
    "convnext-l": _convnext(192, (3, 3, 27, 3), 1e-6, _LAION_L),
    "convnext-xxl": _convnext(384, (3, 4, 30, 3), 1e-5, _LAION_XXL),
    "sam-b": _sam(768, 12, 12, "facebook/sam-vit-base"),
    "sam-l": _sam(1024, 24, 16, "facebook/sam-vit-large"),
    "sam-h": _sam(1280, 32, 16, "facebook/sam-vit-huge"),
    "dfn-h": _clip(1280, 32, 16, 14, {378: "apple/DFN5B-CLIP-ViT-H-14-378"}, dfn=True),
    "dfn-l": _clip(1024, 24, 16, 14, {224: "apple/DFN2B-CLIP-ViT-L-14"}, dfn=True),
    "tiny-clip": _tiny_clip(),
    "tiny-convnext": _tiny_convnext(),
}
"""The towers that a recipe may name."""


# ------------------------------------------------------------------------------------ names


@lru_cache(maxsize=256)
def tower_spec(name: str, *, grid: int | None = None) -> TowerSpec:
    """Return a tower's spec.

    Args:
        name: `FAMILY[@PX][:option=value]...`, e.g. `dinov2-giant@378:grid=48`.
        grid: takes the place of the one in the name.
    Raises:
        UserError: there is no such tower, or not with these settings.
    """
    family_name, px_text, given = _split(name)
    family = FAMILIES[family_name]
    px = _read_px(name, family, px_text)
    if grid is not None:
        given["grid"] = str(grid)
    grid_text = given.pop("grid", None)
    options = _read_options(name, family, given)
    default_grid = family.grid(options)
    side = default_grid if grid_text is None else _read_grid(name, grid_text)
    several = len(family.px) > 1 or family.px_step is not None
    changed = {k: v for k, v in options.items() if v != family.options[k][0]}
    if side != default_grid:
        changed = {"grid": str(side), **changed}
    canonical = family_name + (f"@{px}" if several else "")
    return TowerSpec(
        name=canonical + "".join(f":{key}={value}" for key, value in changed.items()),
        family=family_name,
        px=px,
        grid=side,
        width=family.width(options),
        mean=family.mean,
        std=family.std,
        pad_mean=family.pad_mean,
        layer=int(options["layer"]) if "layer" in options else None,
        weights=family.weights(px),
        build=family.make(_Request(px=px, grid=side, options=options)),
    )


def _split(name: str) -> tuple[str, str | None, dict[str, str]]:
    """Take a name apart: the family, the size and the options, as they are written."""
    head, *rest = name.split(":")
    family, at, px = head.partition("@")
    if family not in FAMILIES:
        raise UserError(f"there is no vision tower {name!r}; {_near(name, family)}")
    given: dict[str, str] = {}
    for text in rest:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UserError(f"vision tower {name!r}: write options as :key=value, not {text!r}")
        if key in given:
            raise UserError(f"vision tower {name!r}: {key} is given twice")
        given[key] = value
    return family, px if at else None, given


def _near(name: str, family: str) -> str:
    """Say what may have been meant by a name that is none."""
    from cambrian_model.towers.names import PUBLISHED_TOWERS  # which reads names with this module

    if name in PUBLISHED_TOWERS:
        return f"this is the published name of {PUBLISHED_TOWERS[name]}"
    # A size written behind a dash is the likeliest slip: `clip-l-336`.
    match = re.fullmatch(r"(.+)-(\d+)", family)
    if match and match[1] in FAMILIES:
        return f"did you mean {match[1]}@{match[2]}?"
    near = difflib.get_close_matches(family.lower(), FAMILIES, n=3, cutoff=0.6)
    known = f"the towers are {', '.join(FAMILIES)}"
    return f"did you mean {' or '.join(near)}? {known}" if near else known


def _read_px(name: str, family: _Family, text: str | None) -> int:
    if text is None:
        return family.px[0]
    px = int(text) if re.fullmatch(r"[1-9]\d{0,3}", text) else None
    step = family.px_step
    if px is None or (px not in family.px and (step is None or px % step)):
        allowed = " or ".join(str(size) for size in family.px)
        more = f", or another multiple of {step}" if step else ""
        raise UserError(f"vision tower {name!r}: its pictures have {allowed} px{more}")
    return px


def _read_grid(name: str, text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text) or int(text) > MAX_GRID:
        raise UserError(
            f"vision tower {name!r}: grid is the tokens along a side, 1 to {MAX_GRID}, not {text!r}"
        )
    return int(text)


def _read_options(name: str, family: _Family, given: Mapping[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if key not in family.options:
            allowed = ", ".join(("grid", *family.options))
            raise UserError(
                f"vision tower {name!r} has no option {key!r}; the options are {allowed}"
            )
        choices = family.options[key]
        if value not in choices:
            allowed = ", ".join(choices)
            if key == "layer":
                allowed = f"-1 (the last) to -{len(choices)} (what enters the first)"
            raise UserError(f"vision tower {name!r}: {key} must be one of {allowed}")
    return {key: given.get(key, values[0]) for key, values in family.options.items()}
