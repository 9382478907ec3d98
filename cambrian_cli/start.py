"""Opening a workspace for a command that runs a flow."""

from __future__ import annotations

from pathlib import Path

from cambrian_cli import output
from cambrian_data.workspace import Workspace


def open_workspace(path: Path) -> Workspace:
    """Make or open the workspace and set Prefect up for it; call before importing a flow."""
    from flows.settings import prepare

    workspace = Workspace.create(path)
    prepare(workspace.root)
    output.err.print("starting Prefect, which takes some seconds ...", style="dim")
    return workspace
