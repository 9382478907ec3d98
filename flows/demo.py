"""The whole way on the embedded corpus: engine, ingest, curate, both stages, report, an answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect import flow

from cambrian_data.catalog import query
from cambrian_data.curation.ingest.file import ingest_file
from cambrian_data.engine.corpus import INSTRUCTION_IMAGES, INSTRUCTIONS
from cambrian_data.engine.options import EngineOptions
from cambrian_data.records import IMAGE_TOKEN, Progress, silent
from cambrian_data.report import write_report
from cambrian_data.workspace import Workspace
from flows.curate import CurateOptions, run_curate
from flows.engine import run_engine
from flows.running import run_flow
from flows.train import run_train

INSTRUCTIONS_NAME = "embedded-instructions"
QUERIES = (
    "SELECT category, count(*) AS samples FROM mixture_tiny GROUP BY 1 ORDER BY 2 DESC",
    "SELECT p.title, f.caption, s.conversations[2].value AS answer FROM samples s "
    "JOIN figures f ON f.id = s.figure_id JOIN pages p ON p.id = f.page_id LIMIT 5",
    "SELECT stage, reason, count(*) AS dropped FROM drops GROUP BY ALL ORDER BY 3 DESC",
)


def run_demo(
    workspace: Workspace, *, topic: str = "physics", progress: Progress = silent
) -> dict[str, Any]:
    """Take a topic to a trained tiny model that answers a question about a picture.

    Returns:
        The results of every step, where things are, and queries to try.
    """
    return run_flow(demo_flow, workspace, topic, progress)


@flow(name="demo", validate_parameters=False, persist_result=False)
def demo_flow(workspace: Workspace, topic: str, progress: Progress) -> dict[str, Any]:
    """Run the steps one after the other; each finds what an earlier try finished."""
    started = time.monotonic()
    engine = run_engine(workspace, EngineOptions(topic=topic, offline=True), progress=progress)
    ingested = ingest_file(
        workspace,
        file=INSTRUCTIONS,
        images=INSTRUCTION_IMAGES,
        name=INSTRUCTIONS_NAME,
        progress=progress,
    )
    curated = run_curate(workspace, CurateOptions(recipe="tiny"), progress=progress)
    trained = [
        run_train(workspace, stage=stage, recipe="tiny", shards=curated["name"], progress=progress)
        for stage in ("pretrain", "finetune")
    ]
    checkpoint = workspace.root / trained[-1]["checkpoint"]
    answered = answer_one(workspace, checkpoint, curated["name"])
    report = write_report(workspace, curated["name"])
    return {
        "engine": engine,
        "ingest": ingested,
        "curate": curated,
        "train": trained,
        "answer": answered,
        "where": {
            "report": report["html"],
            "mixture": str(workspace.mixture(curated["name"])),
            "shards": str(workspace.shards(curated["name"])),
            "model": str(checkpoint),
            "catalog": str(workspace.catalog),
        },
        "queries": list(QUERIES),
        "seconds": time.monotonic() - started,
    }


def answer_one(workspace: Workspace, checkpoint: Path, mixture: str) -> dict[str, str]:
    """Ask the trained model a question of the mixture; the first by id with one picture."""
    from cambrian_model.generate import load

    row = query(
        workspace,
        f"SELECT * FROM mixture_{mixture} WHERE len(images) = 1 "
        "ORDER BY figure_id IS NULL, id LIMIT 1",
    ).to_pylist()[0]
    question = row["conversations"][0]["value"].replace(IMAGE_TOKEN, "").strip()
    picture = workspace.root / row["images"][0]["path"]
    answer = load(checkpoint).answer(question, [picture], system=row["system"])
    return {
        "picture": str(picture),
        "question": question,
        "answer": answer,
        "in the data": row["conversations"][1]["value"],
    }
