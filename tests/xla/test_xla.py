"""The TPU path, run for real on XLA's CPU devices, beside the CPU runtime.

`make test-tpu` runs this in an environment of its own; each configuration of devices needs a
process of its own. XLA compiles each program for half a minute, so the programs are few.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cambrian_model.checkpoint import checkpoint_problem, checkpoints
from cambrian_model.files.sharded import consolidate, is_sharded
from cambrian_model.model import CambrianModel
from tests.xla.xla_worker import MORE

pytestmark = [
    pytest.mark.xla,
    pytest.mark.skipif(
        importlib.util.find_spec("torch_xla") is None, reason="needs torch_xla: make test-tpu"
    ),
]
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
DEVICES = {"cpu": 1, "one": 1, "four": 4}


def _run(worker: str, name: str, *arguments: object) -> None:
    """Run a worker on the devices of a name; an error shows the end of what it said."""
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",  # XLA tells of its plans at every compilation
        "PJRT_DEVICE": "CPU",
        "CPU_NUM_DEVICES": str(DEVICES[name]),
    }
    if name == "cpu":
        # Else torch loads torch_xla, beside which the CPU's backward pass fails.
        environment["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    runtime = "cpu" if name == "cpu" else "xla"
    done = subprocess.run(
        [sys.executable, str(HERE / worker), runtime, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Return for each kind of devices the folder that its worker filled."""
    found = {}
    for name in DEVICES:
        found[name] = tmp_path_factory.mktemp(name)
        _run("xla_worker.py", name, found[name])
    return found


@pytest.fixture(scope="module")
def found(folders) -> dict[str, dict[str, Any]]:
    """Return what came out for each kind of devices."""
    return {name: torch.load(folder / "found.pt") for name, folder in folders.items()}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["one", "four"])
def test_losses_are_those_of_the_cpu(found, name):
    assert found[name]["num_devices"] == DEVICES[name]
    assert found[name]["losses"] == pytest.approx(found["cpu"]["losses"], abs=1e-4)
    assert found[name]["norms"] == pytest.approx(found["cpu"]["norms"], abs=1e-4)
    for weight, value in found["cpu"]["weights"].items():
        torch.testing.assert_close(found[name]["weights"][weight], value, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["one", "four"])
def test_nothing_is_compiled_after_step_2(found, name):
    after = found[name]["compiles"]
    assert after[1:] == [after[1]] * (len(after) - 1)
    assert after[1] <= 2


@pytest.mark.parametrize("name", ["one", "four"])
def test_a_step_reads_its_loss_and_norm_alone(found, name):
    assert found[name]["reads"] == 2 * len(found[name]["losses"])


@pytest.mark.parametrize("name", ["one", "four"])
def test_a_resumed_run_goes_on_to_the_same_bytes(found, name):
    assert found[name]["problem"] is None
    assert found[name]["extra"] == {"step": MORE.start}
    assert found[name]["losses again"] == found[name]["losses"][MORE.start :]
    for weight, value in found[name]["weights"].items():
        assert torch.equal(found[name]["weights again"][weight], value), weight


def test_bf16_is_close(found):
    losses = found["one"]["losses in bf16"]
    assert losses == pytest.approx(found["cpu"]["losses in bf16"], abs=2e-3)
    assert losses != pytest.approx(found["cpu"]["losses"][: len(losses)], abs=1e-6)


def test_weights_are_spread_over_four_devices(found):
    kinds = found["four"]["shardings"]
    spread = [name for name, kind in kinds.items() if kind.startswith("{devices=")]
    assert len(spread) > 0.9 * len(kinds)
    assert all("0,1,2,3" in kinds[name] for name in spread)
    assert kinds["decoder.model.layers.0.mlp.up_proj.weight"] == "{devices=[4,1]0,1,2,3}"


def test_a_spread_checkpoint_goes_on_on_the_cpu(folders, found, tmp_path):
    (checkpoint,) = checkpoints(folders["four"] / "run")
    assert is_sharded(checkpoint)
    assert checkpoint_problem(checkpoint) is None
    model = CambrianModel.from_pretrained(consolidate(checkpoint, tmp_path))
    assert set(dict(model.named_parameters())) == set(found["four"]["weights"])
    _run("resume_worker.py", "cpu", checkpoint, tmp_path)
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert losses == pytest.approx(found["cpu"]["losses"][MORE.start :], abs=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Return what both stages of a tiny recipe ended with, on the CPU and on four devices."""
    from tests.cambrian_model.conftest import standin_samples, write_shards

    samples = standin_samples(num_figures=6, num_counting=6, num_text=4)
    shards = write_shards(tmp_path_factory.mktemp("shards"), samples)
    found = {}
    for name in ("cpu", "four"):
        out = tmp_path_factory.mktemp(f"trained-{name}")
        _run("train_worker.py", name, shards, out)
        found[name] = json.loads((out / "found.json").read_text())
    return found


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_both_stages_train_as_on_the_cpu(trained, stage):
    cpu, xla = trained["cpu"][stage], trained["four"][stage]
    assert xla["losses"] == pytest.approx(cpu["losses"], abs=1e-4)
    assert trained["four"]["num_devices"] == 4
    after = xla["compiles"]
    assert len(after) == len(xla["losses"])
    assert after[1:] == [after[1]] * (len(after) - 1)
    assert xla["own"] == pytest.approx(cpu["own"], abs=1e-4)
    assert is_sharded(Path(xla["checkpoint"]))
    assert checkpoint_problem(Path(xla["checkpoint"])) is None
