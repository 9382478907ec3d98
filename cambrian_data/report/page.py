"""The page: numbers and small pictures into `templates/page.html.j2`, every text escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jinja2

from cambrian_data.records import CATEGORIES, picture_key
from cambrian_data.report.charts import before_and_after, histogram, loss_chart
from cambrian_data.report.flow_chart import NODE_WIDTH, Inflow, flow_chart
from cambrian_data.report.texts import shorten

MAX_SOURCES = 400
"""Sources that the page lists; `report.json` has them all."""
MAX_LENGTHS, MAX_DROP_SOURCES = 60, 100
"""Sources whose lengths of answers, and whose drops, the page shows."""
_LOOKS_LIMIT = 0.005
"""Least difference of losses, in parts of the loss, that counts as looking at pictures."""


def render(numbers: Mapping[str, Any], pictures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        numbers: what `report.collect` returns.
        pictures: by `records.picture_key`, what `thumbnails_of` returns.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cambrian_data.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "n": thousands,
        "pct": percent,
        "size": size,
        "short": shorten,
        "picture": lambda image: pictures[picture_key(image)],
        "category_class": category_class,
        "tail": short_source,
    }
    template = environment.get_template("page.html.j2")
    return template.render(
        numbers,
        charts=_charts(numbers),
        training_texts=training_texts(numbers["training"]),
        max_sources=MAX_SOURCES,
        max_drop_sources=MAX_DROP_SOURCES,
    )


def _charts(numbers: Mapping[str, Any]) -> dict[str, Any]:
    categories = [(row["category"], row["samples"]) for row in numbers["categories"]]
    return {
        "flow": flow_chart(_inflows(numbers), numbers["flow"], categories),
        "idle": [stage["stage"] for stage in numbers["flow"] if not stage["drops"]],
        "node_width": NODE_WIDTH,
        "answers": histogram(numbers["answers"]["histogram"]),
        "lengths": [
            before_and_after(row["before"]["histogram"], row["after"]["histogram"])
            for row in numbers["answers"]["sources"][:MAX_LENGTHS]
        ],
        "losses": [loss_chart(training["stages"]) for training in numbers["training"]],
        "most_dropped": max(
            (count for row in numbers["drops_by_source"]["sources"] for count in row["rows"]),
            default=0,
        ),
        "ratio_scale": max(
            [
                share
                for row in numbers["plan"].get("categories", ())
                for share in (row["ratio_wanted"], row["ratio_got"])
            ],
            default=1.0,
        )
        or 1.0,
    }


def _inflows(numbers: Mapping[str, Any]) -> list[Inflow]:
    """Return the sources; the data sets where the pool's rows are not known by source."""
    found = [Inflow(row["source"], row["have"], row["category"]) for row in numbers["sources"]]
    if numbers["flow"] and sum(source.rows for source in found) == numbers["flow"][0]["in"]:
        return found
    return [Inflow(row["dataset"], row["samples"] or 0) for row in numbers["datasets"]]


def training_texts(trainings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for every training whether it looks at its pictures, in numbers a sentence can use."""
    found = []
    for training in trainings:
        results = [stage["result"] for stage in training["stages"]]
        pairs = [
            (result["own_pictures_loss"], result["shuffled_pictures_loss"])
            for result in results
            if result.get("own_pictures_loss") is not None
            and result.get("shuffled_pictures_loss") is not None
        ]
        found.append(_pictures_text(*pairs[-1]) if pairs else {})
    return found


def _pictures_text(own: float, shuffled: float) -> dict[str, Any]:
    return {
        "own": own,
        "shuffled": shuffled,
        "looks": shuffled - own > _LOOKS_LIMIT * own,
        "times": math.exp(min(shuffled - own, 50.0)),
    }


def thousands(number: float | None) -> str:
    """Return a number with commas between thousands, or a dash for none."""
    return "-" if number is None else f"{number:,}"


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal."""
    return "-" if share is None else f"{100 * share:.1f} %"


def size(num_bytes: int | None) -> str:
    """Return bytes in a unit that people read."""
    if num_bytes is None:
        return "-"
    amount, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:,.0f} {unit}" if amount >= 100 or unit == "B" else f"{amount:,.1f} {unit}"


def category_class(category: str) -> str:
    """Return the class that gives a category its colour everywhere on the page."""
    known = CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES)
    return f"c{known}"


def short_source(name: str, limit: int = 38) -> str:
    """Return the name of a source with its middle cut out: its folder, at the end, tells most."""
    name = shorten(name, 400)
    if len(name) <= limit:
        return name
    tail = min(limit - 8, max(len(name.rpartition(":")[2]) + 1, limit // 2))
    return f"{name[: limit - tail - 1]}\u2026{name[-tail:]}"
