from __future__ import annotations

import shutil

import duckdb
import pytest

from cambrian_data.catalog import (
    SqlError,
    check_view_name,
    connect,
    mixture_view,
    query,
    write_catalog,
)
from cambrian_data.records import TABLES, UserError, table_of
from cambrian_data.runs import RunRecord
from cambrian_data.workspace import Workspace

VIEWS = [
    "topics",
    "hits",
    "pages",
    "figures",
    "images",
    "samples",
    "drops",
    "runs",
    "llm_calls",
    "clusters",
    "matches",
]
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def put(workspace: Workspace, path: str, table: str, rows) -> None:
    workspace.write_table(workspace.root / path, table_of(table, rows))


def fill(workspace: Workspace) -> None:
    page = {"id": "p1", "url": "u", "final_url": "u", "content_sha256": "c", "title": "Lens"}
    figure = {"id": "f1", "page_id": "p1", "image_url": "i", "caption": "A lens."}
    sample = {
        "id": "s1",
        "source": "s",
        "dataset": "d",
        "category": "ocr",
        "images": [],
        "conversations": TURNS,
        "figure_id": "f1",
    }
    for run in ("run-1", "run-2"):  # two runs that found the same page and figure
        put(workspace, f"engine/{run}/pages/part-a.parquet", "pages", [page])
        put(workspace, f"engine/{run}/figures/part-a.parquet", "figures", [figure])
    put(workspace, "pool/d/samples/part-a.parquet", "samples", [sample])
    put(workspace, "mixtures/my-mix/samples/part-a.parquet", "samples", [sample])
    RunRecord(workspace, "run-1", kind="engine", seed=3).finish("done")


def test_every_view_binds_in_an_empty_workspace(workspace):
    write_catalog(workspace)
    for view in VIEWS:
        assert len(query(workspace, f"SELECT * FROM {view}")) == 0, view
    for table in TABLES:
        assert set(TABLES[table].names) <= set(query(workspace, f"FROM {table}").column_names)


def test_samples_join_figures_join_pages_once(workspace):
    fill(workspace)
    write_catalog(workspace)
    rows = query(
        workspace,
        "SELECT s.id, f.caption, p.title FROM samples s JOIN figures f ON f.id = s.figure_id "
        "JOIN pages p ON p.id = f.page_id",
    ).to_pylist()
    assert rows == [{"id": "s1", "caption": "A lens.", "title": "Lens"}]
    assert query(workspace, "SELECT count(*) AS n FROM mixture_my_mix").to_pylist() == [{"n": 1}]
    assert query(workspace, "SELECT seed, status FROM runs").to_pylist() == [
        {"seed": 3, "status": "done"}
    ]


def test_any_client_in_the_folder_can_open_it_also_after_a_move(workspace, tmp_path, monkeypatch):
    fill(workspace)
    write_catalog(workspace)
    moved = tmp_path / "elsewhere" / "it's here"
    moved.parent.mkdir()
    shutil.move(workspace.root, moved)
    monkeypatch.chdir(moved)
    with duckdb.connect("catalog.duckdb", read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM samples").fetchone() == (1,)
    monkeypatch.chdir(tmp_path)
    assert len(query(Workspace(moved), "FROM samples")) == 1
    write_catalog(Workspace(moved))  # a quote in the path does no harm
    assert len(query(Workspace(moved), "FROM mixture_my_mix")) == 1


def test_the_catalog_holds_no_absolute_path(workspace):
    fill(workspace)
    write_catalog(workspace)
    assert str(workspace.root).encode() not in workspace.catalog.read_bytes()


def test_an_open_reader_blocks_nobody(workspace):
    write_catalog(workspace)
    with connect(workspace) as reader:
        fill(workspace)
        write_catalog(workspace)
        assert reader.execute("SELECT count(*) FROM samples").fetchone() == (1,)
    assert len(query(workspace, "FROM mixture_my_mix")) == 1
    assert list(workspace.tmp.iterdir()) == []


def test_wrong_queries_name_the_views(workspace):
    with pytest.raises(SqlError, match="views: .*samples"):
        query(workspace, "SELECT * FROM smples")
    with pytest.raises(SqlError, match="syntax"):
        query(workspace, "SELEC 1")


def test_a_damaged_catalog_is_written_again(workspace):
    fill(workspace)
    write_catalog(workspace)
    workspace.catalog.write_bytes(workspace.catalog.read_bytes()[:5000])
    assert len(query(workspace, "FROM samples")) == 1


def test_a_damaged_part_costs_its_view_and_not_the_run(workspace, caplog):
    fill(workspace)
    part = workspace.root / "engine" / "run-1" / "pages" / "part-a.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    write_catalog(workspace)
    assert "pages" in caplog.text and part.name in caplog.text
    assert len(query(workspace, "FROM samples")) == 1


def test_columns_of_one_name_are_told_apart(workspace):
    rows = query(workspace, "SELECT 1 AS a, 2 AS a, 3 AS b").to_pylist()
    assert rows == [{"a": 1, "a_1": 2, "b": 3}]


def test_the_catalog_cannot_be_written_through_a_query(workspace):
    with pytest.raises(SqlError, match="read-only"):
        query(workspace, "CREATE TABLE t (a INTEGER)")


def test_two_mixtures_cannot_have_one_view(workspace):
    fill(workspace)
    check_view_name(workspace, "my-mix")
    check_view_name(workspace, "other")
    for name in ("my_mix", "My-Mix"):
        with pytest.raises(UserError, match="'my-mix'.*--name"):
            check_view_name(workspace, name)


def test_views_of_mixtures_need_no_quotes():
    assert mixture_view("tiny") == "mixture_tiny"
    assert mixture_view("a-b.c") == "mixture_a_b_c"
