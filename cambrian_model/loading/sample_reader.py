"""One sample of a shard, by its place in the file -> an example and its pictures' pixels.

This is what worker processes do; it imports no torch. What is wrong with a sample comes back as a
`Fault`, never as another sample. Pixels are uint8 at the towers' sizes: a quarter of the bytes that
go between processes, normalised on the device.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from cambrian_data.records import bytes_id
from cambrian_data.shards import parse_record
from cambrian_data.tarfiles import read_members
from cambrian_model.conversation import SampleError
from cambrian_model.loading.examples import Example, ExampleMaker
from cambrian_model.pictures import (
    DAMAGES,
    MemoryCache,
    PictureError,
    Size,
    decode_picture,
    square_pixels_all,
    total_nbytes,
)

Crop = tuple[int, tuple[float, ...]]
"""What a tower wants of a picture: side of the square in pixels, colour of the padding in 0..1."""

_END_OF_TAR = bytes(1024)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a sample lies."""

    path: Path
    offset: int
    size: int
    num_tokens: int | None = None
    """What the index says of it; another number means that the file is no longer the same."""

    @property
    def name(self) -> str:
        """Return what it is called where its record cannot be read."""
        return f"{self.path.name}@{self.offset}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A sample that could not be loaded."""

    sample_id: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"sample {self.sample_id}: {self.reason}: {self.detail}"


@dataclass(slots=True)
class PreparedPicture:
    """A picture as pixels."""

    size: Size
    """(width, height) before it was padded."""
    pixels: list[np.ndarray]
    """uint8, one (3, px, px) a tower; two towers that want the same share one."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Go between processes as plain bytes, which are copied less often than arrays."""
        data = {id(array): array.tobytes() for array in self.pixels}
        return _unpacked, (
            self.size,
            [array.shape for array in self.pixels],
            [data[id(array)] for array in self.pixels],
        )


def _unpacked(size: Size, shapes: list[tuple[int, ...]], data: list[bytes]) -> PreparedPicture:
    arrays = [
        np.frombuffer(one, dtype=np.uint8).reshape(shape)
        for one, shape in zip(data, shapes, strict=True)
    ]
    return PreparedPicture(size, arrays)


@dataclass(slots=True)
class Loaded:
    """A sample that was read."""

    example: Example
    prepared: list[PreparedPicture]
    """Its pictures, where they were asked for."""
    stored: list[bytes]
    """Its pictures as they are stored, where no pixels were asked for."""


class SampleReader:
    """Reads samples, and keeps decoded pictures within a bound."""

    def __init__(self, make: ExampleMaker, crops: Iterable[Crop], max_bytes: int = 0) -> None:
        self.make, self.crops = make, tuple(crops)
        self._pixels: MemoryCache[PreparedPicture] = MemoryCache(max_bytes, _nbytes)

    def read(self, spot: Spot) -> tuple[Example, list[bytes]]:
        """Return a sample and the stored pictures that its ids show.

        Raises:
            SampleError: it cannot be used.
            ValueError, KeyError, TypeError: its bytes are damaged.
            FileNotFoundError: the shard is gone.
        """
        with spot.path.open("rb") as file:
            file.seek(spot.offset)
            data = file.read(spot.size)
        members = dict(read_members(io.BytesIO(data + _END_OF_TAR)))
        name = next(iter(members), "")
        key, _, rest = name.partition(".")
        if rest != "json":
            raise ValueError("there is no sample here")
        record = parse_record(members.pop(name))
        example = self.make(record, str(record.get("id") or spot.name))
        if spot.num_tokens not in (None, example.num_tokens):
            raise ValueError(f"{example.num_tokens} tokens, {spot.num_tokens} when it was indexed")
        shown = record["images"][: len(example.pictures)]
        return example, [_stored(members, key, image) for image in shown]

    def load(self, spot: Spot, with_pixels: bool = True) -> Loaded | Fault:
        """Return a sample with its pictures, or what is wrong with it.

        Raises:
            FileNotFoundError: the shard is gone.
        """
        sample_id = spot.name
        try:
            example, stored = self.read(spot)
            sample_id = example.sample_id
            if not with_pixels:
                return Loaded(example, [], stored)
            pictures = zip(example.pictures, stored, example.sizes, strict=True)
            return Loaded(example, [self.prepare(*picture) for picture in pictures], [])
        except SampleError as error:
            return Fault(error.sample_id, error.reason, error.detail)
        except PictureError as error:
            return Fault(sample_id, "picture_unreadable", str(error))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Fault(sample_id, "damaged", f"{type(error).__name__}: {error}")

    def prepare(self, key: str, stored: bytes, size: Size) -> PreparedPicture:
        """Return a picture as pixels.

        Args:
            key: its sha256.
            size: as its record says.
        Raises:
            PictureError: it cannot be decoded, or is not the one that the record names.
        """
        return self._pixels.get(key, partial(self._prepare, key, stored, size))

    def _prepare(self, key: str, stored: bytes, size: Size) -> PreparedPicture:
        if bytes_id(stored) != key:
            raise PictureError(f"its sha256 is not {key[:12]}..., as its record says")
        image = decode_picture(stored)
        if image.size not in (size, size[::-1]):  # the record may not know how it is turned
            raise PictureError(f"it is {image.size}, its record says {size}")
        return PreparedPicture(image.size, square_pixels_all(image, self.crops))


def _nbytes(picture: PreparedPicture) -> int:
    return total_nbytes(picture.pixels)


def _stored(members: dict[str, bytes], key: str, image: dict[str, Any]) -> bytes:
    found = members.get(f"{key}.{image['file']}")
    if found is None:
        raise PictureError(f"{image['file']} is missing")
    return found


def upright_size(stored: bytes) -> Size:
    """Return the size that a picture has once it is turned as its EXIF says, without decoding it.

    Raises:
        PictureError: the bytes are no picture.
    """
    try:
        with Image.open(io.BytesIO(stored)) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except DAMAGES as error:
        raise PictureError(f"cannot read the picture's size: {error}") from None
