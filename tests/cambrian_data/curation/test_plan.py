"""The plan of a mixture: by hand, against brute force, and for the published pool."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cambrian_data.curation.ingest import published_sizes
from cambrian_data.curation.plan import (
    MixtureConfig,
    apportion,
    fill,
    plan_mixture,
    water_fill,
)
from cambrian_data.records import UserError

POOL = {
    "a": ("general", 100),
    "b": ("general", 10),
    "c": ("ocr", 40),
    "d": ("math", 7),
}
HALVES = {"general": 1, "ocr": 1}


def takes(plan) -> dict[str, int]:
    return {share.source: share.take for share in plan.sources}


def test_shrink_holds_the_ratios():
    plan = plan_mixture(POOL, MixtureConfig(ratios=HALVES, max_per_source=60))
    assert takes(plan) == {"a": 30, "b": 10, "c": 40, "d": 0}
    assert (plan.size, plan.binding, plan.binding_size) == (80, "ocr", 80)
    assert plan.without_ratio == ("math",)
    general, math, ocr = plan.categories
    assert (general.have, general.available, general.take, general.allows) == (110, 70, 40, 140)
    assert (math.take, math.allows, math.ratio_wanted) == (0, None, 0.0)
    assert (ocr.ratio_wanted, ocr.ratio_got) == (0.5, 0.5)


def test_fill_holds_the_size():
    config = MixtureConfig(ratios=HALVES, max_per_source=60, size=100, on_conflict="fill")
    plan = plan_mixture(POOL, config)
    assert takes(plan) == {"a": 50, "b": 10, "c": 40, "d": 0}
    assert (plan.size, plan.binding, plan.binding_size) == (100, "ocr", 80)
    assert [share.ratio_got for share in plan.categories] == [0.6, 0.0, 0.4]


def test_size_that_can_be_had_is_had_either_way():
    for rule in ("shrink", "fill"):
        config = MixtureConfig(ratios=HALVES, size=21, on_conflict=rule)
        plan = plan_mixture(POOL, config)
        assert takes(plan) == {"a": 6, "b": 5, "c": 10, "d": 0}  # the odd ones go by name
        assert plan.binding is None


def test_fill_of_more_than_there_is_takes_all():
    config = MixtureConfig(ratios=HALVES, size=1000, on_conflict="fill")
    assert takes(plan_mixture(POOL, config)) == {"a": 100, "b": 10, "c": 40, "d": 0}


def test_no_ratios_take_categories_as_they_come():
    plan = plan_mixture(POOL, MixtureConfig(ratios=None, max_per_source=50))
    assert takes(plan) == {"a": 50, "b": 10, "c": 40, "d": 7}
    assert plan.binding is None
    small = plan_mixture(POOL, MixtureConfig(ratios=None, size=157))
    assert small.size == 157


def test_caps_of_single_sources():
    config = MixtureConfig(ratios=HALVES, caps={"a": 5, "c": 90, "typo": 3})
    plan = plan_mixture(POOL, config)
    assert takes(plan) == {"a": 5, "b": 10, "c": 15, "d": 0}
    assert plan.unused_caps == ("typo",)


def test_small_sources_are_left_out():
    plan = plan_mixture(POOL, MixtureConfig(ratios=HALVES, min_per_source=11))
    assert takes(plan) == {"a": 40, "b": 0, "c": 40, "d": 0}
    assert plan.too_small == ("b", "d")


def test_source_in_several_categories_holds_its_cap():
    counts = {("a", "general"): 90, ("a", "ocr"): 30, ("b", "ocr"): 100}
    plan = plan_mixture(counts, MixtureConfig(ratios=None, max_per_source=40))
    assert [(s.source, s.category, s.cap, s.take) for s in plan.sources] == [
        ("a", "general", 30, 30),
        ("a", "ocr", 10, 10),
        ("b", "ocr", 40, 40),
    ]


def test_category_without_samples_is_an_error_that_names_it():
    with pytest.raises(UserError, match="code, but the pool has none"):
        plan_mixture(POOL, MixtureConfig(ratios={"code": 1, "ocr": 1}))
    plan = plan_mixture(
        POOL, MixtureConfig(ratios={"code": 1, "ocr": 1}, size=10, on_conflict="fill")
    )
    assert takes(plan)["c"] == 10


def test_empty_pool_is_an_error():
    with pytest.raises(UserError, match="pool is empty"):
        plan_mixture({}, MixtureConfig())


@pytest.mark.parametrize(
    "wrong",
    [
        {"on_conflict": "fill"},
        {"on_conflict": "repeat"},
        {"ratios": {"ocr": -1}},
        {"ratios": {"ocr": 0}},
        {"ratios": {"ocr": float("inf")}},
        {"ratios": {"ocr": float("nan")}},
        {"caps": {"a": -1}},
        {"size": 0},
        {"max_per_source": 0},
    ],
)
def test_wrong_configs_are_refused(wrong):
    with pytest.raises(ValidationError):
        MixtureConfig(**wrong)


def test_plan_is_json_data_and_rows_to_print():
    plan = plan_mixture(POOL, MixtureConfig(ratios=HALVES))
    data = plan.to_json()
    assert json.loads(json.dumps(data)) == data
    shuffled = dict(reversed(POOL.items()))
    assert plan_mixture(shuffled, MixtureConfig(ratios=HALVES)).to_json() == data
    assert [(row["category"], row["source"]) for row in plan.rows()] == [
        ("general", None),
        ("general", "a"),
        ("general", "b"),
        ("math", None),
        ("math", "d"),
        ("ocr", None),
        ("ocr", "c"),
    ]
    assert "ocr binds" in plan.explain()
    assert "math" in plan.explain()


# ----------------------------------------------------------------------------- arithmetic


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


def test_what_one_lacks_is_shared_out_by_quota():
    quotas = {"a": Fraction(10), "b": Fraction(9), "c": Fraction(1)}
    assert fill(quotas, {"a": 0, "b": 99, "c": 99}) == {"a": 0, "b": 18, "c": 2}
    assert fill(quotas, {"a": 0, "b": 15, "c": 99}) == {"a": 0, "b": 15, "c": 5}


def test_largest_remainders():
    assert apportion(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert apportion(7, {"a": 6, "b": 3, "c": 1}) == {"a": 4, "b": 2, "c": 1}
    assert apportion(0, {"a": 1}) == {"a": 0}


ratios = st.lists(st.integers(1, 6), min_size=1, max_size=3)
pools = st.lists(st.integers(0, 9), min_size=3, max_size=3)


@settings(max_examples=150)
@given(ratios, pools, st.integers(1, 14))
def test_fill_is_as_near_as_brute_force(weights, have, size):
    names = "abc"[: len(weights)]
    quotas = {n: Fraction(w * size, sum(weights)) for n, w in zip(names, weights, strict=True)}
    available = dict(zip(names, have, strict=False))
    filled = fill(quotas, available)
    total = min(size, sum(available.values()))
    assert sum(filled.values()) == total
    assert all(filled[name] <= available[name] for name in names)

    def distance(numbers):
        return sum(abs(n - quotas[name]) for name, n in zip(names, numbers, strict=True))

    every = itertools.product(*(range(available[name] + 1) for name in names))
    assert distance(filled.values()) == min(distance(n) for n in every if sum(n) == total)


@settings(max_examples=150)
@given(ratios, pools, st.none() | st.integers(1, 14), st.integers(1, 9))
def test_shrink_is_as_large_as_brute_force(weights, have, size, cap):
    names = "abc"[: len(weights)]
    counts = {f"s{n}": (n, number) for n, number in zip(names, have, strict=False)}
    config = MixtureConfig(
        ratios=dict(zip(names, weights, strict=True)), size=size, max_per_source=cap
    )
    available = [min(cap, number) for number in have[: len(names)]]

    def fits(total: int) -> bool:
        return all(w * total <= a * sum(weights) for w, a in zip(weights, available, strict=True))

    largest = max(n for n in range(size + 1 if size else 60) if fits(n))
    if not largest:
        with pytest.raises(UserError):
            plan_mixture(counts, config)
        return
    plan = plan_mixture(counts, config)
    assert plan.size == largest
    assert sum(takes(plan).values()) == largest
    for name, weight in zip(names, weights, strict=True):
        assert abs(takes(plan)[f"s{name}"] - Fraction(weight * largest, sum(weights))) < 1


# -------------------------------------------------------------------------- published pool


def published_counts() -> dict[str, tuple[str, int]]:
    return {
        source: (category, thousands * 1000)
        for source, (category, thousands) in published_sizes().items()
        if thousands
    }


def test_published_pool_with_the_published_cap_allows_four_million():
    plan = plan_mixture(published_counts(), MixtureConfig())
    available = {share.category: share.available // 1000 for share in plan.categories}
    assert available["language"] == 836
    assert available["counting"] == 600
    assert available["math"] == 426
    assert available["code"] == 397
    assert available["science"] == 205
    assert available["ocr"] == 1_245
    assert plan.binding == "language"
    assert 3_990_000 < plan.size < 4_010_000
    assert plan.size == plan.binding_size


def test_seven_million_cannot_be_had_with_the_ratios():
    config = MixtureConfig(size=7_000_000)
    assert plan_mixture(published_counts(), config).size < 7_000_000
    filled = plan_mixture(published_counts(), config.model_copy(update={"on_conflict": "fill"}))
    usable = sum(share.available for share in filled.categories)
    assert filled.size == min(7_000_000, usable)
