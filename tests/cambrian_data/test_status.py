from __future__ import annotations

import os
import subprocess
import sys

from cambrian_data.records import table_of
from cambrian_data.runs import RunRecord
from cambrian_data.status import workspace_status
from tests.trees import put_dataset


def test_runs_whose_process_is_gone_are_shown_as_killed(workspace):
    code = (
        "import os, sys; from cambrian_data.workspace import Workspace; "
        "from cambrian_data.runs import RunRecord; "
        "RunRecord(Workspace(sys.argv[1]), 'dead', kind='engine'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(workspace.root)], check=False)
    RunRecord(workspace, "alive", kind="engine")
    RunRecord(workspace, "ended", kind="engine").finish("done")
    states = {run["run"]: run["status"] for run in workspace_status(workspace)["runs"]}
    assert states == {"dead": "killed", "alive": "running", "ended": "done"}


def test_folders_are_shown_with_their_state(workspace):
    put_dataset(workspace, "one", "k" * 20, table_of("samples", []))
    put_dataset(workspace, "two", "k" * 20, table_of("samples", []))
    (workspace.pool("two") / "manifest.json").write_text("[]")
    (workspace.root / "staging" / "mixtures-x-abc").mkdir(parents=True)
    status = workspace_status(workspace)
    assert [(row["name"], row["state"]) for row in status["pool"]] == [
        ("one", "done"),
        ("two", "unfinished or damaged"),
    ]
    assert status["unfinished"] == ["mixtures-x-abc"]
    assert status["bytes"] > 0 and status["path"] == os.fspath(workspace.root)
