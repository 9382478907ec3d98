"""One Prefect helper server for all tests of flows in this process.

The settings must stand before prefect is imported, and pytest imports this file before the tests.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from flows.settings import prepare

_FOLDER = Path(tempfile.mkdtemp(prefix="cambrian-prefect-"))
prepare(_FOLDER)


@pytest.fixture(scope="session", autouse=True)
def _remove_prefect_home():
    yield
    shutil.rmtree(_FOLDER, ignore_errors=True)
