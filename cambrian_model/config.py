"""The config of a whole model, as its `config.json` holds it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from cambrian_data.records import UserError


class CambrianConfig(PreTrainedConfig):
    """What a saved model needs to be built again and to be asked questions."""

    model_type = "cambrian"

    def __init__(
        self,
        towers: Sequence[str] = (),
        tower_shapes: Sequence[Sequence[int]] = (),
        connector: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        template: str = "llama_3",
        system: str | None = None,
        max_tokens: int = 2048,
        **kwargs: Any,
    ) -> None:
        """Set what is given.

        Args:
            towers: keys of `vision.TOWERS`, in order.
            tower_shapes: instead of towers, width and side of the features that pictures bring.
            connector: a `ConnectorRecipe` as a dict.
            decoder: a config of transformers as a dict, with `model_type`.
        """
        super().__init__(**kwargs)
        self.towers = list(towers)
        self.tower_shapes = [list(shape) for shape in tower_shapes]
        self.connector = connector or {}
        self.decoder = decoder or {}
        self.template, self.system, self.max_tokens = template, system, max_tokens


def decoder_config(settings: dict[str, Any]) -> PreTrainedConfig:
    """Return the language model's config.

    Raises:
        UserError: transformers has no such model type.
    """
    rest = dict(settings)
    kind = rest.pop("model_type", None)
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(kind), list(CONFIG_MAPPING), n=3)
        raise UserError(
            f"model.decoder.model_type {kind!r} is none that transformers knows; "
            f"{'the nearest: ' + ', '.join(near) if near else 'llama is one'}"
        )
    from huggingface_hub.errors import StrictDataclassError

    try:
        return AutoConfig.for_model(kind, **rest)
    except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model.decoder: {kind} does not take these settings: {reason}") from None
