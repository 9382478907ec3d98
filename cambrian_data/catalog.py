"""The catalog: DuckDB views over a workspace's Parquet and JSON files.

`catalog.duckdb` holds views alone, with paths relative to the workspace, so it stays valid when
the workspace moves, and any DuckDB client that is started in the workspace folder can open it. It
is written aside and renamed over the old one: an open reader blocks nobody.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from cambrian_data.records import UserError
from cambrian_data.workspace import Workspace, remove

logger = logging.getLogger(__name__)

STORAGE_VERSION = "v1.2.0"
"""Oldest storage format of DuckDB that knows all we use, so that older clients open it too."""

_RUN_COLUMNS = {
    "run": "VARCHAR",
    "kind": "VARCHAR",
    "command": "VARCHAR",
    "status": "VARCHAR",
    "started_at": "VARCHAR",
    "finished_at": "VARCHAR",
    "seconds": "DOUBLE",
    "attempts": "BIGINT",
    "seed": "BIGINT",
    "recipe_name": "VARCHAR",
    "recipe_sha256": "VARCHAR",
    "recipe": "JSON",
    "inputs": "JSON",
    "stages": "JSON",
    "drops": "JSON",
    "outputs": "JSON",
    "versions": "JSON",
    "error": "VARCHAR",
}


class SqlError(UserError):
    """A query that DuckDB refused; the message is DuckDB's own, with the views that there are."""


def _part(path: str) -> str:
    return f"read_parquet('{path}', union_by_name = true, filename = true)"


def _engine_view(table: str, key: str | None) -> str:
    """SQL of a view over all engine runs; rows that several runs share are shown once."""
    once = f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY run) = 1" if key else ""
    return (
        f"SELECT regexp_extract(filename, 'engine/([^/]+)/{table}/', 1) AS run, "
        f"* EXCLUDE (filename) FROM {_part(f'engine/*/{table}/part-*.parquet')}{once}"
    )


def view_definitions(mixtures: list[str]) -> dict[str, str]:
    """Return the SQL of every view, by its name."""
    drops = " UNION ALL ".join(
        f"SELECT '{area}' AS area, regexp_extract(filename, '{area}/([^/]+)/drops/', 1) AS run, "
        f"* EXCLUDE (filename) FROM {_part(f'{area}/*/drops/part-*.parquet')}"
        for area in ("engine", "pool", "mixtures")
    )
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in _RUN_COLUMNS.items())
    views = {
        "topics": _engine_view("topics", "id"),
        "hits": _engine_view("hits", None),
        "pages": _engine_view("pages", "id"),
        "figures": _engine_view("figures", "id"),
        "images": "SELECT * FROM read_parquet('images/part-*.parquet', union_by_name = true) "
        "QUALIFY row_number() OVER (PARTITION BY sha256 ORDER BY source_url) = 1",
        "samples": "SELECT * FROM read_parquet('pool/*/samples/part-*.parquet', "
        "union_by_name = true)",
        "drops": drops,
        "runs": f"SELECT * FROM read_json('runs/*.json', columns = {{{columns}}}, format = 'auto')",
        "llm_calls": "SELECT regexp_extract(filename, 'runs/([^/]+)/', 1) AS run, "
        "* EXCLUDE (filename) FROM "
        "read_parquet('runs/*/llm_calls.parquet', union_by_name = true, filename = true)",
    }
    for table in ("clusters", "matches"):
        views[table] = (
            f"SELECT regexp_extract(filename, 'mixtures/([^/]+)/{table}/', 1) AS mixture, "
            f"* EXCLUDE (filename) FROM {_part(f'mixtures/*/{table}/part-*.parquet')}"
        )
    for name in mixtures:
        views[mixture_view(name)] = (
            f"SELECT * FROM read_parquet('mixtures/{name}/samples/part-*.parquet', "
            "union_by_name = true)"
        )
    return views


def _distinct_names(table: pa.Table) -> pa.Table:
    """Number columns of equal names, which rows as mappings could not hold."""
    names: list[str] = []
    for name in table.column_names:
        distinct, number = name, 0
        while distinct in names:
            number += 1
            distinct = f"{name}_{number}"
        names.append(distinct)
    return table.rename_columns(names)


def mixture_view(name: str) -> str:
    """Return the name of a mixture's view: what SQL would need quotes for becomes `_`."""
    return "mixture_" + re.sub(r"\W", "_", name)


def check_view_name(workspace: Workspace, mixture: str) -> None:
    """Raise where a mixture's view would have the name of another mixture's.

    Raises:
        UserError: names that differ only in case or in signs would stand for one view.
    """
    view = mixture_view(mixture).casefold()
    for other in workspace.names("mixtures"):
        if other != mixture and mixture_view(other).casefold() == view:
            raise UserError(
                f"a mixture {mixture!r} would have the same view in SQL, {view}, as the mixture "
                f"{other!r}; give it another name with --name"
            )


def write_catalog(workspace: Workspace) -> Path:
    """Write `catalog.duckdb` for what is in the workspace now."""
    with workspace.lock("catalog"):  # the list of mixtures and the rename belong together
        mixtures = [
            name
            for name in workspace.names("mixtures")
            if any((workspace.mixture(name) / "samples").glob("part-*.parquet"))
        ]
        scratch = workspace.scratch()
        connection = duckdb.connect()
        try:
            connection.execute("SET file_search_path = ?", [str(workspace.root)])
            connection.execute(
                f"ATTACH '{_quoted(scratch)}' AS catalog (STORAGE_VERSION '{STORAGE_VERSION}')"
            )
            for name, sql in view_definitions(mixtures).items():
                try:
                    connection.execute(f'CREATE OR REPLACE VIEW catalog."{name}" AS {sql}')
                except duckdb.Error as error:  # a damaged part must not fail what is finished
                    logger.warning(
                        "no view %s: %s (run the command that made this file again)", name, error
                    )
            connection.execute("DETACH catalog")
            scratch.replace(workspace.catalog)
        finally:
            connection.close()
            remove(scratch)
            remove(scratch.with_name(scratch.name + ".wal"))
    return workspace.catalog


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def connect(workspace: Workspace) -> duckdb.DuckDBPyConnection:
    """Open the catalog read-only, from any folder; it is written first where it is missing."""
    if not workspace.catalog.is_file():
        write_catalog(workspace)
    try:
        connection = duckdb.connect(str(workspace.catalog), read_only=True)
    except duckdb.Error:  # damaged; it holds nothing but views
        write_catalog(workspace)
        connection = duckdb.connect(str(workspace.catalog), read_only=True)
    connection.execute("SET file_search_path = ?", [str(workspace.root)])
    return connection


def query(workspace: Workspace, sql: str, parameters: list[Any] | None = None) -> pa.Table:
    """Run one query over the catalog.

    Raises:
        SqlError: the query is wrong; the message names the views that there are.
    """
    with connect(workspace) as connection:
        try:
            result = connection.sql(sql, params=parameters)
            return _distinct_names(result.to_arrow_table()) if result is not None else pa.table({})
        except duckdb.Error as error:
            views = [
                row[0]
                for row in connection.execute(
                    "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1"
                ).fetchall()
            ]
            raise SqlError(f"{error}\nviews: {', '.join(views)}") from None
