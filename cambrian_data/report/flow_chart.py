"""Geometry of the flow of rows: sources -> pool -> stages -> categories, drops branching off.

Numbers in, places of nodes, ribbons and labels out; the template draws them. Heights are in
proportion to rows, with a least height so that a single row can be seen. Stages that drop nothing
are left out, and what is too small for a label of its own is drawn together with its like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEIGHT = 210.0
"""Height of all rows that go in, where few sources do."""
HEIGHT_PER_SOURCE, MAX_HEIGHT = 9.0, 520.0
"""More sources need more height to be told apart."""
NODE_WIDTH, COLUMN_GAP, NARROW_GAP = 12.0, 162.0, 140.0
"""The gap between columns is narrower where there are more than `WIDE_STAGES`."""
WIDE_STAGES = 3
LEFT, RIGHT, TOP = 330.0, 190.0, 62.0
SLOT, LINE, LANE_GAP = 36.0, 19.0, 44.0
"""Least distance of labels of two lines and of one, and of the drops from what they branch off."""
MAX_SOURCES, MAX_REASONS, MAX_CATEGORIES = 40, 6, 12
BEND = {True: 0.5, False: 0.86}
"""How late drops leave their height: in the last column as early as what is kept, so that bands
keep their order and do not cross; before it late, like water over an edge."""
CATEGORY = "category-"
"""Before the name of a category in the kind of a node."""
_MIN_PX = 2.0


@dataclass(frozen=True, slots=True)
class Node:
    """A bar with its labels."""

    x: float
    y: float
    height: float
    name: str
    number: str
    kind: str
    """pool, stage, drop, or `CATEGORY` and a name."""
    label: str
    """Where the labels stand: left (name and number in one line), right, line (both in one line,
    to the right) or top."""

    @property
    def middle(self) -> float:
        """Return the height of the middle."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A band from the right side of a node to the left side of another, as an SVG path."""

    path: str
    kind: str
    title: str


class FlowChart:
    """All that is drawn, laid out from left to right."""

    def __init__(self, rows_in: int, height: float, gap: float) -> None:
        self.width, self.height = 0.0, 0.0
        self.nodes: list[Node] = []
        self.ribbons: list[Ribbon] = []
        self.heads: list[tuple[float, str]] = []
        """Place and name of every column."""
        self.rows_height = height
        self._unit, self._gap = height / rows_in, gap

    def x(self, column: int) -> float:
        """Return the left side of a column."""
        return LEFT + column * self._gap

    def px(self, rows: float) -> float:
        """Return the height of a number of rows, tall enough to be seen."""
        return max(rows * self._unit, _MIN_PX)

    def add_trunk(self, column: int, head: str, rows: int) -> Node:
        """Add a bar at the top of a column: all that is left there."""
        self.heads.append((self.x(column), head))
        node = Node(self.x(column), TOP, self.px(rows), "", f"{rows:,}", "stage", "top")
        self.nodes.append(node)
        return node

    def add_sources(self, sources: Sequence[Inflow], pool: Node) -> None:
        """Add what flows into the pool, one line a label."""
        self.heads.append((self.x(0), "sources"))
        heights = [self.px(source.rows) for source in sources]
        at = pool.y
        places = _stack(heights, TOP, LINE)
        for source, height, y in zip(sources, heights, places, strict=True):
            kind = CATEGORY + source.category if source.category else "pool"
            node = Node(self.x(0), y, height, source.name, f"{source.rows:,}", kind, "left")
            self.nodes.append(node)
            title = f"{source.name}: {source.rows:,} samples"
            self.join(node, pool, (y, at), height, kind, title)
            at += source.rows * self._unit

    def add_stage(self, column: int, stage: Mapping[str, Any], source: Node) -> Node:
        """Add what a stage lets through."""
        node = self.add_trunk(column, f"after {stage['stage']}", stage["out"])
        title = f"{stage['stage']} kept {stage['out']:,} of {stage['in']:,}"
        self.join(source, node, (TOP, TOP), node.height, "stage", title)
        return node

    def add_categories(
        self, column: int, categories: Sequence[tuple[str, int]], source: Node, kept: int
    ) -> float:
        """Add what came out; return where the lowest of it, or its label, ends.

        Args:
            kept: rows that were taken; fewer than came out where rows stand several times.
        """
        self.heads.append((self.x(column), "mixture"))
        heights = [self.px(rows) for _, rows in categories]
        total = sum(rows for _, rows in categories)
        at = bottom = TOP
        places = _stack(heights, TOP, SLOT)
        for (name, rows), height, y in zip(categories, heights, places, strict=True):
            kind = CATEGORY + name
            number = f"{rows:,} ({rows / total:.0%})"
            node = Node(self.x(column), y, height, name, number, kind, "right")
            self.nodes.append(node)
            share = rows * min(kept, total) / total
            ends = (height, self.px(share))
            self.join(source, node, (at, y), ends, kind, f"{name}: {rows:,} samples")
            at += share * self._unit
            bottom = max(y + height, node.middle + SLOT / 2)
        return bottom

    def add_drops(
        self, column: int, stage: Mapping[str, Any], source: Node, lane: float, bend: float
    ) -> float:
        """Add what a stage drops, from `lane` downward; return where the next lane begins."""
        drops = _few_reasons(stage["drops"])
        heights = [self.px(rows) for _, rows in drops]
        at = TOP + (stage["in"] - sum(rows for _, rows in drops)) * self._unit
        places = _stack(heights, lane, LINE)
        for (reason, rows), height, y in zip(drops, heights, places, strict=True):
            node = Node(self.x(column), y, height, reason, f"{rows:,}", "drop", "line")
            self.nodes.append(node)
            title = f"{stage['stage']}, {reason}: {rows:,} rows dropped"
            self.join(source, node, (at, y), height, "drop", title, bend)
            at += rows * self._unit
        return lane + sum(max(height + 6, LINE) for height in heights) + 8

    def join(
        self,
        start: Node,
        end: Node,
        ys: tuple[float, float],
        height: float | tuple[float, float],
        kind: str,
        title: str,
        bend: float = 0.5,
    ) -> None:
        """Add a ribbon from height to height; `bend` says how late on its way it turns.

        Args:
            height: of the ribbon; of two the first is that of its end, the second of its start.
        """
        h1, h0 = height if isinstance(height, tuple) else (height, height)
        x0, x1 = start.x + NODE_WIDTH, end.x
        at, (y0, y1) = x0 + bend * (x1 - x0), ys
        path = (
            f"M{x0:.1f} {y0:.1f}C{at:.1f} {y0:.1f} {at:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
            f"v{h1:.1f}C{at:.1f} {y1 + h1:.1f} {at:.1f} {y0 + h0:.1f} {x0:.1f} {y0 + h0:.1f}z"
        )
        self.ribbons.append(Ribbon(path, kind, title))


