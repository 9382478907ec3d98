"""What two workspaces must have in common: the bytes of every table, shard and picture."""

from __future__ import annotations

import hashlib
from pathlib import Path

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
