"""Checkpoints are whole or not there."""

from __future__ import annotations

import json

import pytest

from cambrian_model.checkpoint import (
    checkpoint_id,
    checkpoint_problem,
    checkpoints,
    latest_checkpoint,
    remove_leftovers,
    save_checkpoint,
)


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
