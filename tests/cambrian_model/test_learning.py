"""The tiny recipe learns: it keeps 16 samples of the demo word for word, and it uses pictures."""

from __future__ import annotations

import pytest

from benchmarks.learns import (
    NUM_HELD_OUT,
    NUM_TRAINED,
    accuracies,
    held_out,
    learn_shapes,
    shapes_recipe,
)
from benchmarks.shapes import ANSWERS, CHANCE, draw_shape, others
from cambrian_data.engine.corpus import INSTRUCTION_IMAGES, INSTRUCTIONS
from cambrian_data.recipes import load_recipe
from cambrian_data.records import IMAGE_TOKEN
from cambrian_data.shards import read_shards
from cambrian_model.generate import Question, load
from cambrian_model.recipe import TrainRecipe
from cambrian_model.runtime import runtime_of
from cambrian_model.train import train

OVERFIT = ("pretrain.steps=10", "finetune.steps=60", "finetune.micro_batch_size=16")


@pytest.fixture(scope="module")
def demo_samples(tmp_path_factory, command):
    """The first 16 samples of the mixture that `cambrian demo` trains on."""
    workspace = tmp_path_factory.mktemp("demo-samples") / "ws"
    for arguments in (
        ["engine", "--topic", "physics", "--offline"],
        ["ingest", INSTRUCTIONS, "--images", INSTRUCTION_IMAGES, "--name", "embedded-instructions"],
        ["curate", "--recipe", "tiny"],
    ):
        done = command("data", *arguments, "--workspace", workspace, "--json")
        assert done.returncode == 0, done.stderr
    samples = list(read_shards(workspace / "shards" / "tiny"))[:16]
    assert len(samples) == 16 and any(sample.pictures for sample in samples)
    return samples


@pytest.mark.slow
def test_the_tiny_recipe_keeps_16_samples_of_the_demo(tmp_path, demo_samples, new_shards):
    shards = new_shards(tmp_path / "shards", demo_samples)
    recipe = load_recipe("tiny", "train", TrainRecipe, OVERFIT).config
    runtime = runtime_of("cpu", threads=1)
    first = train(recipe, "pretrain", shards, tmp_path / "pretrain", runtime=runtime)
    done = train(
        recipe,
        "finetune",
        shards,
        tmp_path / "finetune",
        init_from=first.checkpoint,
        runtime=runtime,
    )
    assert done.last_tenth_loss < 0.02
    assert done.own_pictures_loss < 0.02 < done.shuffled_pictures_loss
    turns = [sample.record["conversations"] for sample in demo_samples]
    questions = [
        Question(text=asked["value"], pictures=sample.pictures, system=sample.record["system"])
        for sample, (asked, *_) in zip(demo_samples, turns, strict=True)
    ]
    answers = load(done.checkpoint).answer_many(questions)
    assert answers == [told["value"] for _, told, *_ in turns]


@pytest.mark.slow
def test_it_names_shapes_and_colours_of_unseen_pictures(tmp_path):
    answerer = learn_shapes(tmp_path, shapes_recipe(), seed=0, num_trained=NUM_TRAINED)
    found = accuracies(answerer, held_out(0, NUM_TRAINED, NUM_HELD_OUT), seed=0)
    assert found.own >= 0.9
    assert found.blank <= 1.3 * CHANCE
    assert found.others <= 1.3 * CHANCE


def test_the_text_says_nothing_about_the_answer():
    tasks = [draw_shape(number) for number in range(60 * len(ANSWERS))]
    assert {IMAGE_TOKEN in task.question for task in tasks} == {False}
    questions = {task.question for task in tasks}
    for question in questions:
        told = [task.answer for task in tasks if task.question == question]
        most = max(told.count(answer) for answer in ANSWERS)
        assert most / len(told) < 2 * CHANCE
    assert {task.answer for task in tasks} == set(ANSWERS)


def test_pictures_are_new_and_of_many_shapes():
    tasks = [draw_shape(number) for number in range(200)]
    assert len({task.picture for task in tasks}) == 200
    assert len({task.blank for task in tasks}) > 190
    assert draw_shape(3) == tasks[3] != draw_shape(3, seed=1)


def test_none_gets_its_own_picture():
    dealt = others(range(50), seed=0)
    assert sorted(dealt) == list(range(50))
    assert all(item != at for at, item in enumerate(dealt))
