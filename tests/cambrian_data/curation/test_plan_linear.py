"""Plans against a linear program for the same constraints, and against brute force."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from cambrian_data.curation.mixing.plan import MixtureConfig, MixturePlan, plan_mixture
from cambrian_data.records import UserError

CATEGORIES = ("code", "general", "math", "ocr")


@dataclass(frozen=True)
class Case:
    """A pool and a config, drawn at random, with what each source may give at most."""

    counts: dict[str, tuple[str, int]]
    config: MixtureConfig

    @property
    def most(self) -> dict[str, int]:
        config = self.config
        limit = config.repeat_limit if config.on_conflict == "repeat" else 1
        return {
            source: min(config.caps.get(source, config.max_per_source), have * limit)
            for source, (_, have) in self.counts.items()
        }

    @property
    def ratios(self) -> dict[str, Fraction]:
        whole = sum(Fraction(str(share)) for share in self.config.ratios.values())
        return {c: Fraction(str(share)) / whole for c, share in self.config.ratios.items()}


def draw_case(rng: np.random.Generator, on_conflict: str, scale: int) -> Case:
    counts = {
        f"s{number:02d}": (str(rng.choice(CATEGORIES)), int(rng.integers(1, scale)))
        for number in range(int(rng.integers(4, 14)))
    }
    counts |= {f"t{c}": (c, int(rng.integers(1, scale))) for c in CATEGORIES}
    caps = {s: int(rng.integers(1, scale)) for s in counts if rng.random() < 0.3}
    asked = [c for c in CATEGORIES if rng.random() < 0.8] or ["ocr"]
    settings: dict[str, Any] = {
        "max_per_source": int(rng.integers(1, scale)),
        "caps": caps,
        "ratios": {c: round(float(rng.uniform(0.5, 40)), 2) for c in asked},
        "size": int(rng.integers(scale // 2 + 1, 4 * scale)) if rng.random() < 0.6 else None,
        "on_conflict": on_conflict,
        "repeat_limit": int(rng.integers(1, 5)),
    }
    if on_conflict == "fill":
        settings["size"] = int(rng.integers(scale // 2 + 1, 6 * scale))
    return Case(counts, MixtureConfig(**settings))


def largest_by_program(case: Case) -> float:
    """Maximise N, where the takes of a category's sources add up to its ratio of N."""
    sources, ratios, most = list(case.counts), case.ratios, case.most
    equal = np.zeros((len(ratios), len(sources) + 1))
    for row, (category, ratio) in enumerate(ratios.items()):
        for column, source in enumerate(sources):
            equal[row, column] = case.counts[source][0] == category
        equal[row, -1] = -float(ratio)
    bounds = [(0, most[source]) for source in sources] + [(0, case.config.size)]
    goal = np.zeros(len(sources) + 1)
    goal[-1] = -1
    found = linprog(goal, A_eq=equal, b_eq=np.zeros(len(ratios)), bounds=bounds)
    assert found.success
    return float(found.x[-1])


def least_distance_by_program(case: Case) -> tuple[float, float]:
    """Minimise the sum of |n_c - r_c N|, at N, or at all there is; return that size too."""
    ratios, most = case.ratios, case.most
    have = {c: sum(n for s, n in most.items() if case.counts[s][0] == c) for c in ratios}
    size = min(case.config.size, sum(have.values()))
    width = len(ratios)
    below = np.block([[np.eye(width), -np.eye(width)], [-np.eye(width), -np.eye(width)]])
    quotas = np.array([float(ratio * case.config.size) for ratio in ratios.values()])
    found = linprog(
        np.r_[np.zeros(width), np.ones(width)],
        A_ub=below,
        b_ub=np.r_[quotas, -quotas],
        A_eq=np.r_[np.ones(width), np.zeros(width)][None],
        b_eq=[size],
        bounds=[(0, have[c]) for c in ratios] + [(0, None)] * width,
    )
    assert found.success
    return float(found.fun), size


def check_sources(case: Case, plan: MixturePlan) -> None:
    """Check that takes are whole, within bounds, and level within every category."""
    most = case.most
    for share in plan.sources:
        assert 0 <= share.take <= most[share.source]
    for category in plan.categories:
        own = [share for share in plan.sources if share.category == category.category]
        assert sum(share.take for share in own) == category.take
        level = max((share.take for share in own), default=0)
        assert all(share.take >= min(most[share.source], level - 1) for share in own)


@pytest.mark.parametrize("scale", [60, 500_000])
@pytest.mark.parametrize("on_conflict", ["shrink", "repeat"])
def test_shrink_and_repeat_are_as_large_as_the_program_says(on_conflict, scale):
    rng = np.random.default_rng(0)
    for _ in range(120):
        case = draw_case(rng, on_conflict, scale)
        largest = int(largest_by_program(case) + 1e-6)
        plan = plan_mixture(case.counts, case.config)
        assert plan.size == largest
        check_sources(case, plan)
        for share in plan.categories:
            assert abs(share.take - case.ratios.get(share.category, 0) * plan.size) < 1


@pytest.mark.parametrize("scale", [60, 500_000])
def test_fill_is_as_near_as_the_program_says(scale):
    rng = np.random.default_rng(1)
    for _ in range(120):
        case = draw_case(rng, "fill", scale)
        distance, size = least_distance_by_program(case)
        plan = plan_mixture(case.counts, case.config)
        assert plan.size == size
        check_sources(case, plan)
        takes = {share.category: share.take for share in plan.categories}
        got = sum(abs(takes[c] - ratio * case.config.size) for c, ratio in case.ratios.items())
        # Whole numbers can be no nearer than that, and lose less than one a category.
        assert distance - 1e-3 <= float(got) < distance + len(case.ratios)


weights = st.lists(st.integers(1, 6), min_size=1, max_size=3)
pools = st.lists(st.integers(0, 9), min_size=3, max_size=3)


@settings(max_examples=150, deadline=None)
@given(weights, pools, st.none() | st.integers(1, 14), st.integers(1, 9), st.integers(1, 3))
def test_shrink_is_as_large_as_brute_force(weights, have, size, cap, limit):
    names = "abc"[: len(weights)]
    counts = {f"s{n}": (n, number) for n, number in zip(names, have, strict=False)}
    config = MixtureConfig(
        ratios=dict(zip(names, weights, strict=True)),
        size=size,
        max_per_source=cap,
        on_conflict="repeat",
        repeat_limit=limit,
    )
    available = [min(cap, number * limit) for number in have[: len(names)]]

    def fits(total: int) -> bool:
        return all(w * total <= a * sum(weights) for w, a in zip(weights, available, strict=True))

    largest = max(n for n in range(size + 1 if size else 170) if fits(n))
    if not largest:
        with pytest.raises(UserError):
            plan_mixture(counts, config)
        return
    plan = plan_mixture(counts, config)
    assert plan.size == largest == sum(share.take for share in plan.sources)
    for share, weight in zip(plan.categories, weights, strict=False):
        assert abs(share.take - Fraction(weight * largest, sum(weights))) < 1
