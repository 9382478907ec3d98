"""Kind B: the connector and where its tokens stand, on the published training and inference paths.

Where a query group is coarser than the grid of visual tokens, the published training path takes
other masks than its inference path; ours are those of the inference path, so that `train.output.*`
is compared with a single fine group only. `train.batch.*`, which the samplers do not touch, always.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.testing import assert_close

from cambrian_model.connector import SpatialVisionAggregator, TowerShape
from cambrian_model.conversation import IMAGE_TOKEN_INDEX, Encoded
from cambrian_model.layout import Layout, StaticShape, lay_out
from cambrian_model.recipe import ConnectorRecipe, InDecoderRecipe
from cambrian_model.sva import window_masks
from tests.cambrian_model.golden.cases import Case

NUM_HEADS = 16  # of the published code, always


def connector_recipe(config) -> ConnectorRecipe:
    """Return the recipe of a published config."""
    inside = None
    if not config.get("connector_only", True):
        inside = InDecoderRecipe(
            start=config["start_of_vision_sampler_layers"],
            stride=config["stride_of_vision_sampler_layers"],
            count=config["num_of_vision_sampler_layers"],
        )
    return ConnectorRecipe(
        kind=config.get("mm_projector_type", "sva"),
        hidden_size=config["vision_hidden_size"],
        num_heads=NUM_HEADS,
        num_layers=config["connector_depth"],
        query_grids=tuple(math.isqrt(count) for count in config["query_num_list"]),
        grid=math.isqrt(config["image_token_len"]),
        in_decoder=inside,
    )


def tower_shapes(config) -> list[tuple[int, int]]:
    """Return width and grid of each tower."""
    grids = [math.isqrt(count) for count in config["mm_vision_tower_aux_token_len_list"]]
    return list(zip(config["tower_hidden_sizes"], grids, strict=True))


def samples_of(case: Case) -> list[Encoded]:
    """Return the samples before batching."""
    found = []
    while f"input.sample_{len(found)}.input_ids" in case.io:
        number = len(found)
        found.append(
            Encoded(
                case.io[f"input.sample_{number}.input_ids"].tolist(),
                case.io[f"input.sample_{number}.labels"].tolist(),
            )
        )
    return found


def sizes_of(tensor: Tensor) -> list[tuple[int, int]]:
    return [(int(width), int(height)) for width, height in tensor.tolist()]


def own_rows(samples) -> list[int]:
    """Return the rows whose ids name a picture; each row has at most one."""
    return [n for n, sample in enumerate(samples) if sample.num_pictures]


def train_layout(case: Case) -> Layout:
    """Lay out the samples with static shapes, as the published collator does."""
    config, samples = case.config, samples_of(case)
    sizes = sizes_of(case.io["input.image_sizes"])
    side = math.isqrt(config["image_token_len"])
    static = StaticShape(
        num_tokens=config["tokenizer_model_max_length"], stand_in_at=config["image_position"]
    )
    rows = own_rows(samples)
    return lay_out(
        [[sample] for sample in samples],
        [sizes[row] for row in rows],
        side,
        pad_token_id=config["pad_token_id"],
        padding=config.get("tokenizer_padding_side", "right"),
        static=static,
    )


def check_train_batch(case: Case) -> Layout:
    """Compare everything of the stored training batch exactly."""
    layout = train_layout(case)
    sizes = sizes_of(case.io["input.image_sizes"])
    side = math.isqrt(case.config["image_token_len"])
    expected = case.group("train.batch.")
    found = {
        "input_ids": layout.input_ids,
        "labels": layout.labels,
        "attention_mask": layout.attention_mask,
        "position_ids": layout.position_ids,
    }
    for tower, (_, grid) in enumerate(tower_shapes(case.config)):
        masks = window_masks(sizes, grid, side, torch.device("cpu"))
        found[f"image_aux_attention_mask_{tower}"] = masks.view(len(sizes), side * side, -1)
    assert expected.keys() <= found.keys(), expected.keys() - found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value.to(found[name].dtype)), f"train.batch.{name}"
    return layout


def embed(layout: Layout, seen, table: Tensor) -> Tensor:
    """Return text and picture embeddings in their places, (B, T, D)."""
    flat = table[layout.input_ids.clamp(min=0)].flatten(0, 1)
    flat = flat.index_copy(0, layout.cell_place, seen.tokens_CD[layout.cell_index])
    newlines = seen.newline_D.expand(len(layout.newline_place), -1)
    return flat.index_copy(0, layout.newline_place, newlines).unflatten(
        0, tuple(layout.input_ids.shape)
    )


def _rows_only(layout: Layout, kept: list[int], side: int) -> Layout:
    """Let a layout of all pictures' cells point at the cells of the rows that name one."""
    lookup = torch.tensor(kept)
    cells = side * side
    layout.cell_index = lookup[layout.cell_index // cells] * cells + layout.cell_index % cells
    return layout


def _compare(found: dict[str, Tensor], expected: dict[str, Tensor], case: Case, path: str) -> None:
    unknown = expected.keys() - found.keys()
    assert not unknown, f"{case.name}: no reader for {path} {sorted(unknown)}"
    for name, value in expected.items():
        got, where = found[name], f"{path}{name}"
        if value.is_floating_point():
            close = case.tolerance("output")
            assert_close(got, value, **close, msg=lambda text, where=where: f"{where}: {text}")
        else:
            assert torch.equal(got.to(value.dtype), value), where


def _infer(case: Case, connector, table: Tensor) -> None:
    samples, io = samples_of(case), case.io
    sizes, side = sizes_of(io["input.image_sizes"]), connector.side
    labels = io["infer.labels"]
    rows = [
        [Encoded(ids[kept].tolist(), row_labels[kept].tolist())]
        for ids, row_labels, kept in zip(
            io["infer.input_ids"], labels, io["infer.attention_mask"], strict=True
        )
    ]
    kept = own_rows(samples)
    features = [io[f"input.features_{i}"] for i in range(len(tower_shapes(case.config)))]
    seen = connector(features, sizes)
    visible = lay_out(
        [[Encoded([IMAGE_TOKEN_INDEX], [-100])] for _ in sizes], sizes, side, pad_token_id=0
    ).cell_index
    for path, padding in (("infer.output.", "right"), ("infer_left.output.", "left")):
        expected = case.group(path)
        if not expected:
            continue
        layout = lay_out(rows, [sizes[row] for row in kept], side, pad_token_id=0, padding=padding)
        layout = _rows_only(layout, kept, side)
        found = {
            "inputs_embeds": embed(layout, seen, table),
            "labels": layout.labels,
            "attention_mask": layout.attention_mask,
            "position_ids": layout.position_ids,
            "final_size": _final_sizes(sizes, side),
            **_windows(connector, features, sizes, visible),
            **_hidden(connector, features, sizes),
        }
        embeds = expected.pop("inputs_embeds", None)
        if embeds is not None:  # what stands on padding carries no meaning
            mask = layout.attention_mask
            found_embeds = found["inputs_embeds"]
            _compare({"it": found_embeds[mask]}, {"it": embeds[mask]}, case, path + "embeds")
        _compare(found, expected, case, path)


def _final_sizes(sizes, side: int) -> Tensor:
    from cambrian_model.pictures import content_span

    spans = [content_span(size, side) for size in sizes]
    return torch.tensor([[bottom - top, right - left] for top, bottom, left, right in spans])


def _windows(connector, features, sizes, rows: Tensor) -> dict[str, Tensor]:
    """Return what samplers inside the language model would receive, of the given cells."""
    projected = _projected(connector, features)
    windows = connector._windows(projected, sizes, connector.side).select(rows)
    found = {"global_context": windows.context[windows.picture][:, None]}
    for tower, (keys, mask) in enumerate(zip(windows.keys, windows.masks, strict=True)):
        found[f"aux_features_{tower}"], found[f"aux_mask_{tower}"] = keys, mask
    return found


def _projected(connector, features) -> list[Tensor]:
    return [
        connector.get_submodule(f"mm_projector_aux_{tower}")(feats)
        for tower, feats in enumerate(features)
    ]


def _hidden(connector, features, sizes) -> dict[str, Tensor]:
    """Return the outputs of single modules."""
    found = {}
    names = [name for name, _ in connector.named_children() if name != "vision_sampler_layers"]
    hooks = [
        connector.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: found.__setitem__(f"hidden.{name}", output)
        )
        for name in names
    ]
    connector(features, sizes)
    for hook in hooks:
        hook.remove()
    for name in list(found):
        if "vision_sampler" in name:
            found[name] = found[name][:, None]
        elif name == "hidden.mm_projector":
            found[name] = found[name].flatten(1, 2)
    return found


