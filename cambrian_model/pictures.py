"""Pictures: bytes -> square pixels for a tower, and which cells of a grid show picture.

A picture is padded to a square with the tower's mean colour, resized and normalised; the padding is
known from the picture's (width, height) alone. `content_span` says which rows and columns of a grid
over the square show picture, by the rule of the published code (golden case D).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

Size = tuple[int, int]
"""(width, height) in pixels."""

_MAX_PIXELS = 100_000_000


class PictureError(ValueError):
    """Bytes that are no picture, or one that cannot be decoded."""


def decode_picture(data: bytes) -> Image.Image:
    """Decode to RGB; what is transparent becomes white, as figures are drawn for white paper.

    Raises:
        PictureError: the bytes are no picture, damaged, or over 100 million pixels.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise PictureError(f"a picture of {image.width}x{image.height} is too large")
            if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
                return image.convert("RGB")
            paper = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"cannot decode the picture: {error}") from None


def square_pixels(image: Image.Image, size_px: int, mean: Sequence[float]) -> np.ndarray:
    """Pad to a square with the mean colour and resize (bicubic).

    Returns:
        uint8, (3, size_px, size_px).
    Source: the published preprocessing; golden case D checks it.
    """
    width, height = image.size
    if width != height:
        side = max(width, height)
        colour = tuple(int(channel * 255) for channel in mean)
        square = Image.new("RGB", (side, side), colour)
        square.paste(image, ((side - width) // 2, (side - height) // 2))
        image = square
    if image.size != (size_px, size_px):
        image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def normalise(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return (pixels / 255 - mean) / std as float32; channels first."""
    shape = (3, 1, 1)
    centre = np.asarray(mean, dtype=np.float32).reshape(shape)
    spread = np.asarray(std, dtype=np.float32).reshape(shape)
    return (pixels.astype(np.float32) / np.float32(255) - centre) / spread


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


def num_visual_tokens(size: Size, side: int) -> int:
    """Return the tokens that a picture takes: its cells and one newline a row."""
    top, bottom, left, right = content_span(size, side)
    return (bottom - top) * (right - left + 1)


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
