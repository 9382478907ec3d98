"""Geometry of the report's plots: a histogram and loss curves. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_BAR, _BAR_GAP, _BAR_HEIGHT = 52, 14, 150
_PLOT_HEIGHT, _PLOT_WIDTH, _PLOT_LEFT, _PLOT_TOP = 220, 980, 52, 34
_STAGE_GAP, _LEAST_SHARE = 26, 0.22
_SMALL_STEP, _SMALL_HEIGHT = 13, 40
_SMOOTH = 0.03
"""Part of a curve that its running mean reaches to each side."""


def histogram(bins: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return bars with their labels, from rows of `words` and `answers`."""
    most = max((row["answers"] for row in bins), default=0)
    bars = [
        {
            "x": 12 + place * (_BAR + _BAR_GAP),
            "height": round(_BAR_HEIGHT * row["answers"] / most, 1) if most else 0,
            "label": row["words"],
            "number": f"{row['answers']:,}",
        }
        for place, row in enumerate(bins)
    ]
    return {
        "bars": bars,
        "bar": _BAR,
        "base": _BAR_HEIGHT + 26,
        "width": 24 + len(bins) * (_BAR + _BAR_GAP) - _BAR_GAP,
        "height": _BAR_HEIGHT + 70,
    }


def before_and_after(before: Sequence[int], after: Sequence[int]) -> dict[str, Any]:
    """Return two small histograms on one scale: outlines of the first, bars of the second.

    Args:
        before: answers by bin of words; `after` has the same bins.
    """
    most = max([*before, *after], default=0) or 1
    heights = [
        (round(_SMALL_HEIGHT * first / most, 1), round(_SMALL_HEIGHT * second / most, 1))
        for first, second in zip(before, after, strict=True)
    ]
    return {
        "bars": [
            {"x": 1 + place * _SMALL_STEP, "before": first, "after": second}
            for place, (first, second) in enumerate(heights)
        ],
        "bar": _SMALL_STEP - 2,
        "base": _SMALL_HEIGHT + 1,
        "width": 2 + len(heights) * _SMALL_STEP,
        "height": _SMALL_HEIGHT + 2,
    }


def loss_chart(stages: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the curves of stages side by side on one scale of losses; None without points."""
    stages = [stage for stage in stages if stage["curve"]]
    if not stages:
        return None
    losses = [loss for stage in stages for _, loss in stage["curve"]]
    ticks = nice_ticks(min(0.0, *losses), max(losses))
    low, high = ticks[0], ticks[-1]

    def y_of(loss: float) -> float:
        return round(_PLOT_TOP + _PLOT_HEIGHT * (high - loss) / (high - low), 1)

    x = float(_PLOT_LEFT)
    panels = []
    for stage, width in zip(stages, _widths(stages), strict=True):
        panels.append(_panel(stage, x, width, y_of))
        x += width + _STAGE_GAP
    return {
        "panels": panels,
        "ticks": [{"y": y_of(tick), "label": f"{tick:g}"} for tick in ticks],
        "left": _PLOT_LEFT,
        "right": x - _STAGE_GAP,
        "top": _PLOT_TOP,
        "base": _PLOT_TOP + _PLOT_HEIGHT,
        "width": x - _STAGE_GAP + 14,
        "height": _PLOT_TOP + _PLOT_HEIGHT + 44,
    }


def _widths(stages: Sequence[dict[str, Any]]) -> list[float]:
    """Return widths in proportion to steps, none too narrow to read."""
    steps = [stage["curve"][-1][0] for stage in stages]
    shares = [max(step / sum(steps), _LEAST_SHARE) for step in steps]
    room = _PLOT_WIDTH - _STAGE_GAP * (len(stages) - 1)
    return [round(room * share / sum(shares), 1) for share in shares]


def _panel(stage: dict[str, Any], left: float, width: float, y_of: Any) -> dict[str, Any]:
    points = stage["curve"]
    steps = points[-1][0]

    def line(values: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{left + width * x / steps:.1f},{y_of(y):.1f}" for x, y in values)

    return {
        "name": stage["stage"],
        "x": left,
        "width": width,
        "steps": steps,
        "half": steps // 2 if width > 300 else None,
        "raw": line([(step, loss) for step, loss in points]),
        "smooth": line(smooth(points)),
    }


def smooth(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return the running mean, as far to the left of each point as to its right."""
    reach = max(1, round(len(points) * _SMOOTH))
    means = []
    for place, (step, _) in enumerate(points):
        side = min(reach, place, len(points) - 1 - place)
        part = points[place - side : place + side + 1]
        means.append((step, sum(loss for _, loss in part) / len(part)))
    return means


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers, evenly spaced, that reach from at most `low` to at least `high`."""
    if high <= low:
        high = low + 1.0
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]
