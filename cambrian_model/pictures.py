"""Pictures: bytes -> square pixels for a tower, and which cells of a grid show picture.

A picture is padded to a square with a colour of its tower, resized and normalised; the padding is
known from the picture's (width, height) alone. `content_span` says which rows and columns of a grid
over the square show picture, by the rule of the published code (golden case D).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Size = tuple[int, int]
"""(width, height) in pixels."""

_MAX_PIXELS = 100_000_000
_MAX_SIDE = 10_000
"""A square over this side would take more than `_MAX_PIXELS`."""

# What the decoders of Pillow raise on damaged files.
DAMAGES = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    MemoryError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
)


class PictureError(ValueError):
    """Bytes that are no picture, or one that cannot be decoded."""


def decode_picture(data: bytes) -> Image.Image:
    """Decode to RGB, upright; of an animation the first frame.

    What is transparent becomes white, as figures are drawn for white paper. Pictures of shards are
    stored upright and without EXIF; a photograph that comes with a question is turned as its EXIF
    says.

    Raises:
        PictureError: the bytes are no picture, damaged, or over 100 million pixels.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise PictureError(f"a picture of {image.width}x{image.height} is too large")
            image.load()
            return _rgb(_upright(image))
    except PictureError:
        raise
    except DAMAGES as error:
        raise PictureError(f"cannot decode the picture: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except DAMAGES:  # damaged EXIF says nothing
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return RGB of grey with more than eight bits; Pillow would clip it and leave it white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 255 < high <= 65_535:
        bits = 16 if high >= 4096 else int(high).bit_length()  # cameras store 10 or 12 bits in 16
        values = values * np.float32(255 / (2**bits - 1))
    elif image.mode == "F" or not 0 <= low <= high <= 255:
        values = (values - low) * np.float32(255 / (high - low) if high > low else 0)
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8)).convert("RGB")


# ------------------------------------------------------------------------------------ pixels


def pad_colour(mean: Sequence[float]) -> tuple[int, ...]:
    """Return the colour of the padding of a mean in 0..1: rounded down, as published."""
    return tuple(int(channel * 255) for channel in mean)


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """Put a picture in the middle of a square of the mean colour.

    A picture with a side over 10 000 pixels is first made smaller: the square around a banner of
    100 000 x 10 would take 30 GB.
    """
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    if side > _MAX_SIDE:
        scale = _MAX_SIDE / side
        width, height = (max(1, round(length * scale)) for length in image.size)
        image, side = image.resize((width, height), Image.Resampling.BICUBIC), _MAX_SIDE
    square = Image.new("RGB", (side, side), pad_colour(mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def square_pixels(image: Image.Image, size_px: int, pad_mean: Sequence[float]) -> np.ndarray:
    """Pad to a square with the mean colour and resize (bicubic).

    Returns:
        uint8, (3, size_px, size_px).
    Source: the published preprocessing; golden case D checks it.
    """
    return square_pixels_all(image, [(size_px, pad_mean)])[0]


def square_pixels_all(
    image: Image.Image, wanted: Sequence[tuple[int, Sequence[float]]]
) -> list[np.ndarray]:
    """Do `square_pixels` for several towers, padding once a colour.

    Args:
        wanted: (size_px, pad_mean) a tower.
    """
    squares: dict[tuple[int, ...], Image.Image] = {}
    made: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}
    for size_px, mean in wanted:
        colour = pad_colour(mean)
        if (size_px, colour) in made:
            continue
        if colour not in squares:
            squares[colour] = pad_to_square(image, mean)
        square = squares[colour]
        if square.size != (size_px, size_px):
            square = square.resize((size_px, size_px), Image.Resampling.BICUBIC)
        pixels = np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)
        made[size_px, colour] = np.ascontiguousarray(pixels)
    return [made[size_px, pad_colour(mean)] for size_px, mean in wanted]


def normalise(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return (pixels / 255 - mean) / std as float32; channels first."""
    shape = (3, 1, 1)
    centre = np.asarray(mean, dtype=np.float32).reshape(shape)
    spread = np.asarray(std, dtype=np.float32).reshape(shape)
    return (pixels.astype(np.float32) / np.float32(255) - centre) / spread


# ------------------------------------------------------------------------------------- grids


@lru_cache(maxsize=65_536)
def content_span(size: Size, side: int) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of the cells that show picture, ends excluded.

    Args:
        size: the picture before it was padded.
        side: cells along one side of the square grid.
    At least one row and one column always remain.
    """
    width, height = size
    if width >= height:
        pad = _padding(max(int(height * (side / width)), 1), side)
        return pad, side - pad, 0, side
    pad = _padding(max(int(width * (side / height)), 1), side)
    return 0, side, pad, side - pad


def _padding(content: int, side: int) -> int:
    return (side - content) // 2


def padding_offsets(size: Size, side: int) -> tuple[int, int, int, int]:
    """Return (left, right, top, bottom): cells of padding at each edge."""
    top, bottom, left, right = content_span(size, side)
    return left, side - right, top, side - bottom


def grid_mask(size: Size, side: int, *, newline: bool = False) -> np.ndarray:
    """Return which cells of a grid show picture: bool, (side * side,), row-major.

    Args:
        newline: each row has one token more at its end, which shows where the row does;
            (side * (side + 1),).
    """
    top, bottom, left, right = content_span(size, side)
    mask = np.zeros((side, side + newline), dtype=bool)
    mask[top:bottom, left:right] = True
    if newline:
        mask[top:bottom, side] = True
    return mask.ravel()


def visible_positions(mask: np.ndarray) -> np.ndarray:
    """Return the position of each token of a mask: the visible ones up to it, less one; int64."""
    return np.cumsum(mask, dtype=np.int64) - 1


def num_visual_tokens(size: Size, side: int) -> int:
    """Return the tokens that a picture takes: its cells and one newline a row."""
    top, bottom, left, right = content_span(size, side)
    return (bottom - top) * (right - left + 1)


# ------------------------------------------------------------------------------------- cache

ValueT = TypeVar("ValueT")


class MemoryCache(Generic[ValueT]):
    """Keeps values by key up to a number of bytes; the one used longest ago goes first."""

    def __init__(self, max_bytes: int, size_of: Callable[[ValueT], int]) -> None:
        self.max_bytes, self.used = max_bytes, 0
        self._size_of = size_of
        self._values: dict[Hashable, ValueT] = {}

    def get(self, key: Hashable, make: Callable[[], ValueT]) -> ValueT:
        """Return the value of a key, made if it is not there."""
        if key in self._values:
            value = self._values.pop(key)
            self._values[key] = value
            return value
        value = make()
        size = self._size_of(value)
        if size <= self.max_bytes:
            self._values[key] = value
            self.used += size
            while self.used > self.max_bytes:
                oldest = self._values.pop(next(iter(self._values)))
                self.used -= self._size_of(oldest)
        return value

    def __len__(self) -> int:
        return len(self._values)


def total_nbytes(arrays: Sequence[Any]) -> int:
    """Return the bytes of arrays or tensors."""
    return sum(array.nbytes for array in arrays)
