"""Reading shards, counting what cannot be used, the order of samples, and dealing pictures out."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from cambrian_model.batches import (
    BadSamplesError,
    Batches,
    Example,
    ExampleMaker,
    FeatureStore,
    collate,
    epoch_order,
    make_picture_store,
    read_examples,
)
from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX, TEMPLATES, Encoded
from cambrian_model.evaluation import derange
from cambrian_model.model import CambrianConfig, CambrianModel
from cambrian_model.tokenizer import train_tokenizer
from cambrian_model.vision import tower_spec

SPECS = [tower_spec("tiny-clip"), tower_spec("tiny-convnext")]


@pytest.fixture(scope="module")
def make():
    template = TEMPLATES["llama_3"]
    tokenizer = train_tokenizer(["What does it show? A curve. Two curves."] * 3, 400, template)
    return ExampleMaker(
        tokenizer=tokenizer, template=template, system="Be brief.", max_tokens=120, side=4
    )


def _mixed(new_sample, draw_picture):
    red = draw_picture("red")
    good = [new_sample([(f"<image>\nWhat {n}?", "A curve.")], [red]) for n in range(6)]
    long_question = "why " * 200
    bad = [
        new_sample([(long_question, "Two.")]),
        new_sample([("<image>\nBroken?", "Yes.")], [b"no picture"]),
        new_sample([("<image>\nHalf?", "Yes.")], [draw_picture("red")[:50]]),
        new_sample([("Picture?", "Yes.")], [draw_picture("red")]),
    ]
    return good, bad


def test_unusable_samples_are_counted_by_reason_and_left_out(
    tmp_path, new_sample, new_shards, make, draw_picture
):
    good, bad = _mixed(new_sample, draw_picture)
    shards = new_shards(tmp_path, [bad[0], *good, *bad[1:]])
    found = read_examples(shards, make, make_picture_store(SPECS, 8), 0.5)
    assert [e.sample_id for e in found.items] == [s.record["id"] for s in good]
    assert found.skipped == {
        "answers_cut": 1,
        "image_token_mismatch": 1,
        "picture_unreadable": 2,
    }


def test_too_many_unusable_samples_stop_the_run(
    tmp_path, new_sample, new_shards, make, draw_picture
):
    good, bad = _mixed(new_sample, draw_picture)
    shards = new_shards(tmp_path, good + bad)
    with pytest.raises(BadSamplesError, match="4 of 10 samples.*0.3.*max_bad_share") as error:
        read_examples(shards, make, make_picture_store(SPECS, 8), 0.3)
    assert bad[0].record["id"] in str(error.value)
    assert read_examples(shards, make, make_picture_store(SPECS, 8), 0.4).skipped


def test_no_usable_sample_is_an_error_whatever_the_limit(
    tmp_path, new_sample, new_shards, make, draw_picture
):
    _, bad = _mixed(new_sample, draw_picture)
    with pytest.raises(BadSamplesError):
        read_examples(new_shards(tmp_path, bad), make, make_picture_store(SPECS, 8), 1.0)


def test_a_batch_of_several_pictures_one_and_none(new_sample, make, draw_picture):
    red, wide = draw_picture("red"), draw_picture("blue", (60, 30))
    tall = draw_picture("green", (20, 50))
    store = make_picture_store(SPECS, 8)
    samples = [
        new_sample([("What?", "A curve.")]),
        new_sample([("<image> or <image>?", "Two.")], [red, wide]),
        new_sample([("What?", "A."), ("And <image>?", "Two curves.")], [tall]),
    ]
    examples = [make(sample, store) for sample in samples]
    batch = collate(examples, store, make.tokenizer.pad_token_id)
    assert batch.pictures.sizes == [(40, 40), (60, 30), (20, 50)]
    assert [p.shape[0] for p in batch.pictures.pixels] == [3, 3]
    assert (batch.input_ids == IMAGE_TOKEN_INDEX).sum(1).tolist() == [0, 2, 1]
    lengths = [len(example.encoded.input_ids) for example in examples]
    assert batch.attention_mask.sum(1).tolist() == lengths
    for row, length in enumerate(lengths):
        assert (batch.input_ids[row, length:] == make.tokenizer.pad_token_id).all()
        assert (batch.labels[row, length:] == IGNORE_INDEX).all()
    assert batch.num_tokens == sum(lengths) - 3 + 20 + 10 + 12
    assert collate(examples[:1], store, 0).pictures.sizes == []


def test_the_samples_own_system_prompt_goes_before_the_recipes(new_sample, make):
    store = make_picture_store(SPECS, 8)
    texts = [
        make.tokenizer.decode(
            make(new_sample([("What?", "A.")], (), system), store).encoded.input_ids
        )
        for system in (None, "Use one word.", "")
    ]
    assert ["Be brief." in text for text in texts] == [True, False, False]
    assert "Use one word." in texts[1]


def _example(name, *pictures):
    return Example(name, Encoded([IMAGE_TOKEN_INDEX] * len(pictures) + [1], [1]), pictures, 1)


def test_an_epoch_shows_every_sample_once_in_an_order_of_its_own():
    examples = [_example(f"s{n}") for n in range(50)]
    orders = [epoch_order(examples, 0, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    backwards = epoch_order(examples[::-1], 0, 0)
    assert [49 - at for at in backwards] == orders[0]  # position plays no part


def test_the_stream_goes_on_from_its_state_in_mid_epoch():
    examples = [_example(f"s{n}") for n in range(10)]
    stream = Batches(examples, 4, seed=1)
    seen = [[e.sample_id for e in stream.take()] for _ in range(3)]
    state = stream.state()
    after = [[e.sample_id for e in stream.take()] for _ in range(4)]
    other = Batches(examples, 4, seed=1)
    other.load_state(state)
    assert [[e.sample_id for e in other.take()] for _ in range(4)] == after
    assert set(Counter(name for batch in seen for name in batch).values()) == {1, 2}


def test_features_are_the_same_whatever_batch_they_are_asked_for_in(draw_picture):
    torch.set_num_threads(1)
    model = CambrianModel(
        CambrianConfig(
            towers=["tiny-clip", "tiny-convnext"],
            connector={"hidden_size": 32, "num_heads": 4, "query_grids": [4]},
            decoder={
                "model_type": "llama",
                "vocab_size": 64,
                "hidden_size": 32,
                "pad_token_id": 0,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
            },
        )
    )
    store = make_picture_store(SPECS, 8)
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "green")):
        store.add(name, draw_picture(colour, (30, 50)))
    together = FeatureStore(store, model, 2**20)(["a", "b", "c", "a"])
    alone = FeatureStore(store, model, 0)(["c"])
    for one, other in zip(together.features, alone.features, strict=True):
        assert torch.equal(one[2], other[0])
        assert torch.equal(one[0], one[3])
        assert not torch.equal(one[0], one[1])


# ---------------------------------------------------------------------------- derangement


@pytest.mark.parametrize("seed", range(5))
def test_no_sample_is_dealt_a_picture_of_its_own(seed):
    examples = [_example(f"s{n}", f"p{n % 7}") for n in range(30)]
    examples += [_example(f"m{n}", f"p{n}", f"p{n + 1}") for n in range(5)]
    dealt = derange(examples, seed)
    assert [len(row) for row in dealt] == [len(e.pictures) for e in examples]
    for example, row in zip(examples, dealt, strict=True):
        assert not set(row) & set(example.pictures)


def test_single_pictures_are_dealt_as_often_as_they_were():
    examples = [_example(f"s{n}", f"p{n % 7}") for n in range(30)]
    dealt = derange(examples, 3)
    assert Counter(row[0] for row in dealt) == Counter(e.pictures[0] for e in examples)
    assert derange(examples, 3) == dealt
    assert derange(examples, 4) != dealt


def test_one_picture_everywhere_cannot_be_dealt():
    assert derange([_example("a", "p"), _example("b", "p")], 0) is None
    assert derange([], 0) is None
