"""The order of samples, the rows that they are packed into, and who gets which."""

from __future__ import annotations

import random

import numpy as np
import pytest

from cambrian_data.records import UserError
from cambrian_model.loading.order import OrderOptions, SampleOrder, epoch_order, group
from cambrian_model.loading.row_packing import deal_rows, pack_rows
from cambrian_model.loading.sample_index import COLUMNS, SampleIndex, mixed


def _index(count: int, per_shard: int = 10, seed: int = 0) -> SampleIndex:
    draw = np.random.default_rng(seed)
    columns = {name: np.zeros(count, kind) for name, kind in COLUMNS.items()}
    columns["shard"] = (np.arange(count) // per_shard).astype(np.int32)
    columns["place"] = mixed(np.arange(count, dtype=np.uint64) + np.uint64(seed * 1000))
    columns["num_tokens"] = draw.integers(10, 200, count).astype(np.int32)
    columns["num_pictures"] = draw.integers(0, 2, count).astype(np.int32)
    return SampleIndex(columns, {})


def _options(**values) -> OrderOptions:
    return OrderOptions(**({"global_batch": 8} | values))


# ------------------------------------------------------------------------------------ order


@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_an_epoch_shows_every_sample_once_in_an_order_of_its_own(window):
    index = _index(95)
    options = _options(window_shards=window)
    orders = [epoch_order(index, options, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(95)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert tuple(epoch_order(index, _options(window_shards=window, seed=1), 0)) != tuple(orders[0])
    assert epoch_order(index, options, 1).tolist() == orders[1].tolist()


def test_an_order_is_one_of_ids_and_not_of_positions():
    index, turned = _index(60), _index(60)
    turned.columns["place"] = index.columns["place"][::-1].copy()
    backwards = 59 - epoch_order(turned, _options(), 0)
    assert backwards.tolist() == epoch_order(index, _options(), 0).tolist()


def test_a_window_reads_few_shards_at_a_time():
    index = _index(200, per_shard=10)
    order = epoch_order(index, _options(window_shards=4), 0)
    shards = index.columns["shard"][order]
    windows = [set(shards[start : start + 40].tolist()) for start in range(0, 200, 40)]
    assert [len(window) for window in windows] == [4] * 5
    assert set.union(*windows) == set(range(20))
    assert any(max(window) - min(window) > 4 for window in windows)  # not neighbours
    assert len(set(shards[:10].tolist())) > 1  # mixed within


def test_without_shuffling_the_order_is_that_of_the_shards():
    order = SampleOrder(_index(10), _options(shuffle=False, global_batch=4))
    assert [order.batch(step).tolist() for step in range(3)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 0, 1],  # the epoch's end is no gap
    ]


@pytest.mark.parametrize("group_by", ["none", "modality", "length"])
def test_epochs_follow_each_other_without_a_gap(group_by):
    index = _index(50)
    order = SampleOrder(index, _options(group_by=group_by, mega_batch=5, global_batch=10))
    seen = [number for step in range(15) for number in order.batch(step).tolist()]
    assert np.bincount(seen).tolist() == [3] * 50
    order = SampleOrder(index, _options(group_by=group_by, mega_batch=3, global_batch=8))
    seen = [number for step in range(25) for number in order.batch(step).tolist()]
    counts = np.bincount(seen, minlength=50)
    assert counts.sum() == 200
    assert counts.min() >= 2  # a mega-batch may hold the beginning of the fifth epoch
    again = SampleOrder(index, _options(group_by=group_by, mega_batch=3, global_batch=8))
    steps = list(range(25))
    random.Random(0).shuffle(steps)
    for step in steps:  # asked in any order, as after a resume
        assert again.batch(step).tolist() == seen[step * 8 : step * 8 + 8]


def test_a_batch_larger_than_the_data_holds_samples_several_times():
    order = SampleOrder(_index(5), _options(global_batch=12))
    assert sorted(np.bincount(order.batch(0)).tolist()) == [2, 2, 2, 3, 3]


def test_batches_of_a_mega_batch_are_of_one_kind_and_like_length():
    index = _index(800)
    plain = SampleOrder(index, _options())
    order = SampleOrder(index, _options(group_by="length", mega_batch=20))
    kinds, spreads, plain_spreads = [], [], []
    for step in range(20):
        numbers = order.batch(step)
        shows = index.columns["num_pictures"][numbers] > 0
        kinds.append(int(shows.sum()))
        lengths = index.columns["num_tokens"]
        if shows.all() or not shows.any():
            spreads.append(int(np.ptp(lengths[numbers])))
        plain_spreads.append(int(np.ptp(lengths[plain.batch(step)])))
    assert sum(count not in (0, 8) for count in kinds) <= 1
    assert np.mean(spreads) < np.mean(plain_spreads) / 4
    whole = np.concatenate([order.batch(step) for step in range(20)])
    assert sorted(whole) == sorted(plain.stretch(0, 160))
    firsts = [int(index.columns["num_tokens"][order.batch(step)].max()) for step in range(20)]
    assert firsts != sorted(firsts, reverse=True)  # the batches come mixed


def test_grouping_by_kind_alone_leaves_the_order_within():
    shows = np.array([True, False] * 8)
    order = group(shows, None, batch=4, seed=np.uint64(0), shuffle=False)
    assert order.tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]


def test_options_that_make_no_sense_are_refused():
    for name in ("global_batch", "mega_batch", "window_shards"):
        with pytest.raises(UserError, match=f"{name} must be at least 1, got 0"):
            _options(**{name: 0})


# ----------------------------------------------------------------------------------- packing


def test_rows_are_filled_and_never_overfilled():
    draw = random.Random(0)
    lengths = [draw.randint(5, 100) for _ in range(200)]
    pictures = [draw.randint(0, 2) for _ in range(200)]
    rows = pack_rows(lengths, pictures, 120, 3)
    assert sorted(at for row in rows for at in row) == list(range(200))
    for row in rows:
        assert sum(lengths[at] for at in row) <= 120
        assert sum(pictures[at] for at in row) <= 3
    # first fit decreasing is at most 11/9 of the best
    assert len(pack_rows(lengths, pictures, 120)) <= 1.23 * sum(lengths) / 120 + 1
    assert pack_rows(lengths, pictures, 120, 3) == rows


def test_a_sample_longer_than_a_row_has_one_of_its_own():
    assert pack_rows([10, 200, 10], [0, 0, 0], 50) == [[1], [0, 2]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("count", "micro"), [(16, 2), (16, None), (13, 4), (3, 1), (0, 2)])
def test_every_row_goes_to_one_rank_in_equally_many_micro_batches(ranks, count, micro):
    costs = [(at * 7) % 13 for at in range(count)]
    dealt = deal_rows(costs, ranks, micro)
    assert len(dealt) == ranks
    assert len({len(part) for part in dealt}) == 1
    flat = [at for part in dealt for rows in part for at in rows]
    assert sorted(flat) == list(range(count))
    assert all(len(rows) <= (micro or count) for part in dealt for rows in part)
    sizes = [len(rows) for part in dealt for rows in part]
    assert max(sizes) - min(sizes) <= 1


def test_rows_of_a_micro_batch_are_alike():
    dealt = deal_rows([9, 1, 8, 2, 7, 3], 1, 2)
    assert dealt == [[[0, 2], [4, 5], [3, 1]]]
