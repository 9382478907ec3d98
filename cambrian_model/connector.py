"""Connectors: features of the towers -> the embeddings that the language model reads.

The Spatial Vision Aggregator or a 2-layer MLP makes visual tokens on a square grid; the padding is
cropped off and a newline vector ends each row. Names in the state dict are those of published
checkpoints (`vision_sampler_0...`, `mm_projector_aux_0...`, `vision_query`, `image_newline`).
Golden case B checks the result. Source: Cambrian-1 (arXiv 2406.16860).

Shape letters: B pictures, G side of a grid, R = B * G * G rows, N tokens of a tower, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.pictures import Size, content_span
from cambrian_model.recipe import ConnectorRecipe
from cambrian_model.sva import VisionSampler, cut_windows, resize_grid, window_masks


@dataclass(frozen=True, slots=True)
class TowerShape:
    """What a connector needs to know of a tower."""

    width: int
    grid: int


def _two_layers(width_in: int, width_out: int) -> list[nn.Module]:
    return [nn.Linear(width_in, width_out), nn.GELU(), nn.Linear(width_out, width_out)]


class Connector(nn.Module):
    """Base: `grid_tokens` makes the square grid, `forward` crops it and adds the newlines."""

    def __init__(self, side: int, width_out: int) -> None:
        super().__init__()
        self.side = side
        self.image_newline = nn.Parameter(torch.randn(width_out) * width_out**-0.5)

    def grid_tokens(self, features: Sequence[Tensor], sizes: Sequence[Size]) -> Tensor:
        """Return (B, side, side, D): visual tokens of the square pictures, padding included."""
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor], sizes: Sequence[Size]) -> list[Tensor]:
        """Turn the towers' features into the embeddings that the language model reads.

        Args:
            features: one (B, N, D_tower) a tower, row-major over the square picture.
            sizes: (width, height) of each picture before padding.
        Returns:
            For each picture (rows * (columns + 1), D): padding cropped off, a newline a row.
        """
        grid_BGGD = self.grid_tokens(features, sizes)
        pictures = []
        for tokens_GGD, size in zip(grid_BGGD, sizes, strict=True):
            top, bottom, left, right = content_span(size, self.side)
            shown = tokens_GGD[top:bottom, left:right]
            newline = self.image_newline.to(shown.dtype).expand(shown.shape[0], 1, -1)
            pictures.append(torch.cat([shown, newline], dim=1).flatten(0, 1))
        return pictures


class SpatialVisionAggregator(Connector):
    """Tower projections, one sampler a query group, interpolation, final projection."""

    def __init__(
        self, config: ConnectorRecipe, towers: Sequence[TowerShape], width_out: int
    ) -> None:
        super().__init__(max(config.query_grids), width_out)
        width = config.hidden_size
        self.query_grids = config.query_grids
        self.tower_grids = tuple(tower.grid for tower in towers)
        _check_grids(self.query_grids, self.tower_grids)
        queries = torch.randn(len(self.query_grids), width) * width**-0.5
        self.vision_query = nn.Parameter(queries)
        for number, tower in enumerate(towers):
            projector = nn.Sequential(*_two_layers(tower.width, width), nn.LayerNorm(width))
            self.add_module(f"mm_projector_aux_{number}", projector)
        for group, grid in enumerate(self.query_grids):
            sampler = VisionSampler(
                width,
                [side // grid for side in self.tower_grids],
                num_heads=config.num_heads,
                num_layers=config.num_layers,
                layer_type=config.layer_type,
            )
            self.add_module(f"vision_sampler_{group}", sampler)
        self.mm_projector = nn.Sequential(*_two_layers(width * len(self.query_grids), width_out))

    def grid_tokens(self, features: Sequence[Tensor], sizes: Sequence[Size]) -> Tensor:
        projected = [
            self.get_submodule(f"mm_projector_aux_{number}")(feats_BND)
            for number, feats_BND in enumerate(features)
        ]
        context_BD = projected[0].mean(dim=1)
        groups = [
            self._sample(group, projected, context_BD, sizes)
            for group in range(len(self.query_grids))
        ]
        return self.mm_projector(torch.cat(groups, dim=-1))

    def _sample(
        self, group: int, projected: Sequence[Tensor], context_BD: Tensor, sizes: Sequence[Size]
    ) -> Tensor:
        """Run the sampler of one query group; returns (B, side, side, D)."""
        grid, batch = self.query_grids[group], len(sizes)
        rows, width = batch * grid * grid, context_BD.shape[-1]
        windows = [
            cut_windows(feats_BND, side, grid)
            for feats_BND, side in zip(projected, self.tower_grids, strict=True)
        ]
        masks = [window_masks(sizes, side, grid, context_BD.device) for side in self.tower_grids]
        sampled_RD = self.get_submodule(f"vision_sampler_{group}")(
            self.vision_query[group].to(context_BD.dtype).expand(rows, width),
            context_BD.repeat_interleave(grid * grid, dim=0),
            windows,
            masks,
        )
        return resize_grid(sampled_RD.view(batch, grid, grid, width), self.side)


class MlpConnector(Connector):
    """`mlp2x_gelu`: the towers' features on one grid, side by side, through a 2-layer MLP."""

    def __init__(
        self, config: ConnectorRecipe, towers: Sequence[TowerShape], width_out: int
    ) -> None:
        super().__init__(max(config.query_grids), width_out)
        self.tower_grids = tuple(tower.grid for tower in towers)
        width_in = sum(tower.width for tower in towers)
        self.mm_projector = nn.Sequential(*_two_layers(width_in, width_out))

    def grid_tokens(self, features: Sequence[Tensor], sizes: Sequence[Size]) -> Tensor:
        maps = [
            resize_grid(feats_BND.unflatten(1, (side, side)), self.side)
            for feats_BND, side in zip(features, self.tower_grids, strict=True)
        ]
        return self.mm_projector(torch.cat(maps, dim=-1))


CONNECTORS: dict[str, type[SpatialVisionAggregator] | type[MlpConnector]] = {
    "sva": SpatialVisionAggregator,
    "mlp2x_gelu": MlpConnector,
}


def build_connector(
    config: ConnectorRecipe, towers: Sequence[TowerShape], width_out: int
) -> Connector:
    """Return the connector that a recipe names, freshly initialised."""
    return CONNECTORS[config.kind](config, towers, width_out)


def _check_grids(query_grids: Sequence[int], tower_grids: Sequence[int]) -> None:
    for side in tower_grids:
        for grid in query_grids:
            if side % grid:
                raise UserError(
                    f"a tower's grid of {side} is no multiple of the query grid {grid}; "
                    "set model.connector.query_grids to divisors of every tower's grid"
                )
