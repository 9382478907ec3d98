"""Sharing out whole numbers: by hand, and against brute force."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.mixing.shares import apportion, fill, water_fill


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30), min_size=1), st.integers(0, 120)
)
def test_water_filling(have, wanted):
    filled = water_fill(wanted, have)
    assert filled.keys() == have.keys()
    assert sum(filled.values()) == min(wanted, sum(have.values()))
    assert all(0 <= filled[name] <= have[name] for name in have)
    level = max(filled.values())
    for name, number in filled.items():  # who gives less than the others is exhausted
        assert number >= level - 1 or number == have[name]
    giving_one_more = [n for n in filled if filled[n] == level and have[n] >= level > 0]
    could_give_more = [n for n in filled if filled[n] == level - 1 and have[n] >= level]
    assert not could_give_more or max(giving_one_more) < min(could_give_more)


def test_water_filling_by_hand():
    assert water_fill(20, {"a": 3, "b": 50, "c": 50}) == {"a": 3, "b": 9, "c": 8}
    assert water_fill(1, {"b": 5, "a": 5}) == {"a": 1, "b": 0}


def test_largest_remainders():
    assert apportion(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert apportion(7, {"a": 6, "b": 3, "c": 1}) == {"a": 4, "b": 2, "c": 1}
    assert apportion(0, {"a": 1}) == {"a": 0}


def test_what_one_lacks_is_given_by_the_first_names():
    quotas = {"a": Fraction(10), "b": Fraction(9), "c": Fraction(1)}
    assert fill(quotas, {"a": 0, "b": 99, "c": 99}) == {"a": 0, "b": 19, "c": 1}
    assert fill(quotas, {"a": 0, "b": 15, "c": 99}) == {"a": 0, "b": 15, "c": 5}
    assert fill(quotas, {"b": 3, "c": 4}) == {"a": 0, "b": 3, "c": 4}


def test_remainders_come_before_names():
    quotas = {"a": Fraction(1), "b": Fraction(5, 2), "c": Fraction(5, 2)}
    # c cannot have its half, nor two of its two and a half: b's half costs nothing, then a is first
    assert fill(quotas, {"a": 9, "b": 9, "c": 1}) == {"a": 2, "b": 3, "c": 1}


ratios = st.lists(st.integers(1, 6), min_size=1, max_size=3)
pools = st.lists(st.integers(0, 9), min_size=3, max_size=3)


@settings(max_examples=200, deadline=None)
@given(ratios, pools, st.integers(1, 14))
def test_fill_is_the_nearest_and_of_those_the_first_by_name(weights, have, size):
    names = "abc"[: len(weights)]
    quotas = {n: Fraction(w * size, sum(weights)) for n, w in zip(names, weights, strict=True)}
    available = dict(zip(names, have, strict=False))
    filled = fill(quotas, available)
    total = min(size, sum(available.values()))

    def distance(numbers: tuple[int, ...]) -> Fraction:
        return sum(abs(n - quotas[name]) for name, n in zip(names, numbers, strict=True))

    every = itertools.product(*(range(available[name] + 1) for name in names))
    whole = [numbers for numbers in every if sum(numbers) == total]
    least = min(distance(numbers) for numbers in whole)
    nearest = [numbers for numbers in whole if distance(numbers) == least]
    assert tuple(filled[name] for name in names) == max(nearest)


@given(ratios, st.integers(0, 50))
def test_fill_of_plenty_is_by_largest_remainders(weights, size):
    names = dict(zip("abc", weights, strict=False))
    quotas = {name: Fraction(weight * size, sum(weights)) for name, weight in names.items()}
    assert fill(quotas, dict.fromkeys(names, 100)) == apportion(size, names)
