"""Connectors: features of the towers -> visual tokens for the language model.

The Spatial Vision Aggregator or a 2-layer MLP makes visual tokens on a square grid; which of them a
row shows, and where, is said by `layout`. The aggregator also keeps what its queries looked at, for
the samplers inside the language model. Names in the state dict are those of published checkpoints
(`vision_sampler_0...`, `vision_sampler_layers...`, `mm_projector_aux_0...`, `vision_query`,
`image_newline`). Golden cases B and C check the results. Source: Cambrian-1 (arXiv 2406.16860).

Where a query group is coarser than the grid of visual tokens, its masks are those of the squares
that its queries look at, in training too: the published training path takes other ones.

Shape letters: P pictures, G side of a grid, C = P * G * G cells, N tokens of a tower, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cambrian_data.records import UserError
from cambrian_model.pictures import Size
from cambrian_model.recipe import ConnectorRecipe
from cambrian_model.sva import VisionSampler, Windows, cut_windows, resize_grid, window_masks


@dataclass(frozen=True, slots=True)
class TowerShape:
    """What a connector needs to know of a tower."""

    width: int
    grid: int


@dataclass(slots=True)
class Seen:
    """What the connector made of a batch's pictures."""

    tokens_CD: Tensor
    """Visual tokens of the square pictures, padding included."""
    newline_D: Tensor
    """Ends each row of a picture; a copy, since a sharded parameter is gone after the forward."""
    windows: Windows | None
    """What samplers inside the language model look at: a row of windows a cell; None without."""


def _two_layers(width_in: int, width_out: int) -> list[nn.Module]:
    return [nn.Linear(width_in, width_out), nn.GELU(), nn.Linear(width_out, width_out)]


class Connector(nn.Module):
    """Base of the connectors."""

    def __init__(self, side: int, width_out: int) -> None:
        super().__init__()
        self.side = side
        self.image_newline = nn.Parameter(torch.randn(width_out) * width_out**-0.5)

    def forward(self, features: Sequence[Tensor], sizes: Sequence[Size]) -> Seen:
        """Turn the towers' features into visual tokens.

        Args:
            features: one (P, N, D_tower) a tower, row-major over the square picture.
            sizes: (width, height) of each picture before padding.
        """
        raise NotImplementedError


class SpatialVisionAggregator(Connector):
    """Tower projections, one sampler a query group, interpolation, final projection."""

    def __init__(
        self, config: ConnectorRecipe, towers: Sequence[TowerShape], width_out: int
    ) -> None:
        super().__init__(config.side, width_out)
        width = config.hidden_size
        self.query_grids = config.query_grids
        self.tower_grids = tuple(tower.grid for tower in towers)
        needed = {*self.query_grids, *([self.side] if config.in_decoder else [])}
        _check_grids(sorted(needed), self.tower_grids)
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
        self.vision_sampler_layers = nn.ModuleList(
            VisionSampler(
                width,
                [side // self.side for side in self.tower_grids],
                query_width=width_out,
                num_heads=config.num_heads,
                num_layers=1,
                layer_type=config.layer_type,
            )
            for _ in (config.in_decoder.places if config.in_decoder else ())
        )

    def forward(self, features: Sequence[Tensor], sizes: Sequence[Size]) -> Seen:
        projected = [
            self.get_submodule(f"mm_projector_aux_{number}")(feats_PND)
            for number, feats_PND in enumerate(features)
        ]
        grids = {*self.query_grids, *([self.side] if len(self.vision_sampler_layers) else [])}
        windows = {  # samplers of one grid share theirs
            grid: self._windows(projected, sizes, grid) for grid in sorted(grids)
        }
        groups = [
            self._sample(group, windows[grid], len(sizes))
            for group, grid in enumerate(self.query_grids)
        ]
        tokens_PGGD = self.mm_projector(torch.cat(groups, dim=-1))
        inside = windows[self.side] if len(self.vision_sampler_layers) else None
        return Seen(tokens_PGGD.flatten(0, 2), self.image_newline.clone(), inside)

    def _windows(self, projected: Sequence[Tensor], sizes: Sequence[Size], grid: int) -> Windows:
        """Cut the towers' maps into the windows of a query grid."""
        device = projected[0].device
        return Windows(
            keys=[
                cut_windows(feats_PND, side, grid)
                for feats_PND, side in zip(projected, self.tower_grids, strict=True)
            ],
            masks=[window_masks(sizes, side, grid, device) for side in self.tower_grids],
            context=projected[0].mean(dim=1),
            picture=torch.arange(len(sizes), device=device).repeat_interleave(grid * grid),
            cells_per_picture=grid * grid,
        )

    def _sample(self, group: int, windows: Windows, num_pictures: int) -> Tensor:
        """Run the sampler of one query group; returns (P, side, side, D)."""
        grid = self.query_grids[group]
        query_1D = self.vision_query[group : group + 1].to(windows.context.dtype)
        sampled_CD = self.get_submodule(f"vision_sampler_{group}")(query_1D, windows)
        return resize_grid(sampled_CD.view(num_pictures, grid, grid, -1), self.side)


class MlpConnector(Connector):
    """`mlp2x_gelu`: the towers' features on one grid, side by side, through a 2-layer MLP."""

    def __init__(
        self, config: ConnectorRecipe, towers: Sequence[TowerShape], width_out: int
    ) -> None:
        super().__init__(config.side, width_out)
        self.tower_grids = tuple(tower.grid for tower in towers)
        width_in = sum(tower.width for tower in towers)
        self.mm_projector = nn.Sequential(*_two_layers(width_in, width_out))

    def forward(self, features: Sequence[Tensor], sizes: Sequence[Size]) -> Seen:
        maps = [
            resize_grid(feats_PND.unflatten(1, (side, side)), self.side)
            for feats_PND, side in zip(features, self.tower_grids, strict=True)
        ]
        tokens_PGGD = self.mm_projector(torch.cat(maps, dim=-1))
        return Seen(tokens_PGGD.flatten(0, 2), self.image_newline.clone(), None)


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
