"""Laying samples out with their pictures, questions, and the examples of an evaluation."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cambrian_model.batches import (
    BadSamplesError,
    Collator,
    ExampleMaker,
    ExampleSet,
    FeatureStore,
    load_pictures,
    shard_texts,
)
from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX, TEMPLATES
from cambrian_model.layout import StaticShape
from cambrian_model.loading.picture_store import crops_of
from cambrian_model.loading.samples import open_samples
from cambrian_model.pictures import PictureError, num_visual_tokens
from cambrian_model.tokenizer import train_tokenizer
from cambrian_model.towers.features import FeatureCache
from cambrian_model.vision import build_towers, encode, tower_spec

SPECS = [tower_spec("tiny-clip"), tower_spec("tiny-convnext")]
SIDE = 4


@pytest.fixture(scope="module")
def make():
    template = TEMPLATES["llama_3"]
    tokenizer = train_tokenizer(["What does it show? A curve. Two curves."] * 3, 400, template)
    return ExampleMaker(
        tokenizer=tokenizer, template=template, system="Be brief.", max_tokens=120, side=SIDE
    )


@pytest.fixture
def mixed_samples(new_sample, draw_picture):
    """Return samples with no picture, with two, and with one in the second turn."""
    red, wide = draw_picture("red"), draw_picture("blue", (60, 30))
    tall = draw_picture("green", (20, 50))
    return [
        new_sample([("What?", "A curve.")]),
        new_sample([("<image> or <image>?", "Two.")], [red, wide]),
        new_sample([("What?", "A."), ("And <image>?", "Two curves.")], [tall]),
    ]


@pytest.fixture
def opened(tmp_path, mixed_samples, new_shards, make):
    shards = new_shards(tmp_path / "shards", mixed_samples)
    return open_samples(shards, make, cache=tmp_path / "cache")


def _set(samples, numbers=None, **options):
    pad = samples.make.tokenizer.pad_token_id
    return ExampleSet(samples, numbers or range(len(samples)), SPECS, pad_token_id=pad, **options)


# ---------------------------------------------------------------------------------- batches


def test_a_batch_of_several_pictures_one_and_none(opened):
    chosen = _set(opened)
    batch = chosen.batch(chosen.items)
    assert batch.pictures.sizes == [(40, 40), (60, 30), (20, 50)]
    assert [p.shape for p in batch.pictures.pixels] == [(3, 3, 96, 96)] * 2
    assert all(p.dtype == torch.uint8 for p in batch.pictures.pixels)
    layout = batch.layout
    assert (layout.input_ids == IMAGE_TOKEN_INDEX).sum(1).tolist() == [0, 2, 1]
    lengths = [example.num_tokens for example in chosen.items]
    assert layout.attention_mask.sum(1).tolist() == lengths
    assert batch.num_tokens == sum(lengths)
    assert batch.num_trained == sum(example.num_trained for example in chosen.items) > 0
    assert batch.sample_ids == [example.sample_id for example in chosen.items]
    for row, length in enumerate(lengths):
        assert (layout.input_ids[row, length:] == opened.make.tokenizer.pad_token_id).all()
        assert (layout.labels[row, length:] == IGNORE_INDEX).all()
    text = chosen.batch(chosen.items[:1])
    assert text.pictures.sizes == []
    assert text.to("cpu").layout.input_ids.shape == (1, lengths[0])


def test_the_pixels_are_those_of_the_picture_in_its_place(opened):
    chosen = _set(opened)
    pixels = chosen.batch(chosen.items).pictures.pixels[0]
    middle = pixels[:, :, 48, 48].tolist()
    assert middle == [[255, 0, 0], [0, 0, 255], [0, 128, 0]]


def test_a_batch_of_nothing_is_one_token_that_counts_for_nothing(make):
    collate = Collator(side=SIDE, pad_token_id=7, crops=crops_of(SPECS))
    batch = collate([], [])
    assert batch.layout.input_ids.tolist() == [[7]]
    assert (batch.num_tokens, batch.num_trained, batch.sample_ids) == (0, 0, [])
    assert batch.layout.attention_mask.all()


def test_static_shapes_are_the_same_for_every_batch(tmp_path, mixed_samples, new_shards, make):
    static = StaticShape(num_tokens=120, pictures_per_row=2)
    shards = new_shards(tmp_path / "shards", mixed_samples)
    maker = replace(make, pictures_per_row=2)
    chosen = _set(open_samples(shards, maker, cache=tmp_path), static=static)
    for examples in (chosen.items, chosen.items[:1], []):
        batch = chosen.batch(examples, num_rows=3)
        assert batch.layout.input_ids.shape == (3, 120)
        assert [p.shape for p in batch.pictures.pixels] == [(6, 3, 96, 96)] * 2
        assert batch.num_tokens == sum(example.num_tokens for example in examples)
        assert int(batch.layout.attention_mask.sum()) == batch.num_tokens + 3 - len(examples)
        assert batch.num_trained == sum(example.num_trained for example in examples)
    batch = chosen.batch(chosen.items, num_rows=3)
    is_black = [not bool(picture.any()) for picture in batch.pictures.pixels[0]]
    assert sorted(batch.layout.picture_order) == [-1, -1, -1, 0, 1, 2]
    assert is_black == [slot < 0 for slot in batch.layout.picture_order]


def test_the_samples_own_system_prompt_goes_before_the_recipes(new_sample, make):
    texts = [
        make.tokenizer.decode(
            make(new_sample([("What?", "A.")], (), system).record, "x").encoded.input_ids
        )
        for system in (None, "Use one word.", "")
    ]
    assert ["Be brief." in text for text in texts] == [True, False, False]
    assert "Use one word." in texts[1]


def test_the_text_of_shards_is_read_in_order(tmp_path, new_sample, new_shards):
    samples = [new_sample([("A?", "b")], (), "Sys."), new_sample([("C?", "d")])]
    assert list(shard_texts(new_shards(tmp_path, samples))) == ["Sys.", "A?", "b", "C?", "d"]


# --------------------------------------------------------------------------------- questions


def test_pictures_of_a_question(draw_picture):
    found = load_pictures(SPECS, [draw_picture("red"), draw_picture("blue", (60, 30))])
    assert found.sizes == [(40, 40), (60, 30)]
    assert [p.shape for p in found.pixels] == [(2, 3, 96, 96)] * 2
    assert load_pictures(SPECS, []).sizes == []
    with pytest.raises(PictureError):
        load_pictures(SPECS, [b"no picture"])


# -------------------------------------------------------------------------------- evaluation


def test_examples_can_be_shown_the_pictures_of_others(opened):
    chosen = _set(opened)
    (red, wide), (tall,) = (example.pictures for example in chosen.items[1:])
    batch = chosen.batch(chosen.items[1:], [[tall, red], [wide]])
    assert batch.pictures.sizes == [(20, 50), (40, 40), (60, 30)]
    own = chosen.batch(chosen.items[1:])
    assert torch.equal(batch.pictures.pixels[0][0], own.pictures.pixels[0][2])
    tokens = [num_visual_tokens(size, SIDE) for size in batch.pictures.sizes]
    texts = [example.num_text for example in chosen.items[1:]]
    assert batch.layout.attention_mask.sum(1).tolist() == [
        texts[0] + tokens[0] + tokens[1],
        texts[1] + tokens[2],
    ]


def test_examples_that_cannot_be_read_are_left_out_and_counted(
    tmp_path, mixed_samples, new_sample, new_shards, make, draw_picture
):
    broken = new_sample([("<image> Broken?", "Yes.")], [draw_picture("red")[:80]])
    broken.record["images"][0] |= {"width": 40, "height": 40}
    shards = new_shards(tmp_path / "shards", [broken, *mixed_samples])
    samples = open_samples(shards, make, cache=tmp_path)
    chosen = _set(samples)
    assert len(chosen.items) == 3
    assert chosen.skipped == {"picture_unreadable": 1}
    path = shards / "shard-000000.tar"
    path.write_bytes(b"\1" * path.stat().st_size)
    with pytest.raises(BadSamplesError, match="could be read before"):
        chosen.batch(chosen.items)


# ---------------------------------------------------------------------------------- features


@pytest.fixture(scope="module")
def towers():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return build_towers(["tiny-clip", "tiny-convnext"])


def test_features_are_the_same_whatever_batch_they_are_asked_for_in(opened, towers):
    store = FeatureStore(FeatureCache(2**20), lambda pictures: encode(towers, pictures))
    chosen = _set(opened, features=store)
    together = chosen.batch(chosen.items).pictures
    assert together.pixels is None
    other = FeatureStore(FeatureCache(0), lambda pictures: encode(towers, pictures))
    again = _set(opened, features=other)
    alone = again.batch(again.items[2:]).pictures
    assert alone.sizes == [(20, 50)]
    for one, two in zip(together.features, alone.features, strict=True):
        assert torch.equal(one[2], two[0])
        assert not torch.equal(one[0], one[1])
    pixels = _set(opened).batch(chosen.items).pictures
    for one, two in zip(together.features, encode(towers, pixels), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_a_picture_without_features_that_cannot_be_decoded_is_counted(
    tmp_path, new_sample, new_shards, make, draw_picture, towers
):
    broken = new_sample([("<image> Broken?", "Yes.")], [draw_picture("red")[:80]])
    broken.record["images"][0] |= {"width": 40, "height": 40}
    shards = new_shards(tmp_path / "shards", [broken])
    store = FeatureStore(FeatureCache(2**20), lambda pictures: encode(towers, pictures))
    chosen = _set(open_samples(shards, make, cache=tmp_path), features=store)
    assert chosen.skipped == {"picture_unreadable": 1}


@pytest.mark.parametrize("with_features", [False, True])
def test_a_picture_that_lies_on_its_side_is_turned(
    tmp_path, new_sample, new_shards, make, towers, with_features
):
    image = Image.fromarray(np.zeros((30, 60, 3), dtype=np.uint8))
    image.paste((255, 255, 255), (0, 0, 30, 30))
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, "PNG", exif=exif)
    shards = new_shards(tmp_path / "s", [new_sample([("<image>?", "A.")], [buffer.getvalue()])])
    store = FeatureStore(FeatureCache(2**20), lambda pictures: encode(towers, pictures))
    chosen = _set(
        open_samples(shards, make, cache=tmp_path), features=store if with_features else None
    )
    batch = chosen.batch(chosen.items)
    assert batch.pictures.sizes == [(30, 60)]  # the record, of unturned bytes, says (60, 30)
    tokens = chosen.items[0].num_text + num_visual_tokens((30, 60), SIDE)
    assert int(batch.layout.attention_mask.sum()) == tokens
