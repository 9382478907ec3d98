"""Near pairs and star groups of codes: against comparing all pairs, and in crowds."""

from __future__ import annotations

import numpy as np
import pytest

from cambrian_data.curation.duplicates.hamming import near_pairs, star


def random_codes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def flipped(codes: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return codes with up to `most` of their bits turned over."""
    rng = np.random.default_rng(seed)
    result = codes.copy()
    for place in range(len(codes)):
        for bit in rng.choice(64, rng.integers(0, most + 1), replace=False):
            result[place] ^= np.uint64(1) << np.uint64(bit)
    return result


def star_by_hand(codes: np.ndarray, radius: int) -> list[int]:
    kept: list[int] = []
    joined = []
    for place, code in enumerate(codes):
        near = [one for one in kept if np.bitwise_count(codes[one] ^ code) <= radius]
        joined.append(near[0] if near else place)
        kept += [] if near else [place]
    return joined


@pytest.mark.parametrize("radius", [0, 1, 3, 4, 6, 8])
def test_pairs_are_those_that_comparing_all_finds(radius):
    base = random_codes(700, 1)
    left = np.concatenate([base, flipped(base[:300], 10, 2)])
    right = np.concatenate([flipped(base[200:600], 10, 3), random_codes(900, 4), base[:5]])
    distance = np.bitwise_count(left[:, None] ^ right[None, :])
    one, other = np.nonzero(distance <= radius)
    found = near_pairs(left, right, radius)
    assert len(one) >= 5
    assert np.array_equal(found.left, one) and np.array_equal(found.right, other)
    assert np.array_equal(found.distance, distance[one, other])


@pytest.mark.parametrize("radius", [0, 2, 4, 7])
def test_star_is_the_greedy_rule(radius):
    base = random_codes(60, 5)
    codes = np.concatenate([flipped(np.repeat(base, 40), 8, 6), base])
    assert star(codes, radius).tolist() == star_by_hand(codes, radius)


def test_a_chain_is_not_one_group():
    """Each is 2 bits from the next; the first and the third are 4 apart."""
    chain = np.array([0b0, 0b11, 0b1111, 0b111111], dtype=np.uint64)
    assert star(chain, 2).tolist() == [0, 0, 2, 2]
    assert star(chain[[1, 0, 2, 3]], 2).tolist() == [0, 0, 0, 3]


def test_crowds_of_near_and_of_equal_codes_stay_cheap():
    """60,000 codes around one would be 1.8 billion pairs."""
    center = random_codes(1, 7)
    crowd = np.concatenate([center, flipped(np.repeat(center, 20_000), 3, 8)])
    equal = np.repeat(random_codes(3, 9), 100_000)
    joined = star(np.concatenate([crowd, equal]), 6)
    assert (joined[:20_001] == 0).all()
    assert len(np.unique(joined[20_001:])) == 3


def test_codes_that_share_most_bits_are_cut_by_the_others():
    """Codes that differ in 24 of their bits only, so that whole bands agree everywhere."""
    rng = np.random.default_rng(10)
    codes = rng.integers(0, 2**24, 20_000, dtype=np.uint64)
    found = near_pairs(codes[:300], codes, 2)
    distance = np.bitwise_count(codes[:300, None] ^ codes[None, :])
    assert len(found.left) == int((distance <= 2).sum())


def test_planted_pairs_among_many_are_all_found():
    base = random_codes(200_000, 11)
    copies = flipped(base[:2_000], 4, 12)
    joined = star(np.concatenate([base, copies]), 4)
    assert np.array_equal(joined[200_000:], np.arange(2_000))
    assert np.array_equal(joined[:200_000], np.arange(200_000))


def test_empty_and_single():
    none = np.empty(0, np.uint64)
    assert star(none, 4).tolist() == []
    assert star(none[:0], 0).tolist() == []
    assert star(np.array([7], np.uint64), 4).tolist() == [0]
    assert len(near_pairs(none, random_codes(3, 0), 4).left) == 0


def test_a_radius_out_of_range_is_refused():
    with pytest.raises(ValueError, match="0 to 8, got 9"):
        star(random_codes(3, 0), 9)
