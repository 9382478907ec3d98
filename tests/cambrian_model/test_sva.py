"""The aggregator against the published values (golden A and B) and against a plain double loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from cambrian_model.connector import MlpConnector, SpatialVisionAggregator, TowerShape
from cambrian_model.pictures import content_span, num_visual_tokens
from cambrian_model.recipe import ConnectorRecipe
from cambrian_model.sva import VisionSampler, cut_windows, window_masks


def _sampler_of(meta, weights):
    config = meta["config"]
    sampler = VisionSampler(
        config["vision_hidden_size"],
        config["kv_size_list"],
        num_heads=config["num_heads"],
        num_layers=config["num_of_layers"],
        layer_type=config["layer_type"],
    )
    prefix = config["weight_key_prefix"]
    sampler.load_state_dict({key.removeprefix(prefix): w for key, w in weights.items()})
    return sampler, prefix


@pytest.mark.parametrize(
    "name", ["a_joint_4towers_d3", "a_joint_ratios124_d2", "a_sep_ratios124_d1"]
)
def test_sampler_equals_published_outputs_and_gradients(read_case, name):
    meta, io, weights = read_case(name)
    sampler, prefix = _sampler_of(meta, weights)
    towers = range(len(meta["config"]["kv_size_list"]))
    inputs = {
        key: io[f"input.{key}"].clone().requires_grad_()
        for key in ["queries", "context", *(f"latents_{i}" for i in towers)]
    }
    queries, context = inputs["queries"].squeeze(1), inputs["context"].squeeze(1)
    windows = [inputs[f"latents_{i}"] for i in towers]
    masks = [io[f"input.mask_{i}"] for i in towers]
    limit = meta["suggested_tolerance"]
    close = {"atol": limit["output_atol"], "rtol": limit["output_rtol"]}
    for number, layer in enumerate(sampler.layers):
        queries = layer(queries, context, windows, masks)
        assert_close(queries.unsqueeze(1), io[f"output.layer_{number}"], **close)
    loss = (queries.unsqueeze(1) * io["input.loss_weight"]).sum()
    assert_close(loss.view(1), io["output.loss"], atol=1e-4, rtol=1e-4)
    loss.backward()
    close = {"atol": limit["grad_atol"], "rtol": limit["grad_rtol"]}
    found = {f"grad.input.{key}": value.grad for key, value in inputs.items()}
    found |= {f"grad.{prefix}{key}": p.grad for key, p in sampler.named_parameters()}
    expected = {key: value for key, value in io.items() if key.startswith("grad.")}
    assert expected and expected.keys() <= found.keys()
    for key, value in expected.items():
        assert_close(found[key], value, **close, msg=lambda text, key=key: f"{key}: {text}")


def _connector_of(meta, weights):
    config = meta["config"]
    sides = [math.isqrt(count) for count in config["mm_vision_tower_aux_token_len_list"]]
    towers = [
        TowerShape(width, side)
        for width, side in zip(config["tower_hidden_sizes"], sides, strict=True)
    ]
    recipe = ConnectorRecipe(
        hidden_size=config["vision_hidden_size"],
        num_heads=16,
        num_layers=config["connector_depth"],
        query_grids=tuple(math.isqrt(count) for count in config["query_num_list"]),
    )
    connector = SpatialVisionAggregator(recipe, towers, config["hidden_size"])
    state = {key.removeprefix("model."): value for key, value in weights.items()}
    embed = state.pop("embed_tokens.weight")
    connector.load_state_dict(state)
    return connector, embed


@pytest.mark.parametrize("name", ["b_connector_g1", "b_connector_g2"])
def test_connector_equals_published_inference_path(read_case, name):
    meta, io, weights = read_case(name)
    connector, embed = _connector_of(meta, weights)
    sizes = [tuple(size) for size in io["input.image_sizes"].tolist()]
    features = [io[f"input.features_{i}"] for i in range(3)]
    pictures = connector(features, sizes)
    expected, mask = io["infer.output.inputs_embeds"], io["infer.output.attention_mask"]
    seen = 0
    for row, (ids, length) in enumerate(
        zip(io["infer.input_ids"], io["infer.attention_mask"].sum(1), strict=True)
    ):
        ids = ids[:length]
        place = (ids == -200).nonzero().flatten().tolist()
        pieces = [embed[ids.clamp(min=0)]]
        if place:
            before, after = ids[: place[0]], ids[place[0] + 1 :]
            pieces = [embed[before], pictures[row], embed[after]]
            seen += 1
        got = torch.cat(pieces)
        want = expected[row][mask[row]]
        assert_close(got, want, atol=1e-5, rtol=1e-4)
    assert seen >= 3


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


def test_padding_arithmetic_equals_published(read_case):
    meta, _, _ = read_case("d_padding_576")
    for entry in meta["per_size"]:
        size = tuple(entry["image_size"])
        top, bottom, left, right = content_span(size, 24)
        assert [bottom - top, right - left] == entry["unpad_shape_height_width"], size
        assert num_visual_tokens(size, 24) == entry["newline_visible"], size
        fine = entry["unmask_96"]
        span = (fine["first_row"], fine["last_row"] + 1, fine["first_col"], fine["last_col"] + 1)
        assert content_span(size, 96) == span, size


def test_windows_are_the_blocks_of_the_map():
    side, grid = 6, 3
    feats = torch.arange(2 * side * side).view(2, side * side, 1).float()
    windows = cut_windows(feats, side, grid)
    maps = feats.view(2, side, side)
    row = 0
    for picture in maps:
        for y in range(grid):
            for x in range(grid):
                block = picture[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten()
                assert torch.equal(windows[row, :, 0], block)
                row += 1


def _small(kind="sva", **changes):
    recipe = ConnectorRecipe(
        kind=kind, hidden_size=16, num_heads=4, num_layers=2, query_grids=(4,)
    ).model_copy(update=changes)
    build = SpatialVisionAggregator if kind == "sva" else MlpConnector
    torch.manual_seed(0)
    return build(recipe, [TowerShape(8, 4), TowerShape(6, 8)], 10)


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
    before = connector(features, sizes)[0]
    after = connector([features[0], changed.view(1, 64, 6)], sizes)[0]
    assert before.shape == (2 * (4 + 1), 10)
    assert torch.equal(before, after)


def test_pictures_of_a_batch_do_not_touch_each_other():
    connector = _small()
    features = [torch.randn(3, 16, 8), torch.randn(3, 64, 6)]
    sizes = [(80, 40), (50, 50), (30, 90)]
    together = connector(features, sizes)
    for number, size in enumerate(sizes):
        alone = connector([feats[number : number + 1] for feats in features], [size])[0]
        assert alone.shape[0] == num_visual_tokens(size, 4)
        assert_close(together[number], alone, atol=1e-6, rtol=1e-5)


def test_mlp_connector_gives_the_same_places():
    connector = _small("mlp2x_gelu")
    tokens = connector([torch.randn(1, 16, 8), torch.randn(1, 64, 6)], [(80, 40)])[0]
    assert tokens.shape == (10, 10)


def test_a_grid_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="no multiple of the query grid 3"):
        _small(query_grids=(3,))
