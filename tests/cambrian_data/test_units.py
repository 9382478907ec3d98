from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cambrian_data.units import Stage, StageOutput, Units, Written, chunks
from cambrian_data.workspace import Workspace

PICTURE = b"picture bytes"


def topic(name: str) -> dict[str, str]:
    return {"id": name, "topic": name}


def image(workspace: Workspace) -> tuple[dict[str, object], Path]:
    sha256, path = workspace.store_picture(PICTURE, "png")
    row = {"sha256": sha256, "path": workspace.relative(path), "width": 1, "height": 1}
    return row, path


def make_stage(workspace: Workspace, calls: list[object], version: str = "1", config=None) -> Stage:
    def work(chunk):
        calls.append(list(chunk))
        row, path = image(workspace)
        return StageOutput(
            {"topics": [topic(name) for name in chunk], "images": [row], "drops": []},
            files={f"files/{chunk[0]}.bin": b"data"},
            numbers={"out": len(chunk)},
            pictures=[path],
        )

    units = Units(workspace, workspace.engine("run"), "topics", version=version, config=config)
    return Stage(units, work)


def run(stage: Stage, pieces):
    return [stage.finished(piece) or stage.run(piece) for piece in pieces]


def all_files(workspace: Workspace) -> dict[str, bytes]:
    return {
        str(p.relative_to(workspace.root)): p.read_bytes()
        for p in workspace.root.rglob("*")
        if p.is_file()
    }


def test_done_units_are_not_made_again(workspace):
    calls: list[object] = []
    pieces = chunks(["a", "b", "c"], 2)
    first = run(make_stage(workspace, calls), pieces)
    assert calls == [["a", "b"], ["c"]]
    assert run(make_stage(workspace, calls), pieces) == first
    assert len(calls) == 2


def written_stage(workspace: Workspace) -> Stage:
    """A stage whose work writes its file itself."""

    def work(chunk):
        path = workspace.scratch()
        path.write_bytes(f"of {chunk[0]}".encode())
        return StageOutput({}, files={f"deep/{chunk[0]}.bin": Written.of(path)})

    return Stage(Units(workspace, workspace.engine("run"), "written", version="1", config=0), work)


def test_files_that_are_written_already_move_in(workspace):
    stage = written_stage(workspace)
    unit = stage.run(["a"])
    path = workspace.engine("run") / "deep" / "a.bin"
    assert path.read_bytes() == b"of a"
    assert stage.finished(["a"]) == unit
    assert list(workspace.tmp.iterdir()) == []
    path.write_bytes(b"of b")
    assert stage.finished(["a"]) is None


def test_a_commit_that_fails_leaves_no_file_behind(workspace):
    stage = written_stage(workspace)
    (workspace.engine("run") / "deep").parent.mkdir(parents=True)
    (workspace.engine("run") / "deep").write_text("a file where a folder is needed")
    with pytest.raises(OSError):
        stage.run(["a"])
    assert list(workspace.tmp.iterdir()) == []


def test_rows_come_back_in_the_order_of_the_units(workspace):
    stage = make_stage(workspace, [])
    units = run(stage, [["z"], ["a"]])
    assert stage.units.read("topics", units)["topic"].to_pylist() == ["z", "a"]
    assert len(stage.units.read("images", units)) == 2
    assert len(stage.units.read("drops", units)) == 0


def test_empty_tables_leave_no_file(workspace):
    run(make_stage(workspace, []), [["a"]])
    assert not (workspace.engine("run") / "drops").exists()


@pytest.mark.parametrize(
    "change", [{"version": "2"}, {"config": {"x": 1}}], ids=["version", "config"]
)
def test_another_version_or_config_is_another_unit(workspace, change):
    calls: list[object] = []
    run(make_stage(workspace, calls), [["a"]])
    run(make_stage(workspace, calls, **change), [["a"]])
    assert len(calls) == 2


