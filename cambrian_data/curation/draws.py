"""Choices by seed and sample, for whole columns: what `records.draw` is for one row.

A sample's id is a sha256, so its digits are as good as drawn; they are mixed with the seed and with
what the choice is about. Neither order, parts nor workers matter.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cambrian_data.curation.rules.text_counts import text_bytes
from cambrian_data.records import content_id

DIGITS = 16
"""Hexadecimal digits of an id that make one number of 64 bits."""
ID_DIGITS = 64

_VALUES = np.full(256, 255, dtype=np.uint8)
_VALUES[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)


def id_numbers(ids: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first 128 bits of every id as two numbers, which sort as the ids do.

    Args:
        ids: sample ids, 64 hexadecimal digits each.
    Returns:
        The higher and the lower 64 bits, each uint64 [ids].
    Raises:
        ValueError: an id is not 64 hexadecimal digits in lower case; the message has it.
    """
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    data, offsets = text_bytes(ids)
    is_wrong = np.diff(offsets) != ID_DIGITS
    if not is_wrong.any():
        digits = _VALUES[data[offsets[0] : offsets[-1]].reshape(-1, ID_DIGITS)]
        is_wrong = (digits > 15).any(axis=1)
    if is_wrong.any():
        wrong = ids[int(np.flatnonzero(is_wrong)[0])].as_py()
        raise ValueError(f"{wrong!r} is no sample id: an id has {ID_DIGITS} digits, 0-9 and a-f")
    pairs = np.ascontiguousarray((digits[:, : 2 * DIGITS : 2] << 4) | digits[:, 1 : 2 * DIGITS : 2])
    halves = pairs.view(">u8").astype(np.uint64)
    return halves[:, 0].copy(), halves[:, 1].copy()


def draw_all(seed: int, purpose: str, numbers: np.ndarray) -> np.ndarray:
    """Return a number in [0, 1) for each of many, that depends on seed, purpose and number alone.

    Args:
        seed: of the recipe.
        purpose: what is chosen; two purposes give numbers that have nothing to do with each other.
        numbers: uint64, such as `id_numbers`.
    Returns:
        float64, as many.
    Source: splitmix64, Steele et al., "Fast splittable pseudorandom number generators", 2014.
    """
    mixed = numbers ^ np.uint64(int(content_id(seed, purpose)[:DIGITS], 16))
    mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53  # a float64 holds no more bits
