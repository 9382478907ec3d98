"""`cambrian doctor`: what this machine has for the project, and what to do about what it lacks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from pathlib import Path
from typing import Any

from cambrian_cli import output
from cambrian_data.runs import read_runs, versions
from cambrian_data.workspace import Workspace

KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "CAMBRIAN_LLM",
    "GOOGLE_API_KEY",
    "GOOGLE_SE_ID",
    "BRAVE_API_KEY",
    "CAMBRIAN_SEARXNG_URL",
    "CAMBRIAN_MEDIAWIKI_API",
    "CAMBRIAN_CONTACT",
)
NETWORK_HOST = ("en.wikipedia.org", 443)
NETWORK_TIMEOUT_S = 3.0


def show_doctor(path: Path) -> None:
    """Print what was found; nothing is changed, and no key's value is shown."""
    found = {
        "versions": versions(),
        "cpu_cores": os.cpu_count(),
        "devices": devices(),
        "keys": {name: name in os.environ for name in KEYS},
        "workspace": workspace_state(path),
        "network": network_state(),
    }
    if output.wants_json:
        output.emit_json(found)
        return
    for title, value in found.items():
        if isinstance(value, dict):
            output.out.print(f"[bold cyan]{title}[/]")
            output.fields({k: _word(v) for k, v in value.items()})
        else:
            output.out.print(f"[bold cyan]{title}[/]  {output.plain(value)}")


def _word(value: Any) -> Any:
    return ("set" if value else "not set") if isinstance(value, bool) else value


def devices() -> dict[str, str]:
    """Return the runtimes that training could use, each with what stands in its way."""
    if importlib.util.find_spec("torch") is None:
        missing = "torch is not installed: pip install 'cambrian[train]'"
        return {"cpu": missing, "cuda": missing, "mps": missing}
    import torch

    return {
        "cpu": f"yes, {torch.get_num_threads()} threads",
        "cuda": f"yes, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no",
        "mps": "yes" if torch.backends.mps.is_available() else "no",
    }


def workspace_state(path: Path) -> dict[str, Any]:
    """Return whether there is a workspace, what it holds, and how much room there is."""
    workspace = Workspace(path)
    folder = workspace.root
    while not folder.exists():
        folder = folder.parent
    state: dict[str, Any] = {
        "path": str(workspace.root),
        "exists": "yes" if workspace.runs.is_dir() else "no, it is made by the first run",
        "writable": "yes" if os.access(folder, os.W_OK) else f"no: {folder} is read-only",
        "free_gib": round(shutil.disk_usage(folder).free / 2**30, 1),
    }
    if workspace.runs.is_dir():
        state["runs"] = len(read_runs(workspace))
        state["pool"] = ", ".join(workspace.names("pool")) or "empty"
        state["mixtures"] = ", ".join(workspace.names("mixtures")) or "none"
    return state


def network_state() -> dict[str, str]:
    """Return whether the web can be reached; without it the embedded corpus is used."""
    try:
        socket.create_connection(NETWORK_HOST, timeout=NETWORK_TIMEOUT_S).close()
    except OSError as error:
        return {"web": f"not reached ({error}); `--offline` and `cambrian demo` need none"}
    return {"web": f"{NETWORK_HOST[0]} can be reached"}
