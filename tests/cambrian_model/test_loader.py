"""Steps for any number of ranks and workers; what cannot be loaded; remote shards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch

from cambrian_data.records import RunFailed, UserError
from cambrian_data.shard_store import ShardError
from cambrian_model.batches import BadSamplesError, ExampleMaker
from cambrian_model.conversation import TEMPLATES
from cambrian_model.layout import StaticShape
from cambrian_model.loading.loader import Loader, LoaderOptions
from cambrian_model.loading.samples import open_samples
from cambrian_model.tokenizer import train_tokenizer
from cambrian_model.vision import tower_spec

SPECS = [tower_spec("tiny-clip"), tower_spec("tiny-convnext")]
SIDE = 4
REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def make():
    template = TEMPLATES["llama_3"]
    tokenizer = train_tokenizer(["What does it show? A curve. Two curves."] * 3, 400, template)
    return ExampleMaker(
        tokenizer=tokenizer, template=template, system="Be brief.", max_tokens=120, side=SIDE
    )


def _written(new_sample, draw_picture, count=37):
    """Samples with no, one or two pictures, of many lengths."""
    colours = [
        draw_picture(colour, (40 + 10 * at, 40))
        for at, colour in enumerate(("red", "green", "blue", "black", "white"))
    ]
    samples = []
    for at in range(count):
        pictures = [colours[at % 5], colours[at % 3]][: at % 3]
        question = "<image>" * len(pictures) + f"What {at}?" + " why" * (at % 7)
        samples.append(new_sample([(question, "A curve." * (1 + at % 4))], pictures))
    return samples


@pytest.fixture(scope="module")
def written(new_sample, draw_picture):
    return _written(new_sample, draw_picture)


@pytest.fixture(scope="module")
def samples(tmp_path_factory, written, new_shards, make):
    folder = tmp_path_factory.mktemp("loader")
    shards = new_shards(folder / "shards", written, max_samples=8)
    return open_samples(shards, make, cache=folder)


def _loader(samples, rank=0, world_size=1, consumed=0, features=None, **options):
    options = {"global_batch": 8, "max_bad_share": 0.5} | options
    return Loader(
        samples,
        LoaderOptions(**options),
        SPECS,
        pad_token_id=samples.make.tokenizer.pad_token_id,
        rank=rank,
        world_size=world_size,
        consumed=consumed,
        features=features,
    )


def _loaders(samples, world_size, **options):
    return [_loader(samples, rank, world_size, **options) for rank in range(world_size)]


def _ids(steps) -> list[str]:
    return sorted(name for step in steps for name in step.sample_ids)


# ------------------------------------------------------------------------------------ steps


def test_a_step_holds_what_its_micro_batches_hold(samples):
    step = _loader(samples, micro_batch=3, global_batch=8).next_step()
    assert len(step.micro) == 3
    assert [len(batch.sample_ids) for batch in step.micro] == [2, 3, 3]
    names = [name for batch in step.micro for name in batch.sample_ids]
    assert names == step.sample_ids
    assert step.num_samples == 8
    assert step.num_tokens == sum(batch.num_tokens for batch in step.micro)
    assert step.num_trained == sum(batch.num_trained for batch in step.micro) > 0
    assert step.skipped == {}
    assert step.wait_s >= 0
    for batch in step.micro[1:]:
        assert len(batch.pictures.sizes) == len(batch.layout.picture_order)
        if batch.pictures.sizes:
            assert batch.pictures.pixels[0].dtype == torch.uint8


@pytest.mark.parametrize("group_by", ["none", "length"])
@pytest.mark.parametrize("packing", [False, True])
def test_the_same_samples_come_on_any_number_of_ranks(samples, group_by, packing):
    options = {"group_by": group_by, "packing": packing, "mega_batch": 3, "micro_batch": 2}
    single = _loader(samples, **options)
    wanted = [single.next_step() for _ in range(6)]
    for world_size in (2, 3, 4, 8):
        loaders = _loaders(samples, world_size, **options)
        for one in wanted:
            steps = [loader.next_step() for loader in loaders]
            assert _ids(steps) == _ids([one])
            assert len({len(step.micro) for step in steps}) == 1
            assert sum(step.num_trained for step in steps) == one.num_trained
            assert sum(step.num_tokens for step in steps) == one.num_tokens


def test_an_epoch_shows_every_sample_once(samples):
    loaders = _loaders(samples, 2)
    seen = Counter(
        name for _ in range(37) for loader in loaders for name in loader.next_step().sample_ids
    )
    assert set(seen.values()) == {8}
    assert len(seen) == 37
    assert loaders[0].samples_per_epoch == 37
    assert [loaders[0].steps(epochs) for epochs in (1, 2, 0.5, 8)] == [5, 10, 3, 37]


@pytest.mark.parametrize("group_by", ["none", "length"])
def test_a_run_goes_on_in_mid_epoch_on_another_number_of_ranks(samples, group_by):
    options = {"group_by": group_by, "mega_batch": 2}
    single = _loader(samples, **options)
    wanted = [_ids([single.next_step()]) for _ in range(12)]
    world_sizes = (4, 1, 3, 8, 2)
    state, step = single.state() | {"consumed": 0}, 0
    for world_size in world_sizes:
        loaders = _loaders(samples, world_size, num_workers=0, **options)
        for loader in loaders:
            loader.load_state(state)
        for _ in range(2):
            assert _ids([loader.next_step() for loader in loaders]) == wanted[step]
            step += 1
        states = [loader.state() for loader in loaders]
        assert all(other == states[0] for other in states)
        state = states[0]
        assert state["consumed"] == step * 8
    assert _ids([_loader(samples, consumed=step * 8, **options).next_step()]) == wanted[step]


def test_a_position_in_other_data_is_refused(samples, tmp_path, written, new_shards, make):
    loader = _loader(samples, seed=1)
    state = loader.state()
    with pytest.raises(UserError, match=r"seed 1, and seed is 2.*start anew"):
        _loader(samples, seed=2).load_state(state)
    with pytest.raises(UserError, match="global_batch 8"):
        _loader(samples, seed=1, global_batch=4).load_state(state)
    with pytest.raises(UserError, match="order"):
        _loader(samples, seed=1, group_by="length").load_state(state)
    other = open_samples(new_shards(tmp_path / "s", written[1:]), make, cache=tmp_path)
    with pytest.raises(UserError, match="data"):
        _loader(other, seed=1).load_state(state)
    with pytest.raises(UserError, match="12 samples are no whole number of steps of 8"):
        _loader(samples, consumed=12)
    _loader(samples, seed=1, micro_batch=2, packing=True, num_workers=2).load_state(state)


def test_workers_change_nothing(samples):
    """Same steps, bit for bit, before and after a jump to another position."""
    alone = _loader(samples, micro_batch=4)
    with _loader(samples, micro_batch=4, num_workers=2, prefetch=2) as helped:
        for consumed in (None, 64):
            for loader in (alone, helped):
                if consumed is not None:
                    loader.load_state(loader.state() | {"consumed": consumed})
            for _ in range(2):
                _assert_same(alone.next_step(), helped.next_step())
        assert helped._read_ahead._pool is not None
    assert helped._read_ahead._pool is None


def _assert_same(one, other):
    assert one.sample_ids == other.sample_ids
    assert one.num_trained == other.num_trained
    for first, second in zip(one.micro, other.micro, strict=True):
        assert torch.equal(first.layout.input_ids, second.layout.input_ids)
        assert torch.equal(first.layout.labels, second.layout.labels)
        assert first.pictures.sizes == second.pictures.sizes
        for left, right in zip(
            first.pictures.pixels or [], second.pictures.pixels or [], strict=True
        ):
            assert torch.equal(left, right)


def test_no_more_than_a_bound_is_read_ahead(samples):
    a_picture = 2 * 3 * 96 * 96
    with _loader(samples, num_workers=2, prefetch=50, ahead_bytes=9 * a_picture) as loader:
        loader.next_step()
        assert len(loader._read_ahead._ahead) <= 9
    with _loader(samples, num_workers=2, prefetch=1, ahead_bytes=0) as loader:
        loader.next_step()
        assert len(loader._read_ahead._ahead) <= 4  # something for each worker, all the same


def test_a_worker_that_dies_ends_the_run(samples):
    with _loader(samples, num_workers=1) as loader:
        loader.next_step()
        loader._read_ahead._pool.submit(_die)
        with pytest.raises(RunFailed, match="memory"):
            for _ in range(20):
                loader.next_step()


def _die():
    import os

    os._exit(1)


def test_more_ranks_than_samples_leave_rows_that_count_for_nothing(samples):
    loaders = _loaders(samples, 4, global_batch=2)
    steps = [loader.next_step() for loader in loaders]
    assert sorted(step.num_samples for step in steps) == [0, 0, 1, 1]
    idle = next(step for step in steps if not step.num_samples)
    assert len(idle.micro) == 1
    assert idle.micro[0].num_trained == idle.num_trained == 0
    assert idle.micro[0].layout.input_ids.shape == (1, 1)


# ------------------------------------------------------------------------ packing and shapes


def test_packed_rows_hold_the_same_samples_in_fewer_places(samples):
    plain = _loader(samples, global_batch=16)
    packed = _loader(samples, global_batch=16, packing=True)
    for _ in range(3):
        one, other = plain.next_step(), packed.next_step()
        assert _ids([one]) == _ids([other])
        assert (one.num_trained, one.num_tokens) == (other.num_trained, other.num_tokens)
        before, after = one.micro[0].layout, other.micro[0].layout
        assert after.segments is not None
        assert after.input_ids.shape[1] <= 120
        assert after.input_ids.numel() < before.input_ids.numel()
        assert int(after.attention_mask.sum()) == other.num_tokens
        assert other.micro[0].num_trained == other.num_trained


@pytest.mark.parametrize("packing", [False, True])
def test_static_shapes_never_change(tmp_path, written, new_shards, make, packing):
    shards = new_shards(tmp_path / "shards", written)
    two = replace(make, pictures_per_row=2)
    samples = open_samples(shards, two, cache=tmp_path)
    static = StaticShape(num_tokens=120, pictures_per_row=2)
    loaders = _loaders(samples, 2, static=static, packing=packing, micro_batch=3)
    seen = set()
    for _ in range(6):
        steps = [loader.next_step() for loader in loaders]
        assert len({len(step.micro) for step in steps}) == 1
        assert sum(step.num_samples for step in steps) == 8
        for batch in (batch for step in steps for batch in step.micro):
            seen.add((batch.layout.input_ids.shape, batch.pictures.pixels[0].shape))
        for step in steps:
            assert step.num_trained == sum(batch.num_trained for batch in step.micro)
    assert seen == {((3, 120), (6, 3, 96, 96))}


def test_what_does_not_fit_static_shapes_is_counted(tmp_path, written, new_shards, make):
    shards = new_shards(tmp_path / "shards", written)
    one = replace(make, pictures_per_row=1)
    samples = open_samples(shards, one, cache=tmp_path, max_bad_share=0.5)
    assert samples.skipped == {"too_many_pictures": 12}
    static = StaticShape(num_tokens=120, pictures_per_row=1)
    step = _loader(samples, static=static).next_step()
    assert step.micro[0].layout.input_ids.shape == (8, 120)


def test_options_that_do_not_go_together_are_refused(samples, tmp_path, written, new_shards, make):
    static = StaticShape(num_tokens=120, pictures_per_row=1)
    with pytest.raises(UserError, match="pictures_per_row"):
        _loader(samples, static=static)
    fixed = open_samples(
        new_shards(tmp_path / "s", written[:2]), replace(make, pictures_per_row=1), cache=tmp_path
    )
    with pytest.raises(UserError, match="pictures_per_row"):
        _loader(fixed)
    with pytest.raises(UserError, match="rows have 100 tokens and samples up to 120"):
        _loader(fixed, static=replace(static, num_tokens=100))
    with pytest.raises(UserError, match="micro_batch"):
        _loader(fixed, static=static, packing=True)


# ------------------------------------------------------------------------------- bad samples


@pytest.fixture
def spoilt(tmp_path, written, new_shards, make):
    """Return a maker of samples of shards in which some pictures are damaged after indexing."""

    def spoil(numbers):
        shards = new_shards(tmp_path / "shards", written)
        samples = open_samples(shards, make, cache=tmp_path)
        path = shards / "shard-000000.tar"
        data = bytearray(path.read_bytes())
        columns = samples.index.columns
        for number in numbers:
            end = int(columns["offset"][number] + columns["size"][number])
            data[end - 512 : end] = bytes(512)  # the end of the last picture
        path.write_bytes(bytes(data))
        return samples

    return spoil


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_is_counted_and_skipped_and_never_replaced(spoilt, written, workers):
    samples = spoilt([1, 4])  # one picture each
    bad = {written[1].record["id"], written[4].record["id"]}
    with _loader(samples, micro_batch=1, num_workers=workers) as loader:
        steps = [loader.next_step() for _ in range(5)]  # an epoch and 3 samples more
    skipped = sum((Counter(step.skipped) for step in steps), Counter())
    assert skipped.keys() == {"picture_unreadable"}
    seen = Counter(name for step in steps for name in step.sample_ids)
    assert not bad & seen.keys()
    assert seen.total() + skipped.total() == 40
    for step in steps:
        assert len(step.micro) == 8  # an emptied one stays, and counts for nothing
        lost = [batch for batch in step.micro if not batch.sample_ids]
        assert len(lost) == sum(step.skipped.values())
        assert all(batch.layout.input_ids.shape == (1, 1) for batch in lost)
        assert step.num_samples == 8 - len(lost)


def test_a_packed_row_loses_only_the_bad_sample(spoilt):
    samples = spoilt([1, 4, 7])
    loader = _loader(samples, packing=True, global_batch=37)
    step = loader.next_step()
    assert step.skipped == {"picture_unreadable": 3}
    assert step.num_samples == 34
    assert sum(batch.num_trained for batch in step.micro) == step.num_trained


def test_too_many_bad_samples_stop_the_run_and_are_named(spoilt, written):
    samples = spoilt([1, 4, 7])
    loader = _loader(samples, max_bad_share=0.06)
    with pytest.raises(BadSamplesError, match=r"3 of 37.*picture_unreadable.*max_bad_share") as e:
        for _ in range(5):
            loader.next_step()
    assert any(written[n].record["id"] in str(e.value) for n in (1, 4, 7))
    allowed = _loader(samples, max_bad_share=0.09)
    for _ in range(15):  # the same three in every epoch are three
        allowed.next_step()


def test_a_sample_whose_bytes_are_gone_is_damaged_and_a_missing_shard_is_an_error(
    tmp_path, written, new_shards, make
):
    shards = new_shards(tmp_path / "shards", written, max_samples=8)
    samples = open_samples(shards, make, cache=tmp_path)
    path = shards / "shard-000001.tar"
    path.write_bytes(b"\1" * path.stat().st_size)
    loader = _loader(samples)
    reasons = Counter()
    for _ in range(5):
        reasons.update(loader.next_step().skipped)
    assert reasons.keys() == {"damaged"}
    path.unlink()
    for workers in (0, 1):
        with (
            _loader(samples, num_workers=workers) as loader,
            pytest.raises(ShardError, match="shard-000001.tar is gone"),
        ):
            for _ in range(5):
                loader.next_step()


def test_shards_that_were_exchanged_are_noticed(tmp_path, written, new_shards, make):
    samples = open_samples(new_shards(tmp_path / "s", written), make, cache=tmp_path)
    new_shards(tmp_path / "s", written[::-1])
    with pytest.raises(BadSamplesError, match="damaged"):
        for _ in range(5):
            _loader(samples, max_bad_share=0.2).next_step()


# ---------------------------------------------------------------------------- remote shards


@pytest.fixture
def remote(tmp_path, written, new_shards):
    """Return a folder of shards and the same behind an address."""
    import fsspec

    folder = new_shards(tmp_path / "shards", written, max_samples=4)
    address = f"memory://{uuid4().hex}/mix"
    store, root = fsspec.core.url_to_fs(address)
    for path in folder.iterdir():
        store.pipe_file(f"{root}/{path.name}", path.read_bytes())
    yield folder, address
    store.rm(root, recursive=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_shards_give_the_same_steps(tmp_path, remote, make, workers):
    folder, address = remote
    here = open_samples(folder, make, cache=tmp_path / "a")
    there = open_samples(address, make, cache=tmp_path / "b")
    options = {"window_shards": 3, "num_workers": workers}
    one = _loader(here, **options)
    with one, _loader(there, **options) as other:
        for _ in range(6):
            _assert_same(one.next_step(), other.next_step())


def test_any_address_will_do(tmp_path, remote, make):
    folder, _ = remote
    samples = open_samples(folder.as_uri(), make, cache=tmp_path / "b")
    assert samples.files.is_remote
    _assert_same(
        _loader(samples).next_step(),
        _loader(open_samples(folder, make, cache=tmp_path / "a")).next_step(),
    )


def test_copies_of_remote_shards_stay_within_their_bound(tmp_path, remote, make):
    folder, address = remote
    sizes = [path.stat().st_size for path in folder.glob("*.tar")]
    bound = 5 * max(sizes)
    samples = open_samples(address, make, cache=tmp_path / "b", cache_bytes=bound)
    with pytest.raises(UserError, match="set data.window_shards to 2 or less"):
        _loader(samples)
    with _loader(samples, window_shards=2) as loader:
        names = []
        for _ in range(10):
            names += loader.next_step().sample_ids
            copies = [path.stat().st_size for path in (tmp_path / "b").rglob("*.tar")]
            assert sum(copies) <= bound + 4 * max(sizes)  # four may be under way
    assert len(set(names)) == 37
    assert sum(path.stat().st_size for path in (tmp_path / "b").rglob("*.tar")) <= bound


def test_a_remote_shard_that_is_not_what_the_index_says_is_refused(tmp_path, remote, make):
    import fsspec

    _, address = remote
    store, root = fsspec.core.url_to_fs(address)
    store.pipe_file(f"{root}/shard-000002.tar", b"other")
    with pytest.raises(ShardError, match="shard-000002.tar is not what its index says"):
        open_samples(address, make, cache=tmp_path / "b")
    assert not list((tmp_path / "b").rglob("*.part"))


def test_a_copy_that_goes_while_it_is_needed_is_fetched_again(tmp_path, remote, make):
    _, address = remote
    samples = open_samples(address, make, cache=tmp_path / "b")
    with _loader(samples, num_workers=1) as loader:
        for _ in range(5):
            for path in (tmp_path / "b").rglob("*.tar"):
                path.unlink()
            assert loader.next_step().num_samples == 8


# ---------------------------------------------------------------------------------- features


class _CountingStore:
    """Features that are told from each other; stands for towers and their cache."""

    def __init__(self):
        self.made = Counter()

    def __call__(self, key, size, prepare):
        from cambrian_model.loading.picture_store import FeaturePicture

        if not self.made[key]:
            prepare()
        self.made[key] += 1
        return FeaturePicture(size, [torch.full((4, 2), float(int(key[:4], 16)))])


def test_features_take_the_place_of_pixels(samples):
    store = _CountingStore()
    step = _loader(samples, features=store).next_step()
    batch = step.micro[0]
    assert batch.pictures.pixels is None
    assert batch.pictures.features[0].shape == (len(batch.pictures.sizes), 4, 2)
    plain = _loader(samples).next_step().micro[0]
    assert plain.pictures.sizes == batch.pictures.sizes
    assert sum(store.made.values()) == len(batch.pictures.sizes)
    assert np.array_equal(plain.layout.input_ids, batch.layout.input_ids)


# --------------------------------------------------------------------------------- the end


@pytest.mark.parametrize("workers", [0, 1])
def test_a_rank_that_never_gets_a_sample_goes_on_all_the_same(samples, workers):
    with _loader(samples, 0, 4, global_batch=1, num_workers=workers) as loader:
        for _ in range(3):
            step = loader.next_step()
            assert (step.num_samples, len(step.micro)) == (0, 1)


_SCRIPT = """
import sys, time
from cambrian_model.loading.pool import new_pool

