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
    grid_mask,
    normalise,
    num_visual_tokens,
    padding_offsets,
    square_pixels,
    square_pixels_all,
    visible_positions,
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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 257, 32896, 65535], [0, 1, 128, 255]),
        ([0, 512, 1023, 1023], [0, 128, 255, 255]),  # ten bits of a camera
        ([0, 100, 200, 255], [0, 100, 200, 255]),
    ],
)
def test_sixteen_bits_are_scaled_not_cut_off(values, expected):
    image = Image.fromarray(np.array([values], dtype=np.uint16))
    for kind in ("PNG", "TIFF"):
        found = decode_picture(_bytes(image, kind))
        assert [found.getpixel((x, 0))[0] for x in range(4)] == expected


def test_floats_are_brought_into_range():
    image = Image.fromarray(np.array([[-1.0, 0.0, np.nan, 1.0]], dtype=np.float32))
    found = decode_picture(_bytes(image, "TIFF"))
    assert [found.getpixel((x, 0))[0] for x in range(4)] == [0, 128, 128, 255]


def test_inks_become_light():
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    red, green, blue = decode_picture(_bytes(image, "TIFF")).getpixel((0, 0))
    assert red > 200
    assert max(green, blue) < 60


def test_a_palette_keeps_its_colours_and_what_is_clear():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert decode_picture(_bytes(image)).getpixel((1, 0)) == (200, 100, 50)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0)
    found = decode_picture(buffer.getvalue())
    assert [found.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (200, 100, 50)]


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], loop=0)
    assert decode_picture(buffer.getvalue()).getpixel((0, 0)) == (255, 0, 0)


def test_a_photograph_is_turned_upright():
    image = Image.new("RGB", (6, 4), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # held sideways
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    assert decode_picture(buffer.getvalue()).size == (4, 6)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_they_are_decoded():
    header = Image.new("1", (20_000, 6_000))
    with pytest.raises(PictureError, match="20000x6000 is too large"):
        decode_picture(_bytes(header))


def test_a_banner_does_not_fill_the_memory():
    pixels = square_pixels(Image.new("RGB", (60_000, 30), "white"), 24, CLIP_MEAN)
    assert pixels.shape == (3, 24, 24)
    assert (pixels[:, 0, 0] < 130).all()


def test_several_towers_get_what_each_gets_alone():
    image = Image.effect_noise((50, 31), 80).convert("RGB")
    wanted = [(20, CLIP_MEAN), (24, (0.5, 0.5, 0.5)), (20, CLIP_MEAN), (50, CLIP_MEAN)]
    for found, (size, mean) in zip(square_pixels_all(image, wanted), wanted, strict=True):
        assert np.array_equal(found, square_pixels(image, size, mean))


def test_masks_positions_and_edges_of_a_wide_picture():
    mask = grid_mask((40, 20), 4)
    assert mask.reshape(4, 4).any(axis=1).tolist() == [False, True, True, False]
    assert visible_positions(mask).tolist() == [-1] * 4 + list(range(8)) + [7] * 4
    with_newline = grid_mask((40, 20), 4, newline=True).reshape(4, 5)
    assert with_newline[:, 4].tolist() == [False, True, True, False]
    assert with_newline.sum() == num_visual_tokens((40, 20), 4) == 10
    assert grid_mask((20, 40), 4, newline=True).sum() == 12
    assert padding_offsets((40, 20), 4) == (0, 0, 1, 1)
    assert padding_offsets((20, 40), 4) == (1, 1, 0, 0)


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
