"""SQL over Parquet parts in bounded memory, and single rows fetched by their ids.

Aggregates run in DuckDB, which writes to the disk what does not fit into `MEMORY`. A row with its
texts is fetched in two steps: the column of ids says where it stands, then one row group is read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from cambrian_data.records import TABLES
from cambrian_data.workspace import Workspace, remove

MEMORY = "2GB"
"""What DuckDB may hold; a report of ten million rows stays below it."""

MAX_PER_KEY = 1_000
"""Rows that are fetched for one key: a text may stand in the pool a hundred thousand times."""

_PLACES = f"""
SELECT filename, file_row_number FROM read_parquet(?, filename = true, file_row_number = true,
  union_by_name = true)
WHERE "{{key}}" IN (SELECT unnest(?))
QUALIFY row_number() OVER (PARTITION BY "{{key}}" ORDER BY filename, file_row_number)
  <= {MAX_PER_KEY}
"""

Parts = Mapping[str, tuple[str, Iterable[Path]]]
"""By the name of a view: the table in `records.TABLES` that it is of, and its files."""


class Tables:
    """Views over Parquet parts; the catalog is neither needed nor touched.

    Usage:
        with Tables(workspace, {"mixture": ("samples", files)}) as tables:
            tables.rows("SELECT count(*) AS n FROM mixture")
    """

    def __init__(self, workspace: Workspace, parts: Parts) -> None:
        self._spill = workspace.scratch()
        self._connection = duckdb.connect(config={"memory_limit": MEMORY})
        self._connection.execute(f"SET temp_directory = '{_quoted(self._spill)}'")
        self._connection.execute("SET preserve_insertion_order = false")
        self._files: dict[str, list[Path]] = {}
        for view, (table, paths) in parts.items():
            self.add(view, table, paths)

    def __enter__(self) -> Tables:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and remove what was put on the disk."""
        self._connection.close()
        remove(self._spill)

    def add(self, view: str, table: str, paths: Iterable[Path]) -> None:
        """Make a view over files; over none it is an empty table of the right columns."""
        self._files[view] = list(paths)
        if files := [os.fspath(path) for path in self._files[view]]:
            self._connection.read_parquet(files, union_by_name=True).create_view(view)
        else:
            self._connection.register(view, TABLES[table].empty_table())

    def run(self, sql: str, *values: Any) -> None:
        """Run a statement, such as one that makes a temporary table."""
        self._connection.execute(sql, list(values) or None)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        relation = self._connection.sql(sql, params=list(values) or None)
        return relation.to_arrow_table().to_pylist()

    def fetch(
        self, view: str, key: str, wanted: Collection[str], columns: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return the rows of a view whose `key` is wanted, by key, then in the files' order.

        Of rows with one key at most `MAX_PER_KEY` are returned.
        """
        names = list(dict.fromkeys([key, *columns]))
        files = {os.fspath(path): number for number, path in enumerate(self._files[view])}
        if not wanted or not files:
            return []
        places = self._connection.execute(
            _PLACES.format(key=key), [list(files), sorted(wanted)]
        ).fetchall()
        by_file: dict[str, list[int]] = {}
        for file, row in places:
            by_file.setdefault(file, []).append(row)
        found = [
            row
            for file in sorted(by_file, key=files.__getitem__)
            for row in _rows_at(Path(file), sorted(by_file[file]), names)
        ]
        return sorted(found, key=lambda row: row[key])


def _rows_at(path: Path, rows: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return single rows of a file; only the row groups that hold them are read."""
    found: list[dict[str, Any]] = []
    with pq.ParquetFile(path) as file:
        meta = file.metadata
        sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        ends = np.cumsum(sizes)
        group_of = np.searchsorted(ends, rows, side="right")
        for group in np.unique(group_of).tolist():
            first = int(ends[group]) - sizes[group]
            mine = [row - first for row, at in zip(rows, group_of, strict=True) if at == group]
            table = file.read_row_group(group, columns=list(columns))
            found += table.take(mine).to_pylist()
    return found


def _quoted(path: Path) -> str:
    return os.fspath(path).replace("'", "''")
