"""The whole model: towers, connector and any language model of `AutoModelForCausalLM`.

`forward` puts the pictures' visual tokens where a `Layout` says; training and `generate` take the
same path. Samplers inside the language model run in hooks on its layers, so that any decoder of
transformers has them without a copy of its code. `files.saved` writes and reads it.

Shape letters: B rows, T tokens, P pictures, C cells of the pictures' grids, M laid visual tokens, D
width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from cambrian_data.records import UserError
from cambrian_model.config import CambrianConfig, decoder_config
from cambrian_model.connector import Seen, TowerShape, build_connector
from cambrian_model.conversation import IGNORE_INDEX, Encoded
from cambrian_model.files.saved import load_model, save_model
from cambrian_model.layout import Layout, Padding, attention_of, lay_out
from cambrian_model.pictures import Size
from cambrian_model.recipe import ConnectorRecipe
from cambrian_model.sva import Windows
from cambrian_model.vision import Pictures, TowerSpec, build_towers, encode, tower_spec

__all__ = ["CambrianConfig", "CambrianModel"]


@dataclass(slots=True)
class _Placed:
    """What the samplers inside the language model need while a batch runs through it."""

    shape: tuple[int, int]
    """B and T of the batch."""
    cell_place: Tensor
    windows: Windows
    """A row for each of the M visual tokens."""
    is_weightless: bool
    """A stand-in's: the samplers run, for the sake of other processes, and change nothing."""


