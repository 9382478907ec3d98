"""Choices by seed and id: even, repeatable, and without bonds between purposes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cambrian_data.curation.draws import draw_all, id_numbers
from cambrian_data.records import content_id

IDS = sorted(content_id("draws", number) for number in range(4000))


def test_numbers_are_the_first_digits_and_sort_as_ids_do():
    high, low = id_numbers(pa.array(IDS))
    assert [f"{a:016x}{b:016x}" for a, b in zip(high.tolist(), low.tolist(), strict=True)] == [
        sample_id[:32] for sample_id in IDS
    ]
    assert (np.diff(high.astype(object)) > 0).all()


def test_pieces_and_slices_give_the_same_numbers():
    whole = id_numbers(pa.array(IDS[:10]))[0].tolist()
    assert id_numbers(pa.array(IDS).slice(2, 5))[0].tolist() == whole[2:7]
    assert id_numbers(pa.chunked_array([IDS[:4], IDS[4:10]]))[0].tolist() == whole
    assert id_numbers(pa.array([], pa.string()))[0].tolist() == []


@pytest.mark.parametrize("wrong", ["7", "", "g" * 64, "A" * 64, "f" * 63, "f" * 63 + "-"])
def test_an_id_that_is_none_is_named(wrong):
    with pytest.raises(ValueError, match=f"'{wrong}' is no sample id"):
        id_numbers(pa.array([IDS[0], wrong]))


def test_draws_are_even_and_repeatable():
    high, _ = id_numbers(pa.array(IDS))
    drawn = draw_all(3, "test", high)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.abs(np.histogram(drawn, 10, (0, 1))[0] - 400).max() < 100
    assert (draw_all(3, "test", high[::-1]) == drawn[::-1]).all()


@pytest.mark.parametrize(("seed", "purpose"), [(4, "test"), (3, "other"), (-1, "test")])
def test_another_seed_or_purpose_has_nothing_to_do_with_it(seed, purpose):
    high, _ = id_numbers(pa.array(IDS))
    first, second = draw_all(3, "test", high), draw_all(seed, purpose, high)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_neighbouring_numbers_are_as_good_as_any():
    drawn = draw_all(0, "test", np.arange(4000, dtype=np.uint64))
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.1
