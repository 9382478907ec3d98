"""The index of usable samples: what it counts, what it leaves out, how it is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cambrian_data.shards import read_shards
from cambrian_model.batches import BadSamplesError, ExampleMaker
from cambrian_model.conversation import TEMPLATES
from cambrian_model.loading import sample_index, shard_index
from cambrian_model.loading.sample_index import distinct, index_key, index_samples
from cambrian_model.loading.samples import open_samples
from cambrian_model.loading.shard_files import ShardFiles
from cambrian_model.pictures import num_visual_tokens
from cambrian_model.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def make():
    template = TEMPLATES["llama_3"]
    tokenizer = train_tokenizer(["What does it show? A curve. Two curves."] * 3, 400, template)
    return ExampleMaker(
        tokenizer=tokenizer, template=template, system="Be brief.", max_tokens=120, side=4
    )


@pytest.fixture(scope="module")
def few(new_sample, draw_picture):
    """Samples with one picture, two, none, and four that cannot be used for a reason of text."""
    red, wide = draw_picture("red"), draw_picture("blue", (60, 30))
    good = [new_sample([(f"<image>\nWhat {n}?", "A curve.")], [red]) for n in range(5)]
    good.append(new_sample([("<image> or <image>?", "Two.")], [red, wide]))
    good.append(new_sample([("What?", "A curve.")]))
    bad = [
        new_sample([("why " * 200, "Two.")]),
        new_sample([("Picture?", "Yes.")], [red]),
        new_sample([("Silent?", " ")]),
        new_sample([("Who says <|eot_id|>?", "I.")]),
    ]
    return good, bad


REASONS = {"answers_cut": 1, "image_token_mismatch": 1, "no_answer": 1, "special_token": 1}


def _mixed(few):
    good, bad = few
    return [bad[0], *good[:3], bad[1], *good[3:], *bad[2:]]


def test_every_sample_is_indexed_where_it_lies_or_left_out_with_a_reason(
    tmp_path, few, new_shards, make
):
    shards = new_shards(tmp_path / "shards", _mixed(few), max_samples=4)
    samples = open_samples(shards, make, cache=tmp_path / "cache", max_bad_share=0.5)
    assert [samples.example(n).sample_id for n in range(len(samples))] == [
        sample.record["id"] for sample in few[0]
    ]
    assert samples.skipped == REASONS
    columns = samples.index.columns
    assert columns["shard"].tolist() == [0, 0, 0, 1, 1, 1, 2]
    for number in range(len(samples)):
        example = samples.example(number)
        assert columns["num_tokens"][number] == example.num_tokens
        assert columns["num_text"][number] == example.num_text
        assert columns["num_trained"][number] == example.num_trained > 0
    assert columns["num_pictures"].tolist() == [1, 1, 1, 1, 1, 2, 0]
    both = samples.example(5)
    tokens = [num_visual_tokens(size, 4) for size in ((40, 40), (60, 30))]
    assert both.num_tokens == both.num_text + sum(tokens)
    assert samples.num_pictures == 7
    assert samples.num_with_pictures == 6


def test_no_picture_is_read_for_it(tmp_path, few, new_shards, make, monkeypatch):
    """A picture that cannot be decoded is found when it is loaded, not when it is indexed."""
    shards = new_shards(tmp_path / "shards", few[0])

    def fail(*_args):
        raise AssertionError("decoded a picture")

    monkeypatch.setattr("PIL.Image.open", fail)
    assert len(open_samples(shards, make, cache=tmp_path)) == 7


def test_too_many_unusable_samples_stop_the_run(tmp_path, few, new_shards, make):
    shards = new_shards(tmp_path / "shards", _mixed(few))
    with pytest.raises(BadSamplesError, match="4 of 11 samples.*0.3.*max_bad_share") as error:
        open_samples(shards, make, cache=tmp_path, max_bad_share=0.3)
    assert few[1][0].record["id"] in str(error.value)
    assert open_samples(shards, make, cache=tmp_path, max_bad_share=0.4).skipped == REASONS


def test_no_usable_sample_is_an_error_whatever_the_limit(tmp_path, few, new_shards, make):
    shards = new_shards(tmp_path / "shards", few[1])
    for _ in range(2):  # made, and found in the folder
        with pytest.raises(BadSamplesError, match="4 of 4"):
            open_samples(shards, make, cache=tmp_path, max_bad_share=1.0)


def test_it_is_made_once_and_again_where_anything_differs(
    tmp_path, few, new_shards, make, monkeypatch
):
    shards = new_shards(tmp_path / "shards", few[0])
    runs = []
    build = sample_index._build
    monkeypatch.setattr(sample_index, "_build", lambda *a: (runs.append(1), build(*a))[1])
    first = open_samples(shards, make, cache=tmp_path / "cache")
    again = open_samples(shards, make, cache=tmp_path / "cache")
    assert len(runs) == 1
    for name, values in first.index.columns.items():
        assert (again.index.columns[name] == values).all()
    assert isinstance(again.index.columns["offset"], np.memmap)
    other = TEMPLATES["vicuna_v1"]
    tokenizer = train_tokenizer(["Other text altogether"] * 3, 400, make.template)
    for change in (
        {"max_tokens": 119},
        {"side": 2},
        {"system": None},
        {"template": other},
        {"tokenizer": tokenizer},
        {"pictures_per_row": 2},
    ):
        files = ShardFiles(shards, tmp_path, 1)
        changed = index_samples(files, replace(make, **change), folder=tmp_path / "cache")
        assert changed.key != first.index.key
    assert len(runs) == 7
    more = new_shards(tmp_path / "more", few[0][:-1])
    assert index_key(ShardFiles(more, tmp_path, 1), make) != first.index.key


def test_a_damaged_index_is_made_again(tmp_path, few, new_shards, make):
    shards = new_shards(tmp_path / "shards", few[0])
    samples = open_samples(shards, make, cache=tmp_path / "cache")
    stored = next((tmp_path / "cache").glob("samples-*/offset.npy"))
    lengths = samples.index.columns["offset"].tolist()
    stored.write_bytes(stored.read_bytes()[:40])
    assert (
        open_samples(shards, make, cache=tmp_path / "cache").index.columns["offset"].tolist()
        == lengths
    )
    (stored.parent / "meta.json").write_text("{")
    assert len(open_samples(shards, make, cache=tmp_path / "cache")) == 7


def test_a_sample_is_cut_to_its_length_and_its_lost_pictures_are_not_asked_for(
    tmp_path, new_sample, new_shards, draw_picture, make
):
    red = draw_picture("red")
    turns = [("<image> What?", "A curve."), ("<image> And " + "why " * 200, "Two.")]
    shards = new_shards(tmp_path / "shards", [new_sample(turns, [red, red])])
    samples = open_samples(shards, make, cache=tmp_path)
    example = samples.example(0)
    assert len(example.pictures) == 2
    assert example.num_tokens == 120
    shorter = replace(make, max_tokens=example.encoded.input_ids.index(-200, 30) + 25)
    assert open_samples(shards, shorter, cache=tmp_path).index.columns["num_pictures"] == [1]


def test_damage_in_a_shard_costs_the_samples_behind_it_and_says_so(tmp_path, few, new_shards, make):
    shards = new_shards(tmp_path / "shards", few[0], max_samples=4)
    path = shards / "shard-000000.tar"
    whole = open_samples(shards, make, cache=tmp_path).index
    data = bytearray(path.read_bytes())
    data[whole.columns["offset"][2] + 10] ^= 0xFF
    path.write_bytes(bytes(data))
    samples = open_samples(shards, make, cache=tmp_path / "new", max_bad_share=0.6)
    assert samples.skipped == {"damaged": 3}  # the second sample's end is not known either
    assert len(samples) == 4
    assert "shard-000000.tar" in samples.index.named[0]
    path.write_bytes(bytes(data[:700]))
    cut = open_samples(shards, make, cache=tmp_path / "cut", max_bad_share=0.6)
    assert (len(cut), cut.skipped) == (3, {"damaged": 4})


def test_a_record_that_is_none_is_counted(tmp_path, few, new_shards, make, monkeypatch):
    shards = new_shards(tmp_path / "shards", few[0])
    parse, seen = shard_index.parse_record, []

    def lose(data):
        seen.append(1)
        return {"id": "x"} if len(seen) == 2 else parse(data)

    monkeypatch.setattr(shard_index, "parse_record", lose)
    samples = open_samples(shards, make, cache=tmp_path, max_bad_share=0.5)
    assert (len(samples), samples.skipped) == (6, {"damaged": 1})


def test_processes_give_the_same_index(tmp_path, few, new_shards, make, monkeypatch):
    monkeypatch.setattr(sample_index, "_MIN_SAMPLES", 1)
    shards = new_shards(tmp_path / "shards", _mixed(few), max_samples=2)
    files = ShardFiles(shards, tmp_path, 1)
    one, two = (index_samples(files, make, folder=tmp_path / str(n), num_workers=n) for n in (0, 2))
    assert one.unusable == two.unusable
    assert one.named == two.named
    for name, values in one.columns.items():
        assert (two.columns[name] == values).all()


def test_the_sample_that_comes_several_times_is_shuffled_as_several(
    tmp_path, few, new_shards, make
):
    shards = new_shards(tmp_path / "shards", [few[0][0]] * 5 + few[0])
    place = open_samples(shards, make, cache=tmp_path).index.columns["place"]
    assert len(set(place.tolist())) == 12
    assert len(list(read_shards(shards))) == 12


def test_hashes_do_not_depend_on_the_order_of_others():
    numbers = np.array([7, 3, 7, 9, 7], dtype=np.uint64)
    found = distinct(numbers)
    assert len(set(found.tolist())) == 5
    assert found[1] == distinct(numbers[1:2])[0]
    assert sorted(distinct(numbers[::-1]).tolist()) == sorted(found.tolist())
    assert len(distinct(numbers[:0])) == 0


def test_static_shapes_leave_room_for_every_picture_of_a_row(tmp_path, few, new_shards, make):
    shards = new_shards(tmp_path / "shards", few[0])
    static = replace(make, pictures_per_row=1)
    samples = open_samples(shards, static, cache=tmp_path, max_bad_share=0.5)
    assert samples.skipped == {"too_many_pictures": 1}
    whole = 4 * 5
    assert (samples.index.columns["num_text"] <= 120 - whole).all()
    long = replace(make, pictures_per_row=2, max_tokens=60)  # 20 are left for text
    with pytest.raises(BadSamplesError, match="answers_cut"):
        open_samples(shards, long, cache=tmp_path, max_bad_share=0.0)
