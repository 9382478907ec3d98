"""Commands that look at data, and ingest: one call each, then the result."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import orjson

from cambrian_cli import output
from cambrian_data.records import RunFailed, UserError
from cambrian_data.workspace import Workspace

FORMATS = ("table", "csv", "json", "parquet")
MAX_ROWS_SHOWN = 50
MAX_COLUMNS_SHOWN = 8
MAX_CELL_CHARACTERS = 300
MAX_NAMED = 20
"""So many unknown sources are named; the others are counted."""


def start_ingest(path: Path, categories: list[str], recipe: str | None, **arguments: Any) -> None:
    """Take a file or a folder of samples into the pool."""
    pairs = [text.partition("=")[::2] for text in categories]
    for text, pair in zip(categories, pairs, strict=True):
        if not all(part.strip() for part in pair):
            raise UserError(f"--category {text!r}: write it as SOURCE=CATEGORY, with both names")
    from cambrian_data.curation.ingest.config import IngestRecipe
    from cambrian_data.curation.ingest.file import ingest_file
    from cambrian_data.recipes import load_recipe

    known = load_recipe(recipe, "data", IngestRecipe).config if recipe else IngestRecipe()
    workspace = Workspace.create(path)
    with output.Show() as progress:
        result = ingest_file(
            workspace,
            categories={**known.categories, **dict(pairs)},
            path_rules=known.path_rules,
            progress=progress,
            **arguments,
        )
    if output.wants_json:
        output.emit_json(result)
        return
    show_ingest(result)


def show_ingest(result: Mapping[str, Any]) -> None:
    """Print what ingest kept, mended and dropped."""
    shown = {key: result[key] for key in ("dataset", "rows", "samples", "pictures")}
    for key in ("mended", "unknown_sources"):
        named = [f"{output.short(name)} {count:,}" for name, count in result[key].items()]
        more = len(named) - MAX_NAMED
        shown[key] = ", ".join(named[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    output.fields(shown)
    output.drops({"ingest": result["drops"]})


def run_sql(path: Path, query: str | None, format: str) -> None:
    """Run one query, or open a prompt."""
    if format not in FORMATS:
        raise UserError(f"--format {format!r}: known are {', '.join(FORMATS)}")
    workspace = Workspace.existing(path)
    if query is None:
        _prompt(workspace, format)
    elif not query.strip():
        raise UserError("the query is empty; leave it out to get a prompt")
    else:
        _run_query(workspace, query, format)


def _run_query(workspace: Workspace, text: str, format: str) -> None:
    from cambrian_data.catalog import query

    result = query(workspace, text)
    if format == "json":
        output.emit_json(result.to_pylist())
    elif format == "csv":
        import pyarrow.csv as csv

        csv.write_csv(_flat(result), sys.stdout.buffer)
    elif format == "parquet":
        import pyarrow.parquet as pq

        if sys.stdout.isatty():
            raise UserError("--format parquet writes bytes: send them to a file with > FILE")
        pq.write_table(result, sys.stdout.buffer)
    else:
        _show_rows(result)
        if len(result) > MAX_ROWS_SHOWN:
            output.err.print(
                f"{len(result):,} rows, the first {MAX_ROWS_SHOWN} shown; --format csv gives all"
            )


def _show_rows(result: Any) -> None:
    """Print rows as a table; those with many columns one below the other."""
    rows = result.slice(0, MAX_ROWS_SHOWN).to_pylist()
    if len(result.column_names) <= MAX_COLUMNS_SHOWN:
        output.table("", result.column_names, [[_short(v) for v in row.values()] for row in rows])
        return
    for number, row in enumerate(rows):
        output.out.print(f"[bold cyan]row {number + 1}[/]")
        output.fields({name: _short(value) for name, value in row.items()})


def _short(value: Any) -> Any:
    """Return a cell that fits: nested values as JSON, long texts cut."""
    if isinstance(value, list | dict):
        value = orjson.dumps(value, default=str).decode()
    if isinstance(value, str) and len(value) > MAX_CELL_CHARACTERS:
        return value[:MAX_CELL_CHARACTERS] + "..."
    return value


def _flat(result: Any) -> Any:
    """Return a table that CSV can hold: nested columns as JSON text."""
    import pyarrow as pa

    for number, field in enumerate(result.schema):
        if pa.types.is_nested(field.type):
            text = [
                None if value is None else orjson.dumps(value, default=str).decode()
                for value in result.column(number).to_pylist()
            ]
            result = result.set_column(number, field.name, pa.array(text, pa.string()))
    return result


def _prompt(workspace: Workspace, format: str) -> None:
    """Read queries until `quit` or the end of input; a query ends with ; or an empty line."""
    from cambrian_data.catalog import SqlError

    output.err.print("SQL over the catalog; end a query with ; or an empty line; quit ends.")
    lines: list[str] = []
    while True:
        output.err.print("     ... " if lines else "cambrian> ", end="")
        line = sys.stdin.readline()
        if not lines and line.strip().strip(".;") in ("quit", "exit"):
            return
        lines.append(line)
        if line.strip().endswith(";") or not line.strip():
            text, lines = "".join(lines).strip().rstrip(";"), []
            try:
                if text:
                    _run_query(workspace, text, format)
            except SqlError as error:
                output.err.print(str(error), markup=False)
        if not line:
            return


def make_report(path: Path, name: str) -> None:
    """Write the report of a mixture."""
    from cambrian_data.report import write_report

    workspace = Workspace.existing(path)
    result = write_report(workspace, name)
    if output.wants_json:
        output.emit_json(result)
        return
    output.fields(result)


def show_status(path: Path) -> None:
    """Print what is in a workspace."""
    from cambrian_data.status import workspace_status

    status = workspace_status(Workspace.existing(path))
    if output.wants_json:
        output.emit_json(status)
        return
    output.table(
        "",
        ["run", "kind", "status", "started", "seconds"],
        [(r["run"], r["kind"], r["status"], r["started_at"], r["seconds"]) for r in status["runs"]],
    )
    for title in ("pool", "mixtures", "shards", "checkpoints"):
        output.out.print(f"\n[bold cyan]{title}[/]")
        output.table(
            "",
            ["name", "samples", "state"],
            [(row["name"], row["samples"], row["state"]) for row in status[title]],
        )
    if status["spend"]:
        output.out.print("\n[bold cyan]spend[/]")
        names = ("model", "calls", "prompt_tokens", "completion_tokens", "cost_usd")
        output.table("", list(names), [[row[n] for n in names] for row in status["spend"]])
    output.out.print(f"\n{status['bytes']:,} bytes in {status['path']}")


def show_sample(path: Path, sample: str) -> None:
    """Print one sample and where it came from."""
    from cambrian_data.history import sample_history

    history = sample_history(Workspace.existing(path), sample)
    if output.wants_json:
        output.emit_json(history)
        return
    _print_nested(history)


def _print_nested(value: Mapping[str, Any], indent: str = "") -> None:
    for name, part in value.items():
        if isinstance(part, Mapping):
            output.out.print(f"{indent}[bold cyan]{name}[/]")
            _print_nested(part, indent + "  ")
        elif isinstance(part, list) and part and isinstance(part[0], Mapping):
            for number, item in enumerate(part):
                output.out.print(f"{indent}[bold cyan]{name} {number}[/]")
                _print_nested(item, indent + "  ")
        elif part not in (None, [], {}):
            output.out.print(indent, end="")
            output.fields({name: part})


def start_export(path: Path, name: str, *, kind: str | None, **arguments: Any) -> None:
    """Write samples in the shape of other tools."""
    if kind not in (None, "pool", "mixture"):
        raise UserError(f"--from {kind!r}: known are pool, mixture")
    from cambrian_data.export import export

    workspace = Workspace.existing(path)
    with output.Show() as progress:
        result = export(workspace, name, kind=cast("Any", kind), progress=progress, **arguments)
    if output.wants_json:
        output.emit_json(result)
        return
    output.fields(result)


def show_diff(path: Path, a: str, b: str) -> None:
    """Print in what two mixtures differ."""
    from cambrian_data.diff import diff_mixtures, diff_tables

    diff = diff_mixtures(Workspace.existing(path), a, b)
    if output.wants_json:
        output.emit_json(diff)
        return
    for table in diff_tables(diff):
        output.out.print(f"[bold cyan]{table.title}[/]")
        output.table("", table.columns, table.rows)
        output.out.print()
    if missing := diff["recipe_missing"]:
        output.err.print(
            f"the recipe of {' and '.join(missing)} was not recorded, so recipes are not compared"
        )


def verify_folder(path: Path, shards: str) -> None:
    """Verify shards, given by a mixture's name, a folder or an address such as s3://..."""
    from cambrian_data.shard_store import is_address, shown
    from cambrian_data.shards import verify_shards

    place: Path | str = shards
    if not is_address(shards):
        place = Path(shards) if Path(shards).is_dir() else Workspace(path).shards(shards)
    with output.Show() as progress:
        found = verify_shards(place, progress=progress)
    if found.problems:
        raise RunFailed(f"{shown(str(place))}: " + "; ".join(found.problems))
    if output.wants_json:
        output.emit_json(
            {"shards": found.shards, "samples": found.samples, "pictures": found.pictures}
        )
    else:
        output.out.print(
            f"{found.shards} shard(s), {found.samples:,} samples, "
            f"{found.pictures:,} pictures: every byte is as the index says"
        )
