"""Geometry of the report's charts, the choice of samples, words that differ."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from cambrian_data.records import bytes_id, draw
from cambrian_data.report.charts import before_and_after, loss_chart, nice_ticks, smooth
from cambrian_data.report.examples import choose
from cambrian_data.report.flow_chart import HEIGHT, LINE, TOP, Inflow, flow_chart
from cambrian_data.report.word_changes import changes


def flow_of(*stages: tuple[str, int, dict[str, int]]) -> list[dict]:
    """Return the account of stages from their names, rows in and drops."""
    return [
        {"stage": name, "in": rows, "out": rows - sum(drops.values()), "drops": drops}
        for name, rows, drops in stages
    ]


def check_distances(chart) -> None:
    """Nodes stand below one another, their labels apart, inside of the picture."""
    columns: dict[float, list] = {}
    for node in chart.nodes:
        assert node.y >= TOP and node.y + node.height <= chart.height
        assert 0 < node.x < chart.width
        columns.setdefault(node.x, []).append(node)
    for nodes in columns.values():
        ordered = sorted(nodes, key=lambda node: node.y)
        for above, below in itertools.pairwise(ordered):
            assert above.y + above.height <= below.y
            assert below.middle - above.middle >= LINE - 4


def test_the_flow_keeps_order_and_distance():
    sources = [Inflow(f"set {n}", n + 1, "ocr" if n % 2 else "math") for n in range(20)]
    drops = {"bad_turns": 4, "too_long": 6}
    flow = flow_of(("checks", 210, drops), ("exact_dedup", 200, {}), ("mixture", 200, {"x": 140}))
    chart = flow_chart(sources, flow, [("ocr", 50), ("math", 10)])
    assert chart is not None
    names = [name for _, name in sorted(chart.heads)]
    assert names == ["sources", "pool", "after checks", "mixture"]  # a stage without drops is left
    check_distances(chart)
    assert len(chart.ribbons) == 20 + 1 + 2 + 1 + 2
    inflow = [node for node in chart.nodes if node.label == "left"]
    assert sum(node.height for node in inflow) == pytest.approx(chart.rows_height, rel=0.1)
    assert [node.kind for node in inflow] == ["category-math"] * 10 + ["category-ocr"] * 10
    assert flow_chart([], [], []) is None


def test_forty_sources_and_many_reasons_stay_readable():
    sources = [Inflow(f"a.json:{n}", 4 ** (n % 8) + n, f"c{n % 7}") for n in range(64)]
    rows = sum(source.rows for source in sources)
    reasons = {f"reason_{n}": n + 1 for n in range(14)}
    stages = ("checks", "quality", "decontaminate", "exact_dedup", "near_dedup", "mixture")
    left, account = rows, []
    for stage in stages:
        account.append((stage, left, reasons))
        left -= sum(reasons.values())
    chart = flow_chart(sources, flow_of(*account), [(f"c{n}", left // 7) for n in range(7)])
    assert chart is not None and HEIGHT < chart.rows_height <= 520
    check_distances(chart)
    inflow = [node for node in chart.nodes if node.label == "left"]
    assert len(inflow) == 41 and inflow[-1].name == "24 others"
    shown = sum(int(node.number.replace(",", "")) for node in inflow)
    assert shown == rows
    drops = [node for node in chart.nodes if node.kind == "drop"]
    assert len(drops) == 6 * 6
    assert sum(int(node.number.replace(",", "")) for node in drops) == 6 * sum(reasons.values())


def test_rows_that_stand_several_times_leave_more_than_came_in():
    flow = [{"stage": "mixture", "in": 100, "out": 180, "drops": {"too_few": 10}}]
    chart = flow_chart([Inflow("a", 100)], flow, [("ocr", 120), ("math", 60)])
    assert chart is not None
    pool = next(node for node in chart.nodes if node.label == "top")
    ends = [float(ribbon.path.rsplit(" ", 1)[1].rstrip("z")) for ribbon in chart.ribbons[1:]]
    assert max(ends) <= pool.y + pool.height + 0.1  # nothing leaves from below the bar
    check_distances(chart)


def test_lengths_before_and_after_share_one_scale():
    chart = before_and_after([10, 0, 40], [5, 0, 40])
    assert [(bar["before"], bar["after"]) for bar in chart["bars"]] == [(10, 5), (0, 0), (40, 40)]
    assert before_and_after([], [])["bars"] == []


@pytest.mark.parametrize(("low", "high"), [(0, 6.93), (0, 0.004), (-1.2, 3), (2, 2), (0, 1e6)])
def test_ticks_are_few_round_and_reach(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8


def test_curves_share_one_scale():
    stages = [
        {"stage": "pretrain", "curve": [[1, 7.0], [2, 6.0]]},
        {"stage": "finetune", "curve": [[n, 6.0 / n] for n in range(1, 101)]},
    ]
    chart = loss_chart(stages)
    assert chart is not None and len(chart["panels"]) == 2
    narrow, wide = chart["panels"]
    assert narrow["x"] + narrow["width"] < wide["x"] and narrow["width"] > 150
    assert smooth([[1, 2.0], [2, 4.0], [3, 6.0]]) == [(1, 2.0), (2, 4.0), (3, 6.0)]
    assert loss_chart([{"stage": "pretrain", "curve": []}]) is None


def test_examples_are_spread_and_do_not_depend_on_order():
    rows = [
        {"id": bytes_id(bytes([n])), "category": category, "dataset": "d", "pictures": n % 2}
        | {"source": "s", "picture": f"p{n % 40}" if n % 2 else None}
        for n, category in enumerate(["general"] * 100 + ["ocr"] * 5 + ["math"])
    ]
    chosen = choose(rows, seed=0)
    assert chosen == choose(sorted(rows, key=lambda row: draw(1, row["id"])), seed=0)
    assert chosen != choose(rows, seed=1)
    by_id = {row["id"]: row for row in rows}
    counts = Counter(by_id[found]["category"] for found in chosen)
    assert counts["math"] == 1 and counts["ocr"] >= 4 and len(chosen) == 12
    assert {by_id[found]["pictures"] for found in chosen} == {0, 1}
    assert choose([], seed=0) == []


def text_of(pieces: list[dict]) -> str:
    return "".join(piece["text"] for piece in pieces)


def marked(pieces: list[dict]) -> list[str]:
    return [piece["text"].strip() for piece in pieces if piece["is_changed"]]


def test_words_that_differ_are_marked_on_both_sides():
    left, right = changes("A red car stands here.", "A blue car stands over there.")
    assert (text_of(left), text_of(right)) == (
        "A red car stands here.",
        "A blue car stands over there.",
    )
    assert marked(left) == ["red", "here."] and marked(right) == ["blue", "over there."]
    assert marked(changes("the same", "the  same")[1]) == []
    assert changes("", "new words")[0] == [] and marked(changes("", "new")[1]) == ["new"]


def test_long_equal_parts_are_cut_and_long_texts_stop():
    words = " ".join(f"w{n}" for n in range(200))
    assert len(words) < 900
    left, right = changes(f"{words} end", f"{words} stop")
    assert text_of(left).startswith(" [...] w190") and marked(left) == ["end"]
    assert marked(right) == ["stop"]
    assert text_of(changes(words, words)[0]) == words
    cut, _ = changes("x" * 5000, "y", limit=100)
    assert cut[0]["text"] == "x" * 100
