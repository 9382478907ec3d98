"""Runtimes are chosen by name, say what is missing, and change no result."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from cambrian_data.records import UserError
from cambrian_model.runtime import Placement, Runtime, runtime_of
from cambrian_model.runtimes.fsdp import hold_frozen_in, keeping_ties
from tests.cambrian_model.small_run import STATIC, prepare, run_steps, small_model, whole_weights

HAS_XLA = importlib.util.find_spec("torch_xla") is not None


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(threads=1)


def test_runtimes_are_chosen_by_name():
    runtime = runtime_of("cpu", threads=2)
    assert runtime.device.type == "cpu"
    assert (runtime.rank, runtime.world_size, runtime.num_devices) == (0, 1, 1)
    assert runtime.is_main
    assert not runtime.static_shapes
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


@pytest.mark.skipif(HAS_XLA, reason="torch_xla is installed")
def test_xla_says_what_to_install():
    with pytest.raises(UserError, match="torch_xla cannot be imported.*constraints-tpu.txt"):
        runtime_of("xla")


def test_micro_batches_checkpointing_and_static_shapes_change_no_result(runtime):
    whole = run_steps(runtime, *prepare(runtime), range(3), micro=8)
    parts = run_steps(runtime, *prepare(runtime, checkpointing=True), range(3), micro=2)
    static = run_steps(runtime, *prepare(runtime), range(3), micro=8, static=STATIC)
    for other in (parts, static):
        assert other.losses == pytest.approx(whole.losses, abs=2e-6)
        assert other.norms == pytest.approx(whole.norms, abs=2e-6)


def test_one_process_has_nothing_to_spread(runtime, caplog):
    model, _ = prepare(runtime, placement=Placement(sharding="full"))
    assert "sharding 'full' is 'none' on a single device" in caplog.text
    assert runtime.placement == Placement(sharding="none", precision="float32")
    assert not model.stand_in


def test_bf16_keeps_what_learns_in_float32(runtime):
    placement = Placement(precision="bf16")
    model, optimizer = prepare(runtime, placement=placement, frozen_decoder=True)
    kinds = {p.requires_grad: p.dtype for p in model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    exact = run_steps(runtime, *prepare(runtime, frozen_decoder=True), range(3))
    runtime.placement = Placement(sharding="none", precision="bf16")
    close = run_steps(runtime, model, optimizer, range(3))
    assert close.losses != exact.losses
    assert close.losses == pytest.approx(exact.losses, abs=0.02)


def test_only_numbers_with_a_point_are_cast():
    part = nn.Linear(2, 2)
    part.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    part.bias.requires_grad_(False)
    hold_frozen_in(part, torch.bfloat16)
    assert (part.weight.dtype, part.bias.dtype) == (torch.uint8, torch.bfloat16)


def test_tied_weights_stay_tied_when_they_get_memory():
    with torch.device("meta"):
        model = small_model()
    with keeping_ties(model):
        model.to_empty(device="cpu")
    assert model.get_input_embeddings().weight is model.decoder.get_output_embeddings().weight


def test_clipping_limits_the_norm(runtime):
    values = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    values[0].grad = torch.full((3,), 4.0)
    norm = runtime.clip(values, 1.0)
    assert norm.item() == pytest.approx(48**0.5)
    assert values[0].grad.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert values[1].grad is None


def test_a_loss_that_nothing_learns_from_is_passed_over(runtime):
    runtime.backward(torch.tensor(1.0))


def test_alone_there_is_nobody_to_ask(runtime):
    value = torch.tensor([1.0, 2.0])
    assert torch.equal(runtime.sum(value), value)
    assert runtime.gather("here") == ["here"]
    runtime.barrier()
    runtime.close()


def test_randomness_goes_on_where_it_was(runtime):
    runtime.prepare(5)
    state = runtime.rng_state()
    one = torch.rand(3)
    runtime.set_rng_state(state)
    assert torch.equal(torch.rand(3), one)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_one_gpu_trains_as_the_cpu_does(runtime):
    gpu = runtime_of("cuda")
    torch.backends.cuda.matmul.allow_tf32 = False
    exact = run_steps(runtime, *prepare(runtime), range(3))
    placement = Placement(precision="float32")
    found = run_steps(gpu, *prepare(gpu, placement=placement, checkpointing=True), range(3))
    assert found.losses == pytest.approx(exact.losses, abs=2e-3)
    model, optimizer = prepare(gpu)
    close = run_steps(gpu, model, optimizer, range(3))
    assert close.losses == pytest.approx(exact.losses, abs=0.03)
    assert all(value.device.type == "cpu" for value in whole_weights(model).values())
