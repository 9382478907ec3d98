"""Names of weights: ours in a state dict, and those of published checkpoints."""

from __future__ import annotations

_TOWERS = "model.vision_tower_aux_list."
_CONNECTOR_NAMES = ("vision_sampler_", "mm_projector", "vision_query", "image_newline")


def published_name(name: str) -> str:
    """Return the name in published checkpoints of one of our state dict's."""
    if name.startswith("connector."):
        return "model." + name.removeprefix("connector.")
    if name.startswith("towers."):
        return _TOWERS + name.removeprefix("towers.")
    return name.removeprefix("decoder.")


def own_name(name: str) -> str:
    """Return our name of one in a published checkpoint; the inverse of `published_name`."""
    if name.startswith(_TOWERS):
        return "towers." + name.removeprefix(_TOWERS)
    inner = name.removeprefix("model.")
    if inner != name and inner.startswith(_CONNECTOR_NAMES):
        return f"connector.{inner}"
    return f"decoder.{name}"