def _train(case: Case, connector, table: Tensor, layout: Layout) -> None:
    io, side = case.io, connector.side
    sizes = sizes_of(io["input.image_sizes"])
    features = [io[f"input.features_{i}"] for i in range(len(tower_shapes(case.config)))]
    every = torch.arange(len(sizes) * side * side)
    found = {
        "inputs_embeds": embed(layout, connector(features, sizes), table),
        "labels": layout.labels,
        "attention_mask": layout.attention_mask,
        "position_ids": layout.position_ids,
        "final_size": torch.tensor([[side, side]] * len(sizes)),
        **_windows(connector, features, sizes, every),
        **_hidden(connector, features, sizes),
    }
    _compare(found, case.group("train.output."), case, "train.output.")


@torch.no_grad()
def check(case: Case) -> None:
    """Compare a connector case."""
    config = case.config
    recipe = connector_recipe(config)
    towers = [TowerShape(*shape) for shape in tower_shapes(config)]
    connector = SpatialVisionAggregator(recipe, towers, config["hidden_size"])
    state = {name.removeprefix("model."): value for name, value in case.weights.items()}
    table = state.pop("embed_tokens.weight")
    connector.load_state_dict(state)
    layout = check_train_batch(case)
    if recipe.query_grids == (connector.side,):
        _train(case, connector, table, layout)
    _infer(case, connector, table)
