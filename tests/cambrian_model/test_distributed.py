"""Several processes train as one does: whole copies and FSDP2, on the CPU (gloo)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cambrian_data.records import UserError
from cambrian_model.checkpoint import checkpoint_problem, checkpoints
from cambrian_model.files.sharded import consolidate, is_sharded
from cambrian_model.model import CambrianModel
from cambrian_model.runtime import Runtime, runtime_of
from tests.cambrian_model.distributed_worker import CASES, MORE, run_case, start
from tests.cambrian_model.small_run import prepare, run_steps

REPOSITORY = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("distributed_worker.py")
TOLERANCE = {"bf16": 2e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return the folder in which two processes have left what came out."""
    out = tmp_path_factory.mktemp("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "1",  # as on two machines, for `hybrid`
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", str(WORKER), str(out)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": "0"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return out


@pytest.fixture(scope="module")
def found(folder) -> dict[str, Any]:
    """Return what came out."""
    return torch.load(folder / "found.pt")


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime(threads=1)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(found, runtime, case):
    one, two = run_case(runtime, case), found[case]
    tolerance = TOLERANCE.get(case, 2e-6)
    assert two["losses"] == pytest.approx(one["losses"], abs=tolerance)
    assert two["norms"] == pytest.approx(one["norms"], abs=tolerance)
    assert two["weights"].keys() == one["weights"].keys()
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, atol=tolerance, rtol=0)


@pytest.mark.parametrize("case", ["whole", "spread"])
def test_a_resumed_run_goes_on_to_the_same_bytes(found, case):
    saved = found[f"saved {case}"]
    assert saved["extra"] == {"step": MORE.start}
    assert saved["losses again"] == saved["losses"]
    for name, value in saved["weights"].items():
        assert torch.equal(saved["weights again"][name], value), name


@pytest.mark.parametrize("case", ["whole", "spread"])
def test_a_checkpoint_of_two_processes_is_resumed_by_one(folder, found, runtime, case):
    (checkpoint,) = checkpoints(folder / case)
    assert checkpoint_problem(checkpoint) is None
    assert is_sharded(checkpoint) == (case == "spread")
    model, optimizer, running = start(runtime, case)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    extra = runtime.load_state(checkpoint, model, optimizer)
    assert extra == {"step": MORE.start}
    trace = run_steps(runtime, model, optimizer, MORE, **running)
    assert trace.losses == pytest.approx(found[f"saved {case}"]["losses"], abs=2e-6)


def test_a_damaged_part_is_told(folder, tmp_path):
    (checkpoint,) = checkpoints(folder / "spread")
    part = checkpoint / "sharded" / "__1_0.distcp"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + b"?")
    assert "sharded/__1_0.distcp is damaged" in checkpoint_problem(checkpoint)
    part.write_bytes(content)
    assert checkpoint_problem(checkpoint) is None


def test_a_spread_checkpoint_becomes_a_model(folder, found, tmp_path):
    (checkpoint,) = checkpoints(folder / "spread")
    with pytest.raises(UserError):
        CambrianModel.from_pretrained(checkpoint)
    whole = consolidate(checkpoint, tmp_path / "whole")
    assert sorted(path.name for path in whole.iterdir()) == ["config.json", "model.safetensors"]
    model = CambrianModel.from_pretrained(whole)
    weights = found["spread"]["weights"]  # of the step that was saved
    for name, value in model.named_parameters():
        assert torch.equal(value, weights[name]), name
    assert consolidate(checkpoint) == checkpoint  # beside its parts
    assert CambrianModel.from_pretrained(checkpoint).config.to_dict() == model.config.to_dict()
    assert checkpoint_problem(checkpoint) is None
    assert consolidate(whole) == whole
    with pytest.raises(UserError, match="no checkpoint"):
        consolidate(tmp_path)


def test_a_checkpoint_of_another_model_is_refused(folder, runtime):
    for case in ("whole", "spread"):
        (checkpoint,) = checkpoints(folder / case)
        for other in ({"samplers": 1}, {"vocab_size": 97}, {"num_hidden_layers": 4}):
            model, optimizer = prepare(runtime, **other)
            with pytest.raises(UserError, match="does not fit the model at"):
                runtime.load_state(checkpoint, model, optimizer)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT not set; start .* with torchrun"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    ],
)
def test_half_an_environment_is_an_error(monkeypatch, environment, message):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        runtime_of("cpu")
