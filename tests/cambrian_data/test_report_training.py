"""What the report says of the runs behind a mixture, and of the training on it."""

from __future__ import annotations

import json

from cambrian_data.records import drop
from cambrian_data.report.training import curve, read_losses
from cambrian_data.runs import RunRecord
from cambrian_data.workspace import Workspace
from tests.reports import drops_part, make, report, rows_of, section


def test_the_engine_run_behind_a_data_set_shows_its_funnel(workspace, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cambrian", "data", "engine", "--topic", "lenses"])
    make(workspace, rows_of(workspace), made_by="engine", run="physics-1")
    record = RunRecord(workspace, "physics-1", kind="engine", seed=0, inputs={"topic": "lenses"})
    record.stage("search", rows_in=5, rows_out=4, seconds=1, drops={"no_hits": 1})
    funnel = {"topics": 5, "hits": 1234, "pages": 3, "figures": 9, "pictures": 8, "samples": 17}
    record.finish("done", outputs={"dataset": "d", "funnel": funnel})
    drops_part(workspace, workspace.engine("physics-1"), [drop("search", "t", "no_hits")])
    numbers, page, _ = report(workspace)
    assert numbers["datasets"][0]["funnel"] == funnel
    steps = [" ".join(li.get_text(" ").split()) for li in page.select("#origin .funnel li")]
    assert steps[:3] == ["5 topics", "1,234 hits", "3 pages"] and steps[-1] == "17 samples"
    assert "lenses" in section(page, "origin")
    assert ("search", "no_hits") in {(row["stage"], row["reason"]) for row in numbers["drops"]}
    assert record.data["command"] in page.find(id="again").get_text()


def test_a_pool_that_changed_since_is_told(workspace):
    make(workspace, rows_of(workspace))
    record = RunRecord(workspace, "curate-1", kind="curate", seed=0, inputs={"d": "other"})
    record.finish("done", outputs={"name": "mix"})
    numbers, page, _ = report(workspace)
    assert "has changed since" in page.find("header").get_text()
    assert numbers["runs"]["records"][0]["run"] == "curate-1"


def train_files(workspace: Workspace, name: str, stage: str, **result) -> None:
    folder = workspace.checkpoints(name, stage)
    lines = [json.dumps({"step": n, "loss": 7 / n}) for n in range(1, 501)]
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 501, "lo', encoding="utf-8")
    losses = {"first_tenth_loss": 6.5, "last_tenth_loss": 1.25}
    stored = {"checkpoint": "step-000500", "steps": 500, "samples": 12, "skipped": {}} | losses
    if result:
        workspace.write_json(folder / "result.json", stored | result)


def test_training_is_explained(workspace):
    make(workspace, rows_of(workspace))
    none = {"own_pictures_loss": None, "shuffled_pictures_loss": None}
    train_files(workspace, "tiny", "pretrain", **none)
    train_files(workspace, "tiny", "finetune", own_pictures_loss=1.0, shuffled_pictures_loss=1.7)
    numbers, page, _ = report(workspace)
    stages = numbers["training"][0]["stages"]
    assert [stage["stage"] for stage in stages] == ["pretrain", "finetune"]
    assert stages[0]["curve"][-1][0] == 500 and len(stages[0]["curve"]) <= 240
    text = section(page, "training")
    assert "2.01 times as likely" in text and "1.250" in text
    assert len(page.select("#training polyline")) == 4


def test_a_model_that_does_not_look_and_a_run_that_goes_on(workspace):
    make(workspace, rows_of(workspace))
    train_files(workspace, "blind", "finetune", own_pictures_loss=2.0, shuffled_pictures_loss=2.001)
    train_files(workspace, "going", "pretrain")
    text = section(report(workspace)[1], "training")
    assert "from the question alone" in text and "not finished" in text


def test_training_on_other_shards_is_not_shown(workspace):
    make(workspace, rows_of(workspace))
    train_files(workspace, "tiny", "pretrain", own_pictures_loss=None)
    shards = str(workspace.shards("another"))
    record = RunRecord(workspace, "train-1", kind="train", seed=0, inputs={"shards": shards})
    record.finish("done", outputs={"checkpoint": "checkpoints/tiny/pretrain/step-000500"})
    assert report(workspace)[0]["training"] == []


def test_losses_are_read_and_thinned(tmp_path):
    assert read_losses(tmp_path / "none.jsonl") == []
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n[]\n{"st')
    assert read_losses(log) == [(1, 2.0)]
    points = curve([(n, 1.0) for n in range(1, 1002)])
    assert len(points) <= 240 and points[-1] == [1001, 1.0]
