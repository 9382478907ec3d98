"""A generated pool with planted faults through ingest and curation, held against its truth file."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import combinations

import pytest

from cambrian_data.catalog import query, write_catalog
from cambrian_data.curation.ingest.file import ingest_file
from cambrian_data.curation.recipe import CurateRecipe
from cambrian_data.workspace import Workspace
from tests.trees import mix

THRESHOLD = 0.8
RECIPE = {"mixture": {"ratios": None, "max_per_source": None}, "dedup": {"alarm_share": 0.5}}


@pytest.fixture(scope="module")
def curated(planted, tmp_path_factory):
    """A pool of some 18,000 rows, all of it taken that is no duplicate."""
    pool = planted("--scale", "0.002", "--seed", "5", "--near", "0.03")
    workspace = Workspace.create(tmp_path_factory.mktemp("planted") / "ws")
    ingest_file(workspace, file=pool.path, name="d", check_images="none", workers=1)
    mix(workspace, CurateRecipe.model_validate(RECIPE))
    write_catalog(workspace)
    return workspace, pool


def lines(workspace: Workspace, sql: str) -> list[int]:
    return [row["line"] for row in query(workspace, sql).to_pylist()]


@pytest.fixture(scope="module")
def kept(curated):
    return set(lines(curated[0], "SELECT origin.line AS line FROM mixture_mix"))


@pytest.fixture(scope="module")
def dropped(curated):
    """Lines of the pool that curation dropped, with the reason."""
    sql = "SELECT origin.line AS line, reason FROM drops WHERE area = 'mixtures'"
    return {row["line"]: row["reason"] for row in query(curated[0], sql).to_pylist()}


@pytest.fixture(scope="module")
def rows(curated):
    """What every row of the pool says: normalised turns, pictures, shingles, by its line."""
    found = {}
    sql = "SELECT origin.line AS line, conversations, images FROM samples"
    for row in query(curated[0], sql).to_pylist():
        texts = [turn["value"] for turn in row["conversations"]]
        said = " ".join(texts).lower().replace("<image>", "").split()
        grams = {tuple(said[n : n + 5]) for n in range(max(1, len(said) - 4))}
        pictures = tuple(image["path"] for image in row["images"])
        turns = tuple(" ".join(text.split()) for text in texts)
        found[row["line"]] = (turns, pictures, grams)
    return found


def test_every_row_is_in_the_mixture_or_dropped_once(curated, kept, dropped, rows):
    assert kept | dropped.keys() == rows.keys()
    assert not kept & dropped.keys()


def test_exact_duplicates_are_all_found_and_no_other(curated, dropped, rows):
    groups = defaultdict(list)
    for line, (turns, pictures, _) in rows.items():
        groups[turns, pictures].append(line)
    wanted = sum(len(group) - 1 for group in groups.values())
    found = [line for line, reason in dropped.items() if reason == "exact_duplicate"]
    assert len(found) == wanted > 300
    for group in groups.values():
        assert sum(dropped.get(line) != "exact_duplicate" for line in group) == 1
    planted = curated[1].lines("exact")
    assert all(len(groups[rows[line][:2]]) > 1 for line in planted if line in rows)


def test_near_duplicates_are_all_found_and_no_other(kept, dropped, rows):
    near = {line for line, reason in dropped.items() if reason == "near_duplicate"}
    assert len(near) > 400
    pairs = near_pairs({line: rows[line] for line in kept | near})
    both_kept = [pair for pair in pairs if set(pair) <= kept]
    assert not both_kept
    partners = defaultdict(set)
    for one, other in pairs:
        partners[one].add(other)
        partners[other].add(one)
    assert all(partners[line] & kept for line in near)


def near_pairs(rows: dict) -> list[tuple[int, int]]:
    """Return all pairs of rows with the same pictures and a Jaccard of the threshold or more."""
    by_gram = defaultdict(list)
    for line, (_, pictures, grams) in rows.items():
        for gram in grams:
            by_gram[pictures, gram].append(line)
    candidates = {
        pair for same in by_gram.values() for pair in combinations(sorted(same), 2) if len(same) > 1
    }
    return [
        (one, other)
        for one, other in candidates
        if len(rows[one][2] & rows[other][2]) >= THRESHOLD * len(rows[one][2] | rows[other][2])
    ]


def test_the_longer_answer_is_kept(curated):
    sql = (
        "SELECT cluster, kept, sum(len(t.value)) AS answer FROM clusters c "
        "JOIN (SELECT DISTINCT ON (id) * FROM samples) s ON s.id = c.sample_id, "
        "unnest(s.conversations) AS u(t) "
        "WHERE t.\"from\" = 'gpt' AND c.stage = 'near_dedup' GROUP BY cluster, kept, s.id"
    )
    answers = defaultdict(lambda: {True: 0, False: 0})
    for row in query(curated[0], sql).to_pylist():
        best = answers[row["cluster"]]
        best[row["kept"]] = max(best[row["kept"]], row["answer"])
    assert answers
    assert all(best[True] >= best[False] for best in answers.values())


def test_the_account_adds_up(curated):
    stats = json.loads((curated[0].mixture("mix") / "stats.json").read_bytes())
    out = None
    for step in stats["flow"]:
        assert out is None or step["in"] == out
        assert step["in"] == step["out"] + sum(step["drops"].values())
        out = step["out"]
    for source in stats["sources"]:
        gone = sum(source[stage["stage"]] for stage in stats["flow"])
        assert source["have"] == gone + source["taken"]
