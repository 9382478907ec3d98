"""Mixtures of a few rows for the tests of reports, and what a report says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

from cambrian_data.curation.mixing.plan import MixtureConfig
from cambrian_data.curation.prompt_stats import merge_prompt_stats
from cambrian_data.curation.system_prompts import SystemPromptsConfig, assign
from cambrian_data.records import content_id, table_of
from cambrian_data.report import write_report
from cambrian_data.workspace import Workspace
from tests.mixtures import left_out, make_sample, picture, put_mixture
from tests.trees import put_dataset

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"<b>{{ 7 * 7 }}"
SIZE = 12


def rows_of(workspace: Workspace) -> list[dict[str, Any]]:
    """Return seventeen rows of three categories; the last is a copy of the first."""
    rows = [make_sample(n, "general", images=[picture(workspace, n)]) for n in range(8)]
    rows += [make_sample(n, "ocr", images=[picture(workspace, n)]) for n in range(20, 23)]
    rows += [make_sample(n, "language") for n in range(30, 35)]
    rows.append(rows[0] | {"origin": {"file": "set.jsonl", "line": 99, "id": "copy"}})
    return rows


def hostile_rows(workspace: Workspace) -> list[dict[str, Any]]:
    """Return rows whose every text tries to be more than text; the last copies the first."""
    known = {
        "page_url": "javascript:alert(1)",
        "page_title": HOSTILE,
        "caption": HOSTILE,
        "section": [HOSTILE],
        "license": HOSTILE,
        "author": HOSTILE,
        "generator": HOSTILE,
        "topic": HOSTILE,
    }
    rows = [
        make_sample(
            n, "general", images=[picture(workspace, n)], answer=f"{n}{HOSTILE}" + "x" * 8_000
        )
        for n in range(3)
    ]
    rows[0] |= {"provenance": known, "system": HOSTILE, "source": HOSTILE}
    rows.append(rows[0] | {"source": f"{HOSTILE} 2"})
    rows[1] |= {"provenance": known | {"page_url": "https://example.org/a?b=1&c=2"}}
    rows[2] |= {"category": HOSTILE, "original": HOSTILE}
    return rows


def make(
    workspace: Workspace,
    rows: list[dict[str, Any]],
    name: str = "mix",
    *,
    stats: dict[str, Any] | None = None,
    tables: dict[str, Any] | None = None,
    **about: Any,
) -> list[dict[str, Any]]:
    """Put rows into the pool as the data set `d`; make a mixture of them without the copies.

    Returns:
        The rows of the mixture: the first `SIZE` that are no copies.
    """
    about = {"made_by": "ingest", "rows": len(rows) + 1, "images": 9, **about}
    put_dataset(workspace, "d", content_id(rows), table_of("samples", rows), **about)
    unique: dict[str, dict[str, Any]] = {}
    copies = [row for row in rows if unique.setdefault(row["id"], row) is not row]
    kept = list(unique.values())
    prompted, counts = assign(table_of("samples", kept[:SIZE]), SystemPromptsConfig())
    drops = [left_out(row, "exact_dedup", "exact_duplicate") for row in copies]
    drops += [left_out(row, "mixture", "over_ratio") for row in kept[SIZE:]]
    clusters = [
        {"stage": "exact_dedup", "cluster": row["id"], "sample_id": row["id"], "kept": kept_one}
        for row in copies
        for kept_one in (True, False)
    ]
    numbers = {"system_prompts": merge_prompt_stats([counts]), **(stats or {})}
    put_mixture(
        workspace,
        name,
        prompted.to_pylist(maps_as_pydicts="strict"),
        drops,
        tables={"clusters": clusters, **(tables or {})},
        config=MixtureConfig(ratios=None),
        stats=numbers,
    )
    return prompted.to_pylist()


def report(workspace: Workspace, name: str = "mix") -> tuple[dict[str, Any], BeautifulSoup, str]:
    """Return the numbers of a report, its page, and the page's text."""
    result = write_report(workspace, name)
    html = Path(result["html"]).read_text(encoding="utf-8")
    numbers = json.loads(Path(result["json"]).read_bytes())
    return numbers, BeautifulSoup(html, "lxml"), html


def section(page: BeautifulSoup, name: str) -> str:
    """Return the text of a section, white space made single spaces."""
    found = page.find(id=name)
    assert found is not None, name
    return " ".join(found.get_text(" ").split())


def drops_part(workspace: Workspace, folder: Path, rows: list[dict[str, Any]]) -> None:
    """Add drops to a folder."""
    workspace.write_table(folder / "drops" / "part-extra.parquet", table_of("drops", rows))
