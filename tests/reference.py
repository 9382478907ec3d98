"""The reference data beside the repository: real pages and pictures, golden values, tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(part: str) -> Path:
    """Return a folder of the reference data; without it the test is skipped, and in CI fails."""
    folder = SHARED / part
    if not folder.is_dir():
        reason = f"the reference data are not here: there is no folder {folder}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
