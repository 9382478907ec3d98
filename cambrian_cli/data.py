"""Commands that look at data, and ingest: one call each, then the result."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from cambrian_cli import output
from cambrian_cli.flows import show_ingest
from cambrian_data.records import RunFailed, UserError
from cambrian_data.workspace import Workspace

FORMATS = ("table", "csv", "json", "parquet")
MAX_ROWS_SHOWN = 50


def start_ingest(path: Path, **arguments: Any) -> None:
    """Take a file of samples into the pool."""
    from cambrian_data.curation.ingest_file import ingest_file

    workspace = Workspace.create(path)
    with output.Show() as progress:
        result = ingest_file(workspace, progress=progress, **arguments)
    if output.wants_json:
        output.emit_json(result)
        return
    show_ingest(result)


def show_figures(page: str, url: str) -> None:
    """Print the figures of one page, a JSON object a line."""
    from cambrian_data.engine.extract import extract, html_of_api_answer

    path = Path(page)
    if page.startswith(("http://", "https://")):
        raise UserError(
            f"fetching {page} is not there yet in this version: save the page and "
            "give the file, with its address as --url"
        )
    if not path.is_file():
        raise UserError(f"there is no file {page!r}")
    body = path.read_bytes()
    answer = html_of_api_answer(body) if path.suffix == ".json" else None
    html = answer[1] if answer else body
    for figure in extract(html, url or path.absolute().as_uri()):
        line = {
            "image_url": figure.image_url,
            "caption": figure.caption,
            "alt": figure.alt,
            "section": list(figure.section),
            "text": figure.text,
            "position": figure.position,
        }
        sys.stdout.write(orjson.dumps(line).decode() + "\n")


def run_sql(path: Path, query: str | None, format: str) -> None:
    """Run one query, or open a prompt."""
    if format not in FORMATS:
        raise UserError(f"--format {format!r}: known are {', '.join(FORMATS)}")
    workspace = Workspace.existing(path)
    if query is None:
        _prompt(workspace, format)
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
        rows = [list(row.values()) for row in result.slice(0, MAX_ROWS_SHOWN).to_pylist()]
        output.table("", result.column_names, rows)
        if len(result) > MAX_ROWS_SHOWN:
            output.err.print(
                f"{len(result):,} rows, the first {MAX_ROWS_SHOWN} shown; --format csv gives all"
            )


def _flat(result: Any) -> Any:
    """Return a table that CSV can hold: nested columns as JSON text."""
    import pyarrow as pa

    for number, field in enumerate(result.schema):
        if pa.types.is_nested(field.type):
            text = [
                None if value is None else orjson.dumps(value).decode()
                for value in result.column(number).to_pylist()
            ]
            result = result.set_column(number, field.name, pa.array(text, pa.string()))
    return result


def _prompt(workspace: Workspace, format: str) -> None:
    """Read queries from the terminal until an empty line or the end of input."""
    from cambrian_data.catalog import SqlError

    output.err.print("SQL over the catalog; one query a line, an empty line ends it.")
    while True:
        try:
            line = input("cambrian> ").strip().rstrip(";")
        except EOFError:
            return
        if not line:
            return
        try:
            _run_query(workspace, line, format)
        except SqlError as error:
            output.fail(str(error), output.EXIT_USER)


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
            output.out.print(f"{indent}[bold]{name}[/]  {output.plain(part)}")


def verify_folder(path: Path, shards: str) -> None:
    """Verify shards, given by a mixture's name or by a folder."""
    from cambrian_data.shards import verify_shards

    folder = Path(shards) if Path(shards).is_dir() else Workspace(path).shards(shards)
    found = verify_shards(folder)
    if found.problems:
        raise RunFailed(f"{folder}: " + "; ".join(found.problems))
    if output.wants_json:
        output.emit_json(
            {"shards": found.shards, "samples": found.samples, "pictures": found.pictures}
        )
    else:
        output.out.print(
            f"{found.shards} shard(s), {found.samples:,} samples, "
            f"{found.pictures:,} pictures: every byte is as the index says"
        )
