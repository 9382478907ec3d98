"""Every reference case of the folder that `CAMBRIAN_GOLDEN` names, each read by its kind."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from tests.cambrian_model.golden.cases import Case, find_cases
from tests.reference import SHARED, shared

KINDS = "ABCDEF"


def _folder() -> Path:
    named = os.environ.get("CAMBRIAN_GOLDEN")
    return Path(named) if named else SHARED / "golden"


def test_the_folder_holds_cases():
    if not os.environ.get("CAMBRIAN_GOLDEN"):
        shared("golden")
    assert find_cases(_folder()), f"{_folder()} holds no case"


@pytest.mark.parametrize("case", find_cases(_folder()), ids=lambda case: case.name)
def test_equals_published(case: Case):
    assert case.kind in KINDS, f"{case.name}: there is no reader for kind {case.meta['kind']!r}"
    module = importlib.import_module(f"tests.cambrian_model.golden.kind_{case.kind.lower()}")
    module.check(case)
