"""Golden D: padding arithmetic (masks, positions, cells kept) and the preparation of pictures."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

from cambrian_model.pictures import (
    content_span,
    grid_mask,
    normalise,
    num_visual_tokens,
    pad_colour,
    pad_to_square,
    padding_offsets,
    square_pixels,
    visible_positions,
)
from cambrian_model.vision import normalise_pixels
from tests.cambrian_model.golden.cases import Case

_NAME = re.compile(r"(\d+)x(\d+)\.(.+)")


def check(case: Case) -> None:
    """Compare a case of either form.

    Raises:
        AssertionError: a value differs, or the case holds something that has no reader.
    """
    if "images" in case.meta:
        _check_preparation(case)
    elif "per_size" in case.meta:
        _check_padding(case)
    else:
        raise AssertionError(f"{case.name}: neither padding arithmetic nor preparation of pictures")


# ----------------------------------------------------------------------------------- padding


def _check_padding(case: Case) -> None:
    side = math.isqrt(case.meta["token_len"])
    assert side * side == case.meta["token_len"]
    sizes = [tuple(entry["image_size"]) for entry in case.meta["per_size"]]
    for size, entry in zip(sizes, case.meta["per_size"], strict=True):
        _check_facts(size, side, entry)
    known = set()
    for name, expected in case.io.items():
        match = _NAME.fullmatch(name)
        assert match, f"{case.name}: no reader for the tensor {name}"
        size = int(match[1]), int(match[2])
        known.add(size)
        found = torch.from_numpy(_padding_tensor(size, side, match[3]))
        assert torch.equal(found.to(expected.dtype), expected), name
    assert not case.io or known == set(sizes)


def _padding_tensor(size: tuple[int, int], side: int, what: str) -> np.ndarray:
    other = re.fullmatch(r"(?:un)?mask_(\d+)", what)
    if other:
        return grid_mask(size, int(other[1]))
    if what == "unpad_index":
        return np.flatnonzero(grid_mask(size, side))
    form, _, what = what.partition(".")
    assert form in ("plain", "newline"), form
    mask = grid_mask(size, side, newline=form == "newline")
    return {"attention_mask": mask, "position_ids": visible_positions(mask)}[what]


def _check_facts(size: tuple[int, int], side: int, entry: dict[str, Any]) -> None:
    for name, expected in entry.items():
        if name == "image_size":
            continue
        if name == "padding_offset_left_right_top_bottom":
            found: Any = {grid: list(padding_offsets(size, int(grid))) for grid in expected}
        elif name == "plain_visible":
            found = int(grid_mask(size, side).sum())
        elif name == "newline_visible":
            found = int(grid_mask(size, side, newline=True).sum())
            assert found == num_visual_tokens(size, side)
        elif name == "unpad_shape_height_width":
            top, bottom, left, right = content_span(size, side)
            found = [bottom - top, right - left]
        elif name.startswith("unmask_"):
            # Whether the published code's two masks agree says nothing of ours, of which there
            # is one.
            expected = {k: v for k, v in expected.items() if k != "same_as_training_mask"}
            found = {key: _unmask(size, int(name[7:]))[key] for key in expected}
        else:
            raise AssertionError(f"no reader for {name}")
        assert found == expected, (size, name)


def _unmask(size: tuple[int, int], side: int) -> dict[str, Any]:
    mask = grid_mask(size, side).reshape(side, side)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return {
        "visible": int(mask.sum()),
        "first_row": int(rows[0]),
        "last_row": int(rows[-1]),
        "first_col": int(columns[0]),
        "last_col": int(columns[-1]),
        "is_rectangle": bool(mask.sum() == len(rows) * len(columns)),
    }


# ------------------------------------------------------------------------------- preparation


def _check_preparation(case: Case) -> None:
    # The same Pillow gives the same bytes; others may round differently.
    step = 0 if PIL.__version__ == case.meta.get("made_with", {}).get("pillow") else 1
    read = set()
    for entry in case.meta["images"]:
        name, mean, std = entry["index"], entry["image_mean"], entry["image_std"]
        image = Image.fromarray(case.io[f"{name}.input"].numpy())
        assert image.size == tuple(entry["image_size"])
        assert list(pad_colour(mean)) == entry["background"]
        square = np.asarray(pad_to_square(image, mean))
        assert np.array_equal(square, case.io[f"{name}.square"].numpy())
        pixels = square_pixels(image, entry["target"], mean)
        expected = case.io[f"{name}.resized"].permute(2, 0, 1)
        assert np.abs(pixels.astype(int) - expected.numpy().astype(int)).max() <= step
        values = case.io[f"{name}.pixel_values"]
        on_cpu = torch.from_numpy(normalise(expected.numpy(), mean, std))
        torch.testing.assert_close(on_cpu, values, atol=1e-5, rtol=0)
        by_tower = normalise_pixels(expected[None], mean, std)[0]
        torch.testing.assert_close(by_tower, values, atol=1e-5, rtol=0)
        if step == 0:
            whole = torch.from_numpy(normalise(pixels, mean, std))
            torch.testing.assert_close(whole, values, atol=1e-5, rtol=0)
        read |= {f"{name}.{what}" for what in ("input", "square", "resized", "pixel_values")}
    assert read == case.io.keys(), f"{case.name}: no reader for {sorted(case.io.keys() - read)}"
