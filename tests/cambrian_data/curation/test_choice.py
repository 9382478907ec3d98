"""The order in which a source's samples are taken."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cambrian_data.curation.mixing.choice import Candidates, hash_keys, line_up, nth_of_its_kind

NAN = float("nan")


def uint64(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.uint64)


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_random_goes_by_hash_then_by_the_rest_of_the_id_then_by_row():
    samples = Candidates(hashes=uint64(7, 3, 7, 3, 3), id_lo=uint64(2, 9, 1, 4, 4))
    assert line_up(samples, "random").tolist() == [3, 4, 1, 2, 0]


def test_quality_goes_by_score_and_takes_those_without_one_last():
    samples = Candidates(
        hashes=uint64(5, 4, 3, 2, 1, 0),
        id_lo=np.zeros(6, dtype=np.uint64),
        quality=np.array([2, NAN, 5, 2, -1, NAN], dtype=np.float32),
    )
    assert line_up(samples, "quality").tolist() == [2, 3, 0, 4, 5, 1]


def test_diverse_takes_every_picture_and_every_opening_once_before_any_twice():
    samples = Candidates(
        hashes=uint64(0, 1, 2, 3, 4, 5),
        id_lo=np.zeros(6, dtype=np.uint64),
        picture=uint64(8, 8, 8, 9, 0, 0),
        opening=uint64(1, 2, 3, 1, 1, 7),
    )
    # First of their pictures (or without one): 0, 3, 4, 5, of which 0, 3 and 4 begin alike.
    assert line_up(samples, "diverse").tolist() == [0, 5, 3, 4, 1, 2]


def test_diverse_has_more_pictures_and_openings_than_random():
    rng = np.random.default_rng(3)
    samples = Candidates(
        hashes=drawn(3000),
        id_lo=np.zeros(3000, dtype=np.uint64),
        picture=rng.integers(1, 400, 3000).astype(np.uint64),
        opening=(rng.zipf(1.3, 3000) % 500).astype(np.uint64),
    )
    chosen = {choice: line_up(samples, choice)[:600] for choice in ("random", "diverse")}
    pictures = {choice: Counter(samples.picture[rows].tolist()) for choice, rows in chosen.items()}
    assert len(pictures["diverse"]) == len(set(samples.picture.tolist()))
    assert max(pictures["diverse"].values()) == 2 < max(pictures["random"].values())
    openings = {choice: set(samples.opening[rows].tolist()) for choice, rows in chosen.items()}
    assert len(openings["diverse"]) > len(openings["random"])


@pytest.mark.parametrize("choice", ["random", "quality", "diverse"])
def test_order_of_the_rows_makes_no_difference(choice):
    rng = np.random.default_rng(1)
    columns = {
        "hashes": drawn(500),
        "id_lo": drawn(500, 1),
        "quality": rng.integers(0, 5, 500).astype(np.float32),
        "picture": rng.integers(0, 90, 500).astype(np.uint64),
        "opening": rng.integers(0, 40, 500).astype(np.uint64),
    }
    order = rng.permutation(500)
    line = line_up(Candidates(**columns), choice)
    shuffled = line_up(Candidates(**{n: column[order] for n, column in columns.items()}), choice)
    assert sorted(line.tolist()) == list(range(500))
    assert order[shuffled].tolist() == line.tolist()


def test_counting_within_a_kind():
    assert nth_of_its_kind(uint64(5, 0, 5, 3, 0, 5, 3)).tolist() == [0, 0, 1, 0, 0, 2, 1]
    assert nth_of_its_kind(uint64()).tolist() == []


@pytest.mark.parametrize(("choice", "missing"), [("quality", "quality"), ("diverse", "picture")])
def test_a_choice_without_its_column_is_refused(choice, missing):
    with pytest.raises(ValueError, match=missing):
        line_up(Candidates(hashes=uint64(1), id_lo=uint64(1)), choice)


def test_hashes_differ_by_seed_and_are_spread_evenly():
    numbers = np.arange(100_000, dtype=np.uint64)
    hashes = {seed: hash_keys(numbers, seed) for seed in (0, 1, -5, 2**63)}
    assert all(len(np.unique(found)) == len(numbers) for found in hashes.values())
    assert len({found[:100].tobytes() for found in hashes.values()}) == len(hashes)
    shares = np.bincount((hashes[0] >> np.uint64(60)).astype(int), minlength=16) / len(numbers)
    assert np.abs(shares - 1 / 16).max() < 0.005
    assert hash_keys(numbers[:2], 0).tolist() == hash_keys(numbers[::-1], 0)[-2:][::-1].tolist()