class CambrianModel(PreTrainedModel):
    """Towers and connector before a language model."""

    config_class = CambrianConfig
    base_model_prefix = "cambrian"
    supports_gradient_checkpointing = True
    config: CambrianConfig
    decoder: Any
    towers: Any
    stand_in = False
    """Whether a batch without pictures runs towers and connector all the same, on a black stand-in
    without weight: processes that share a sharded model must all call the same modules."""

    def __init__(self, config: CambrianConfig, decoder: nn.Module | None = None) -> None:
        """Build the model with random weights.

        Args:
            decoder: a language model that fits `config.decoder`, taken as it is.
        """
        super().__init__(config)
        if decoder is None:
            decoder = AutoModelForCausalLM.from_config(decoder_config(config.decoder))
        self.decoder = decoder
        self.towers = build_towers(config.towers)
        recipe = ConnectorRecipe.model_validate(config.connector)
        self.connector = build_connector(recipe, self.tower_shapes, self.decoder_width)
        self._placed: _Placed | None = None
        if recipe.in_decoder is not None:
            self._attach_samplers(recipe.in_decoder.places)

    @property
    def decoder_width(self) -> int:
        """Return the width of the language model."""
        return self.decoder.config.get_text_config().hidden_size

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """Return the layers of the language model."""
        return self.decoder.get_decoder().layers

    @property
    def tower_specs(self) -> list[TowerSpec]:
        """Return the specs of the towers, in order."""
        return [tower_spec(name) for name in self.config.towers]

    @property
    def tower_shapes(self) -> list[TowerShape]:
        """Return width and grid of each tower's features."""
        if self.config.tower_shapes:
            return [TowerShape(*shape) for shape in self.config.tower_shapes]
        return [TowerShape(spec.width, spec.grid) for spec in self.tower_specs]

    # ------------------------------------------------------------------------------ pictures

    def see(self, pictures: Pictures) -> Seen:
        """Run towers, where their features are not given, and connector."""
        dtype = self.connector.image_newline.dtype
        features = [feats_PND.to(dtype) for feats_PND in encode(self.towers, pictures)]
        return self.connector(features, pictures.sizes)

    def _stand_in_picture(self) -> Pictures:
        """Return a black picture."""
        device, size = self.device, (1, 1)
        if not len(self.towers):
            shapes = [(1, shape.grid**2, shape.width) for shape in self.tower_shapes]
            return Pictures([size], features=[torch.zeros(s, device=device) for s in shapes])
        pixels = [torch.zeros(1, 3, spec.px, spec.px, device=device) for spec in self.tower_specs]
        return Pictures([size], pixels=pixels)

    # ------------------------------------------------------------------------------ inputs

    def lay_out(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor | None,
        sizes: Sequence[Size],
        padding: Padding | None = None,
    ) -> Layout:
        """Lay out padded rows of ids; arguments as for `forward`.

        Args:
            padding: the side that is padded; that of the given rows if not given.
        """
        rows = []
        keep = None if attention_mask is None else attention_mask.bool().cpu()
        if padding is None:
            padding = "right" if keep is None or bool(keep[:, 0].all()) else "left"
        for number, ids in enumerate(input_ids.cpu()):
            kept = slice(None) if keep is None else keep[number]
            row_ids = ids[kept].tolist()
            if labels is None:
                row_labels = [IGNORE_INDEX] * len(row_ids)
            else:
                row_labels = labels[number].cpu()[kept].tolist()
            rows.append([Encoded(row_ids, row_labels)])
        config = self.decoder.config.get_text_config()
        pad = config.pad_token_id or 0
        return lay_out(rows, sizes, self.connector.side, pad_token_id=pad, padding=padding).to(
            self.device
        )

    def embed(self, layout: Layout, seen: Seen | None) -> Tensor:
        """Return the embeddings of text and pictures, (B, T, D)."""
        text_BTD = self.get_input_embeddings()(layout.input_ids.clamp(min=0))
        if seen is None:
            return text_BTD
        flat = text_BTD.flatten(0, 1)
        tokens_MD = seen.tokens_CD
        if not layout.shows_all_cells:
            tokens_MD = tokens_MD[layout.cell_index]
        newlines_WD = seen.newline_D.to(flat.dtype).expand(len(layout.newline_place), -1)
        flat = flat.index_copy(0, layout.cell_place, tokens_MD.to(flat.dtype))
        flat = flat.index_copy(0, layout.newline_place, newlines_WD)
        return flat.view_as(text_BTD)

    @contextmanager
    def _running(self, layout: Layout, pictures: Pictures | None) -> Iterator[dict[str, Any]]:
        """Yield what the language model takes, and serve the samplers inside it meanwhile."""
        if pictures is not None and not pictures.sizes:
            pictures = None
        lacks = pictures is None and self.stand_in
        if lacks:
            pictures = self._stand_in_picture()
        seen = self.see(pictures) if pictures is not None else None
        embeds_BTD = self.embed(layout, None if lacks else seen)
        if lacks and seen is not None:
            nothing = 0 * (seen.tokens_CD.sum() + seen.newline_D.sum())
            embeds_BTD = embeds_BTD + nothing.to(embeds_BTD.dtype)
        if seen is not None and seen.windows is not None:
            windows = seen.windows
            if not (lacks or layout.shows_all_cells):
                windows = windows.select(layout.cell_index)
            batch, length = layout.input_ids.shape
            self._placed = _Placed((batch, length), layout.cell_place, windows, lacks)
        mask = self._attention(layout)
        inputs: dict[str, Any] = {"inputs_embeds": embeds_BTD, "attention_mask": mask}
        if not (mask is None and layout.segments is None):
            inputs["position_ids"] = layout.position_ids
        try:
            yield inputs
        finally:
            self._placed = None

    def _attention(self, layout: Layout) -> Tensor | dict[str, Tensor] | None:
        """Return the mask for the language model; layers with a sliding window have their own.

        Only with static shapes: else transformers makes what the layers need from a plain mask.
        """
        if not layout.is_static:
            return attention_of(layout)
        config = self.decoder.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None)
        if window is not None and kinds is not None and "sliding_attention" in kinds:
            return {
                "full_attention": self._spelled_out(layout, None),
                "sliding_attention": self._spelled_out(layout, window),
            }
        return self._spelled_out(layout, window if kinds is None else None)

    def _spelled_out(self, layout: Layout, window: int | None) -> Tensor:
        """Return a static layout's mask: boolean, or what is added to the scores."""
        mask = attention_of(layout, window)
        assert mask is not None
        if self.decoder.config._attn_implementation != "eager":
            return mask
        dtype = self.get_input_embeddings().weight.dtype
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)

    # ------------------------------------------------------- samplers in the language model

    def _attach_samplers(self, places: Sequence[int]) -> None:
        """Let a sampler run after each of the named layers.

        Raises:
            UserError: the language model has no such layer, or the connector no samplers.
        """
        layers, samplers = self.decoder_layers, self.connector.vision_sampler_layers
        if places[-1] >= len(layers):
            raise UserError(
                f"model.connector.in_decoder runs a sampler after layer {places[-1]} and the "
                f"language model has the layers 0 to {len(layers) - 1}; lower start, stride or "
                "count"
            )
        assert isinstance(samplers, nn.ModuleList)
        for number, place in enumerate(places):
            layers[place].register_forward_hook(partial(self._after_layer, samplers[number]))

    def _after_layer(
        self, sampler: nn.Module, layer: nn.Module, inputs: Any, output: Any
    ) -> Tensor | tuple[Any, ...]:
        """Update the visual tokens in what a layer returned; a decoder step of `generate` has none.

        Beam search repeats each row: its rows are still alike in the prompt, so one is updated.
        """
        placed = self._placed
        hidden_BTD = output[0] if isinstance(output, tuple) else output
        if placed is None or hidden_BTD.shape[1] != placed.shape[1]:
            return output
        batch, beams = placed.shape[0], hidden_BTD.shape[0] // placed.shape[0]
        one_BTD = hidden_BTD if beams == 1 else hidden_BTD.unflatten(0, (batch, beams))[:, 0]
        updated = self._sample(sampler, one_BTD, placed)
        if beams > 1:
            updated = updated.repeat_interleave(beams, dim=0)
        return (updated, *output[1:]) if isinstance(output, tuple) else updated

    def _sample(self, sampler: nn.Module, hidden_BTD: Tensor, placed: _Placed) -> Tensor:
        flat = hidden_BTD.flatten(0, 1)
        if placed.is_weightless:
            rows = placed.windows.picture.shape[0]
            queries = placed.windows.context.new_zeros(rows, flat.shape[1])
            nothing = sampler(queries, placed.windows)
            return hidden_BTD + (0 * nothing.sum()).to(hidden_BTD.dtype)
        queries_MD = flat[placed.cell_place].to(placed.windows.context.dtype)
        updated_MD = sampler(queries_MD, placed.windows)
        flat = flat.index_copy(0, placed.cell_place, updated_MD.to(flat.dtype))
        return flat.view_as(hidden_BTD)

    def use_checkpointing(self, function: Callable[..., Any]) -> None:
        """Let the language model's layers run through a runtime's checkpoint function."""
        self.decoder._set_gradient_checkpointing(enable=True, gradient_checkpointing_func=function)

    # ----------------------------------------------------------------------------- forward

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        pictures: Pictures | None = None,
        *,
        layout: Layout | None = None,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """Run the model on a batch: padded rows of ids, or a layout of them.

        With labels the loss is the mean over all trained tokens, and logits exist only where some
        row has a label to predict, or everywhere where shapes are static. Without, they exist
        everywhere.

        Args:
            input_ids: (B, T), IMAGE_TOKEN_INDEX once a picture.
            attention_mask: (B, T), True on real tokens; all are if it is not given.
            labels: (B, T), IGNORE_INDEX where nothing is trained.
            pictures: in the order of their places in the batch; in that of the slots of a layout.
            layout: instead of the three, with labels.
            options: for the language model, such as `output_hidden_states`; with
                `logits_to_keep=0` a layout's logits exist everywhere.
        Raises:
            ValueError: the ids name another number of pictures than there are.
        """
        wants_loss = layout is not None or labels is not None
        if layout is None:
            if input_ids is None:
                raise ValueError("forward needs input_ids or a layout")
            sizes = pictures.sizes if pictures is not None else []
            layout = self.lay_out(input_ids, attention_mask, labels, sizes)
        columns = None
        if wants_loss and "logits_to_keep" not in options:
            columns = layout.label_columns
            options |= {} if columns is None else {"logits_to_keep": columns}
        with self._running(layout, pictures) as inputs:
            output = self.decoder(**inputs, use_cache=False, **options)
        if wants_loss:
            output.loss = _loss(output.logits, layout, columns)
        return output

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pictures: Pictures | None = None,
        **options: Any,
    ) -> Tensor:
        """Return new token ids, (B, new).

        Args:
            input_ids: (B, T) prompts, padded on either side where `attention_mask` is False.
            attention_mask: (B, T), True on real tokens; all are if it is not given.
            pictures: in the order of their places in the batch.
            options: for `generate` of the language model.
        """
        sizes = pictures.sizes if pictures is not None else []
        layout = self.lay_out(input_ids, attention_mask, None, sizes, padding="left")
        with self._running(layout, pictures) as inputs:
            inputs.pop("position_ids", None)  # `generate` counts them from the mask
            if inputs["attention_mask"] is None:
                inputs["attention_mask"] = layout.attention_mask
            return self.decoder.generate(**inputs, **options)

    def get_input_embeddings(self) -> Any:
        """Return the language model's embedding of tokens."""
        return self.decoder.get_input_embeddings()

    # -------------------------------------------------------------------------------- files

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        state_dict: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the config and all weights, the towers' too, under the published names.

        Args:
            state_dict: written instead of the model's own: a copy under our names.
        """
        save_model(self, Path(save_directory), state_dict, **kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, folder: str | Path, *, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> CambrianModel:
        """Build a saved model, or a published one, and load all its weights.

        Args:
            folder: as `save_pretrained` or the published code wrote it.
            dtype: of the weights; float32 if not given.
        Raises:
            UserError: the folder holds no saved model, or one whose weights do not fit.
        """
        return load_model(cls, Path(folder), dtype=dtype, **kwargs)


def _loss(logits: Tensor, layout: Layout, columns: Tensor | None) -> Tensor:
    """Return the mean loss over the trained tokens; 0 where there are none."""
    targets = F.pad(layout.labels[:, 1:], (0, 1), value=IGNORE_INDEX)
    if columns is not None:
        targets = targets[:, columns]
    num_trained = (targets != IGNORE_INDEX).sum().clamp(min=1)
    total = F.cross_entropy(
        logits.float().flatten(0, 1),
        targets.flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
    )
    return total / num_trained
