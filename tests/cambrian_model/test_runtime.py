"""Runtimes are chosen by name and say what is missing."""

from __future__ import annotations

import pytest
import torch

from cambrian_data.records import UserError
from cambrian_model.runtime import runtime_of


def test_runtimes_are_chosen_by_name():
    assert runtime_of("cpu", threads=2).device.type == "cpu"
    with pytest.raises(UserError, match="'xla'.*not there yet"):
        runtime_of("xla")
    with pytest.raises(UserError, match="no runtime 'tpu'.*cpu, cuda, mps, xla"):
        runtime_of("tpu")


@pytest.mark.parametrize(
    ("name", "there"),
    [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())],
)
def test_a_device_that_is_not_there_is_an_error(name, there):
    if there:
        assert runtime_of(name).device.type == name
    else:
        with pytest.raises(UserError, match="use --runtime cpu"):
            runtime_of(name)
