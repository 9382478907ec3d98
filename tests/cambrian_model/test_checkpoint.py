"""Checkpoints are whole or not there."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from cambrian_model.checkpoint import (
    CheckpointError,
    CheckpointWriter,
    checkpoint_id,
    checkpoint_problem,
    checkpoints,
    latest_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from cambrian_model.runtime import Runtime
from tests.cambrian_model.small_run import prepare, run_steps


def _save(out, step, text="weights", keep_last=2):
    def write(folder):
        (folder / "model.bin").write_text(f"{text} {step}")
        (folder / "state.bin").write_text("state")

    return save_checkpoint(out, step, write, keep_last=keep_last)


def test_the_newest_are_kept(tmp_path):
    for step in (2, 9, 10, 100):
        _save(tmp_path, step)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000100", "step-000010"]
    assert latest_checkpoint(tmp_path).name == "step-000100"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000010", "step-000100"]


@pytest.mark.parametrize("damage", ["cut", "gone", "changed", "no manifest", "bad manifest"])
def test_a_damaged_one_is_passed_over(tmp_path, damage):
    _save(tmp_path, 1)
    newest = _save(tmp_path, 2)
    assert latest_checkpoint(tmp_path) == newest
    file = newest / "model.bin"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:3])
    elif damage == "gone":
        file.unlink()
    elif damage == "changed":
        file.write_text("weights 3")
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        (newest / "manifest.json").write_text('{"files": ')
    assert "step-000002" in checkpoint_problem(newest)
    assert latest_checkpoint(tmp_path).name == "step-000001"


def test_one_that_fails_while_it_is_written_is_not_there(tmp_path):
    _save(tmp_path, 1)

    def fail(folder):
        (folder / "model.bin").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, 2, fail, keep_last=2)
    assert latest_checkpoint(tmp_path).name == "step-000001"
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_damaged_one_is_written_anew(tmp_path):
    path = _save(tmp_path, 2)
    (path / "model.bin").write_text("damage")
    _save(tmp_path, 2)
    assert latest_checkpoint(tmp_path) == path


def test_the_id_is_that_of_the_content(tmp_path):
    one, same = _save(tmp_path / "a", 1), _save(tmp_path / "b", 1)
    other = _save(tmp_path / "c", 1, text="others")
    assert checkpoint_id(one) == checkpoint_id(same) != checkpoint_id(other)
    files = json.loads((one / "manifest.json").read_text())["files"]
    assert sorted(files) == ["model.bin", "state.bin"]


def test_nothing_there(tmp_path):
    assert latest_checkpoint(tmp_path / "nowhere") is None


# --------------------------------------------------------------------------- in a thread


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(threads=1)


class _Slow:
    """Writes a checkpoint when it is told to."""

    def __init__(self, text="weights", error=None):
        self.text, self.error = text, error
        self.started, self.go_on = threading.Event(), threading.Event()

    def __call__(self, folder):
        self.started.set()
        assert self.go_on.wait(30)
        if self.error:
            raise self.error
        (folder / "model.bin").write_text(self.text)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, runtime):
    writer = CheckpointWriter(tmp_path, keep_last=2, runtime=runtime)
    slow = _Slow()
    writer.save(1, slow)
    assert slow.started.wait(30)
    writer.check()
    assert latest_checkpoint(tmp_path) is None  # whole or not there
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-step-000001"]
    slow.go_on.set()
    assert writer.wait() == latest_checkpoint(tmp_path) == tmp_path / "step-000001"
    assert writer.wait() == tmp_path / "step-000001"


def test_the_next_one_waits_for_the_one_before(tmp_path, runtime):
    writer = CheckpointWriter(tmp_path, keep_last=1, runtime=runtime)
    slow = _Slow()
    writer.save(1, slow)
    threading.Timer(0.2, slow.go_on.set).start()
    writer.save(2, lambda folder: (folder / "model.bin").write_text("2"))
    assert slow.go_on.is_set()
    assert writer.wait() == tmp_path / "step-000002"
    assert checkpoints(tmp_path) == [tmp_path / "step-000002"]


@pytest.mark.parametrize("notice", ["check", "save", "wait"])
def test_an_error_in_the_thread_is_raised_in_training(tmp_path, runtime, notice):
    writer = CheckpointWriter(tmp_path, keep_last=1, runtime=runtime)
    slow = _Slow(error=OSError("disk full"))
    writer.save(1, slow)
    slow.go_on.set()
    while not writer._pending.done():
        time.sleep(0.01)
    with pytest.raises(CheckpointError, match="could not be written to .*: disk full; look"):
        {"check": writer.check, "save": lambda: writer.save(2, slow), "wait": writer.wait}[notice]()
    writer.check()  # told once
    assert latest_checkpoint(tmp_path) is None


def test_without_a_thread_it_is_there_at_once(tmp_path, runtime):
    writer = CheckpointWriter(tmp_path, keep_last=1, runtime=runtime, asynchronous=False)
    writer.save(3, lambda folder: (folder / "model.bin").write_text("3"))
    assert latest_checkpoint(tmp_path) == tmp_path / "step-000003"
    with pytest.raises(CheckpointError, match="disk full"):
        slow = _Slow(error=OSError("disk full"))
        slow.go_on.set()
        writer.save(4, slow)


def test_a_snapshot_does_not_change_with_what_follows(tmp_path, runtime):
    model, optimizer = prepare(runtime)
    run_steps(runtime, model, optimizer, range(2))
    writer = CheckpointWriter(tmp_path, keep_last=2, runtime=runtime)
    write = runtime.snapshot(model, optimizer, {"step": 2})
    writer.save(2, runtime.snapshot(model, optimizer, {"step": 2}))
    rest = run_steps(runtime, model, optimizer, range(2, 4))
    late = tmp_path / "late"
    late.mkdir()
    write(late)
    folder = writer.wait()
    for name in ("model.safetensors", "config.json", "training.pt"):
        assert (late / name).read_bytes() == (folder / name).read_bytes(), name
    again, optimizer = prepare(runtime)
    assert runtime.load_state(folder, again, optimizer) == {"step": 2}
    assert run_steps(runtime, again, optimizer, range(2, 4)) == rest
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_kill_9_leaves_whole_checkpoints_only(tmp_path):
    code = f"""
        import time
        from pathlib import Path
        from cambrian_model.checkpoint import CheckpointWriter
        from cambrian_model.runtime import Runtime
        def slow(folder):
            (folder / "model.bin").write_text("half")
            print("half", flush=True)
            time.sleep(60)
        writer = CheckpointWriter(Path({str(tmp_path)!r}), keep_last=2, runtime=Runtime())
        writer.save(1, lambda folder: (folder / "model.bin").write_text("1"))
        writer.save(2, slow)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert checkpoints(tmp_path) == [tmp_path / "step-000001"]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-000001"
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


