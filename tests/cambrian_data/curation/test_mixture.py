"""Which samples are chosen: the planned numbers, by hash, whatever the order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.mixing.mixture import (
    FRAME,
    Chosen,
    MixtureConfig,
    choose,
    count_sources,
    plan_mixture,
)
from cambrian_data.records import DROP_REASONS, UserError, content_id

SOURCES = ["m1", "g1", "o1", "g2"]
CATEGORIES = ["ocr", "general", "math"]
HOME = {"g": "general", "o": "ocr", "m": "math"}
CONFIG = MixtureConfig(max_per_source=6, ratios={"general": 1, "ocr": 1})


def pool(**sizes: int) -> pl.DataFrame:
    """Return a frame of some samples a source; the category is the first letter's."""
    rows = [row(source, n) for source, size in sizes.items() for n in range(size)]
    return pl.DataFrame(rows, schema=FRAME, orient="row")


def row(source: str, number: int, category: str | None = None) -> tuple[Any, ...]:
    name = content_id(source, number)
    codes = SOURCES.index(source), CATEGORIES.index(category or HOME[source[0]])
    return (*codes, int(name[:16], 16), int(name[16:32], 16), number / 7, number // 2 + 1, 5)


def chosen_of(frame: pl.DataFrame, config: MixtureConfig) -> Chosen:
    names = {"sources": SOURCES, "categories": CATEGORIES}
    plan = plan_mixture(count_sources(frame, **names), config)
    chosen = choose(frame, plan, config, **names)
    taken = frame.select("source", "category").to_numpy().repeat(chosen.copies, axis=0)
    counted = Counter(
        (SOURCES[source], CATEGORIES[category]) for source, category in taken.tolist()
    )
    assert counted == {(s.source, s.category): s.take for s in plan.sources if s.take}
    assert (chosen.why < 0).tolist() == (chosen.copies > 0).tolist()
    return chosen


def ids(frame: pl.DataFrame, chosen: Chosen) -> list[int]:
    return frame["id_hi"].to_numpy().repeat(chosen.copies).tolist()


def test_by_hand():
    frame = pool(g1=10, g2=2, o1=5, m1=1)
    chosen = chosen_of(frame, CONFIG)
    taken = Counter(
        SOURCES[code] for code in frame["source"].to_numpy()[chosen.copies > 0].tolist()
    )
    assert taken == {"g1": 3, "g2": 2, "o1": 5}
    dropped = np.flatnonzero(chosen.copies == 0)
    reasons, details = (column.to_pylist() for column in chosen.drop_columns(dropped))
    assert Counter(zip(reasons, details, strict=True)) == {
        ("over_cap", "g1 has 10, its cap is 6"): 4,
        ("over_ratio", "general gives 5, 3 of them g1"): 3,
        ("over_ratio", "math has no ratio"): 1,
    }
    assert chosen.counts() == {"over_cap": 4, "over_ratio": 4}
    assert {reason.reason for reason in chosen.reasons} <= DROP_REASONS["mixture"]
    assert [column.to_pylist() for column in chosen.drop_columns(slice(0, 0))] == [[], []]


def test_sources_left_out_have_one_reason_for_all_of_their_rows():
    frame = pool(g1=10, g2=4, o1=9, m1=8)
    config = MixtureConfig(
        max_per_source=6, min_per_source=5, ratios={"general": 1, "ocr": 1}, caps={"o1": 9}
    )
    chosen = chosen_of(frame, config)
    _, details = chosen.drop_columns(chosen.copies == 0)
    assert set(details.to_pylist()) == {
        "g2 has 4, fewer than min_per_source",
        "g1 has 10, its cap is 6",
        "math has no ratio",
        "ocr gives 6, 6 of them o1",
    }
    assert chosen.counts() == {"over_cap": 4, "over_ratio": 11, "too_few": 4}


def test_sources_that_the_recipe_does_not_name():
    frame = pool(g1=3, g2=3)
    config = MixtureConfig(ratios=None, sources=["g2"])
    chosen = chosen_of(frame, config)
    assert chosen.counts() == {"over_cap": 3}
    _, details = chosen.drop_columns(chosen.copies == 0)
    assert set(details.to_pylist()) == {"g1 is not one of mixture.sources"}


def test_seed_decides():
    frame = pool(g1=20, o1=20)
    found = {
        seed: set(ids(frame, chosen_of(frame, CONFIG.model_copy(update={"seed": seed}))))
        for seed in (1, 2)
    }
    assert found[1] != found[2]
    again = chosen_of(frame, CONFIG.model_copy(update={"seed": 1}))
    assert set(ids(frame, again)) == found[1]


@settings(max_examples=40, deadline=None)
@given(
    g1=st.integers(0, 9),
    g2=st.integers(1, 9),
    o1=st.integers(1, 9),
    choice=st.sampled_from(["random", "quality", "diverse"]),
    on_conflict=st.sampled_from(["shrink", "repeat"]),
    seed=st.integers(0, 2**32),
)
def test_planned_numbers_whatever_the_order(g1, g2, o1, choice, on_conflict, seed):
    frame = pool(g1=g1, g2=g2, o1=o1)
    config = CONFIG.model_copy(update={"choice": choice, "on_conflict": on_conflict})
    order = np.random.default_rng(seed).permutation(len(frame))
    chosen, shuffled = chosen_of(frame, config), chosen_of(frame[order], config)
    assert chosen.copies[order].tolist() == shuffled.copies.tolist()
    details = [
        found.drop_columns(rows)[1].to_pylist()
        for found, rows in (
            (chosen, order[chosen.copies[order] == 0]),
            (shuffled, shuffled.why >= 0),
        )
    ]
    assert details[0] == details[1]


@pytest.mark.parametrize("choice", ["random", "quality"])
@pytest.mark.parametrize("extra", range(5))
def test_one_more_sample_moves_no_other_but_at_the_edge(extra, choice):
    config = CONFIG.model_copy(update={"choice": choice})
    frame = pool(g1=20, o1=20)
    larger = pl.concat([frame, pool(g1=21 + extra)[20 + extra :]])
    before = set(ids(frame, chosen_of(frame, config)))
    after = set(ids(larger, chosen_of(larger, config)))
    assert len(before - after) == len(after - before) <= 1
    assert after - before <= set(larger["id_hi"].to_list()) - set(frame["id_hi"].to_list())


def test_other_sources_do_not_decide_about_a_sample():
    alone, beside = pool(g1=20, o1=20), pool(m1=9, o1=20, g1=20)
    assert sorted(ids(alone, chosen_of(alone, CONFIG))) == sorted(
        ids(beside, chosen_of(beside, CONFIG))
    )


def test_repeat_takes_all_equally_often_and_those_in_front_once_more():
    frame = pool(g1=4, o1=30)
    config = MixtureConfig(
        max_per_source=30, ratios={"general": 1, "ocr": 1}, on_conflict="repeat", repeat_limit=3
    )
    chosen = chosen_of(frame, config)
    assert chosen.copies[:4].tolist() == [3, 3, 3, 3]
    assert sorted(chosen.copies[4:].tolist()) == [0] * 18 + [1] * 12
    capped = config.model_copy(update={"caps": {"g1": 10}})
    copies = chosen_of(frame, capped).copies[:4]
    assert sorted(copies.tolist()) == [2, 2, 3, 3]
    assert copies.tolist() == [2 + (n in np.argsort(_line(frame[:4]))[:2]) for n in range(4)]


def _line(frame: pl.DataFrame) -> np.ndarray:
    """Return hashes by which the first of some rows can be told: those of a plan that takes one."""
    places = np.zeros(len(frame))
    for size in range(1, len(frame) + 1):
        places += chosen_of(frame, MixtureConfig(ratios=None, max_per_source=size)).copies == 0
    return places


def test_source_in_two_categories():
    rows = [row("g1", n, "general") for n in range(8)] + [row("g1", n, "ocr") for n in range(8, 12)]
    frame = pl.DataFrame(rows, schema=FRAME, orient="row")
    chosen = chosen_of(frame, MixtureConfig(max_per_source=6, ratios=None))
    kept = frame["category"].to_numpy()[chosen.copies > 0].tolist()
    assert Counter(CATEGORIES[code] for code in kept) == {"general": 4, "ocr": 2}


def test_quality_takes_the_best():
    frame = pool(g1=20, o1=20)
    chosen = chosen_of(frame, CONFIG.model_copy(update={"choice": "quality"}))
    assert sorted(frame["quality"].to_numpy()[:20][chosen.copies[:20] > 0] * 7) == pytest.approx(
        range(14, 20)
    )


def test_a_score_that_no_row_has_is_an_error_that_names_it():
    config = CONFIG.model_copy(update={"choice": "quality", "score": "relevance"})
    frame = pool(g1=9, o1=9).with_columns(quality=pl.lit(float("nan"), pl.Float32))
    with pytest.raises(UserError, match=r"'relevance', and no sample has it"):
        chosen_of(frame, config)
    with pytest.raises(ValueError, match="needs the columns quality"):
        chosen_of(frame.drop("quality"), config)


def test_diverse_takes_one_of_every_picture_first():
    frame = pool(g1=12, o1=12)  # two samples a picture
    chosen = chosen_of(frame, CONFIG.model_copy(update={"choice": "diverse"}))
    pictures = frame["picture"].to_numpy()[:12][chosen.copies[:12] > 0]
    assert sorted(pictures.tolist()) == [1, 2, 3, 4, 5, 6]


def test_plan_of_another_pool_is_refused():
    names = {"sources": SOURCES, "categories": CATEGORIES}
    plan = plan_mixture(count_sources(pool(g1=5, o1=5), **names), CONFIG)
    with pytest.raises(ValueError, match="another pool"):
        choose(pool(g1=5, o1=4), plan, CONFIG, **names)


def test_random_choice_needs_no_more_than_four_columns():
    frame = pool(g1=12, o1=12)
    lean = frame.select("source", "category", "id_hi", "id_lo")
    assert chosen_of(lean, CONFIG).copies.tolist() == chosen_of(frame, CONFIG).copies.tolist()
