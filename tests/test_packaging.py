"""The wheel carries all that a user needs, and works from an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def constraints() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def requirements() -> list[Requirement]:
    """What `make demo` and `make test` install."""
    extras = [PROJECT["optional-dependencies"][name] for name in ("train", "dev")]
    return [Requirement(line) for lines in (PROJECT["dependencies"], *extras) for line in lines]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_every_dependency_is_pinned_within_its_range(requirement):
    pinned = constraints()[requirement.name.lower().replace("_", "-")]
    assert requirement.specifier.contains(pinned), (requirement, pinned)


def test_the_ranges_that_keep_flows_running_are_in_the_package_itself():
    ranges = {r.name: str(r.specifier) for r in requirements()}
    assert ranges["fastapi"] == "<0.151,>=0.139"
    assert ranges["sqlalchemy"] == "<2.1,>=2.0"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The content of the wheel, built without network, unpacked into an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(folder),
        str(REPOSITORY),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_recipes_and_corpus_and_no_tests(installed):
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*")}
    for recipe in REPOSITORY.glob("recipes/*/*.yaml"):
        assert f"cambrian_data/_recipes/{recipe.parent.name}/{recipe.name}" in names
    corpus = REPOSITORY / "cambrian_data" / "engine" / "corpus"
    for path in corpus.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert path.relative_to(REPOSITORY).as_posix() in names
    assert not {name for name in names if name.startswith(("tests", "tools", "docs"))}
    assert "cli.py" in names


def test_it_works_from_an_empty_folder(installed, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import cli; "
        "import cambrian_data.recipes as r; "
        "assert r.recipes_folder().name == '_recipes', r.recipes_folder(); "
        "sys.exit(cli.run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            str(installed),
            "data",
            "engine",
            "--topic",
            "optics",
            "--offline",
            "--json",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["funnel"]["samples"] > 0
    assert (tmp_path / "workspace" / "catalog.duckdb").is_file()
