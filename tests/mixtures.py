"""Mixtures for tests: the folder that curation leaves, filled with rows of the test's choice."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from cambrian_data.build import Build
from cambrian_data.curation.mixing.plan import MixtureConfig, plan_mixture
from cambrian_data.records import content_id, sample_id, table_of
from cambrian_data.units import Units
from cambrian_data.workspace import Workspace

Rows = Iterable[Mapping[str, Any]] | pa.Table


def picture(workspace: Workspace, shade: int) -> dict[str, Any]:
    """Store a small picture; return how a sample refers to it."""
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 90, 40)).save(sink, "PNG")
    sha256, path = workspace.store_picture(sink.getvalue(), "png")
    return {"sha256": sha256, "path": workspace.relative(path), "width": 40, "height": 30}


def make_sample(number: int, category: str = "general", **more: Any) -> dict[str, Any]:
    """Return a row of `samples`; its question and answer follow from the number."""
    images = more.pop("images", [])
    answer = more.pop("answer", "red" if number % 2 else f"It is a long red line {number}. " * 9)
    question = more.pop("question", f"What is number {number}?")
    turns = [
        {"from": "human", "value": "<image>\n" * len(images) + question},
        {"from": "gpt", "value": answer},
    ]
    return {
        "id": sample_id(turns, images),
        "source": f"set.json:{category}",
        "dataset": "d",
        "category": category,
        "images": images,
        "conversations": turns,
        "origin": {"file": "set.jsonl", "line": number, "id": str(number)},
    } | more


def left_out(row: Mapping[str, Any], stage: str, reason: str, **more: Any) -> dict[str, Any]:
    """Return the drop of a sample."""
    kept = {"record_id": row["id"], "source": row["source"], "origin": row["origin"]}
    return {"stage": stage, "reason": reason, **kept, **more}


def put_mixture(
    workspace: Workspace,
    name: str,
    samples: Sequence[Mapping[str, Any]],
    drops: Sequence[Mapping[str, Any]] = (),
    *,
    tables: Mapping[str, Rows] | None = None,
    config: MixtureConfig | None = None,
    recipe: Mapping[str, Any] | None = None,
    stats: Mapping[str, Any] | None = None,
    rows_per_part: int = 50_000,
) -> None:
    """Write a mixture: samples, what was left out of the pool, other tables, plan and numbers."""
    key = content_id(name, list(samples), list(drops), recipe)
    build = Build(workspace, workspace.mixture(name), key)
    units = Units(workspace, build.folder(), "curate", version="test", config=key)
    units.commit(units.key("drops"), {"drops": list(drops), **(tables or {})})
    for start in range(0, len(samples), rows_per_part):
        part = table_of("samples", samples[start : start + rows_per_part])
        units.commit(units.key(start), {"samples": part})
    flow = _flow(len(samples), drops)
    plan = _plan(samples, drops, config or MixtureConfig(ratios=None))
    workspace.write_json(build.folder() / "plan.json", plan)
    numbers = {"flow": flow, "sources": _sources(samples, drops), **(stats or {})}
    workspace.write_json(build.folder() / "stats.json", numbers)
    about = {"recipe": "mine", "datasets": ["d"], "samples": len(samples), "flow": flow}
    build.publish(about | {"plan": plan} | ({"config": dict(recipe)} if recipe else {}))


def _flow(left: int, drops: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the account of the stages, from the pool to what is left."""
    stages = ("checks", "quality", "decontaminate", "picture_dedup", "exact_dedup", "near_dedup")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in drops:
        counts[row["stage"]][row["reason"]] += 1
    rows = left + len(drops)
    flow = []
    for stage in (*stages, "mixture"):
        out = rows - counts[stage].total()
        reasons = dict(sorted(counts[stage].items()))
        flow.append({"stage": stage, "in": rows, "out": out, "drops": reasons})
        rows = out
    return flow


def _plan(
    samples: Sequence[Mapping[str, Any]],
    drops: Sequence[Mapping[str, Any]],
    config: MixtureConfig,
) -> dict[str, Any]:
    counts = Counter((row["source"], row["category"]) for row in samples)
    category_of = {row["source"]: row["category"] for row in samples}
    for row in drops:
        if row["stage"] == "mixture":
            counts[row["source"], category_of.get(row["source"], "other")] += 1
    return plan_mixture(counts, config).to_json() if counts else {}


def _sources(
    samples: Sequence[Mapping[str, Any]], drops: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    category_of = {row["source"]: row["category"] for row in samples}
    have = Counter(row["source"] for row in (*samples, *drops))
    lost = Counter((row["source"], row["stage"]) for row in drops)
    return [
        {
            "source": source,
            "category": category_of.get(source, "other"),
            "have": number,
            **{stage: rows for (name, stage), rows in sorted(lost.items()) if name == source},
        }
        for source, number in sorted(have.items())
    ]
