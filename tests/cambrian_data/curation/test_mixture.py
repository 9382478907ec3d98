"""Which samples are chosen: the planned numbers, by hash, whatever the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.mixture import MixtureConfig, count_sources, plan_mixture, select
from cambrian_data.records import StageResult


@pytest.fixture(scope="session")
def pool(samples, sample) -> Callable[..., pa.Table]:
    """Return a maker of tables of some samples a source; the category is the first letter's."""
    categories = {"g": "general", "o": "ocr", "m": "math"}

    def make(**sizes: int) -> pa.Table:
        return samples(
            *(
                sample(f"{name} {n}?", "Yes.", source=name, category=categories[name[0]])
                for name, size in sizes.items()
                for n in range(size)
            )
        )

    return make


def mixed(table: pa.Table, config: MixtureConfig) -> StageResult:
    return select(table, plan_mixture(count_sources(table), config), config)


def ids(table: pa.Table) -> set[str]:
    return set(table["id"].to_pylist())


CONFIG = MixtureConfig(max_per_source=6, ratios={"general": 1, "ocr": 1})


def test_by_hand(pool):
    table = pool(g1=10, g2=2, o1=5, m1=1)
    result = mixed(table, CONFIG)
    assert Counter(result.kept["source"].to_pylist()) == {"g1": 3, "g2": 2, "o1": 5}
    reasons = Counter(
        zip(result.drops["source"].to_pylist(), result.drops["reason"].to_pylist(), strict=True)
    )
    assert reasons == {("g1", "over_cap"): 4, ("g1", "over_ratio"): 3, ("m1", "over_ratio"): 1}
    details = set(result.drops["detail"].to_pylist())
    assert details == {
        "g1 has 10, its cap is 6",
        "general gives 5, 3 of them g1",
        "math has no ratio",
    }
    assert result.stats["dropped"] == {"over_cap": 4, "over_ratio": 4}
    assert ids(result.kept).isdisjoint(result.drops["record_id"].to_pylist())


def test_seed_decides(pool):
    table = pool(g1=20, o1=20)
    chosen = {
        seed: ids(mixed(table, CONFIG.model_copy(update={"seed": seed})).kept) for seed in (1, 2)
    }
    assert chosen[1] != chosen[2]
    assert chosen[1] == ids(mixed(table, CONFIG.model_copy(update={"seed": 1})).kept)


@settings(max_examples=40, deadline=None)
@given(
    g1=st.integers(0, 9),
    g2=st.integers(1, 9),
    o1=st.integers(1, 9),
    random=st.randoms(use_true_random=False),
)
def test_planned_numbers_whatever_the_order(pool, g1, g2, o1, random):
    table = pool(g1=g1, g2=g2, o1=o1)
    plan = plan_mixture(count_sources(table), CONFIG)
    order = list(range(table.num_rows))
    random.shuffle(order)
    result = select(table, plan, CONFIG)
    shuffled = select(table.take(order), plan, CONFIG)
    assert ids(result.kept) == ids(shuffled.kept)
    assert result.kept.num_rows == plan.size
    assert count_sources(result.kept) == {
        (s.source, s.category): s.take for s in plan.sources if s.take
    }
    assert result.kept.num_rows + result.drops.num_rows == table.num_rows


@pytest.mark.parametrize("extra", range(5))
def test_one_more_sample_moves_no_other_but_at_the_edge(pool, extra):
    table = pool(g1=20, o1=20)
    larger = pa.concat_tables([table, pool(g1=21 + extra).slice(20 + extra)])
    before, after = ids(mixed(table, CONFIG).kept), ids(mixed(larger, CONFIG).kept)
    assert len(before - after) == len(after - before) <= 1
    assert after - before <= ids(larger) - ids(table)


def test_source_in_two_categories(pool, samples):
    rows = pool(g1=8, o1=4).to_pylist()
    table = samples(*({**row, "source": "engine"} for row in rows))
    result = mixed(table, MixtureConfig(max_per_source=6, ratios=None))
    assert Counter(result.kept["category"].to_pylist()) == {"general": 4, "ocr": 2}


def test_same_id_twice_is_chosen_by_origin(samples, sample):
    rows = [
        sample("a?", "b", source="g", origin={"file": "f", "line": n, "id": None})
        for n in (4, 2, 3)
    ]
    config = MixtureConfig(ratios=None, max_per_source=1)
    for table in (samples(*rows), samples(*rows[::-1])):
        assert mixed(table, config).kept["origin"].to_pylist()[0]["line"] == 2


def test_plan_of_another_pool_is_refused(pool):
    plan = plan_mixture(count_sources(pool(g1=5, o1=5)), CONFIG)
    with pytest.raises(ValueError, match="another pool"):
        select(pool(g1=5, o1=4), plan, CONFIG)
