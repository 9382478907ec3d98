"""Samples made by hand, and the pool that a generator makes with its faults listed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cambrian_data.records import sample_id, table_of


def one_sample(
    *texts: str,
    source: str = "a.json",
    category: str = "general",
    pictures: Sequence[str] = (),
    **columns: Any,
) -> dict[str, Any]:
    """Return a row of `samples`: questions and answers by turns."""
    roles = ("human", "gpt")
    turns = [{"from": roles[n % 2], "value": text} for n, text in enumerate(texts)]
    images = [{"sha256": None, "path": path} for path in pictures]
    row = {
        "id": sample_id(turns, images),
        "source": source,
        "dataset": "test",
        "category": category,
        "images": images,
        "conversations": turns,
    }
    return {**row, **columns}


@pytest.fixture(scope="session")
def sample() -> Callable[..., dict[str, Any]]:
    """Return a maker of one row."""
    return one_sample


@pytest.fixture(scope="session")
def samples() -> Callable[..., pa.Table]:
    """Return a maker of a table of rows."""
    return lambda *rows: table_of("samples", rows)


@dataclass(frozen=True)
class PlantedPool:
    """A generated pool and the truth about its rows."""

    path: Path
    images: Path
    truth: list[dict[str, Any]]

    def lines(self, kind: str) -> dict[int, dict[str, Any]]:
        """Return the planted rows of a kind by their line."""
        return {row["line"]: row for row in self.truth if row["kind"] == kind}


@pytest.fixture(scope="session")
def planted(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PlantedPool]:
    """Return a maker of pools with planted faults; its options are the generator's."""
    generator = shared / "tools" / "make_pool.py"

    def make(*options: str) -> PlantedPool:
        folder = tmp_path_factory.mktemp("pool")
        subprocess.run([sys.executable, str(generator), str(folder), *options], check=True)
        lines = (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines()
        truth = [json.loads(line) for line in lines]
        return PlantedPool(folder / "pool.jsonl", folder / "images", truth)

    return make
