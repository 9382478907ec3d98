"""The same run by one process and by two (gloo on the CPU), copied and sharded, and resumed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cambrian_model.runtime import Runtime
from cambrian_model.train import train

ROOT = Path(__file__).resolve().parents[2]
RUNS = {
    "copied": {},
    "cut": {"finetune__micro_batch_size": 1},
    "sharded": {"finetune__sharding": "full", "stop": 5},
    "diverged": {"finetune__lr": 1e30, "finetune__warmup_ratio": 0.0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def told(folder, standin_shards, tiny_recipe):
    """Return the arguments of a run, by its name."""
    runtime = Runtime(threads=1)
    first = train(tiny_recipe(), "pretrain", standin_shards, folder / "pretrain", runtime=runtime)

    def arguments(name, stop=None, **changes):
        return {
            "recipe": tiny_recipe(**changes).model_dump(mode="json"),
            "shards": str(standin_shards),
            "out": str(folder / name),
            "start": str(first.checkpoint),
            "stop": stop,
        }

    return arguments


@pytest.fixture(scope="module")
def ended(folder, told):
    """Do all runs with two processes; returns by rank what each run ended with."""
    runs = {name: told(name, **changes) for name, changes in RUNS.items()}
    (folder / "runs.json").write_text(json.dumps(runs))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    processes = [_start(folder / "runs.json", rank, port) for rank in range(2)]
    texts = [process.communicate(timeout=240) for process in processes]
    for process, (_, errors) in zip(processes, texts, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in texts]


def _start(runs, rank, port):
    settings = {
        "OMP_NUM_THREADS": "1",
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cambrian_model.training_rank", str(runs)],
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def one(told):
    """Do the run in this process; returns its folder."""
    return _in_this_process(told("one"))


def _in_this_process(arguments):
    from cambrian_model.recipe import TrainRecipe

    train(
        TrainRecipe.model_validate(arguments["recipe"]),
        "finetune",
        Path(arguments["shards"]),
        Path(arguments["out"]),
        init_from=Path(arguments["start"]),
        runtime=Runtime(threads=1),
    )
    return Path(arguments["out"])


def losses(out):
    entries = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [entry["loss"] for entry in entries]


@pytest.mark.parametrize("name", ["copied", "cut"])
def test_two_processes_do_the_same_steps_as_one(folder, ended, one, name):
    assert [told[name] for told in ended] == ["done", "done"]
    assert losses(folder / name) == pytest.approx(losses(one), rel=2e-5)
    expected = load_file(one / "step-000006/model.safetensors")
    found = load_file(folder / name / "step-000006/model.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)


def test_a_sharded_run_of_two_processes_goes_on_with_one(folder, ended, told, one):
    assert [told["sharded"] for told in ended] == ["stopped", "stopped"]
    assert not (folder / "sharded" / "result.json").exists()
    _in_this_process(told("sharded"))
    assert losses(folder / "sharded") == pytest.approx(losses(one), rel=2e-5)


def test_a_loss_that_is_not_finite_names_the_samples_of_all_processes(ended):
    for told in ended:
        words = [word.strip(",;") for word in told["diverged"].split()]
        assert sum(len(word) == 64 for word in words) == 4
