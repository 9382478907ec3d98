"""The connectors: what they promise beside the published values of golden B and C."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from cambrian_model.connector import TowerShape, build_connector
from cambrian_model.pictures import content_span, num_visual_tokens
from cambrian_model.recipe import ConnectorRecipe
from cambrian_model.sva import window_masks


def _small(kind="sva", **changes):
    recipe = ConnectorRecipe(
        kind=kind, hidden_size=16, num_heads=4, num_layers=2, query_grids=(4,)
    ).model_copy(update=changes)
    torch.manual_seed(0)
    return build_connector(recipe, [TowerShape(8, 4), TowerShape(6, 8)], 10)


def _shown(connector, features, sizes):
    """Return the tokens of each picture without its padding."""
    tokens = connector(features, sizes).tokens_CD.view(len(sizes), 4, 4, -1)
    spans = [content_span(size, 4) for size in sizes]
    return [
        picture[top:bottom, left:right]
        for picture, (top, bottom, left, right) in zip(tokens, spans, strict=True)
    ]


@pytest.mark.parametrize("name", ["b_connector_g1", "b_connector_g2"])
def test_window_masks_equal_published_inference_path(read_case, name):
    meta, io, _ = read_case(name)
    sizes = [tuple(size) for size in io["input.image_sizes"].tolist()]
    for tower, tokens in enumerate(meta["config"]["mm_vision_tower_aux_token_len_list"]):
        masks = window_masks(sizes, math.isqrt(tokens), 4, torch.device("cpu"))
        shown = []
        for picture, size in zip(masks.view(len(sizes), 4, 4, -1), sizes, strict=True):
            top, bottom, left, right = content_span(size, 4)
            shown.append(picture[top:bottom, left:right].flatten(0, 1))
        assert torch.equal(torch.cat(shown), io[f"infer.output.aux_mask_{tower}"])


@pytest.mark.parametrize("layer_type", ["joint", "sep"])
def test_padding_does_not_reach_the_visible_tokens(layer_type):
    """Whatever stands in the padding of the finer tower, the tokens shown stay the same.

    The first tower gives the context of the whole square, padding included, as published; so only
    the second one may change here.
    """
    connector = _small(layer_type=layer_type)
    sizes = [(80, 40)]
    features = [torch.randn(1, 16, 8), torch.randn(1, 64, 6)]
    changed = features[1].clone().view(8, 8, 6)
    changed[:2], changed[6:] = 7.0, -7.0
    before = _shown(connector, features, sizes)[0]
    after = _shown(connector, [features[0], changed.view(1, 64, 6)], sizes)[0]
    assert before.shape == (2, 4, 10)
    assert torch.equal(before, after)


def test_pictures_of_a_batch_do_not_touch_each_other():
    connector = _small()
    features = [torch.randn(3, 16, 8), torch.randn(3, 64, 6)]
    sizes = [(80, 40), (50, 50), (30, 90)]
    together = _shown(connector, features, sizes)
    for number, size in enumerate(sizes):
        alone = _shown(connector, [feats[number : number + 1] for feats in features], [size])[0]
        rows, columns, _ = alone.shape
        assert rows * (columns + 1) == num_visual_tokens(size, 4)
        assert_close(together[number], alone, atol=1e-6, rtol=1e-5)


def test_mlp_connector_gives_the_same_places():
    connector = _small("mlp2x_gelu")
    seen = connector([torch.randn(1, 16, 8), torch.randn(1, 64, 6)], [(80, 40)])
    assert seen.tokens_CD.shape == (16, 10)
    assert seen.windows is None


def test_a_grid_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="no multiple of the query grid 3"):
        _small(query_grids=(3,))
