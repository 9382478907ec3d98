"""Options that several commands share, and what they turn into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cambrian_cli import output

Workspace = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="CAMBRIAN_WORKSPACE",
        help="Folder of everything that runs make.",
        show_default=True,
    ),
]
DEFAULT_WORKSPACE = Path("workspace")
Json = Annotated[
    bool,
    typer.Option("--json", callback=output.set_json, help="Machine-readable output on stdout."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Change a value of the recipe; repeatable."),
]
Runner = Annotated[str, typer.Option(help="Where tasks run: threads.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="How many tasks at once; default: one a CPU core.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; do nothing.")]
