"""Asking a trained model goes through the same path as training."""

from __future__ import annotations

import shutil

import pytest
import torch

from cambrian_data.records import UserError
from cambrian_model.batches import ExampleMaker, collate, make_picture_store
from cambrian_model.conversation import TEMPLATES, Encoded
from cambrian_model.generate import QuestionError, load
from cambrian_model.runtime import Runtime
from cambrian_model.train import train


@pytest.fixture(scope="module")
def samples(new_sample):
    import io

    from PIL import Image, ImageDraw

    found = []
    words = ["A tall tower.", "Two small dogs run.", "Blue water, mostly.", "Nothing."]
    for number, words_of_it in enumerate(words):
        image = Image.new("RGB", (60 + 30 * number, 90), "white")
        box = (4 + 9 * number, 8, 30 + 12 * number, 70 - 9 * number)
        ImageDraw.Draw(image).rectangle(box, fill=("red", "green", "blue", "black")[number])
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        question = "<image>\nWhat does the picture show?"
        found.append(new_sample([(question, words_of_it)], [buffer.getvalue()]))
    found.append(new_sample([("What does the text show?", "Only words.")]))
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory, samples, new_shards, tiny_recipe):
    """Return a model that knows five samples by heart."""
    folder = tmp_path_factory.mktemp("generate")
    shards = new_shards(folder / "shards", samples)
    recipe = tiny_recipe(finetune__steps=400, finetune__save_every=500, finetune__lr=5e-3)
    runtime = Runtime(threads=1)
    train(recipe, "pretrain", shards, folder / "1", runtime=runtime)
    result = train(
        recipe, "finetune", shards, folder / "2", init_from=folder / "1", runtime=runtime
    )
    return result, load(folder / "2")


def test_what_was_learnt_by_heart_is_answered(trained, samples):
    result, answerer = trained
    assert result.last_tenth_loss < 0.1
    assert result.own_pictures_loss < 0.5 * result.shuffled_pictures_loss
    for sample in samples:
        (human, gpt) = sample.record["conversations"]
        assert answerer.answer(human["value"], sample.pictures) == gpt["value"]
        bare = human["value"].removeprefix("<image>\n")
        assert answerer.answer(bare, sample.pictures) == gpt["value"]


def test_the_greedy_answer_is_the_argmax_of_the_training_path(trained, samples):
    """Token by token through batches and forward, without a cache, for a question never seen."""
    _, answerer = trained
    model, tokenizer = answerer.model, answerer.tokenizer
    make = ExampleMaker(
        tokenizer=tokenizer,
        template=TEMPLATES["llama_3"],
        system="Be brief.",
        max_tokens=200,
        side=4,
    )
    store = make_picture_store([tower.spec for tower in model.towers], 8)
    example = make(samples[2], store)
    prompt = [
        t
        for t, label in zip(example.encoded.input_ids, example.encoded.labels, strict=True)
        if label == -100
    ]
    ids: list[int] = []
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    for _ in range(12):
        now = type(example)(
            example.sample_id,
            Encoded(prompt + ids, [-100] * len(prompt + ids)),
            example.pictures,
            0,
        )
        batch = collate([now], store, tokenizer.pad_token_id)
        with torch.no_grad():
            logits = model(
                batch.input_ids, attention_mask=batch.attention_mask, pictures=batch.pictures
            ).logits
        token = logits[0, -1].argmax().item()
        if token == end:
            break
        ids.append(token)
    question = samples[2].record["conversations"][0]["value"]
    found = answerer.answer(question, samples[2].pictures, max_new_tokens=12)
    assert found == tokenizer.decode(ids).strip()


def test_a_file_gives_what_its_bytes_give(tmp_path, trained, samples):
    path = tmp_path / "picture.png"
    path.write_bytes(samples[0].pictures[0])
    question = "What does the picture show?"
    assert trained[1].answer(question, [path]) == trained[1].answer(question, samples[0].pictures)


def test_drawing_depends_on_the_seed_alone(trained, samples):
    ask = {"pictures": samples[0].pictures, "temperature": 5.0, "max_new_tokens": 12}
    answers = [trained[1].answer("What?", **ask, seed=seed) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize(
    ("question", "pictures", "message"),
    [
        ("<image> and <image>?", [b""], "names 2 pictures.*1 are given"),
        ("What?", [b"no picture"], "cannot decode"),
        ("What <|eot_id|>?", [], "only the template may use"),
    ],
)
def test_questions_that_cannot_be_put(trained, question, pictures, message):
    with pytest.raises(QuestionError, match=message):
        trained[1].answer(question, pictures)


def test_a_missing_file_is_named(tmp_path, trained):
    with pytest.raises(QuestionError, match=r"gone\.png cannot be read"):
        trained[1].answer("What?", [tmp_path / "gone.png"])


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_damaged_checkpoint_is_explained(tmp_path, name, with_manifest, trained):
    folder = tmp_path / "step-000001"
    shutil.copytree(trained[0].checkpoint, folder)
    if not with_manifest:
        (folder / "manifest.json").unlink()
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"damaged|differs|another checkpoint"):
        load(folder)
