"""kill -9 in the middle of a command, then the same command: the bytes that no kill gives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cambrian_data.workspace import Workspace
from tests.trees import tree

ENGINE = ["data", "engine", "--topic", "physics", "--offline"]
CURATE = ["data", "curate", "--recipe", "tiny", "--set", "shards.max_samples=20"]


def environment() -> dict[str, str]:
    """The environment without the Prefect home that the tests of this process use."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}


def start(arguments: list[str], workspace: Path) -> subprocess.Popen[str]:
    """Start a command; it prints to files, since a helper can outlive it and hold pipes."""
    workspace.mkdir(exist_ok=True)
    with (workspace / "out").open("w") as out, (workspace / "err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments, "--workspace", str(workspace), "--json"],
            stdout=out,
            stderr=err,
            text=True,
            env=environment(),
        )


def finish(arguments: list[str], workspace: Path) -> None:
    assert start(arguments, workspace).wait(timeout=300) == 0, (workspace / "err").read_text()


def kill_when(process: subprocess.Popen[str], is_time: Callable[[], bool]) -> bool:
    """Kill a process as soon as something is true; return whether it was still running."""
    while process.poll() is None:
        if is_time():
            os.kill(process.pid, signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.002)
    return False


def count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern)) if folder.is_dir() else 0


def helpers(workspace: Path) -> list[int]:
    """Numbers of the living Prefect servers whose home lies in a workspace."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if (
                f"PREFECT_HOME={workspace}".encode() in path.read_bytes()
                and b"uvicorn" in (path.parent / "cmdline").read_bytes()
            ):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A workspace in which nothing was killed."""
    workspace = tmp_path_factory.mktemp("whole") / "ws"
    finish(ENGINE, workspace)
    finish(CURATE, workspace)
    return workspace


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(whole, tmp_path):
    workspace = tmp_path / "ws"
    engine, shards = workspace / "engine", workspace / "staging"
    kills = 0
    for manifests in (1, 6, 11):
        process = start(ENGINE, workspace)
        kills += kill_when(
            process,
            lambda least=manifests: count(engine, "physics-*/manifests/*/*.json") >= least,
        )
    finish(ENGINE, workspace)
    for tars in (1, 4):
        process = start(CURATE, workspace)
        kills += kill_when(process, lambda least=tars: count(shards, "shards-*/*.tar") >= least)
    finish(CURATE, workspace)
    assert kills >= 4  # the machine may be too quick for one of them
    assert tree(workspace) == tree(whole)
    if Path("/proc").is_dir():
        assert helpers(workspace) == []  # the helper of a killed run is ended by the next one
    assert not any((workspace / "tmp").iterdir())


@pytest.mark.slow
def test_killed_training_ends_with_the_same_weights(whole, tmp_path):
    """Both stages, with checkpoints every few steps, killed after the first of each."""
    workspaces = [tmp_path / "killed", tmp_path / "unkilled"]
    for workspace in workspaces:
        Workspace.create(workspace)
        shutil.copytree(whole / "shards", workspace / "shards")
    killed, unkilled = workspaces
    for stage in ("pretrain", "finetune"):
        train = [
            "train",
            "--stage",
            stage,
            "--set",
            f"{stage}.steps=12",
            "--set",
            f"{stage}.save_every=3",
        ]
        folder = killed / "checkpoints" / "tiny" / stage
        process = start(train, killed)
        assert kill_when(process, lambda folder=folder: (folder / "step-000003").is_dir())
        finish(train, killed)
        finish(train, unkilled)
    weights = [sorted(w.rglob("step-000012/model.safetensors")) for w in workspaces]
    assert len(weights[0]) == 2
    for one, two in zip(*weights, strict=True):
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_two_runs_at_once_do_the_work_of_one(whole, tmp_path):
    workspace = tmp_path / "ws"
    first = start(ENGINE, workspace)
    while count(workspace / "engine", "physics-*/manifests/*/*.json") < 2:
        assert first.poll() is None
        time.sleep(0.002)
    second = start(ENGINE, workspace)
    assert [first.wait(timeout=300), second.wait(timeout=300)] == [0, 0]
    made, wanted = tree(workspace), tree(whole)
    assert made == {path: wanted[path] for path in made}
    assert any(path.startswith("pool/") for path in made)


@pytest.mark.slow
def test_interrupts_leave_a_valid_workspace(whole, tmp_path):
    """Ctrl-C, then SIGTERM, then to the end."""
    workspace = tmp_path / "ws"
    for number in (signal.SIGINT, signal.SIGTERM):
        before = count(workspace / "engine", "physics-*/manifests/*/*.json")
        process = start(ENGINE, workspace)
        while count(workspace / "engine", "physics-*/manifests/*/*.json") <= before:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(number)
        assert process.wait(timeout=120) == 130
        assert "the same command goes on" in (workspace / "out").read_text()
        assert "Traceback" not in (workspace / "err").read_text()
    finish(ENGINE, workspace)
    made, wanted = tree(workspace), tree(whole)
    assert made == {path: wanted[path] for path in made}
    assert any(path.startswith("pool/") for path in made)