# ------------------------------------------------------------------------- several ranks


class _Rank:
    """Stands for the runtime of one of several ranks in this process."""

    def __init__(self, rank, told, meeting):
        self.rank, self.world_size, self.told, self.meeting = rank, len(told), told, meeting

    @property
    def is_main(self):
        return self.rank == 0

    def gather(self, value):
        self.told[self.rank] = value
        self.barrier()
        found = list(self.told)
        self.barrier()
        return found

    def barrier(self):
        self.meeting.wait(30)


def _save_with_ranks(out, write, world_size=3):
    """Save with several ranks at once; returns what each one ended with."""
    told, meeting = [None] * world_size, threading.Barrier(world_size)

    def rank_of(rank):
        writer = CheckpointWriter(out, keep_last=1, runtime=_Rank(rank, told, meeting))
        writer.save(7, lambda folder: write(rank, folder))
        try:
            return writer.wait()
        except CheckpointError as error:
            return str(error)

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(rank_of, range(world_size)))


def test_ranks_write_one_checkpoint(tmp_path):
    def write(rank, folder):
        (folder / "sharded").mkdir(exist_ok=True)
        (folder / "sharded" / f"__{rank}_0.distcp").write_text(f"part {rank}")
        if rank == 0:
            (folder / "config.json").write_text("{}")

    final = tmp_path / "step-000007"
    assert _save_with_ranks(tmp_path, write) == [final, final, final]
    assert checkpoint_problem(final) is None
    files = json.loads((final / "manifest.json").read_text())["files"]
    assert list(files) == ["config.json", *(f"sharded/__{rank}_0.distcp" for rank in range(3))]
    assert not list(final.glob(".rank*"))


def test_a_rank_that_fails_fails_the_checkpoint(tmp_path):
    def write(rank, folder):
        if rank == 2:
            raise OSError("disk full")

    found = _save_with_ranks(tmp_path, write)
    assert len(found) == 3
    assert all("could not be written" in text and "rank 2: disk full" in text for text in found)
    assert latest_checkpoint(tmp_path) is None
