"""The plan of a mixture by hand: caps, ratios, size, and what gives when they conflict."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from cambrian_data.curation.mixing.plan import MixtureConfig, MixturePlan, plan_mixture
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
        {"on_conflict": "grow"},
        {"repeat_limit": 0},
        {"sources": []},
        {"choice": "best"},
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
    assert [row.get("binds") for row in plan.rows()] == [False, None, None, False, None, True, None]
    assert "ocr binds" in plan.explain()
    assert "math" in plan.explain()
    assert "general would bind next, at 220" in plan.explain()
    assert MixturePlan.from_json(data) == plan


# --------------------------------------------------------------------------------- repeat


def test_repeat_is_shrink_with_every_sample_several_times():
    config = MixtureConfig(
        ratios=HALVES, max_per_source=60, on_conflict="repeat", repeat_limit=3, caps={"b": 15}
    )
    plan = plan_mixture(POOL, config)
    # a: its cap of 60, b: its own cap of 15 (it has 10, three times), c: 60 (40, three times)
    assert takes(plan) == {"a": 45, "b": 15, "c": 60, "d": 0}
    assert (plan.size, plan.binding, plan.binding_size, plan.repeat_limit) == (120, "ocr", 120, 3)
    assert "25 of them repeat a sample" in plan.explain()  # 5 of b and 20 of c
    thrice = {source: (category, 3 * have) for source, (category, have) in POOL.items()}
    shrunk = plan_mixture(thrice, config.model_copy(update={"on_conflict": "shrink"}))
    assert takes(shrunk) == takes(plan)


def test_repeat_limit_of_one_is_shrink():
    base = MixtureConfig(ratios=HALVES, max_per_source=60)
    once = base.model_copy(update={"on_conflict": "repeat", "repeat_limit": 1})
    assert takes(plan_mixture(POOL, once)) == takes(plan_mixture(POOL, base))
    ignored = base.model_copy(update={"repeat_limit": 9})
    assert takes(plan_mixture(POOL, ignored)) == takes(plan_mixture(POOL, base))


# --------------------------------------------------------------- sources, caps and minimum


def test_no_cap_at_all():
    plan = plan_mixture(POOL, MixtureConfig(ratios=None, max_per_source=None, caps={"a": 5}))
    assert takes(plan) == {"a": 5, "b": 10, "c": 40, "d": 7}
    assert [share.cap for share in plan.sources] == [5, 10, 7, 40]
    assert (plan.binds, plan.slip) == ("pool", 0.0)
    assert all(share.allows is None for share in plan.categories)


def test_only_named_sources_give_samples():
    counts = {"x.json:a": ("ocr", 5), "x.json:b": ("ocr", 6), "y.json": ("ocr", 7)}
    config = MixtureConfig(ratios=None, sources=["x.json:*"], caps={"y.json": 3})
    assert takes(plan_mixture(counts, config)) == {"x.json:a": 5, "x.json:b": 6, "y.json": 0}
    with pytest.raises(UserError, match=r"mixture\.sources"):
        plan_mixture(counts, MixtureConfig(sources=["z*"]))


def test_source_shares_its_cap_among_categories_with_a_ratio_only():
    counts = {("a", "general"): 90, ("a", "ocr"): 30, ("a", "code"): 500}
    plan = plan_mixture(counts, MixtureConfig(ratios=HALVES, max_per_source=40))
    caps = {share.category: share.cap for share in plan.sources}
    assert (caps["general"], caps["ocr"]) == (30, 10)
    assert {share.category: share.take for share in plan.sources} == {
        "general": 10,
        "ocr": 10,
        "code": 0,
    }


def test_minimum_is_of_what_a_source_may_give():
    config = MixtureConfig(ratios=None, min_per_source=20, caps={"a": 19, "b": 0})
    plan = plan_mixture(POOL, config)
    assert takes(plan) == {"a": 0, "b": 0, "c": 40, "d": 0}
    assert plan.too_small == ("a", "d")  # b is left out by its cap, not by the minimum


def test_minimum_is_had_by_every_source_where_the_category_is_large_enough():
    counts = {f"s{n}": ("ocr", 30 + n) for n in range(5)} | {"g": ("general", 60)}
    enough = plan_mixture(counts, MixtureConfig(ratios=HALVES, min_per_source=12))
    assert enough.below_minimum == () and min(takes(enough).values()) == 12
    short = plan_mixture(counts, MixtureConfig(ratios=HALVES, min_per_source=13))
    assert takes(short) == takes(enough)
    assert short.below_minimum == ("s0", "s1", "s2", "s3", "s4")
    assert "give fewer than min_per_source" in short.explain()


# -------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("config", "binds", "said"),
    [
        ({}, "ratio", "without caps ocr would allow 80"),
        ({"size": 20}, "size", "20 samples of 20 wanted"),
        ({"size": 90}, "ratio", "ocr binds: with its ratio held the pool allows 40 samples"),
        ({"size": 45, "on_conflict": "fill"}, "ratio", "general 55.56 % for 50.00 %"),
        ({"size": 999, "on_conflict": "fill"}, "pool", "that is all that the caps leave"),
        ({"ratios": None}, "pool", "that is all that the caps leave"),
    ],
)
def test_what_binds_is_said(config, binds, said):
    plan = plan_mixture(POOL, MixtureConfig(**{"ratios": HALVES, "max_per_source": 20} | config))
    assert plan.binds == binds
    assert said in plan.explain()


def test_slip_is_the_sum_of_the_differences():
    config = MixtureConfig(ratios=HALVES, max_per_source=60, size=100, on_conflict="fill")
    assert plan_mixture(POOL, config).slip == pytest.approx(0.2)  # 60 and 40 for 50 and 50
