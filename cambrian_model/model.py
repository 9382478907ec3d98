"""The whole model: towers, connector and any language model of `AutoModelForCausalLM`.

`forward` puts the pictures' embeddings where the token ids hold IMAGE_TOKEN_INDEX and right-pads;
training and `generate` take the same path. Saved names are the published ones (`model.layers...`,
`model.vision_sampler_0...`, `lm_head...`), with the towers' weights beside them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from cambrian_data.records import UserError
from cambrian_model.connector import TowerShape, build_connector
from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from cambrian_model.recipe import ConnectorRecipe
from cambrian_model.vision import Pictures, TowerSpec, build_towers, tower_spec

_TOWERS = "model.vision_tower_aux_list."
_CONNECTOR_NAMES = ("vision_sampler_", "mm_projector", "vision_query", "image_newline")


class CambrianConfig(PreTrainedConfig):
    """What a saved model needs to be built again and to be asked questions."""

    model_type = "cambrian"

    def __init__(
        self,
        towers: tuple[str, ...] | list[str] = (),
        connector: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        template: str = "llama_3",
        system: str | None = None,
        max_tokens: int = 2048,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.towers = list(towers)
        self.connector = connector or {}
        self.decoder = decoder or {}
        self.template, self.system, self.max_tokens = template, system, max_tokens


class CambrianModel(PreTrainedModel):
    """Towers and connector before a language model."""

    config_class = CambrianConfig
    base_model_prefix = "cambrian"
    supports_gradient_checkpointing = True

    def __init__(self, config: CambrianConfig) -> None:
        super().__init__(config)
        decoder_config = _decoder_config(config.decoder)
        self.decoder = AutoModelForCausalLM.from_config(decoder_config)
        self.towers = build_towers(config.towers)
        shapes = [TowerShape(spec.width, spec.grid) for spec in self.tower_specs]
        self.connector = build_connector(
            ConnectorRecipe.model_validate(config.connector), shapes, decoder_config.hidden_size
        )

    @property
    def tower_specs(self) -> list[TowerSpec]:
        """Return the specs of the towers, in order."""
        return [tower_spec(name) for name in self.config.towers]

    # ------------------------------------------------------------------------------ inputs

    def encode_pictures(self, pictures: Pictures) -> list[Tensor]:
        """Return the towers' features, one (B, N, D) a tower."""
        if pictures.features is not None:
            return pictures.features
        assert pictures.pixels is not None
        return [tower(pixels) for tower, pixels in zip(self.towers, pictures.pixels, strict=True)]

    def embed_pictures(self, pictures: Pictures) -> list[Tensor]:
        """Return the embeddings of each picture, (tokens, D)."""
        return self.connector(self.encode_pictures(pictures), pictures.sizes)

    def embed(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None, pictures: Pictures
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put the pictures' embeddings into the text.

        Args:
            input_ids: (B, T), right-padded, IMAGE_TOKEN_INDEX once a picture.
            attention_mask: (B, T), True on real tokens.
            labels: (B, T) or None.
            pictures: in the order of their places in the batch.
        Returns:
            Embeddings, mask and labels, longer by what the pictures take.
        Raises:
            ValueError: the ids name another number of pictures than there are.
        """
        is_picture = (input_ids == IMAGE_TOKEN_INDEX) & attention_mask.bool()
        if int(is_picture.sum()) != len(pictures.sizes):
            raise ValueError(
                f"the ids name {int(is_picture.sum())} pictures, {len(pictures.sizes)} are given"
            )
        text_BTD = self.get_input_embeddings()(input_ids.clamp(min=0))
        shown = iter(self.embed_pictures(pictures) if pictures.sizes else [])
        lengths = attention_mask.sum(dim=1).tolist()
        rows, row_labels = [], []
        for row, length in enumerate(lengths):
            pieces, tags, at = [], [], 0
            for place in is_picture[row].nonzero().flatten().tolist():
                picture = next(shown).to(text_BTD.dtype)
                pieces += [text_BTD[row, at:place], picture]
                if labels is not None:
                    hidden = labels.new_full((picture.shape[0],), IGNORE_INDEX)
                    tags += [labels[row, at:place], hidden]
                at = place + 1
            rows.append(torch.cat([*pieces, text_BTD[row, at:length]]))
            if labels is not None:
                row_labels.append(torch.cat([*tags, labels[row, at:length]]))
        longest = torch.tensor([len(row) for row in rows], device=input_ids.device)
        mask = torch.arange(int(longest.max()), device=input_ids.device) < longest[:, None]
        padded = None
        if labels is not None:
            padded = pad_sequence(row_labels, batch_first=True, padding_value=IGNORE_INDEX)
        return pad_sequence(rows, batch_first=True), mask, padded

    def use_checkpointing(self, function: Callable[..., Any]) -> None:
        """Let the language model's layers run through a runtime's checkpoint function."""
        self.decoder._set_gradient_checkpointing(enable=True, gradient_checkpointing_func=function)

    # ----------------------------------------------------------------------------- forward

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        pictures: Pictures | None = None,
    ) -> CausalLMOutputWithPast:
        """Run the model on a batch.

        With labels the loss is the mean over all trained tokens, and logits exist only where some
        row has a label to predict; without, they exist everywhere. Arguments as for `embed`.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids, dtype=torch.bool)
        pictures = pictures if pictures is not None else Pictures([], features=[])
        embeds, mask, labels = self.embed(input_ids, attention_mask, labels, pictures)
        if labels is None:
            return self.decoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
        targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)
        wanted = (targets != IGNORE_INDEX).any(dim=0).nonzero().flatten()
        outputs = self.decoder(
            inputs_embeds=embeds, attention_mask=mask, use_cache=False, logits_to_keep=wanted
        )
        logits = outputs.logits.float()
        loss = F.cross_entropy(
            logits.flatten(0, 1), targets[:, wanted].flatten(), ignore_index=IGNORE_INDEX
        )
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor, pictures: Pictures | None = None, **options: Any
    ) -> Tensor:
        """Return new token ids of one prompt, (1, new); options go to the decoder's `generate`."""
        mask = torch.ones_like(input_ids, dtype=torch.bool)
        pictures = pictures if pictures is not None else Pictures([], features=[])
        embeds, mask, _ = self.embed(input_ids, mask, None, pictures)
        return self.decoder.generate(inputs_embeds=embeds, attention_mask=mask, **options)

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's embedding of tokens."""
        return self.decoder.get_input_embeddings()

    # -------------------------------------------------------------------------------- files

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, **kwargs: Any
    ) -> None:
        """Write the config and all weights, the towers' too, under the published names.

        Tied weights are written once. Equal weights give equal bytes: the files carry a single
        entry of metadata, since safetensors writes several in an order that changes.
        """
        from huggingface_hub import split_torch_state_dict_into_shards
        from safetensors.torch import save_file

        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        shared = self.shared_names()
        weights = {
            published_name(name): value.detach().contiguous()
            for name, value in self.state_dict().items()
            if name == min(shared[name])
        }
        plan = split_torch_state_dict_into_shards(weights, **kwargs)
        for file, names in plan.filename_to_tensors.items():
            save_file({name: weights[name] for name in names}, folder / file, {"format": "pt"})
            (folder / file).chmod(0o644)  # it is written for its owner alone

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, folder: str | Path, **kwargs: Any
    ) -> CambrianModel:
        """Build a saved model and load all its weights.

        Raises:
            UserError: the folder holds no saved model, or one whose weights do not fit.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        files = sorted(folder.glob("model*.safetensors"))
        if not (folder / "config.json").is_file() or not files:
            raise UserError(
                f"{folder} holds no saved model: it needs config.json and "
                "model.safetensors; give a step-* folder of a training run"
            )
        try:
            model = cls(CambrianConfig.from_pretrained(folder, **kwargs))
        except OSError as error:
            raise UserError(f"{folder / 'config.json'} is damaged: {error}") from None
        state: dict[str, Tensor] = {}
        for file in files:
            try:
                weights = load_file(file)
            except SafetensorError as error:
                raise UserError(f"{file} is damaged: {error}") from None
            state |= {own_name(key): value for key, value in weights.items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        shared = model.shared_names()
        missing = [name for name in missing if not shared.get(name, set()) & state.keys()]
        if missing or unexpected:
            raise UserError(
                f"{folder}: the weights do not fit the config: "
                f"missing {missing[:5]}, unknown {list(unexpected)[:5]}"
            )
        return model.eval()

    def shared_names(self) -> dict[str, set[str]]:
        """Return for each name in the state dict the names of the same storage (tied weights)."""
        by_storage: dict[int, set[str]] = {}
        state = self.state_dict()
        for name, value in state.items():
            by_storage.setdefault(value.data_ptr(), set()).add(name)
        return {name: by_storage[value.data_ptr()] for name, value in state.items()}


def _decoder_config(settings: dict[str, Any]) -> PreTrainedConfig:
    """Return the language model's config.

    Raises:
        UserError: transformers has no such model type.
    """
    rest = dict(settings)
    kind = rest.pop("model_type")
    if kind not in CONFIG_MAPPING:
        near = difflib.get_close_matches(kind, list(CONFIG_MAPPING), n=3)
        raise UserError(
            f"model.decoder.model_type {kind!r} is none that transformers knows; "
            f"{'the nearest: ' + ', '.join(near) if near else 'llama is one'}"
        )
    return AutoConfig.for_model(kind, **rest)


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
