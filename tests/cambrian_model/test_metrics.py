"""The logs, how they are cut back, and the mean losses of the first and the last tenth."""

from __future__ import annotations

import json

import pytest

from cambrian_data.records import UserError
from cambrian_model import metrics
from cambrian_model.metrics import JsonlLog, LossTenths, check_logs, flat, open_logs


def test_a_log_is_cut_back_to_a_step(tmp_path):
    log = JsonlLog(tmp_path / "log.jsonl")
    for step in range(1, 6):
        log.write(step, {"loss": 1.0})
    with log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    log.rewind(3)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2, 3]


def test_numbers_in_groups_become_names_with_a_slash_and_unknown_ones_go():
    numbers = {"loss": 2.0, "lr": {"base": 1e-3, "sampler": 1e-4}, "mfu": None, "skipped": {}}
    assert flat(numbers) == {"loss": 2.0, "lr/base": 1e-3, "lr/sampler": 1e-4}


def test_tensorboard_shows_every_curve(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = open_logs(tmp_path, ["tensorboard"], run="x")
    logs.rewind(0)
    for step in (1, 2):
        logs.write(step, {"loss": 3.0 / step, "lr": {"base": 0.5}, "mfu": None})
    logs.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "lr/base"}
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 3.0), (2, 1.5)]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_a_log_whose_package_is_missing_is_refused_with_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install wandb"):
        check_logs(["wandb"])
    with pytest.raises(UserError, match="pip install tensorboard"):
        open_logs(tmp_path, ["tensorboard"], run="x")


def test_wandb_goes_on_with_the_run_of_the_folder(tmp_path, monkeypatch):
    """A stand-in for the package, which is not installed where this is tested."""
    import sys
    import types

    told = []

    class Run:
        id = "abc"

        def log(self, numbers, step):
            told.append((step, numbers))

        def finish(self):
            told.append("finished")

    def init(**arguments):
        told.append((arguments["id"], arguments["resume"], arguments["config"]))
        return Run()

    fake = types.ModuleType("wandb")
    fake.init, fake.errors = init, types.SimpleNamespace(Error=OSError)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(metrics, "_require", lambda package: None)
    for _ in range(2):
        logs = open_logs(tmp_path, ["wandb"], run="x", config={"a": 1})
        logs.write(1, {"lr": {"base": 0.5}})
        logs.close()
    assert told[0] == (None, "allow", {"a": 1})
    assert told[3][0] == "abc"
    assert told[1] == (1, {"lr/base": 0.5})


def test_tenths_are_means_of_the_first_and_the_last_steps():
    tenths = LossTenths(30)
    for step in range(1, 31):
        tenths.add(step, float(step))
    assert tenths.means() == (2.0, 29.0)
