"""Ingest of a JSON Lines file beside a bare `json.loads` loop over it, in turns.

    python -m benchmarks.ingest pool.jsonl [--rounds 3] [--workers 2] [--keep WORKSPACE]

The loop is timed inside of its process (`for line in open(FILE): json.loads(line)`, lines that are
no JSON passed over), the command from outside: start of Python, all of its processes and the
catalog. Memory is that of all of its processes together at its highest. Where a `truth.jsonl` of
`make_pool.py` lies beside the file, the dropped lines are compared with the planted faults.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cambrian_data.catalog import query
from cambrian_data.workspace import Workspace

_LOOP = """
import json, sys, time
start = time.perf_counter()
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    try:
        json.loads(line)
    except ValueError:
        pass
print(time.perf_counter() - start)
"""
_PAUSE_S = 0.05
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MENDED_FAULTS = ("image_without_placeholder", "two_placeholders_one_image")
"""Planted faults that ingest mends; rows with the others are dropped."""


def time_loop(file: Path) -> float:
    """Return the seconds of the bare loop."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOP, str(file)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def time_ingest(file: Path, workspace: Path, workers: int | None) -> tuple[float, int]:
    """Return the seconds of the command into a new workspace, and its bytes of memory at most."""
    command = [sys.executable, "-m", "cli", "data", "ingest", str(file), "--name", "benchmark"]
    command += ["--workspace", str(workspace), "--check-images", "none"]
    command += ["--workers", str(workers)] if workers else []
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_memory, _tree(process.pid))))
            time.sleep(_PAUSE_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, peak


def _tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for process in found:
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += map(int, path.read_text().split())
            except OSError:  # it has ended
                continue
    return found


def _memory(pid: int) -> int:
    """Return the bytes of a process that are in memory; what several share counts for each."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:  # it has ended
        return 0


def compare(file: Path, workspace: Path) -> dict[str, int] | None:
    """Return how many rows were wrongly kept and dropped; None where no truth is known."""
    truth = file.with_name("truth.jsonl")
    if not truth.is_file():
        return None
    with truth.open(encoding="utf-8") as lines:
        planted = [json.loads(line) for line in lines]
    faulty = {
        row["line"]
        for row in planted
        if row["kind"] == "faulty" and row["note"] not in MENDED_FAULTS
    }
    found = query(Workspace(workspace), "SELECT origin.line AS line FROM drops").to_pylist()
    dropped = {row["line"] for row in found}
    return {"wrongly_kept": len(faulty - dropped), "wrongly_dropped": len(dropped - faulty)}


def measure(file: Path, *, rounds: int, workers: int | None, keep: Path | None) -> dict[str, Any]:
    """Return the best times of both, their ratio, memory and faults."""
    loops, ingests, peaks = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            workspace = keep if keep and number == rounds - 1 else Path(folder) / str(number)
            loops.append(time_loop(file))
            seconds, peak = time_ingest(file, workspace, workers)
            ingests.append(seconds)
            peaks.append(peak)
        faults = compare(file, workspace)
    return {
        "bytes": file.stat().st_size,
        "loop_s": round(min(loops), 6),
        "ingest_s": round(min(ingests), 3),
        "ratio": round(min(loops) / min(ingests), 3),
        "ratio_each": [round(a / b, 3) for a, b in zip(loops, ingests, strict=True)],
        "peak_mb": max(peaks) // 2**20,
        **({"faults": faults} if faults else {}),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="a JSON Lines file, such as make_pool.py writes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=None, help="processes (default: the cores)")
    parser.add_argument("--keep", type=Path, default=None, help="a new workspace to leave behind")
    options = parser.parse_args(arguments)
    found = measure(options.file, rounds=options.rounds, workers=options.workers, keep=options.keep)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
