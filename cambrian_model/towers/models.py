"""The modules behind the towers: transformers classes, and which of their features are taken.

Normalised pixels (B, 3, px, px) -> features (B, N, D), row-major over the square. Each module says
what is taken in its first line; what the released models took is in docs/model.md. Their layers are
called one by one, so that no other layer is run or kept: with `output_hidden_states` a batch of 32
would hold a gigabyte of states that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cambrian_model.sva import resize_map

Checkpoint = Callable[..., Tensor]
"""`checkpoint(layer, *inputs)`: runs a layer now, and once more in the backward pass."""


class TowerBody(nn.Module):
    """Base: a transformers model in `vision_tower`, whose layers run one by one."""

    kind: ClassVar[str]
    checkpoint: Checkpoint | None = None

    def run(self, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
        """Run a layer, through the checkpoint function where there is one and a graph is built."""
        if self.checkpoint is None or not torch.is_grad_enabled():
            return layer(*inputs)
        return self.checkpoint(layer, *inputs)


class SiglipTower(TowerBody):
    """SigLIP: all tokens after the final norm; it has no class token."""

    kind = "siglip"

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        from transformers import SiglipVisionConfig, SiglipVisionModel

        # Without the pooling head, of which no feature is taken.
        self.vision_tower = SiglipVisionModel(
            SiglipVisionConfig(**{"vision_use_head": False} | config)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        model = self.vision_tower
        state = model.embeddings(pixels)
        for layer in model.encoder.layers:
            state = self.run(layer, state, None)
        return model.post_layernorm(state)


class ClipTower(TowerBody):
    """CLIP: a hidden layer without the class token; the final norm only where it is asked for."""

    kind = "clip"

    def __init__(
        self, config: dict[str, Any], layer: int = -2, *, with_final_norm: bool = False
    ) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        self.vision_tower = CLIPVisionModel(CLIPVisionConfig(**config))
        # Hidden state 0 is what enters the first layer.
        num_states = len(self.vision_tower.encoder.layers) + 1
        self.num_layers_run = range(num_states)[layer]
        self.with_final_norm = with_final_norm

    def forward(self, pixels: Tensor) -> Tensor:
        model = self.vision_tower
        state = model.pre_layrnorm(model.embeddings(pixels))
        for layer in model.encoder.layers[: self.num_layers_run]:
            state = self.run(layer, state, None)
        if self.with_final_norm:
            state = model.post_layernorm(state)
        return state[:, 1:]


class Dinov2Tower(TowerBody):
    """DINOv2: all tokens after the final norm, without the class token.

    It takes other sizes than that of its position embeddings (37 x 37, 518 px). They are resized as
    DINOv2 was published and as the released models saw them, by a factor of (side + 0.1) / 37;
    newer transformers resize to exactly `side`, which shifts them by up to a tenth of a cell.
    """

    kind = "dinov2"

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        self.vision_tower = Dinov2Model(Dinov2Config(**config))
        self.patch_px: int = config["patch_size"]
        self.own_side: int = config["image_size"] // self.patch_px

    def forward(self, pixels: Tensor) -> Tensor:
        model = self.vision_tower
        patches_BND = model.embeddings.patch_embeddings(pixels)
        first = model.embeddings.cls_token.expand(patches_BND.shape[0], -1, -1)
        side = pixels.shape[-1] // self.patch_px
        state = torch.cat([first, patches_BND], dim=1) + self._positions(side)
        for layer in model.encoder.layer:
            state = self.run(layer, state)
        return model.layernorm(state)[:, 1:]

    def _positions(self, side: int) -> Tensor:
        """Return the position embeddings of the class token and of side * side patches."""
        positions = self.vision_tower.embeddings.position_embeddings
        own = self.own_side
        if side == own:
            return positions
        map_DGG = positions[:, 1:].unflatten(1, (own, own)).permute(0, 3, 1, 2).float()
        factor = (side + 0.1) / own
        resized = F.interpolate(
            map_DGG, scale_factor=(factor, factor), mode="bicubic", align_corners=False
        )
        assert resized.shape[-1] == side, (resized.shape, side)
        patches = resized.flatten(2).transpose(1, 2).to(positions.dtype)
        return torch.cat([positions[:, :1], patches], dim=1)


class ConvNextTower(TowerBody):
    """ConvNeXt: its stages as they are, each brought to one grid, side by side."""

    kind = "convnext"

    def __init__(
        self,
        config: dict[str, Any],
        grid: int,
        *,
        stages: str = "all",
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        from transformers import ConvNextConfig, ConvNextModel

        self.grid, self.stages = grid, stages
        self.vision_tower = ConvNextModel(ConvNextConfig(**config))
        # It is for the pooled output, which is not taken.
        self.vision_tower.layernorm = nn.Identity()  # type: ignore[assignment]
        for module in self.vision_tower.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = norm_eps  # transformers has 1e-6 in the code, whatever the config says

    def forward(self, pixels: Tensor) -> Tensor:
        state = self.vision_tower.embeddings(pixels)
        taken = []
        for stage in self.vision_tower.encoder.stages:
            state = self.run(stage, state)
            if self.stages == "all":
                taken.append(self._on_grid(state))
        return torch.cat(taken, dim=-1) if taken else self._on_grid(state)

    def _on_grid(self, state_BDHW: Tensor) -> Tensor:
        return resize_map(state_BDHW.flatten(2).transpose(1, 2), self.grid)


class SamTower(TowerBody):
    """SAM: the blocks' last output, before the neck."""

    kind = "sam"

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        from transformers import SamVisionConfig, SamVisionModel

        self.vision_tower = SamVisionModel(SamVisionConfig(**config))
        self.vision_tower.vision_encoder.neck = nn.Identity()  # type: ignore[assignment]

    def forward(self, pixels: Tensor) -> Tensor:
        encoder = self.vision_tower.vision_encoder
        state_BHWD = encoder.patch_embed(pixels) + encoder.pos_embed
        for layer in encoder.layers:
            state_BHWD = self.run(layer, state_BHWD)
        return state_BHWD.flatten(1, 2)
