"""The table of outcomes by host and reason."""

from __future__ import annotations

import pytest

from cambrian_data.outcomes import outcomes
from cambrian_data.records import UserError, drop
from cambrian_data.units import Units
from cambrian_data.workspace import Workspace


def page(number: int, url: str) -> dict[str, object]:
    return {"id": f"p{number}", "url": "x", "final_url": url, "content_sha256": "c"}


def figure(number: int, page_id: str, url: str, sha256: str | None) -> dict[str, object]:
    return {"id": f"f{number}", "page_id": page_id, "image_url": url, "image_sha256": sha256}


@pytest.fixture
def run(workspace: Workspace) -> Workspace:
    folder = workspace.engine("physics-1")
    units = Units(workspace, folder, "read", version="1", config=None)
    a, b, c = "https://A.org/wiki/X?q=http://z.org", "http://b.org:8080", "https://i.org/pic.png"
    units.commit(
        units.key(1),
        {
            "pages": [page(1, a), page(2, a), page(3, b + "/deep")],
            "figures": [figure(1, "p1", c, "s1"), figure(2, "p3", c, None)],
            "drops": [
                drop("images", "f2", "corrupt", source=c),
                drop("extract", "f9", "short_text", source=a),
                drop("search", "t", "no_hits"),
            ],
        },
    )
    refused = [drop("fetch", f"{b}/{n}", "robots", source=f"{b}/{n}") for n in range(4)]
    refused.append(drop("fetch", "no address", "bad_address"))
    units.commit(units.key(2), {"drops": refused})
    return workspace


def test_outcomes_are_counted_by_host_and_reason(run: Workspace) -> None:
    rows = outcomes(run, "physics-1")
    assert [tuple(row.values()) for row in rows] == [
        ("b.org:8080", "fetch", "robots", 4),
        ("a.org", "fetch", "kept", 2),
        ("", "fetch", "bad_address", 1),
        ("a.org", "extract", "kept", 1),
        ("a.org", "extract", "short_text", 1),
        ("b.org:8080", "extract", "kept", 1),
        ("b.org:8080", "fetch", "kept", 1),
        ("i.org", "images", "corrupt", 1),
        ("i.org", "images", "kept", 1),
    ]
    assert list(rows[0]) == ["host", "stage", "outcome", "count"]


def test_a_run_without_parts_has_no_outcomes(workspace: Workspace) -> None:
    workspace.engine("begun").mkdir(parents=True)
    assert outcomes(workspace, "begun") == []


def test_names_of_runs_are_checked(run: Workspace) -> None:
    with pytest.raises(UserError, match=r"no engine run 'other' \(there are: physics-1\)"):
        outcomes(run, "other")
