"""Where a mixture comes from: data sets and the runs that made them, the recipe, the commands."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from cambrian_data.catalog import mixture_view
from cambrian_data.curation.mixing.plan import MixturePlan
from cambrian_data.records import content_id
from cambrian_data.report.inputs import Inputs

_RUN = ("run", "kind", "status", "command", "started_at", "seconds", "attempts", "seed")
_INGEST = ("rows", "images", "mended", "dropped", "unknown_sources", "blank_lines")


def origin(inputs: Inputs) -> dict[str, Any]:
    """Return recipe, seed, the run, the plan in a sentence, and what a reader should know."""
    record = inputs.curate_run() or {}
    return {
        "recipe": inputs.about.get("recipe"),
        "recipe_sha256": record.get("recipe_sha256"),
        "description": (inputs.recipe() or {}).get("description"),
        "config": inputs.recipe(),
        "seed": inputs.plan.get("seed"),
        "run": record.get("run"),
        "datasets": inputs.about["datasets"],
        "plan": explain(inputs),
        "warnings": _warnings(inputs, record),
    }


def explain(inputs: Inputs) -> str:
    """Return what the plan says of itself, as it was written down or from its numbers."""
    if said := inputs.about.get("explained"):
        return str(said)
    names = {field.name: field for field in fields(MixturePlan)}
    known = {name: value for name, value in inputs.plan.items() if name in names}
    needed = {name for name, field in names.items() if field.default is MISSING}
    if lacks := needed - known.keys():
        return f"the plan lacks {', '.join(sorted(lacks))}"
    return MixturePlan(**known).explain()


def _warnings(inputs: Inputs, record: dict[str, Any]) -> list[str]:
    """Return what keeps the numbers from telling the whole story."""
    found = [
        f"The data set {name} is no longer in the pool: what was dropped on the way to it cannot "
        "be shown."
        for name, manifest in inputs.pool.items()
        if manifest is None
    ]
    used = record.get("inputs") or {}
    found += [
        f"The data set {name} has changed since this mixture was made; curate again to use what "
        "is in the pool now."
        for name, manifest in inputs.pool.items()
        if manifest and name in used and used[name] != content_id(manifest["files"])
    ]
    if not record:
        found.append("There is no record of the run that made this mixture.")
    if inputs.shards and inputs.shards["samples"] != inputs.about["samples"]:
        found.append(
            f"The shards hold {inputs.shards['samples']:,} samples, the mixture "
            f"{inputs.about['samples']:,}: see the drops of the stage shards, or curate again."
        )
    return found


def datasets(inputs: Inputs) -> list[dict[str, Any]]:
    """Return how every data set was made, and how many of its samples are in the mixture."""
    rows = inputs.tables.rows("SELECT dataset, count(*) AS samples FROM mixture GROUP BY 1")
    taken = {row["dataset"]: row["samples"] for row in rows}
    found = []
    for name, manifest in inputs.pool.items():
        about = manifest["about"] if manifest else {}
        record = inputs.run_of(name) or {}
        is_ingested = about.get("made_by") == "ingest"
        funnel = (record.get("outputs") or {}).get("funnel")
        found.append(
            {
                "dataset": name,
                "made_by": about.get("made_by"),
                "run": about.get("run"),
                "samples": about.get("samples"),
                "taken": taken.get(name, 0),
                "topic": (record.get("inputs") or {}).get("topic"),
                "funnel": funnel,
                "drops": record.get("drops") or {},
                "ingest": {key: about.get(key) for key in _INGEST} if is_ingested else {},
            }
        )
    return found


def runs_behind(inputs: Inputs) -> dict[str, Any]:
    """Return the records of the runs that led here, with the versions of the last one."""
    made = [inputs.run_of(name) for name in inputs.about["datasets"]]
    records = [record for record in [*made, inputs.curate_run(), *_trainings(inputs)] if record]
    last = inputs.curate_run() or {}
    return {
        "commands": list(dict.fromkeys(str(record["command"]) for record in records)),
        "records": [{name: record.get(name) for name in _RUN} for record in records],
        "versions": last.get("versions") or {},
    }


def _trainings(inputs: Inputs) -> list[dict[str, Any]]:
    return [
        record
        for record in inputs.runs
        if record["kind"] == "train"
        and record["status"] == "done"
        and trained_on(record) == inputs.name
    ]


def trained_on(record: dict[str, Any]) -> str | None:
    """Return the mixture whose shards a training run read, by the folder's last two names."""
    parts = str((record.get("inputs") or {}).get("shards", "")).rstrip("/").split("/")
    return parts[-1] if parts[-2:-1] == ["shards"] else None


def queries(inputs: Inputs) -> list[dict[str, str]]:
    """Return three queries over the catalog, with what they answer."""
    view = mixture_view(inputs.name)
    return [
        {
            "about": "How many samples of every source, and how many of them are text alone?",
            "sql": "SELECT category, source, count(*) AS samples,\n"
            "  count(*) FILTER (len(images) = 0) AS text_only\n"
            f"FROM {view} GROUP BY ALL ORDER BY samples DESC, source",
        },
        {
            "about": "Which page, figure and caption does an answer come from?",
            "sql": "SELECT p.title, f.caption, s.conversations[2].value AS answer, p.url\n"
            f"FROM {view} s JOIN figures f ON f.id = s.figure_id JOIN pages p ON p.id = f.page_id\n"
            "ORDER BY s.id LIMIT 10",
        },
        {
            "about": "What was dropped in the whole workspace, where and why?",
            "sql": "SELECT area, stage, reason, count(*) AS dropped, min(detail) AS example\n"
            "FROM drops GROUP BY ALL ORDER BY dropped DESC, stage, reason",
        },
    ]