@dataclass(frozen=True, slots=True)
class Inflow:
    """A source, or a data set: its name, its rows, and its category where it has one."""

    name: str
    rows: int
    category: str = ""


def flow_chart(
    sources: Sequence[Inflow],
    flow: Sequence[Mapping[str, Any]],
    categories: Sequence[tuple[str, int]],
) -> FlowChart | None:
    """Lay the chart out; None where no row went in.

    Args:
        sources: what went in.
        flow: stages in order, each with `stage`, `in`, `out` and `drops` by reason.
        categories: name and samples of what came out.
    """
    if not flow or not flow[0]["in"]:
        return None
    stages = [stage for stage in flow[:-1] if stage["drops"]] + [flow[-1]]
    inflows = _few_sources(sources)
    height = HEIGHT + HEIGHT_PER_SOURCE * max(len(inflows) - 10, 0)
    gap = COLUMN_GAP if len(stages) <= WIDE_STAGES else NARROW_GAP
    chart = FlowChart(flow[0]["in"], min(height, MAX_HEIGHT), gap)
    trunks = [chart.add_trunk(1, "pool", flow[0]["in"])]
    chart.add_sources(inflows, trunks[0])
    for column, stage in enumerate(stages[:-1], start=2):
        trunks.append(chart.add_stage(column, stage, trunks[-1]))
    last = len(stages) + 1
    kept = stages[-1]["in"] - sum(stages[-1]["drops"].values())
    bottom = chart.add_categories(last, _few_categories(categories), trunks[-1], kept)
    lane = max(bottom + LANE_GAP / 2, TOP + chart.rows_height + LANE_GAP)
    # The earlier a stage, the lower its drops: so no label meets a band of a later stage.
    for column, stage, trunk in zip(range(last, 1, -1), stages[::-1], trunks[::-1], strict=True):
        lane = chart.add_drops(column, stage, trunk, lane, BEND[column == last])
    chart.width = chart.x(last) + NODE_WIDTH + RIGHT
    chart.height = max(node.y + max(node.height, SLOT) for node in chart.nodes) + 4
    return chart


def _few_sources(sources: Sequence[Inflow]) -> list[Inflow]:
    """Return the largest sources by category and size, and all others as one."""
    ranked = sorted(sources, key=lambda source: (-source.rows, source.name))
    shown, rest = ranked[:MAX_SOURCES], ranked[MAX_SOURCES:]
    if len(rest) == 1:
        shown, rest = ranked, []
    shown.sort(key=lambda source: (source.category, -source.rows, source.name))
    if rest:
        shown.append(Inflow(f"{len(rest)} others", sum(source.rows for source in rest)))
    return shown


def _few_reasons(drops: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the most frequent reasons, and all others as one."""
    ranked = sorted(drops.items(), key=lambda pair: (-pair[1], pair[0]))
    if len(ranked) <= MAX_REASONS:
        return ranked
    rest = ranked[MAX_REASONS - 1 :]
    return [*ranked[: MAX_REASONS - 1], (f"{len(rest)} others", sum(rows for _, rows in rest))]


def _few_categories(categories: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the largest categories in their order, and all others as one."""
    ranked = sorted(categories, key=lambda pair: (-pair[1], pair[0]))
    rest = ranked[MAX_CATEGORIES:]
    if len(rest) < 2:
        return list(categories)
    shown = [pair for pair in categories if pair not in rest]
    return [*shown, (f"{len(rest)} others", sum(rows for _, rows in rest))]


def _stack(heights: Sequence[float], top: float, slot: float) -> list[float]:
    """Return the y of nodes one below the other, their labels `slot` apart."""
    gap = min(6.0, slot / 5)
    places, y = [], top
    for height in heights:
        room = max(height + gap, slot)
        places.append(y + (room - gap - height) / 2)
        y += room
    return places
