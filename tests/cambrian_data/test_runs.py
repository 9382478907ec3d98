from __future__ import annotations

from cambrian_data.runs import RunRecord, count_drops, read_run, read_runs, run_name


class Clock:
    now = 100.0

    def __call__(self) -> float:
        self.now += 2.5
        return self.now


def test_a_run_is_written_as_it_goes(workspace):
    record = RunRecord(workspace, "r-1", kind="engine", seed=1, clock=Clock())
    assert read_run(workspace, "r-1")["status"] == "running"
    record.stage("fetch", rows_in=3, rows_out=2, seconds=0.12345, drops={"missing": 1})
    on_disk = read_run(workspace, "r-1")
    assert on_disk["stages"] == [{"stage": "fetch", "in": 3, "out": 2, "seconds": 0.123}]
    assert on_disk["drops"] == {"fetch": {"missing": 1}}
    record.finish("done", outputs={"samples": 2})
    on_disk = read_run(workspace, "r-1")
    assert (on_disk["status"], on_disk["seconds"], on_disk["outputs"]) == (
        "done",
        2.5,
        {"samples": 2},
    )
    assert on_disk["versions"]["python"]


def test_attempts_are_counted(workspace):
    for number in (1, 2, 3):
        assert RunRecord(workspace, "r-1", kind="engine").data["attempts"] == number


def test_a_damaged_record_is_passed_over(workspace):
    RunRecord(workspace, "r-1", kind="engine").finish("done")
    (workspace.runs / "r-2.json").write_text("{")
    assert [run["run"] for run in read_runs(workspace)] == ["r-1"]
    assert RunRecord(workspace, "r-2", kind="engine").data["attempts"] == 1


def test_names_hold_a_label_and_a_hash():
    name = run_name("Simple Pendulum", {"a": 1})
    assert name.startswith("simple-pendulum-") and name != run_name("Simple Pendulum", {"a": 2})
    assert name == run_name("Simple Pendulum", {"a": 1})


def test_drops_are_counted_by_reason():
    rows = [{"reason": "b"}, {"reason": "a"}, {"reason": "b"}]
    assert list(count_drops(rows).items()) == [("a", 1), ("b", 2)]