if __name__ == "__main__":
    pool = new_pool(2)
    print(*{pool.submit(__import__("os").getpid).result() for _ in range(20)}, flush=True)
    time.sleep(60 if sys.argv[1] == "wait" else 0)
"""


@pytest.mark.parametrize("how", ["killed", "left"])
def test_processes_end_with_the_one_that_started_them(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script), "wait" if how == "killed" else "end"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        workers = [int(number) for number in process.stdout.readline().split()]
        assert workers
        if how == "killed":
            process.kill()
        process.wait(timeout=30)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


# ---------------------------------------------------------------------------------- the model


@pytest.fixture(scope="module")
def model(make):
    from cambrian_model.model import CambrianConfig, CambrianModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = CambrianConfig(
        towers=["tiny-clip", "tiny-convnext"],
        connector={"hidden_size": 32, "num_heads": 4, "num_layers": 1, "query_grids": [SIDE]},
        decoder={
            "model_type": "llama",
            "vocab_size": len(make.tokenizer),
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "pad_token_id": make.tokenizer.pad_token_id,
        },
    )
    return CambrianModel(config).eval()


@torch.no_grad()
def _mean_loss(model, steps) -> float:
    """The loss of a step over all ranks and micro batches, as training weights it."""
    total = sum(step.num_trained for step in steps)
    batches = [batch.to("cpu") for step in steps for batch in step.micro]
    losses = [model(layout=b.layout, pictures=b.pictures).loss * b.num_trained for b in batches]
    return float(sum(losses)) / total


def test_the_loss_of_a_step_depends_on_neither_ranks_nor_rows(
    samples, model, tmp_path, written, new_shards, make
):
    wanted = _mean_loss(model, [_loader(samples).next_step()])
    for world_size, options in (
        (1, {"micro_batch": 3}),
        (2, {}),
        (3, {"micro_batch": 1}),
        (1, {"packing": True}),
        (2, {"packing": True, "micro_batch": 1}),
    ):
        steps = [loader.next_step() for loader in _loaders(samples, world_size, **options)]
        assert _mean_loss(model, steps) == pytest.approx(wanted, abs=2e-5)
    shards = new_shards(tmp_path / "shards", written, max_samples=8)
    fixed = open_samples(shards, replace(make, pictures_per_row=2), cache=tmp_path)
    static = StaticShape(num_tokens=120, pictures_per_row=2)
    for packing in (False, True):
        loader = _loader(fixed, static=static, micro_batch=3, packing=packing)
        assert _mean_loss(model, [loader.next_step()]) == pytest.approx(wanted, abs=2e-5)
