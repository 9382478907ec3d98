"""Near duplicates: the same as comparing all pairs, whatever the sets look like."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cambrian_data.curation.duplicates import near_greedy, near_join
from cambrian_data.curation.duplicates.near import (
    Near,
    NearConfig,
    Shingles,
    near_duplicates,
    shingles_of,
)
from cambrian_data.curation.ingest.part import IngestConfig, ingest_part, parts_of
from cambrian_data.records import UserError

CONFIG = NearConfig()


def of_sets(sets: Sequence[set[int]]) -> Shingles:
    values = [value for members in sets for value in sorted(members)]
    ends = np.cumsum([len(members) for members in sets], dtype=np.int64)
    return Shingles(np.array(values, np.uint64), ends)


def by_comparing_all(sets, groups, rank, threshold) -> tuple[list[int], list[float]]:
    """Return keepers and similarities as the rule has them, one pair after the other."""
    kept: list[int] = []
    keeper, similarity = list(range(len(sets))), [1.0] * len(sets)
    for row in sorted(range(len(sets)), key=lambda row: rank[row]):
        best = (0.0, row)
        for other in kept:
            either = sets[row] | sets[other]
            if groups[row] != groups[other] or not either:
                continue
            alike = len(sets[row] & sets[other]) / len(either)
            if alike >= threshold and alike > best[0]:
                best = (alike, other)
        if best[0]:
            similarity[row], keeper[row] = best
        else:
            kept.append(row)
    return keeper, similarity


def run(sets, groups=None, rank=None, threshold=0.8, parts=1) -> Near:
    num_rows = len(sets)
    cuts = np.linspace(0, num_rows, parts + 1).astype(int).tolist()
    return near_duplicates(
        [of_sets(sets[a:b]) for a, b in pairwise(cuts)],
        groups=np.zeros(num_rows, np.uint64) if groups is None else np.array(groups, np.uint64),
        rank=np.arange(num_rows) if rank is None else np.array(rank, np.int64),
        threshold=threshold,
    )


def random_sets(dice: random.Random) -> list[set[int]]:
    """Return sets of which many are copies of earlier ones with a few shingles changed."""
    shingles = [dice.getrandbits(56) for _ in range(dice.choice([30, 200, 3000]))]
    sets: list[set[int]] = []
    for _ in range(dice.randint(0, 50)):
        if sets and dice.random() < 0.6:
            members = set(dice.choice(sets))
            for _ in range(dice.randint(0, 6)):
                if members and dice.random() < 0.5:
                    members.discard(dice.choice(sorted(members)))
                else:
                    members.add(dice.choice(shingles))
        else:
            members = set(dice.choices(shingles, k=dice.randint(0, 40)))
        sets.append(members)
    return sets


@pytest.mark.parametrize("bounds", ["as they are", "tiny"])
def test_same_as_comparing_all(bounds, monkeypatch):
    if bounds == "tiny":  # every range, slice, half and temporary file is used
        for name, size in {"_RANGE_VALUES": 7, "_HELD_ENTRIES": 5, "_MEMORY_VALUES": 1}.items():
            monkeypatch.setattr(near_join, name, size)
        for name, size in {"_LEAF_PAIRS": 0, "_SLICE_PAIRS": 3, "_SLICE_VALUES": 3}.items():
            monkeypatch.setattr(near_greedy, name, size)
    num_dropped = 0
    for seed in range(250):
        dice = random.Random(seed)
        sets = random_sets(dice)
        groups = [dice.choice([0, 1, 2**64 - 1]) for _ in sets]
        rank = dice.sample(range(len(sets)), len(sets))
        threshold = dice.choice([0.5, 0.6, 0.8, 0.8, 0.9, 1.0])
        found = run(sets, groups, rank, threshold, parts=dice.randint(1, 3))
        keeper, similarity = by_comparing_all(sets, groups, rank, threshold)
        assert found.keeper.tolist() == keeper, seed
        assert found.similarity.tolist() == np.array(similarity, np.float32).tolist(), seed
        num_dropped += sum(kept != row for row, kept in enumerate(keeper))
    assert num_dropped > 500


@settings(max_examples=200, deadline=None)
@given(
    sets=st.lists(st.sets(st.integers(0, 12), max_size=12), max_size=14),
    threshold=st.floats(0.5, 1),
    data=st.data(),
)
def test_same_as_comparing_all_small_sets(sets, threshold, data):
    rank = data.draw(st.permutations(range(len(sets))))
    groups = data.draw(st.lists(st.integers(0, 1), min_size=len(sets), max_size=len(sets)))
    found = run(sets, groups, rank, threshold)
    keeper, similarity = by_comparing_all(sets, groups, rank, threshold)
    assert found.keeper.tolist() == keeper
    assert found.similarity.tolist() == np.array(similarity, np.float32).tolist()


def test_exactly_at_the_threshold_a_row_goes():
    nine, eight = set(range(9)), set(range(8))
    assert run([nine | {9}, eight]).keeper.tolist() == [0, 0]  # 8 of 10
    assert run([nine | {9, 10}, eight]).keeper.tolist() == [0, 1]  # 8 of 11
    found = run([nine | {9}, nine, eight])
    assert found.keeper.tolist() == [0, 0, 0]
    assert found.similarity.tolist() == [1, np.float32(0.9), np.float32(0.8)]


def test_a_chain_is_broken_where_the_one_between_has_gone():
    """Next ones are alike, those after next are not: every other one stays."""
    sets = [set(range(start, start + 20)) for start in range(0, 20, 2)]
    assert run(sets).keeper.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert run(sets, rank=[1, 0, *range(2, 10)]).keeper.tolist() == [1, 1, 1, 3, 3, 5, 5, 7, 7, 9]


def test_the_order_of_the_rows_makes_no_difference():
    dice = random.Random(3)
    sets = [set(range(n % 9 * 100, n % 9 * 100 + 30 + dice.randint(0, 6))) for n in range(80)]
    rank = dice.sample(range(80), 80)
    before = run(sets, rank=rank).keeper
    order = dice.sample(range(80), 80)
    after = run([sets[n] for n in order], rank=[rank[n] for n in order], parts=3).keeper
    assert {order[row]: order[kept] for row, kept in enumerate(after.tolist())} == dict(
        enumerate(before.tolist())
    )


def counted_comparisons(monkeypatch) -> list[int]:
    """Return a list that gets the number of pairs of every comparison of whole sets."""
    counts: list[int] = []
    compare = near_greedy._Greedy._jaccard

    def counting(self, left, right):
        counts.append(len(left))
        return compare(self, left, right)

    monkeypatch.setattr(near_greedy._Greedy, "_jaccard", counting)
    return counts


def test_many_copies_of_one_text_are_not_compared_with_one_another(monkeypatch):
    dice = random.Random(5)
    base = [dice.getrandbits(56) for _ in range(60)]
    sets = [set(base) - {dice.choice(base)} | {dice.getrandbits(56)} for _ in range(5000)]
    counts = counted_comparisons(monkeypatch)
    assert set(run(sets).keeper.tolist()) == {0}
    assert sum(counts) < 20 * len(sets)


def test_texts_around_one_template_are_not_compared(monkeypatch):
    dice = random.Random(6)
    template = {dice.getrandbits(56) for _ in range(85)}  # two of them have 85 of 115 in common
    sets = [template | {dice.getrandbits(56) for _ in range(15)} for _ in range(3000)]
    counts = counted_comparisons(monkeypatch)
    assert run(sets).keeper.tolist() == list(range(3000))
    assert sum(counts) == 0


def test_nothing_and_wrong_numbers():
    assert run([]).keeper.tolist() == []
    assert run([set(), set(), {1}]).keeper.tolist() == [0, 1, 2]  # no words: nothing to compare
    assert (
        near_duplicates(
            [], groups=np.empty(0, np.uint64), rank=np.empty(0, np.int64), threshold=0.8
        ).keeper.tolist()
        == []
    )
    with pytest.raises(ValueError, match="2 rows, but 1 groups and 2 ranks"):
        run([{1}, {2}], groups=[1])


def python_shingles(turns, size) -> set[tuple[str, ...]]:
    text = " ".join(turn["value"].replace("<image>", "") for turn in turns)
    said = unicodedata.normalize("NFC", text).lower().split()
    if len(said) < size:
        return {tuple(said)} if said else set()
    return {tuple(said[start : start + size]) for start in range(len(said) - size + 1)}


def rows_of(shingles: Shingles) -> list[list[int]]:
    return [part.tolist() for part in np.split(shingles.values, shingles.ends[:-1])]


WORDS = st.lists(st.sampled_from(["a", "B", "b", "<image>", "c\u00c9", "\u2003", "d\nd"]))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(WORDS.map(" ".join), max_size=4), min_size=1, max_size=12),
    size=st.integers(1, 6),
)
def test_shingles_are_the_sets_of_python(samples, sample, rows, size):
    table = samples(*(sample(*texts) for texts in rows))
    batch = table.combine_chunks().to_batches()[0]
    found = rows_of(shingles_of(batch, NearConfig(shingle_words=size)))
    wanted = [python_shingles(turns, size) for turns in table["conversations"].to_pylist()]
    assert [len(row) for row in found] == [len(row) for row in wanted]
    assert all(row == sorted(set(row)) and max(row, default=0) < 2**56 for row in found)
    for (left, mine), (right, other) in combinations(zip(found, wanted, strict=True), 2):
        assert len(set(left) & set(right)) == len(mine & other)


def test_shingles_of_many_rows_stay_apart(samples, sample):
    """The same few rows again and again, with empty ones between, over several sorted blocks."""
    texts = ["one two three four five six", "", "one two", "one two three four five"]
    rows = [sample(texts[n * n % 7 % 4]) for n in range(1500)]
    shingles = shingles_of(samples(*rows).combine_chunks().to_batches()[0], CONFIG)
    sizes = np.diff(shingles.ends, prepend=0)
    wanted = [len(python_shingles(row["conversations"], 5)) for row in rows]
    assert sizes.tolist() == wanted
    some = np.array([1499, 0, 700, 3])
    assert rows_of(shingles.take(some)) == [rows_of(shingles)[n] for n in some]


def test_shingles_are_saved_and_loaded(tmp_path):
    some: list[list[set[int]]] = [[{3, 1}, set(), {2**56 - 1}], [], [set()]]
    for sets in some:
        path = tmp_path / "a.shingles"
        of_sets(sets).save(path)
        loaded = Shingles.load(path)
        assert rows_of(loaded)[: len(sets)] == [sorted(members) for members in sets]
        assert loaded.num_rows == len(sets)
        again = tmp_path / "b.shingles"
        loaded.save(again)
        assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"nonsense" * 10, "cut"])
def test_a_file_that_is_not_whole_is_named(tmp_path, content):
    path = tmp_path / "a.shingles"
    of_sets([{1, 2, 3}]).save(path)
    path.write_bytes(path.read_bytes()[:-8] if content == "cut" else content)
    with pytest.raises(UserError, match=r"a\.shingles: not a whole file of shingles"):
        Shingles.load(path)


def test_planted_near_copies_go_and_no_other(planted):
    pool = planted("--scale", "0.001", "--near", "0.05", "--exact", "0")
    config = IngestConfig(check_images="none")
    (lines,) = parts_of(pool.path, config)
    part = ingest_part(lines, dataset="p", file_name="p.jsonl", images=None, config=config)
    pictures = [str([i["path"] for i in row]) for row in part.samples["images"].to_pylist()]
    # Comparing all pairs takes long, so of the rows without a picture there are only some.
    without = [row for row, key in enumerate(pictures) if key == "[]"][300:]
    taken = sorted(set(range(len(pictures))) - set(without))
    table = part.samples.take(taken).combine_chunks()
    numbers = {key: number for number, key in enumerate(dict.fromkeys(pictures))}
    groups = np.array([numbers[pictures[row]] for row in taken], np.uint64)
    rank = np.random.default_rng(2).permutation(table.num_rows)
    batches = table.to_batches(max_chunksize=5000)
    found = near_duplicates(
        [shingles_of(batch, CONFIG) for batch in batches],
        groups=groups,
        rank=rank,
        threshold=CONFIG.threshold,
    )
    sets = [python_shingles(turns, 5) for turns in table["conversations"].to_pylist()]
    for number in range(len(numbers)):
        rows = np.flatnonzero(groups == number)
        keeper, similarity = by_comparing_all(
            [sets[row] for row in rows], [0] * len(rows), rank[rows].tolist(), CONFIG.threshold
        )
        assert found.keeper[rows].tolist() == rows[keeper].tolist()
        assert found.similarity[rows].tolist() == np.array(similarity, np.float32).tolist()
    assert (found.keeper != np.arange(table.num_rows)).sum() > 100
