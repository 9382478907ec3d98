"""Run records: what was run, with which recipe, what went in and out of every stage, and when.

One JSON file a run under `runs/`, rewritten as the run goes on. Together with the HTTP cache it is
the only place where clock times stand; tables, mixtures and shards hold none.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.recipes import Recipe
from cambrian_data.records import content_id, table_of
from cambrian_data.workspace import Workspace, check_name, slug, utc_now

Status = Literal["running", "done", "stopped", "failed", "interrupted"]
"""`stopped`: its budget was used up; the same command goes on."""

_VERSIONS_OF = (
    "cambrian",
    "prefect",
    "pyarrow",
    "duckdb",
    "polars",
    "pillow",
    "torch",
    "transformers",
)


def run_name(label: str, *parts: Any) -> str:
    """Return the name of a run: a readable label and a hash of all that its output depends on."""
    return f"{slug(label)}-{content_id(*parts)[:12]}"


class RunRecord:
    """The record of one run. Every change is written to disk at once."""

    def __init__(
        self,
        workspace: Workspace,
        run: str,
        *,
        kind: str,
        recipe: Recipe[Any] | None = None,
        seed: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workspace, self.run = workspace, check_name(run)
        self.path = workspace.runs / f"{run}.json"
        self._clock, self._started = clock, clock()
        earlier = read_run(workspace, run) or {}
        self.data: dict[str, Any] = {
            "run": run,
            "kind": kind,
            "command": command_line(),
            "status": "running",
            "process": [socket.gethostname(), os.getpid()],
            "workers": [],
            "started_at": utc_now(),
            "finished_at": None,
            "seconds": None,
            "attempts": int(earlier.get("attempts", 0)) + 1,
            "seed": getattr(recipe.config, "seed", seed) if recipe else seed,
            "recipe_name": recipe.name if recipe else "",
            "recipe": recipe.content() if recipe else {},
            "recipe_sha256": recipe.sha256 if recipe else "",
            "inputs": dict(inputs or {}),
            "stages": [],
            "drops": {},
            "outputs": {},
            "versions": versions(),
            "error": None,
        }
        self._write()

    def stage(
        self,
        name: str,
        *,
        rows_in: int,
        rows_out: int,
        seconds: float,
        drops: Mapping[str, int] | None = None,
        **numbers: Any,
    ) -> None:
        """Add a finished stage: rows in and out, drops by reason, anything else worth knowing."""
        self.data["stages"].append(
            {"stage": name, "in": rows_in, "out": rows_out, "seconds": round(seconds, 3), **numbers}
        )
        if drops:
            self.data["drops"][name] = dict(sorted(drops.items()))
        self._write()

    def workers(self, processes: Iterable[tuple[str, int]]) -> None:
        """Add the processes (host, number) that made units of this run."""
        known = {(host, pid) for host, pid in self.data["workers"]} | set(processes)
        self.data["workers"] = [list(process) for process in sorted(known)]
        self._write()

    def finish(
        self, status: Status, *, outputs: Mapping[str, Any] | None = None, error: str | None = None
    ) -> dict[str, Any]:
        """Close the record and return its content."""
        self.data |= {
            "status": status,
            "finished_at": utc_now(),
            "seconds": round(self._clock() - self._started, 3),
            "outputs": dict(outputs or {}),
            "error": error,
        }
        self._write()
        return self.data

    def _write(self) -> None:
        self.workspace.write_json(self.path, self.data)


@contextlib.contextmanager
def recorded(record: RunRecord) -> Iterator[None]:
    """Close a run's record with what went wrong where its flow does not end well."""
    try:
        yield
    except KeyboardInterrupt:
        record.finish("interrupted", error="stopped by the user; the same command goes on")
        raise
    except BaseException as error:
        record.finish("failed", error=f"{type(error).__name__}: {error}")
        raise


def read_run(workspace: Workspace, run: str) -> dict[str, Any] | None:
    """Return a run's record, or None where there is none that can be read."""
    try:
        record = orjson.loads((workspace.runs / f"{run}.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    needed = {"run": str, "status": str, "started_at": str, "attempts": int}
    is_record = isinstance(record, dict) and all(
        isinstance(record.get(name), kind) for name, kind in needed.items()
    )
    return record if is_record else None


def read_runs(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the records of all runs, oldest first."""
    records = [read_run(workspace, path.stem) for path in workspace.runs.glob("[!_]*.json")]
    return sorted((record for record in records if record), key=lambda r: r["started_at"])


def write_calls(workspace: Workspace, run: str, calls: Iterable[Mapping[str, Any]]) -> float | None:
    """Add calls (rows of records.LLM_CALL) to those that earlier attempts of a run used.

    Returns:
        What all of them cost in USD; None where a price is not known.
    """
    path = workspace.runs / run / "llm_calls.parquet"
    known = []
    if path.is_file():
        with contextlib.suppress(pa.ArrowInvalid):  # damaged; the ledger still has all
            known = pq.read_table(path).to_pylist()
    rows = {row["key"]: row for row in [*known, *calls]}
    ordered = [rows[key] for key in sorted(rows)]
    workspace.write_table(path, table_of("llm_calls", ordered))
    costs = [row["cost_usd"] for row in ordered]
    return None if None in costs else sum(costs)


def count_drops(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many rows of a table of drops have each reason."""
    return dict(sorted(Counter(row["reason"] for row in rows).items()))


def command_line() -> str:
    """Return the command that this process was started with, without the path of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results can depend on."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
