"""Curation on clusters of two worker processes: the same bytes, a worker killed midway or not."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from cambrian_data.curation.ingest.file import ingest_file
from cambrian_data.records import UserError
from cambrian_data.runs import read_runs
from cambrian_data.workspace import Workspace
from flows.curate import CurateOptions, run_curate
from flows.running import task_runner
from tests.trees import tree

RECIPE = {"recipe": "7m", "settings": ["mixture.ratios=null", "mixture.size=1500"]}
NUM_PARTS = 8
WORKER_NAMES = {"dask": r".* spawn_main\(", "ray": r"ray::(run_unit|IDLE)"}
"""How the command line of a worker begins; ray has agents beside them, whose end ends all."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A pool of several parts, some rows of which stand in two of them."""
    folder = tmp_path_factory.mktemp("clusters")
    workspace = Workspace.create(folder / "ws")
    for part in range(NUM_PARTS):
        rows = [row(number) for number in range(part * 300, part * 300 + 320)]
        file = folder / f"part{part}.jsonl"
        file.write_text("".join(json.dumps(one) + "\n" for one in rows))
        ingest_file(workspace, file=file, name=f"part{part}", workers=1)
    return workspace


def row(number: int) -> dict:
    words = " ".join(f"word{number * 7 + place}" for place in range(30))
    turns = [{"from": "human", "value": f"Tell me of {number}."}, {"from": "gpt", "value": words}]
    return {"id": number, "source": "orca_994k.json", "conversations": turns}


@pytest.fixture(scope="module")
def made(pool, tmp_path_factory):
    """What threads make of the pool."""
    return tree(curated(pool, tmp_path_factory.mktemp("threads"), "threads").root)


def curated(pool: Workspace, folder, runner: str) -> Workspace:
    shutil.copytree(pool.root, folder / "ws")
    workspace = Workspace.create(folder / "ws")
    options = CurateOptions(**RECIPE, with_shards=False, runner=runner, workers=2)
    result = run_curate(workspace, options)
    assert result["samples"] == 1500
    return workspace


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_two_worker_processes_make_the_same_bytes(pool, made, tmp_path, runner):
    workspace = curated(pool, tmp_path, runner)
    assert tree(workspace.root) == made
    (record,) = [run for run in read_runs(workspace) if run["kind"] == "curate"]
    pids = {pid for _, pid in record["workers"]}
    assert len(pids) == 2 and os.getpid() not in pids


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_worker_that_is_killed_changes_nothing(pool, made, tmp_path, runner):
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(tmp_path, WORKER_NAMES[runner], killed))
    killer.start()
    workspace = curated(pool, tmp_path, runner)
    killer.join()
    assert killed
    assert tree(workspace.root) == made


def kill_one(folder, name: str, killed: list[int]) -> None:
    """Kill a worker once the first unit is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(folder.glob("ws/curation/*/manifests/index/*.json")):
            for process in workers(name):
                process.kill()
                killed.append(process.pid)
                return
        time.sleep(0.01)


def workers(name: str) -> Iterator[psutil.Process]:
    for process in psutil.Process().children(recursive=True):
        try:
            if re.match(name, " ".join(process.cmdline())):
                yield process
        except psutil.Error:
            continue


def test_wrong_runners_are_explained():
    with pytest.raises(UserError, match="no runner 'spark'"):
        task_runner("spark")
    with pytest.raises(UserError, match="--address"):
        task_runner("threads", 2, "tcp://localhost:1")
    with pytest.raises(UserError, match="nobody answers at 'tcp://127.0.0.1:9'"):
        task_runner("dask", 2, "tcp://127.0.0.1:9")
