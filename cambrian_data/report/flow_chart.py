"""Geometry of the flow of rows: data sets -> pool -> stages -> categories, drops branching off.

Numbers in, places of nodes, ribbons and labels out; the template draws them. Heights are in
proportion to rows, with a least height so that a single row can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEIGHT = 210.0
"""Height of all rows that go in."""
NODE_WIDTH, COLUMN_GAP = 12.0, 162.0
LEFT, RIGHT, TOP = 206.0, 190.0, 62.0
SLOT, LANE_GAP = 36.0, 44.0
"""Least distance of labels, and of the drops from what they branch off."""
MAX_DATASETS = 8
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
    """Where the labels stand: left, right or top."""

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

    def __init__(self, rows_in: int) -> None:
        self.width, self.height = 0.0, 0.0
        self.nodes: list[Node] = []
        self.ribbons: list[Ribbon] = []
        self.heads: list[tuple[float, str]] = []
        """Place and name of every column."""
        self._unit = HEIGHT / rows_in

    def px(self, rows: int) -> float:
        """Return the height of a number of rows, tall enough to be seen."""
        return max(rows * self._unit, _MIN_PX)

    def add_trunk(self, column: int, head: str, rows: int) -> Node:
        """Add a bar at the top of a column: all that is left there."""
        self.heads.append((_x(column), head))
        node = Node(_x(column), TOP, self.px(rows), "", f"{rows:,}", "stage", "top")
        self.nodes.append(node)
        return node

    def add_datasets(self, datasets: Sequence[tuple[str, int]], pool: Node) -> None:
        """Add what flows into the pool."""
        self.heads.append((_x(0), "data sets"))
        heights = [self.px(rows) for _, rows in datasets]
        at = pool.y
        for (name, rows), height, y in zip(datasets, heights, _stack(heights, TOP), strict=True):
            node = Node(_x(0), y, height, name, f"{rows:,}", "pool", "left")
            self.nodes.append(node)
            self.join(node, pool, (y, at), height, "pool", f"{name}: {rows:,} samples")
            at += rows * self._unit

    def add_stage(self, column: int, stage: Mapping[str, Any], source: Node) -> Node:
        """Add what a stage lets through."""
        node = self.add_trunk(column, f"after {stage['stage']}", stage["out"])
        title = f"{stage['stage']} kept {stage['out']:,} of {stage['in']:,}"
        self.join(source, node, (TOP, TOP), node.height, "stage", title)
        return node

    def add_categories(
        self, column: int, categories: Sequence[tuple[str, int]], source: Node
    ) -> float:
        """Add what came out; return where the lowest of it, or its label, ends."""
        self.heads.append((_x(column), "mixture"))
        heights = [self.px(rows) for _, rows in categories]
        total = sum(rows for _, rows in categories)
        at = bottom = TOP
        for (name, rows), height, y in zip(categories, heights, _stack(heights, TOP), strict=True):
            kind = CATEGORY + name
            node = Node(
                _x(column), y, height, name, f"{rows:,} ({rows / total:.0%})", kind, "right"
            )
            self.nodes.append(node)
            self.join(source, node, (at, y), height, kind, f"{name}: {rows:,} samples")
            at += rows * self._unit
            bottom = max(y + height, node.middle + SLOT / 2)
        return bottom

    def add_drops(
        self, column: int, stage: Mapping[str, Any], source: Node, lane: float, bend: float
    ) -> float:
        """Add what a stage drops, from `lane` downward; return where the next lane begins."""
        drops = stage["drops"]
        heights = [self.px(rows) for rows in drops.values()]
        at = TOP + stage["out"] * self._unit
        places = _stack(heights, lane)
        for (reason, rows), height, y in zip(drops.items(), heights, places, strict=True):
            node = Node(_x(column), y, height, reason, f"{rows:,} dropped", "drop", "right")
            self.nodes.append(node)
            self.join(source, node, (at, y), height, "drop", f"{reason}: {rows:,} rows", bend)
            at += rows * self._unit
        return lane + sum(max(height + 6, SLOT) for height in heights)

    def join(
        self,
        start: Node,
        end: Node,
        ys: tuple[float, float],
        height: float,
        kind: str,
        title: str,
        bend: float = 0.5,
    ) -> None:
        """Add a ribbon from height to height; `bend` says how late on its way it turns."""
        x0, x1 = start.x + NODE_WIDTH, end.x
        at, (y0, y1) = x0 + bend * (x1 - x0), ys
        path = (
            f"M{x0:.1f} {y0:.1f}C{at:.1f} {y0:.1f} {at:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
            f"v{height:.1f}C{at:.1f} {y1 + height:.1f} {at:.1f} {y0 + height:.1f} "
            f"{x0:.1f} {y0 + height:.1f}z"
        )
        self.ribbons.append(Ribbon(path, kind, title))


def flow_chart(
    datasets: Sequence[tuple[str, int]],
    flow: Sequence[Mapping[str, Any]],
    categories: Sequence[tuple[str, int]],
) -> FlowChart | None:
    """Lay the chart out; None where no row went in.

    Args:
        datasets: name and samples of what went in.
        flow: stages in order, each with `stage`, `in`, `out` and `drops` by reason.
        categories: name and samples of what came out.
    """
    if not flow or not flow[0]["in"]:
        return None
    chart = FlowChart(flow[0]["in"])
    trunks = [chart.add_trunk(1, "pool", flow[0]["in"])]
    chart.add_datasets(_few(datasets), trunks[0])
    for column, stage in enumerate(flow[:-1], start=2):
        trunks.append(chart.add_stage(column, stage, trunks[-1]))
    last = len(flow) + 1
    bottom = chart.add_categories(last, categories, trunks[-1])
    lane = max(bottom + LANE_GAP / 2, TOP + HEIGHT + LANE_GAP)
    # The earlier a stage, the lower its drops: so no label meets a band of a later stage.
    for column, stage, trunk in zip(range(last, 1, -1), flow[::-1], trunks[::-1], strict=True):
        lane = chart.add_drops(column, stage, trunk, lane, BEND[column == last])
    chart.width = _x(last) + NODE_WIDTH + RIGHT
    chart.height = max(node.y + max(node.height, SLOT) for node in chart.nodes) + 4
    return chart


def _x(column: int) -> float:
    return LEFT + column * COLUMN_GAP


def _few(datasets: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the largest data sets, and the others as one."""
    if len(datasets) <= MAX_DATASETS:
        return list(datasets)
    ranked = sorted(datasets, key=lambda pair: (-pair[1], pair[0]))
    rest = ranked[MAX_DATASETS - 1 :]
    return [*ranked[: MAX_DATASETS - 1], (f"{len(rest)} others", sum(rows for _, rows in rest))]


def _stack(heights: Sequence[float], top: float) -> list[float]:
    """Return the y of nodes one below the other, their labels `SLOT` apart."""
    places, y = [], top
    for height in heights:
        slot = max(height + 6, SLOT)
        places.append(y + (slot - 6 - height) / 2)
        y += slot
    return places
