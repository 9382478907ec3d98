"""Decoding, padding, resizing, normalising, and which cells of a grid show picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cambrian_model.pictures import (
    MemoryCache,
    PictureError,
    content_span,
    decode_picture,
    normalise,
    num_visual_tokens,
    square_pixels,
)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


def _bytes(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def test_padding_has_the_mean_colour_and_surrounds_the_picture():
    pixels = square_pixels(Image.new("RGB", (40, 20), (255, 0, 0)), 40, CLIP_MEAN)
    assert pixels.shape == (3, 40, 40)
    colour = [int(channel * 255) for channel in CLIP_MEAN]
    assert pixels[:, 0, 0].tolist() == colour
    assert pixels[:, 9, 20].tolist() == colour
    assert pixels[:, 10, 20].tolist() == [255, 0, 0]
    assert pixels[:, 29, 20].tolist() == [255, 0, 0]
    assert pixels[:, 30, 20].tolist() == colour


def test_normalising_takes_channels_one_by_one():
    pixels = np.full((3, 1, 1), 255, dtype=np.uint8)
    found = normalise(pixels, (0.5, 0.25, 1.0), (0.5, 0.25, 0.5))
    assert found.ravel().tolist() == [1.0, 3.0, 0.0]
    assert found.dtype == np.float32


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode):
    kind = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    image = decode_picture(_bytes(Image.new(mode, (5, 4)), kind))
    assert (image.mode, image.size) == ("RGB", (5, 4))


def test_what_is_transparent_becomes_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    found = decode_picture(_bytes(image))
    assert [found.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (10, 20, 30)]


@pytest.mark.parametrize("data", [b"", b"no picture", _bytes(Image.new("RGB", (60, 60)))[:60]])
def test_what_is_no_picture_is_an_error(data):
    with pytest.raises(PictureError, match="cannot decode"):
        decode_picture(data)


def test_padding_resizing_and_normalising_equal_published(read_case):
    meta, tensors, _ = read_case("d_resize")
    for entry in meta["images"]:
        name, mean, std = entry["index"], entry["image_mean"], entry["image_std"]
        image = Image.fromarray(tensors[f"{name}.input"].numpy())
        assert image.size == tuple(entry["image_size"])
        pixels = square_pixels(image, entry["target"], mean)
        expected = tensors[f"{name}.resized"].permute(2, 0, 1).numpy()
        assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= 1
        values = normalise(expected, mean, std)
        np.testing.assert_allclose(values, tensors[f"{name}.pixel_values"].numpy(), atol=1e-5)


def test_thin_pictures_keep_a_row():
    for size in [(4000, 3), (3, 4000), (1, 1)]:
        top, bottom, left, right = content_span(size, 6)
        assert bottom > top
        assert right > left
        assert num_visual_tokens(size, 6) == (bottom - top) * (right - left + 1)


def test_the_cache_keeps_to_its_bound_and_drops_the_oldest():
    made = []

    def make(key):
        return cache.get(key, lambda: made.append(key) or bytes(40))

    cache = MemoryCache(100, len)
    for key in "abacab":
        make(key)
    assert made == ["a", "b", "c", "b"]
    assert cache.used == 80
    assert len(cache) == 2
    cache.get("big", lambda: bytes(101))
    assert len(cache) == 2
