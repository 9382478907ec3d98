"""The report of a mixture: one HTML page that loads nothing from outside, and its numbers as JSON.

`write_report` reads a finished mixture and what led to it and came of it: data sets, engine and
ingest runs, drops, clusters, matches, shards, training. Equal workspaces give equal bytes.
Aggregates are made by DuckDB over the Parquet parts; only the samples that are shown are held in
memory.
"""

from __future__ import annotations

from typing import Any

from cambrian_data.report.duplicates import duplicates
from cambrian_data.report.examples import examples
from cambrian_data.report.inputs import Inputs, open_inputs
from cambrian_data.report.left_out import drop_counts, drops_by_source, sources
from cambrian_data.report.numbers import answers, by_category, provenance, questions, summary
from cambrian_data.report.origins import datasets, origin, queries, runs_behind
from cambrian_data.report.overlap import overlap
from cambrian_data.report.page import render
from cambrian_data.report.thumbnails import thumbnails_of
from cambrian_data.report.training import training
from cambrian_data.workspace import Workspace

__all__ = ["write_report"]

REPORT_VERSION = 2


def write_report(workspace: Workspace, mixture: str) -> dict[str, Any]:
    """Write `reports/<mixture>/index.html` and `report.json`.

    Returns:
        The paths of both, and the totals of the mixture.
    Raises:
        UserError: there is no such mixture, or it is unfinished or damaged.
    """
    with open_inputs(workspace, mixture) as inputs:
        numbers = collect(inputs)
    folder = workspace.root / "reports" / mixture
    pictures = thumbnails_of(workspace, shown_images(numbers))
    html = render(numbers, pictures).encode()
    workspace.write_json(folder / "report.json", numbers)
    workspace.write_bytes(folder / "index.html", html)
    totals = {name: numbers["summary"][name] for name in ("samples", "pictures", "text_only")}
    paths = {"html": str(folder / "index.html"), "json": str(folder / "report.json")}
    return {**paths, **totals, "shards": numbers["summary"]["shards"], "html_bytes": len(html)}


def shown_images(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every picture that the page shows."""
    rows = list(numbers["examples"])
    rows += [copy for group in numbers["duplicates"]["examples"] for copy in group["copies"]]
    for match in numbers["overlap"]["examples"]:
        rows += [side for side in (match["sample"], match["matched"]) if side]
    return [image for row in rows for image in row["images"]]


def collect(inputs: Inputs) -> dict[str, Any]:
    """Return all that the report says, as JSON data."""
    by_source = drops_by_source(inputs)
    return {
        "version": REPORT_VERSION,
        "mixture": inputs.name,
        "summary": summary(inputs),
        "origin": origin(inputs),
        "datasets": datasets(inputs),
        "flow": inputs.flow,
        "sources": sources(inputs, by_source),
        "plan": inputs.plan,
        "categories": by_category(inputs),
        "drops": drop_counts(inputs),
        "drops_by_source": by_source,
        "alarms": inputs.stats.get("alarms") or [],
        "answers": answers(inputs),
        "questions": questions(inputs),
        "duplicates": duplicates(inputs),
        "overlap": overlap(inputs),
        "provenance": provenance(inputs),
        "training": training(inputs.workspace, inputs.name),
        "examples": examples(inputs),
        "queries": queries(inputs),
        "runs": runs_behind(inputs),
    }
