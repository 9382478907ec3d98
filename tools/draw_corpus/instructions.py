"""Pictures of the instruction set: scattered shapes to count and bar charts to read.

The scenes are data (`SHAPE_SCENES`, `BAR_CHARTS`), so that tests can check the answers in
instructions.jsonl against what is drawn.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from tools.draw_corpus.style import Draw, encode, new_plot

SIDE_PX = 224
_CELL_PX = 56
COLORS = {"red": "#d23b30", "blue": "#2b62c0", "green": "#2f9a4a", "yellow": "#eec31f",
          "purple": "#8443b5", "orange": "#ef8420"}  # fmt: skip
Part = tuple[int, str, str]
"""How many, colour, kind of shape."""

SHAPE_SCENES: dict[str, tuple[Part, ...]] = {
    "001": ((3, "red", "circle"), (2, "blue", "square")),
    "002": ((1, "green", "circle"), (4, "red", "triangle")),
    "003": ((5, "blue", "circle"), (2, "yellow", "star")),
    "004": ((2, "purple", "circle"), (3, "orange", "square")),
    "005": ((4, "orange", "circle"), (1, "blue", "triangle")),
    "006": ((6, "red", "square"), (2, "green", "circle")),
    "007": ((1, "blue", "square"), (3, "purple", "star")),
    "008": ((2, "yellow", "square"), (5, "green", "triangle")),
    "009": ((3, "blue", "square"), (4, "red", "star")),
    "010": ((5, "orange", "square"), (1, "purple", "circle")),
    "011": ((4, "green", "square"), (2, "red", "circle")),
    "012": ((2, "blue", "triangle"), (6, "yellow", "circle")),
    "013": ((1, "red", "triangle"), (3, "green", "square")),
    "014": ((5, "purple", "triangle"), (4, "orange", "circle")),
    "015": ((3, "yellow", "triangle"), (1, "blue", "star")),
    "016": ((6, "green", "star"), (2, "red", "square")),
    "017": ((2, "orange", "star"), (5, "blue", "square")),
    "018": ((4, "purple", "star"), (3, "yellow", "square")),
    "019": ((1, "red", "circle"),),
    "020": ((1, "blue", "star"),),
    "021": ((1, "green", "triangle"),),
    "022": ((1, "yellow", "square"),),
    "023": ((1, "purple", "circle"),),
    "024": ((1, "orange", "triangle"),),
    "025": ((3, "red", "circle"), (3, "blue", "circle")),
    "026": ((2, "green", "square"), (4, "purple", "square")),
    "027": ((5, "yellow", "star"), (1, "red", "star")),
    "028": ((2, "orange", "triangle"), (3, "blue", "triangle")),
    "029": ((4, "blue", "circle"), (4, "green", "square")),
    "030": ((6, "purple", "triangle"), (3, "red", "circle")),
    "031": ((2, "red", "star"), (2, "yellow", "circle"), (2, "blue", "square")),
    "032": ((1, "green", "circle"), (3, "orange", "square"), (2, "purple", "triangle")),
    "033": ((3, "yellow", "star"), (1, "red", "square"), (4, "green", "circle")),
    "034": ((2, "blue", "triangle"), (3, "purple", "circle"), (1, "orange", "star")),
    "035": ((4, "red", "triangle"), (1, "blue", "circle"), (2, "green", "star")),
    "036": ((5, "green", "circle"), (2, "yellow", "triangle"), (1, "purple", "square")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """A bar chart with its numbers written on the bars."""

    title: str
    unit: str
    values: dict[str, float]
    color: str


BAR_CHARTS: dict[str, BarChart] = {
    "001": BarChart(title="Speed of sound", unit="m/s", color="blue",
                    values={"air": 343, "helium": 1007, "water": 1480}),
    "002": BarChart(title="Density", unit="g/cm\u00b3", color="purple",
                    values={"aluminium": 2.7, "iron": 7.9, "lead": 11.3}),
    "003": BarChart(title="Boiling point", unit="\u00b0C", color="red",
                    values={"ethanol": 78, "water": 100, "acetic acid": 118}),
    "004": BarChart(title="Plants in flower", unit="number of plants",
                    color="orange", values={"group A": 4, "group B": 7, "group C": 2}),
    "005": BarChart(title="Half-life", unit="days", color="green",
                    values={"Rn-222": 3.8, "I-131": 8.0, "P-32": 14.3}),
    "006": BarChart(title="Gravity at the surface", unit="m/s\u00b2", color="blue",
                    values={"Moon": 1.6, "Mars": 3.7, "Earth": 9.8}),
    "007": BarChart(title="Length of a year", unit="days", color="orange",
                    values={"Mercury": 88, "Venus": 225, "Earth": 365}),
    "008": BarChart(title="Melting point", unit="\u00b0C", color="red",
                    values={"tin": 232, "lead": 327, "zinc": 420}),
    "009": BarChart(title="Refractive index", unit="(no unit)", color="purple",
                    values={"water": 1.33, "glass": 1.52, "diamond": 2.42}),
}  # fmt: skip


def _outline(kind: str, x: float, y: float) -> list[tuple[float, float]]:
    if kind == "triangle":
        return [(x, y - 18), (x + 19, y + 16), (x - 19, y + 16)]
    return [
        (x + r * dx, y + r * dy)
        for r, dx, dy in (
            (20, 0, -1), (8, 0.588, -0.809), (20, 0.951, -0.309), (8, 0.951, 0.309),
            (20, 0.588, 0.809), (8, 0, 1), (20, -0.588, 0.809), (8, -0.951, 0.309),
            (20, -0.951, -0.309), (8, -0.588, -0.809),
        )
    ]  # fmt: skip


def draw_shapes(key: str) -> bytes:
    """Scatter the shapes of a scene over a grid of 4 x 4 cells, never two in one cell."""
    chance = random.Random(f"shapes-{key}")
    image = Image.new("RGB", (4 * SIDE_PX, 4 * SIDE_PX), "white")
    pen = ImageDraw.Draw(image)
    cells = chance.sample(range(16), sum(part[0] for part in SHAPE_SCENES[key]))
    for count, color, kind in SHAPE_SCENES[key]:
        for _ in range(count):
            row, column = divmod(cells.pop(), 4)
            x = _CELL_PX * (column + 0.5) + chance.uniform(-6, 6)
            y = _CELL_PX * (row + 0.5) + chance.uniform(-6, 6)
            if kind == "circle":
                pen.ellipse([4 * (x - 17), 4 * (y - 17), 4 * (x + 17), 4 * (y + 17)], COLORS[color])
            elif kind == "square":
                pen.rectangle([4 * (x - 16), 4 * (y - 16), 4 * (x + 16), 4 * (y + 16)],
                              COLORS[color])  # fmt: skip
            else:
                pen.polygon([(4 * a, 4 * b) for a, b in _outline(kind, x, y)], COLORS[color])
    return encode(image.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS), "PNG")


def draw_bars(key: str) -> bytes:
    """A bar chart with the value above every bar."""
    chart = BAR_CHARTS[key]
    fig, ax = new_plot("", chart.unit, width_px=420, height_px=320)
    bars = ax.bar(list(chart.values), list(chart.values.values()), color=COLORS[chart.color])
    ax.bar_label(bars, fmt="{:g}", padding=2)
    ax.set_title(chart.title, fontsize=11)
    ax.margins(y=0.15)
    ax.grid(axis="x", visible=False)
    return encode(fig, "PNG")


PICTURES: dict[str, Draw] = {
    **{f"shapes/{key}.png": functools.partial(draw_shapes, key) for key in SHAPE_SCENES},
    **{f"plots/{key}.png": functools.partial(draw_bars, key) for key in BAR_CHARTS},
}
