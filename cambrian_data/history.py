"""The history of one sample: turns, picture, figure, page, hits, mixtures, drops, clusters."""

from __future__ import annotations

from typing import Any

from cambrian_data.catalog import connect
from cambrian_data.llm.ledger import Ledger
from cambrian_data.records import UserError
from cambrian_data.workspace import Workspace

MIN_PREFIX = 4


def sample_history(workspace: Workspace, sample: str) -> dict[str, Any]:
    """Return everything that the workspace knows of a sample.

    Args:
        sample: its id, or the first characters of it (at least 4) where they fit one sample alone.
    Raises:
        UserError: no sample fits, or several do.
    """
    found = _find(workspace, sample)
    figure = _row(workspace, "SELECT * FROM figures WHERE id = ?", found["figure_id"])
    page = _row(workspace, "SELECT * FROM pages WHERE id = ?", figure.get("page_id"))
    origin = found.get("provenance") or {}
    hits = _rows(
        workspace,
        "SELECT DISTINCT t.topic, t.field, t.subfield, h.backend, h.query, h.rank FROM hits h "
        "JOIN topics t ON t.id = h.topic_id WHERE h.url = ? OR (h.query = ? AND h.rank = ?) "
        "ORDER BY h.rank, t.topic LIMIT 5",
        page.get("url"),
        origin.get("query"),
        origin.get("hit_rank"),
    )
    return {
        "sample": {
            k: found[k]
            for k in ("id", "source", "dataset", "category", "system", "conversations", "original")
        },
        "pictures": [
            _picture(workspace, image, origin.get("image_url")) for image in found["images"]
        ],
        "origin": found["origin"],
        "generator": {
            k: origin.get(k) for k in ("generator", "model", "prompt_version", "llm_key")
        },
        "llm_call": _call(workspace, origin.get("llm_key")),
        "figure": figure,
        "page": page,
        "hits": hits,
        "mixtures": _mixtures(workspace, found["id"]),
        "drops": _rows(
            workspace,
            "SELECT area, run, stage, reason, detail FROM drops WHERE record_id = ?",
            found["id"],
        ),
        "clusters": _rows(
            workspace,
            "SELECT mixture, stage, cluster, kept FROM clusters WHERE sample_id = ?",
            found["id"],
        ),
    }


def _call(workspace: Workspace, key: str | None) -> dict[str, Any]:
    """Return what the call that wrote a sample cost, and what was asked."""
    if key is None or not workspace.ledger.is_file():
        return {}
    with Ledger(workspace.ledger, read_only=True) as ledger:
        return ledger.cost_of(key) or {}


def _find(workspace: Workspace, sample: str) -> dict[str, Any]:
    if len(sample) < MIN_PREFIX:
        raise UserError(f"{sample!r} is too short for an id: give at least {MIN_PREFIX} characters")
    rows = _rows(workspace, "SELECT * FROM samples WHERE starts_with(id, ?) LIMIT 20", sample)
    ids = sorted({row["id"] for row in rows})
    if not ids:
        raise UserError(
            f"no sample has an id that starts with {sample!r}; ids stand in the view "
            '`samples`: cambrian data sql "SELECT id FROM samples LIMIT 5"'
        )
    if len(ids) > 1:
        raise UserError(f"{sample!r} fits several samples: {', '.join(i[:16] for i in ids)}")
    return rows[0]


def _picture(workspace: Workspace, image: dict[str, Any], url: str | None) -> dict[str, Any]:
    """Return a picture's row; of several addresses of the same bytes, that of the sample."""
    rows = _rows(
        workspace,
        "SELECT * FROM read_parquet('images/part-*.parquet', union_by_name = true) "
        "WHERE sha256 = ? ORDER BY source_url IS DISTINCT FROM ?, source_url LIMIT 1",
        image["sha256"],
        url,
    )
    row = rows[0] if rows else None
    return {"file": str(workspace.root / image["path"]), **row} if row else image


def _mixtures(workspace: Workspace, sample: str) -> list[dict[str, Any]]:
    names = _rows(
        workspace,
        "SELECT view_name FROM duckdb_views() WHERE starts_with(view_name, 'mixture_') ORDER BY 1",
    )
    return [
        {"mixture": row["view_name"].removeprefix("mixture_"), "system": found["system"]}
        for row in names
        for found in _rows(
            workspace, f'SELECT system FROM "{row["view_name"]}" WHERE id = ?', sample
        )
    ]


def _row(workspace: Workspace, sql: str, value: Any) -> dict[str, Any]:
    rows = _rows(workspace, sql + " LIMIT 1", value) if value is not None else []
    return rows[0] if rows else {}


def _rows(workspace: Workspace, sql: str, *values: Any) -> list[dict[str, Any]]:
    with connect(workspace) as connection:
        return connection.sql(sql, params=list(values) or None).to_arrow_table().to_pylist()
