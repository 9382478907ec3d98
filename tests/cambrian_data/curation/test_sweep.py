"""Sweeps: what `--sweep` is read as, and plans side by side."""

from __future__ import annotations

import pytest

from cambrian_data.curation.mixing.plan import MixtureConfig, plan_mixture
from cambrian_data.curation.mixing.sweep import MAX_VARIANTS, compare, parse_sweep
from cambrian_data.records import UserError

POOL = {"a": ("general", 100), "b": ("general", 10), "c": ("ocr", 40), "d.json:x": ("math", 7)}
BASE = MixtureConfig(ratios={"general": 1, "ocr": 1})


def test_one_config_for_every_value():
    variants = parse_sweep("cap=150000, 250000,null", BASE)
    assert [v.label for v in variants] == ["cap=150000", "cap=250000", "cap=null"]
    assert [v.slug for v in variants] == ["cap=150000", "cap=250000", "cap=null"]
    assert [v.config.max_per_source for v in variants] == [150_000, 250_000, None]
    assert all(v.config.ratios == BASE.ratios for v in variants)


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("min=0,5", "min_per_source", [0, 5]),
        ("size=10,20", "size", [10, 20]),
        ("on_conflict=shrink,repeat", "on_conflict", ["shrink", "repeat"]),
        ("choice=random,diverse", "choice", ["random", "diverse"]),
        ("max_per_source=3", "max_per_source", [3]),
        ("seed=1,2", "seed", [1, 2]),
    ],
)
def test_any_single_field(text, field, values):
    assert [getattr(v.config, field) for v in parse_sweep(text, BASE)] == values


def test_entries_of_caps_and_ratios():
    variants = parse_sweep("caps.d.json:hfdata/x=0,350_000", BASE)
    assert [v.config.caps for v in variants] == [
        {"d.json:hfdata/x": 0},
        {"d.json:hfdata/x": 350_000},
    ]
    assert [v.slug for v in variants] == ["caps.d.json_hfdata_x=0", "caps.d.json_hfdata_x=350_000"]
    ratio = parse_sweep("ratios.ocr=0.5", MixtureConfig(ratios=None))[0].config
    assert ratio.ratios == {"ocr": 0.5}
    odd = parse_sweep("caps.a=b.json=4", BASE)[0].config
    assert odd.caps == {"a=b.json": 4}


def test_several_sweeps_are_all_combinations():
    variants = parse_sweep(["cap=1,2", "size=5,6"], BASE)
    assert [v.label for v in variants] == [
        "cap=1 size=5",
        "cap=1 size=6",
        "cap=2 size=5",
        "cap=2 size=6",
    ]
    assert (variants[1].config.max_per_source, variants[1].config.size) == (1, 6)


def test_file_names_differ_even_where_case_does_not_count():
    variants = parse_sweep(["caps.A=1", "score=x,X,x?,x!"], BASE)
    assert [v.slug for v in variants] == [
        "caps.A=1_score=x",
        "caps.A=1_score=X-2",
        "caps.A=1_score=x_",
        "caps.A=1_score=x_-2",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cap", "write it as cap=150000,250000"),
        ("cap=", "write it as"),
        ("cap=1,,2", "write it as"),
        ("=1", "write it as"),
        ("kap=1", "'kap' cannot be swept; these can: cap, min"),
        ("caps=1", "'caps' cannot be swept"),
        ("caps.=1", "'caps.' cannot be swept"),
        ("sources=a", "'sources' cannot be swept"),
        ("size.x=1", "'size.x' cannot be swept"),
        ("cap=many", "--sweep cap=many: mixture.max_per_source"),
        ("cap=0", "--sweep cap=0: mixture.max_per_source"),
        ("cap=1,1", "1 stands in it twice"),
        ("cap=[1]", "'[1]' is a list, not one value"),
        ("cap=[1", "'[1' is not a YAML value"),
        ("caps.a=-1", "a cap is >= 0, got -1"),
        ("on_conflict=fill", "so give mixture.size"),
        (["cap=1", "max_per_source=2"], "max_per_source is given twice"),
        (["cap=" + ",".join(map(str, range(1, 100))), "seed=" + ",".join(map(str, range(99)))],
         f"{MAX_VARIANTS:,} are allowed"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text, said):
    with pytest.raises(UserError) as raised:
        parse_sweep(text, BASE)
    assert said in str(raised.value)


def test_comparison_has_a_row_for_every_plan():
    plans = [(v.label, plan_mixture(POOL, v.config)) for v in parse_sweep("cap=5,30,90", BASE)]
    rows = compare(plans)
    assert [(row["label"], row["size"], row["sources_capped"]) for row in rows] == [
        ("cap=5", 10, 1),
        ("cap=30", 60, 1),
        ("cap=90", 80, 0),
    ]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    assert [row["binding"] for row in rows] == ["ocr", "ocr", "ocr"]
    assert [row["take.math"] for row in rows] == [0, 0, 0]
    assert [row["ratio.general"] for row in rows] == [0.5, 0.5, 0.5]
    repeated = plan_mixture(POOL, BASE.model_copy(update={"on_conflict": "repeat"}))
    assert compare([("again", repeated)])[0]["repeated"] == 40 + 10
    assert compare([]) == []
