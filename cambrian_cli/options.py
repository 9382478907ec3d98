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
Runner = Annotated[str, typer.Option(help="Where tasks run: threads, dask or ray.")]
Address = Annotated[
    str | None, typer.Option(help="Scheduler of a dask or ray cluster; without it one is started.")
]
Against = Annotated[
    list[str] | None,
    typer.Option(metavar="DATASET", help="Drop what stands in this set or file; repeatable."),
]
AgainstImages = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Pictures of the files given with --against.")
]
Pictures = Annotated[
    str | None, typer.Option(metavar="DIR|URL|TAR", help="Where the pictures are.")
]
IngestRecipe = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="YAML: categories of sources, rules on pictures' paths."),
]
Category = Annotated[
    list[str] | None,
    typer.Option(metavar="SOURCE=CATEGORY", help="Category of a source; repeatable."),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a data set made from another file.")
]
SystemPrompt = Annotated[
    str | None,
    typer.Option(
        "--system",
        help="llava: prompts as a key, or in the question as the published file; default: by kind.",
    ),
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=V,V", help="One plan a value, compared; writes no mixture."),
]
ShardsTo = Annotated[
    str | None, typer.Option(metavar="URL", help="Copy the shards to s3://..., gs://... too.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Tasks at once; default: one a core, 16 on the web.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; do nothing.")]
DryRead = Annotated[
    bool,
    typer.Option("--dry-run", help="Read the pages but ask the LLM nothing: calls, tokens, cost."),
]
Topic = Annotated[str | None, typer.Option(help="A field, a subfield or a topic, such as physics.")]
Fields = Annotated[
    list[Path] | None,
    typer.Option(
        "--fields",
        "--topics",
        metavar="FILE",
        help="`Field: subfield, subfield` lines, a list of topics, or JSON; repeatable.",
    ),
]
Search = Annotated[
    str, typer.Option(help="Search backend: auto, wikipedia, google, brave, searxng or corpus.")
]
Llm = Annotated[
    str, typer.Option(help="Who writes questions: auto, a model's name, or extractive.")
]
PrivateHosts = Annotated[
    bool, typer.Option("--allow-private-hosts", help="Fetch from private addresses too.")
]
