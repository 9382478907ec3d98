"""The benchmark of a training step counts and measures what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import step


def _numbers(tmp_path: Path, *options: str) -> dict:
    file = tmp_path / "n.json"
    step.main([*options, "--json", str(file)])
    return json.loads(file.read_text())


@pytest.mark.parametrize("model", ["tiny", "1b"])
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_operations_of_the_mfu_are_those_that_torch_counts(tmp_path, model, stage):
    found = _numbers(tmp_path, "--device", "meta", "--model", model, "--stage", stage)
    assert found["counted_to_formula"] == pytest.approx(1, abs=0.02)
    assert found["tflop_per_sample"] < found["with_hidden_attention"]
    assert found["parameters_learn"] > 0 and found["memory_gib"] > 0


def test_steps_are_measured(tmp_path):
    found = _numbers(tmp_path, "--steps", "2", "--warmup", "1", "--batch", "2")
    assert found["tokens_per_s"] > 0 and found["peak_memory_gib"] > 0
    assert found["mfu"] is None  # nobody says what a CPU could do


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_it_says_what_to_do(capsys):
    with pytest.raises(SystemExit, match="--device meta"):
        step.main(["--device", "cuda"])


def test_a_row_must_have_room_for_text():
    with pytest.raises(SystemExit, match="--tokens 12"):
        step.main(["--device", "meta", "--tokens", "12"])
