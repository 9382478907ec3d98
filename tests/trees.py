"""Workspaces in tests: what two of them must have in common, and data put into their pool."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cambrian_data.pool import write_dataset
from cambrian_data.workspace import Workspace

PATTERNS = ("*.parquet", "*.tar", "*.png", "*.jpg", "index.json", "plan.json", "stats.json")
AREAS = ("engine", "pool", "mixtures", "shards", "images")


def tree(workspace: Path) -> dict[str, str]:
    """Return the sha256 of every file that may hold no clock time, by its place."""
    return {
        path.relative_to(workspace).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for area in AREAS
        for pattern in PATTERNS
        for path in sorted((workspace / area).rglob(pattern))
    }


def put_dataset(
    workspace: Workspace, name: str, key: str, samples: pa.Table, **about: object
) -> None:
    """Put a table of samples into the pool."""
    part = workspace.scratch()
    pq.write_table(samples, part)
    write_dataset(workspace, name, key, [part], about)
    part.unlink()
