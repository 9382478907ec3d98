"""How curation grows: ingest and curate on generated pools of several sizes.

    python -m benchmarks.curate GENERATOR [--scales 0.011,0.11] [--recipe 7m] [--folder DIR]

GENERATOR is the script that writes a pool (`make_pool.py OUT --scale S`). Printed are, for each
size: the time of a bare `json.loads` loop over the file, how many times as fast ingest is, the time
of curate without shards (from start to end of the command), and the highest memory of the command
and all of its processes together.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

POLL_SECONDS = 0.1


class Measured(NamedTuple):
    """Wall-clock seconds and the highest memory of a command with its children, in MiB."""

    seconds: float
    peak_mib: float


def measure(command: list[str]) -> Measured:
    """Run a command; watch the memory of all its processes together."""
    started, peak = time.monotonic(), 0.0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while child.poll() is None:
        peak = max(peak, resident(child.pid))
        time.sleep(POLL_SECONDS)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return Measured(time.monotonic() - started, peak / 2**20)


def resident(pid: int) -> int:
    """Return the bytes that a process and its children hold; what they share counts once each."""
    total = 0
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_full_info().uss
    except psutil.Error:
        pass
    return total


def parse_all(file: Path) -> tuple[int, float]:
    """Return the rows of a file and the seconds that parsing them takes."""
    started, rows = time.monotonic(), 0
    with file.open("rb") as lines:
        for line in lines:
            rows += 1
            try:
                json.loads(line)
            except ValueError:
                continue
    return rows, time.monotonic() - started


def cambrian(*arguments: str) -> list[str]:
    """Return the command line of `cambrian data` in this environment."""
    return [sys.executable, "-m", "cli", "data", *arguments]


def main() -> None:
    """Measure every size and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generator", type=Path)
    parser.add_argument("--scales", default="0.011,0.11")
    parser.add_argument("--recipe", default="7m")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    print("rows        loads s  ingest x  ingest MiB  curate s  s/million  curate MiB")
    for scale in given.scales.split(","):
        folder = Path(tempfile.mkdtemp(prefix="curate-", dir=given.folder))
        options = [str(folder), "--scale", scale, "--seed", given.seed]
        subprocess.run([sys.executable, str(given.generator), *options], check=True)
        file, workspace = folder / "pool.jsonl", str(folder / "ws")
        rows, loads = parse_all(file)
        ingest = measure(
            cambrian(
                "ingest", str(file), "--name", "pool", "--check-images", "none", "-w", workspace
            )
        )
        curate = measure(
            cambrian("curate", "--recipe", given.recipe, "--no-shards", "-w", workspace)
        )
        print(
            f"{rows:<10,}  {loads:7.1f}  {loads / ingest.seconds:8.2f}  {ingest.peak_mib:10.0f}"
            f"  {curate.seconds:8.1f}  {curate.seconds / rows * 1e6:9.1f}  {curate.peak_mib:10.0f}",
            flush=True,
        )
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
