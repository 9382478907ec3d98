"""Asking a trained model goes through the same path as training."""

from __future__ import annotations

import json
import shutil
import threading

import pytest
import torch

from cambrian_data.records import UserError
from cambrian_model.answers.questions import place_pictures
from cambrian_model.checkpoint import save_checkpoint
from cambrian_model.conversation import encode
from cambrian_model.generate import Answerer, AnswerOptions, Question, QuestionError, load
from cambrian_model.loading.picture_store import load_pictures
from cambrian_model.vision import encode as run_towers
from tests.cambrian_model.tiny_answerer import picture, tiny_answerer, tiny_model

QUESTION = "<image>\nWhat does the figure show?"
ANSWERS = {"red": "A curve.", "green": "Two mirrors, caf\u00e9.", "blue": "Time \U0001f600"}


def _learn_by_heart(model, tokenizer, steps=250):
    """Train on three pictures and a text, all at once; returns the turns."""
    turns = [
        [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": answer}]
        for answer in ANSWERS.values()
    ]
    turns.append([{"from": "human", "value": "And time?"}, {"from": "gpt", "value": "Only speed."}])
    written = [encode(t, tokenizer, template=_template(model), system="Be brief.") for t in turns]
    longest = max(len(row.input_ids) for row in written)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([r.input_ids + [pad] * (longest - len(r.input_ids)) for r in written])
    labels = torch.tensor([r.labels + [-100] * (longest - len(r.labels)) for r in written])
    mask = torch.tensor(
        [[True] * len(r.input_ids) + [False] * (longest - len(r.input_ids)) for r in written]
    )
    pictures = load_pictures(model.tower_specs, [picture(colour) for colour in ANSWERS])
    with torch.no_grad():
        pictures.features = run_towers(model.towers, pictures)
    learning = [p for name, p in model.named_parameters() if not name.startswith("towers")]
    optimizer = torch.optim.AdamW(learning, lr=3e-3, weight_decay=0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(ids, attention_mask=mask, labels=labels, pictures=pictures).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
    assert loss.item() < 0.05, f"loss {loss.item():.3f} after {steps} steps"


def _template(model):
    from cambrian_model.templates import template_of

    return template_of(model.config.template)


def _save(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Return the folder of a run whose model knows four samples by heart."""
    torch.set_num_threads(1)
    model, tokenizer = tiny_model(spread=0.1)
    _learn_by_heart(model, tokenizer)
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(folder, 1, lambda out: _save(model, tokenizer, out), keep_last=2)
    return folder


@pytest.fixture(scope="module")
def trained(run_folder):
    return load(run_folder)


@pytest.fixture(scope="module")
def talkative():
    """Return a model that has learnt nothing and ends late, with its questions."""
    return tiny_answerer(), [
        Question(text="What?", pictures=[picture("red")]),
        Question(text="What is there in it, then?", pictures=[picture("blue", (90, 30))]),
        Question(text="No picture at all, and a rather long text beside the others."),
        Question(
            text="One <image> and <image> two?",
            pictures=[picture("green", (20, 70)), picture("black")],
            system="Never mind.",
        ),
    ]


def test_what_was_learnt_by_heart_is_answered(trained):
    for colour, answer in ANSWERS.items():
        assert trained.answer(QUESTION, [picture(colour)]) == answer
        assert trained.answer("What does the figure show?", [picture(colour)]) == answer
    assert trained.answer("And time?") == "Only speed."


def test_the_greedy_answer_is_the_argmax_of_the_training_path(talkative):
    """Token by token through forward, without a cache."""
    answerer, questions = talkative
    asked = questions[1]
    turns = [{"from": "human", "value": place_pictures(asked.text, 1)}]
    prompt = encode(turns, answerer.tokenizer, answerer.template, "Be brief.").input_ids
    pictures = load_pictures(answerer.model.tower_specs, asked.pictures)
    ids: list[int] = []
    for _ in range(12):
        with torch.no_grad():
            logits = answerer.model(torch.tensor([prompt + ids]), pictures=pictures).logits
        token = logits[0, -1].argmax().item()
        if token in answerer.stops:
            break
        ids.append(token)
    found = answerer.answer(asked.text, asked.pictures, max_new_tokens=12)
    assert found == answerer.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_many_at_once_are_answered_as_one_by_one(talkative):
    answerer, questions = talkative
    for options in ({}, {"num_beams": 3}, {"temperature": 2.0, "seed": 3}):
        alone = [answerer.answer_many([q], max_new_tokens=30, **options)[0] for q in questions]
        for batch_size in (2, 8):
            together = answerer.answer_many(
                questions, max_new_tokens=30, batch_size=batch_size, **options
            )
            assert together == alone
    assert len(set(alone)) == len(alone)
    assert answerer.answer_many([]) == []


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 3.0, "seed": 4}, {"temperature": 3.0, "seed": 9}]
)
def test_a_streamed_answer_is_the_whole_answer(talkative, options):
    answerer, questions = talkative
    for asked in questions:
        turns = [{"from": "human", "value": place_pictures(asked.text, len(asked.pictures))}]
        pieces = list(
            answerer.stream(
                turns, asked.pictures, system=asked.system, max_new_tokens=40, **options
            )
        )
        whole = answerer.answer(
            asked.text, asked.pictures, system=asked.system, max_new_tokens=40, **options
        )
        assert "".join(pieces) == whole
    assert len(pieces) > 3


def _answering():
    return [thread for thread in threading.enumerate() if thread.name == "answer"]


def test_a_reader_that_stops_ends_the_answer(talkative):
    answerer, _ = talkative
    calls = []
    inner = answerer.model.decoder.forward
    answerer.model.decoder.forward = lambda *a, **k: (calls.append(1), inner(*a, **k))[1]
    try:
        pieces = answerer.stream([{"from": "human", "value": "Hm"}], max_new_tokens=500)
        next(pieces)
        pieces.close()
    finally:
        answerer.model.decoder.forward = inner
    assert not _answering()
    assert len(calls) < 100


def test_an_error_in_the_middle_of_an_answer_reaches_the_reader(talkative):
    answerer, _ = talkative
    inner = answerer.model.decoder.forward

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    answerer.model.decoder.forward = fail
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            list(answerer.stream([{"from": "human", "value": "Hm"}]))
    finally:
        answerer.model.decoder.forward = inner
    assert not _answering()
    assert answerer.answer("Hm", max_new_tokens=3) is not None


def test_turns_before_and_their_pictures_count(talkative):
    answerer, _ = talkative
    turns = [
        {"from": "human", "value": "<image>\nWhat?"},
        {"from": "gpt", "value": "A curve."},
        {"from": "human", "value": "And <image>?"},
    ]
    red, blue = picture("red"), picture("blue", (90, 30))
    answers = {
        "".join(answerer.stream(asked, shown, max_new_tokens=30))
        for asked, shown in (
            (turns, [red, blue]),
            (turns, [blue, red]),
            (turns[2:], [blue]),
        )
    }
    assert len(answers) == 3


def test_a_picture_that_was_looked_at_needs_no_towers(talkative):
    answerer, _ = talkative
    asked = {"question": "<image> or <image>?", "max_new_tokens": 30}
    shown = [picture("red"), picture("blue", (90, 30))]
    whole = answerer.answer(pictures=shown, **asked)
    seen = [answerer.look(data) for data in shown]
    towers = answerer.model.towers
    answerer.model.towers = torch.nn.ModuleList()
    try:
        assert answerer.answer(pictures=seen, **asked) == whole
    finally:
        answerer.model.towers = towers


def test_a_file_gives_what_its_bytes_give(tmp_path, trained):
    path = tmp_path / "picture.png"
    path.write_bytes(picture("green"))
    assert trained.answer(QUESTION, [path]) == ANSWERS["green"]


def test_drawing_depends_on_the_seed_alone(talkative):
    answerer, questions = talkative
    ask = {"pictures": questions[0].pictures, "temperature": 5.0, "max_new_tokens": 12}
    answers = [answerer.answer("What?", **ask, seed=seed) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
    likeliest = answerer.answer("What?", questions[0].pictures, max_new_tokens=12)
    assert answerer.answer("What?", **ask, top_p=1e-6) == likeliest


# ---------------------------------------------------------------------------- what cannot be asked


@pytest.mark.parametrize(
    ("question", "pictures", "message"),
    [
        ("<image> and <image>?", [b""], "names 2 pictures.*1 are given"),
        ("<image>?", [], "names 1 pictures.*0 are given"),
        ("What?", [b"no picture"], "cannot decode"),
        ("What <|eot_id|>?", [], "only the template may use"),
    ],
)
def test_questions_that_cannot_be_put(trained, question, pictures, message):
    with pytest.raises(QuestionError, match=message):
        trained.answer(question, pictures)


def test_a_missing_file_is_named(tmp_path, trained):
    with pytest.raises(QuestionError, match=r"gone\.png cannot be read"):
        trained.answer("What?", [tmp_path / "gone.png"])


def test_too_long_is_told_with_numbers(talkative):
    answerer, questions = talkative
    shown = questions[0].pictures
    with pytest.raises(QuestionError, match=r"question has \d+ tokens, \d+ of them.*context 600;"):
        answerer.answer("What? " * 400, shown)
    with pytest.raises(QuestionError, match=r"context 600: \d+ are left and max_new_tokens is 599"):
        answerer.answer("What?", shown, max_new_tokens=599)


def test_an_answer_may_fill_the_context(talkative):
    answerer, _ = talkative
    options = AnswerOptions()
    turns = [{"from": "human", "value": "What? " * 150}]
    prompt = answerer.prompt(turns, [], system=None, options=options)
    assert len(prompt.input_ids) + prompt.max_new_tokens == answerer.context


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"num_beams": 2, "temperature": 1.0}, "do not go together"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(UserError, match=message):
        AnswerOptions(**options)


# ------------------------------------------------------------------------------------- folders


def _checkpoint(run_folder):
    return next(run_folder.glob("step-*"))


def test_a_generation_config_adds_end_tokens(tmp_path, run_folder):
    folder = tmp_path / "model"
    shutil.copytree(_checkpoint(run_folder), folder)
    (folder / "manifest.json").unlink()
    plain = load(folder)
    first = plain.tokenizer.encode(ANSWERS["red"], add_special_tokens=False)[1]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [first]}))
    stopped = load(folder)
    assert stopped.stops == (*plain.stops, first)
    found = stopped.answer(QUESTION, [picture("red")])
    assert found and found != ANSWERS["red"] and ANSWERS["red"].startswith(found)


def test_a_published_folder_answers_as_ours(tmp_path, trained):
    from cambrian_model.files.published import export_published

    export_published(trained.model, trained.tokenizer, tmp_path, with_towers=True)
    published = load(tmp_path)
    assert published.model.config.template == "llama_3"
    for colour, answer in ANSWERS.items():
        asked = {"pictures": [picture(colour)], "system": "Be brief."}
        assert published.answer(QUESTION, **asked) == answer


def test_adapters_answer_with_the_model_that_they_name(tmp_path, run_folder):
    from cambrian_model.adapters import add_adapters, save_adapters
    from cambrian_model.recipe import AdapterRecipe

    base = _checkpoint(run_folder)
    answerer = load(base)
    add_adapters(answerer.model, AdapterRecipe(rank=2, alpha=4))
    for name, parameter in answerer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    save_adapters(answerer.model, tmp_path)
    answer = answerer.answer(QUESTION, [picture("red")], max_new_tokens=20)
    settings = tmp_path / "adapter_config.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps(content | {"base_model_name_or_path": None}))
    with pytest.raises(UserError, match="base_model_name_or_path"):
        load(tmp_path)
    settings.write_text(json.dumps(content | {"base_model_name_or_path": str(base)}))
    assert load(tmp_path).answer(QUESTION, [picture("red")], max_new_tokens=20) == answer
    assert answer != ANSWERS["red"]


def test_a_checkpoint_of_a_run_with_adapters_answers(tmp_path, run_folder):
    """It holds all weights with the adapters beside them; a finished run names what was merged."""
    from cambrian_model.adapters import add_adapters
    from cambrian_model.recipe import AdapterRecipe

    answerer = load(run_folder)
    merged = tmp_path / "merged"
    _save(answerer.model, answerer.tokenizer, merged)
    add_adapters(answerer.model, AdapterRecipe(rank=2, alpha=4))
    for name, parameter in answerer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    expected = answerer.answer(QUESTION, [picture("red")], max_new_tokens=20)
    assert expected != ANSWERS["red"]

    def write(folder):
        _save(answerer.model, answerer.tokenizer, folder)
        answerer.model.decoder.peft_config["default"].save_pretrained(folder)

    save_checkpoint(tmp_path, 1, write, keep_last=1)
    assert load(tmp_path).answer(QUESTION, [picture("red")], max_new_tokens=20) == expected
    (tmp_path / "result.json").write_text(json.dumps({"model": "merged"}))
    assert load(tmp_path).answer(QUESTION, [picture("red")]) == ANSWERS["red"]


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        load(tmp_path)
    with pytest.raises(UserError, match="gone does not exist"):
        load(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        load(tmp_path / "file")


def test_another_programs_model_is_named(tmp_path):
    from transformers import LlamaConfig

    LlamaConfig(hidden_size=32).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=str(tmp_path)):
        load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_damaged_checkpoint_is_explained(tmp_path, name, with_manifest, run_folder):
    folder = tmp_path / "step-000001"
    shutil.copytree(_checkpoint(run_folder), folder)
    if not with_manifest:
        (folder / "manifest.json").unlink()
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"damaged|differs|another checkpoint"):
        load(folder)


def test_a_folder_without_tokenizer_is_explained(tmp_path, run_folder):
    folder = tmp_path / "model"
    shutil.copytree(_checkpoint(run_folder), folder)
    for name in ("manifest.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match="tokenizer of"):
        load(folder)


def test_a_tokenizer_of_another_template_is_refused():
    model, _ = tiny_model("llama_3")
    _, tokenizer = tiny_model("vicuna_v1")
    with pytest.raises(UserError, match="does not know '<.eot_id.>'"):
        Answerer(model, tokenizer)


@pytest.mark.parametrize("template", ["vicuna_v1", "chatml_direct", "phi3"])
def test_every_template_can_be_asked(template):
    answerer = tiny_answerer(template)
    assert answerer.stops == (answerer.tokenizer.eos_token_id,)
    assert isinstance(answerer.answer("What?", [picture("red")], max_new_tokens=5), str)


def test_a_system_prompt_shows_no_picture(trained):
    with pytest.raises(QuestionError, match="the system prompt names <image>"):
        trained.answer("What is it?", system="Look: <image>")
