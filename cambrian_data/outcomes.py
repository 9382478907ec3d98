"""What became of the pages and pictures of an engine run, by host and reason.

Reads the run's Parquet parts alone, with DuckDB: figures count where they were found (`extract`)
and where their picture lies (`images`), pages where they were asked for (`fetch`).
"""

from __future__ import annotations

from typing import Any

import duckdb

from cambrian_data.records import TABLES, UserError
from cambrian_data.workspace import Workspace

KEPT = "kept"
"""The outcome of what was not dropped."""
_HOST = r"coalesce(regexp_extract({}, '^[a-zA-Z][\w+.-]*://(?:[^/?#]*@)?([^/?#]*)', 1), '')"
_TABLES = ("pages", "figures", "drops")

_QUERY = f"""
WITH found AS (
    SELECT 'fetch' AS stage, '{KEPT}' AS outcome, final_url AS url FROM pages
    UNION ALL
    SELECT 'extract', '{KEPT}', p.final_url
    FROM figures f LEFT JOIN (SELECT DISTINCT ON (id) id, final_url FROM pages) p
    ON p.id = f.page_id
    UNION ALL
    SELECT 'images', '{KEPT}', image_url FROM figures WHERE image_sha256 IS NOT NULL
    UNION ALL
    SELECT stage, reason, coalesce(source, record_id) FROM drops
    WHERE stage IN ('fetch', 'extract', 'images')
)
SELECT lower({_HOST.format("url")}) AS host, stage, outcome, count(*) AS count
FROM found GROUP BY ALL
ORDER BY count DESC, host, stage, outcome
"""


def outcomes(workspace: Workspace, run: str) -> list[dict[str, Any]]:
    """Return how many pages, figures and pictures of each host were kept, or dropped and why.

    Args:
        run: the name of an engine run.
    Returns:
        Rows of host, stage (fetch, extract or images), outcome (`kept`, or the reason of the drop)
        and count; the greatest count first. The host is empty where an address has none.
    Raises:
        UserError: there is no such run.
    """
    if run not in workspace.names("engine"):
        known = ", ".join(workspace.names("engine")) or "none"
        raise UserError(f"there is no engine run {run!r} (there are: {known})")
    folder = workspace.engine(run)
    with duckdb.connect() as connection:
        for table in _TABLES:
            parts = sorted(str(path) for path in (folder / table).glob("part-*.parquet"))
            if parts:
                view = connection.read_parquet(parts, union_by_name=True)
            else:
                view = connection.from_arrow(TABLES[table].empty_table())
            view.create_view(table)
        return list(connection.sql(_QUERY).to_arrow_table().to_pylist())
