"""Who may import whom, and how long a file or a function may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 70
PACKAGES = ("cambrian_data", "cambrian_model", "flows", "cambrian_cli")

# What a package may import of our own, and which libraries belong to it alone.
ALLOWED = {
    "cambrian_data": {"cambrian_data"},
    "cambrian_model": {
        "cambrian_model",
        "cambrian_data.records",
        "cambrian_data.shards",
        "cambrian_data.shard_store",  # shards by offset, and in a bucket
        "cambrian_data.tarfiles",
    },
    "flows": {"flows", "cambrian_data", "cambrian_model"},
    "cambrian_cli": {"cambrian_cli", "cambrian_data", "cambrian_model", "flows", "cli"},
    "cli": {"cambrian_cli", "cambrian_data", "cambrian_model", "flows"},
}
OWNED = {
    "prefect": {"flows"},
    "typer": {"cli", "cambrian_cli"},
    "rich": {"cli", "cambrian_cli"},
    "torch": {"cambrian_model", "cambrian_cli"},
    "transformers": {"cambrian_model"},
}


def sources() -> list[Path]:
    files = [REPOSITORY / "cli.py"]
    for package in PACKAGES:
        files += sorted((REPOSITORY / package).rglob("*.py"))
    return files


def package_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def is_allowed(package: str, module: str) -> bool:
    return any(module == name or module.startswith(name + ".") for name in ALLOWED[package])


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_imports_point_one_way(path: Path) -> None:
    package = package_of(path)
    own = {"cli", *PACKAGES}
    for module in imports_of(path):
        top = module.split(".")[0]
        if top in own:
            assert is_allowed(package, module), f"{package} may not import {module}"
        if top in OWNED:
            assert package in OWNED[top], f"{top} may be imported by {OWNED[top]} only"


def test_no_file_is_a_giant() -> None:
    """A new giant is a decision that someone makes: it is added here by name."""
    giants = {
        str(path.relative_to(REPOSITORY))
        for path in sources()
        if len(path.read_text(encoding="utf-8").splitlines()) > MAX_FILE_LINES
    }
    assert giants == set()


def test_no_function_is_a_giant() -> None:
    giants = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    giants.add(f"{path.name}:{node.name}")
    assert giants == set()


def test_modules_say_what_they_do() -> None:
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in sources()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_nothing_is_called_utils() -> None:
    names = {path.stem for path in sources()}
    assert not names & {"utils", "common", "helpers", "misc"}