@pytest.mark.parametrize(
    "pattern",
    [
        "engine/run/topics/part-*.parquet",
        "engine/run/files/*.bin",
        "engine/run/manifests/topics/*.json",
        "images/part-topics-*.parquet",
        "images/??/*.png",
    ],
)
@pytest.mark.parametrize("damage", ["remove", "flip", "empty"])
def test_damaged_output_is_found_and_made_again(workspace, pattern, damage):
    calls: list[object] = []
    run(make_stage(workspace, calls), [["a"]])
    before = all_files(workspace)
    victim = next(workspace.root.glob(pattern))
    if damage == "remove":
        victim.unlink()
    elif damage == "flip":
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 255
        victim.write_bytes(data)
    else:
        victim.write_bytes(b"")
    run(make_stage(workspace, calls), [["a"]])
    assert len(calls) == 2
    assert all_files(workspace) == before


def test_a_manifest_that_was_changed_by_hand_is_not_believed(workspace):
    stage = make_stage(workspace, [])
    run(stage, [["a"]])
    (manifest,) = workspace.root.glob("engine/run/manifests/topics/*.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"out": 1', b'"out": 7'))
    assert stage.finished(["a"]) is None
    manifest.write_bytes(b"[]")
    assert stage.finished(["a"]) is None


def test_a_unit_that_is_not_complete_is_tried_again(workspace):
    calls: list[object] = []
    stage = make_stage(workspace, calls)
    run(stage, [["a"]])
    again = Stage(stage.units, stage.work, is_complete=lambda unit: unit.numbers["out"] > 1)
    assert stage.finished(["a"]) is not None and again.finished(["a"]) is None


def test_units_whose_input_is_gone_are_removed(workspace):
    stage = make_stage(workspace, [])
    run(stage, [["a"], ["b"]])
    stage.units.keep_only([stage.units.key(["b"])])
    parts = list((workspace.engine("run") / "topics").glob("*.parquet"))
    assert [pq.read_table(part)["topic"].to_pylist() for part in parts] == [["b"]]
    assert stage.finished(["a"]) is None and stage.finished(["b"]) is not None


def test_rows_that_do_not_fit_the_schema_leave_nothing_behind(workspace):
    units = Units(workspace, workspace.engine("run"), "topics", version="1", config=None)
    with pytest.raises(ValueError, match="lacks"):
        units.commit(units.key("a"), {"topics": [{"id": "a"}]})
    assert units.load(units.key("a")) is None
    assert list(workspace.tmp.iterdir()) == []


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[3])
from test_units import make_stage, run
from cambrian_data.workspace import Workspace
stop, steps, real = int(sys.argv[2]), 0, pathlib.Path.replace
def replace(self, target):
    global steps
    if steps == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    steps += 1
    return real(self, target)
pathlib.Path.replace = replace
run(make_stage(Workspace(sys.argv[1]), []), [["a"], ["b"]])
"""


def test_killed_before_any_rename_the_next_run_ends_the_same(tmp_path):
    results = []
    for stop in range(10):
        workspace = Workspace.create(tmp_path / f"ws{stop}")
        arguments = [sys.executable, "-c", KILLED, str(workspace.root)]
        here = str(Path(__file__).parent)
        killed = subprocess.run([*arguments, str(stop), here], check=False).returncode == -9
        assert killed == (stop < 9)  # the picture once; two parts, a file, a manifest a unit
        assert subprocess.run([*arguments, "99", here], check=False).returncode == 0
        Workspace.create(workspace.root)
        results.append(all_files(workspace))
    assert all(result == results[-1] for result in results)


def test_two_runs_at_once_leave_what_one_leaves(tmp_path):
    here = str(Path(__file__).parent)
    one, two = Workspace.create(tmp_path / "one"), Workspace.create(tmp_path / "two")
    run(make_stage(one, []), [["a"], ["b"]])
    processes = [
        subprocess.Popen([sys.executable, "-c", KILLED, str(two.root), "99", here])
        for _ in range(3)
    ]
    assert [process.wait() for process in processes] == [0] * 3
    Workspace.create(two.root)
    assert all_files(one) == all_files(two)
