"""Prepared pictures -> the pictures of a batch, as pixels or as features of frozen towers.

Shape letters: P pictures, N tokens of a tower, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cambrian_model.loading.sample_reader import (
    Crop,
    Fault,
    Loaded,
    PreparedPicture,
    SampleReader,
    upright_size,
)
from cambrian_model.pictures import PictureError, Size, decode_picture, square_pixels_all
from cambrian_model.vision import Pictures, TowerSpec

if TYPE_CHECKING:
    from cambrian_model.towers.features import FeatureCache

_STAND_IN_SIZE = (1, 1)
_STAND_IN_KEY = "black"


@dataclass(slots=True)
class FeaturePicture:
    """A picture as features."""

    size: Size
    features: list[Tensor]
    """One (N, D) a tower."""


ShownPicture = PreparedPicture | FeaturePicture


class FeatureStore:
    """Features of frozen towers by picture.

    A picture goes through the towers alone: its features are then the same, to the last bit,
    whatever batch it is asked for in, which resuming relies on.
    """

    def __init__(
        self,
        cache: FeatureCache,
        encode: Callable[[Pictures], list[Tensor]],
        device: torch.device | str = "cpu",
    ) -> None:
        """Keep what computes features.

        Args:
            encode: runs all towers, such as `vision.encode`; every process calls it
                when it likes, so its towers must not be sharded.
        """
        self._cache, self._encode, self._device = cache, encode, device

    def __call__(
        self, key: str, size: Size, prepare: Callable[[], PreparedPicture]
    ) -> FeaturePicture:
        """Return a picture as features.

        Args:
            key: its sha256.
            prepare: gives its pixels where they are needed.
        """
        return FeaturePicture(size, self._cache.get(key, lambda: self._make(prepare())))

    def stand_in(self, crops: Sequence[Crop]) -> FeaturePicture:
        """Return the features of a black picture."""
        return self(_STAND_IN_KEY, _STAND_IN_SIZE, lambda: black_picture(crops))

    @torch.no_grad()
    def _make(self, picture: PreparedPicture) -> list[Tensor]:
        pictures = stack_pictures([picture]).to(self._device)
        return [feats_PND[0].cpu() for feats_PND in self._encode(pictures)]


def shown_pictures(
    loaded: Loaded, reader: SampleReader, features: FeatureStore | None
) -> list[ShownPicture] | Fault:
    """Return the pictures of a sample that was read, as features where a store is given."""
    if features is None:
        return list(loaded.prepared)
    example, shown = loaded.example, list[ShownPicture]()
    try:
        for key, stored, size in zip(example.pictures, loaded.stored, example.sizes, strict=True):
            prepare = partial(reader.prepare, key, stored, size)
            shown.append(features(key, upright_size(stored), prepare))
    except PictureError as error:
        return Fault(example.sample_id, "picture_unreadable", str(error))
    return shown


def crops_of(specs: Sequence[TowerSpec]) -> tuple[Crop, ...]:
    """Return what the towers want of a picture."""
    return tuple((spec.px, tuple(spec.pad_mean)) for spec in specs)


def black_picture(crops: Sequence[Crop]) -> PreparedPicture:
    """Return what stands in a picture slot that is not used."""
    pixels = [np.zeros((3, px, px), dtype=np.uint8) for px, _ in crops]
    return PreparedPicture(_STAND_IN_SIZE, pixels)


def stack_pictures(shown: Sequence[ShownPicture]) -> Pictures:
    """Return pictures in order, pixels as uint8, which the towers normalise."""
    sizes = [picture.size for picture in shown]
    pixels = [picture.pixels for picture in shown if isinstance(picture, PreparedPicture)]
    if not pixels:
        features = [picture.features for picture in shown if isinstance(picture, FeaturePicture)]
        return Pictures(sizes, features=[torch.stack(t) for t in zip(*features, strict=True)])
    assert len(pixels) == len(shown), "a batch shows pixels or features, not both"
    stacked = [torch.from_numpy(np.stack(arrays)) for arrays in zip(*pixels, strict=True)]
    return Pictures(sizes, pixels=list(stacked))


def load_pictures(specs: Sequence[TowerSpec], data: Sequence[bytes]) -> Pictures:
    """Return stored pictures, as for a question.

    Raises:
        PictureError: one cannot be decoded.
    """
    crops, shown = crops_of(specs), list[ShownPicture]()
    for stored in data:
        image = decode_picture(stored)
        shown.append(PreparedPicture(image.size, square_pixels_all(image, crops)))
    return stack_pictures(shown)
