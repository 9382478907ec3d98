"""Whether two pictures that look alike show the same: they are opened and compared, small and grey.

A perceptual hash keeps the coarse shape alone, which all charts, pages and plots of one kind share.
Here the fine parts are compared: the correlation of what is left of 32 x 32 pixels when the
brightness around each of them is taken off. 3 to 10 ms a picture; each is opened once.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cambrian_data.curation.duplicates.look_alikes import (
    Pictures,
    find_keys,
    hex_words,
    image_batches,
)
from cambrian_data.workspace import Workspace

SIDE = 32
MIN_CORRELATION = 0.95
"""Source: docs/overlap.md. Copies are above, drawings of one kind but other content below."""

_AROUND = 5
_BLOCK = 8_192
_FEW_PAIRS = 1_024
_THREADS = 4


def signature(image: Image.Image) -> np.ndarray:
    """Return the small grey picture that stands for one in comparisons: uint8 [SIDE, SIDE]."""
    image.draft("L", (SIDE * 4, SIDE * 4))
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(small, dtype=np.uint8)


def fine_parts(signatures: np.ndarray) -> np.ndarray:
    """Return signatures less the brightness around every pixel, as vectors of length 1.

    Args:
        signatures: uint8 [n, SIDE, SIDE].
    Returns:
        float32 [n, SIDE * SIDE]; the product of two is their correlation.
    """
    around: np.ndarray = signatures.astype(np.float32)
    margin = _AROUND // 2
    for axis in (1, 2):
        pad = [(0, 0), (0, 0), (0, 0)]
        pad[axis] = (margin + 1, margin)
        sums = np.cumsum(np.pad(around, pad, mode="edge"), axis=axis)
        high = np.take(sums, np.arange(_AROUND, sums.shape[axis]), axis=axis)
        low = np.take(sums, np.arange(sums.shape[axis] - _AROUND), axis=axis)
        around = (high - low) / _AROUND
    fine = (signatures - around).reshape(len(signatures), SIDE * SIDE).astype(np.float32)
    fine -= fine.mean(axis=1, keepdims=True)
    fine /= np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1e-6)
    return fine


def correlation(fine: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how alike pairs of fine parts are (places in `fine`): float32 [pairs], up to 1."""
    found = np.empty(len(one), dtype=np.float32)
    for start in range(0, len(one), _FEW_PAIRS):
        part = slice(start, start + _FEW_PAIRS)
        found[part] = np.einsum("nk,nk->n", fine[one[part]], fine[other[part]])
    return found


class StoredPictures:
    """The stored files of a workspace's pictures, compared two by two."""

    def __init__(self, workspace: Workspace, pictures: Pictures) -> None:
        """Name the pictures whose places `same` is asked about."""
        self._workspace, self._pictures = workspace, pictures

    def __call__(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return for pairs of pictures, by place, whether they show the same (bool [n]).

        A picture whose file is lost or damaged shows nothing: it is the same as no other.
        """
        is_same = np.zeros(len(one), dtype=bool)
        needed, place = np.unique(np.stack([one, other]), return_inverse=True)
        left, right = place.reshape(2, -1)
        paths = self._paths(needed)
        for start in range(0, len(one), _BLOCK):  # pairs of one group stand together
            part = slice(start, start + _BLOCK)
            mine, at = np.unique(np.stack([left[part], right[part]]), return_inverse=True)
            signatures, is_read = read_signatures([paths[number] for number in mine.tolist()])
            a, b = at.reshape(2, -1)
            alike = correlation(fine_parts(signatures), a, b) >= MIN_CORRELATION
            is_same[part] = alike & is_read[a] & is_read[b]
        return is_same

    def signatures(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the signatures of pictures (places ascending), and which could be read."""
        return read_signatures(self._paths(places))

    def _paths(self, places: np.ndarray) -> list[Path | None]:
        """Return the files of pictures; their places must ascend."""
        known = self._pictures.sha256[places]
        paths: list[Path | None] = [None] * len(places)
        for batch in image_batches(self._workspace, ["sha256", "path"]):
            at = find_keys(known, hex_words(batch.column("sha256"), 64)[:, :2])
            for row in np.flatnonzero(at >= 0).tolist():
                paths[at[row]] = self._workspace.root / batch.column("path")[row].as_py()
        return paths


def read_signatures(paths: Sequence[Path | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return the signatures of picture files, uint8 [n, SIDE, SIDE], and which could be read."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_read, paths))
    none = np.zeros((SIDE, SIDE), dtype=np.uint8)
    stacked = np.stack([none if one is None else one for one in found] or [none])
    return stacked[: len(found)], np.array([one is not None for one in found], dtype=bool)


def signature_of(data: bytes) -> np.ndarray | None:
    """Return the signature of a picture's bytes; None where they cannot be read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return signature(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _read(path: Path | None) -> np.ndarray | None:
    try:
        return signature_of(path.read_bytes()) if path else None
    except OSError:
        return None
