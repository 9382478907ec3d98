"""Templates, label masks and cutting, for every template and against golden case F."""

from __future__ import annotations

from itertools import groupby

import pytest

from cambrian_data.records import UserError
from cambrian_model.conversation import (
    IGNORE_INDEX,
    IMAGE_TOKEN_INDEX,
    TEMPLATES,
    SampleError,
    check_turns,
    encode,
    fit,
    render,
    template_of,
)
from cambrian_model.tokenizer import train_tokenizer

TEXTS = [
    "What does the figure show? A curve of speed against time, for two mirrors.",
    "How many curves are there? There are three curves. How many dogs? No dogs at all.",
    "You answer questions. Answer with a single word. Naive cafe: na\u00efve caf\u00e9.",
] * 3


@pytest.fixture(scope="module", params=sorted(TEMPLATES))
def template_and_tokenizer(request):
    template = TEMPLATES[request.param]
    return template, train_tokenizer([*TEXTS, template.system], 420, template)


def _turns(*pairs):
    return [
        {"from": role, "value": value}
        for pair in pairs
        for role, value in zip(("human", "gpt"), pair, strict=False)
    ]


def _trained_runs(encoded):
    runs = groupby(encoded.labels, key=lambda label: label != IGNORE_INDEX)
    return [list(labels) for trained, labels in runs if trained]


ANSWERS = ["A curve of speed.", "There are 3,\nsays the caf\u00e9.", "No"]
DIALOGUE = _turns(
    ("<image>\nWhat does the figure show?", ANSWERS[0]),
    ("How many curves are there? There are 3?", ANSWERS[1]),
    ("And dogs, No?", ANSWERS[2]),
)


def test_trained_tokens_are_the_answers_and_their_end_tokens(template_and_tokenizer):
    template, tokenizer = template_and_tokenizer
    encoded = encode(DIALOGUE, tokenizer, template, "You answer questions.")
    assert len(encoded.input_ids) == len(encoded.labels)
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (IGNORE_INDEX, token)
    trained = [tokenizer.decode(run) for run in _trained_runs(encoded)]
    expected = [answer + template.assistant_close for answer in ANSWERS]
    if not template.shows_questions:  # answers stand next to each other
        expected = ["".join(expected)]
    assert [text.removeprefix(" ") for text in trained] == expected


def test_the_prompt_without_answers_is_a_prefix(template_and_tokenizer):
    """What is asked at inference is what stands before the first trained token."""
    template, tokenizer = template_and_tokenizer
    whole = encode(DIALOGUE, tokenizer, template, "You answer questions.")
    asked = encode(DIALOGUE[:1], tokenizer, template, "You answer questions.")
    first = next(i for i, label in enumerate(whole.labels) if label != IGNORE_INDEX)
    assert whole.input_ids[:first] == asked.input_ids
    assert set(asked.labels) == {IGNORE_INDEX}


def test_pictures_stand_where_the_text_has_them(template_and_tokenizer):
    template, tokenizer = template_and_tokenizer
    turns = _turns(
        ("Look at <image> and at <image>.", "Two mirrors."), ("How many dogs?\n<image>", "No dogs.")
    )
    encoded = encode(turns, tokenizer, template, "")
    assert encoded.num_pictures == 3
    places = [i for i, token in enumerate(encoded.input_ids) if token == IMAGE_TOKEN_INDEX]
    assert all(encoded.labels[place] == IGNORE_INDEX for place in places)
    text = "".join(
        "<image>" if token == IMAGE_TOKEN_INDEX else tokenizer.decode([token])
        for token in encoded.input_ids
    )
    written = "".join(piece for piece, _ in render(turns, template, ""))
    assert text.removeprefix("<s>") == written


def test_text_only_has_no_picture(template_and_tokenizer):
    template, tokenizer = template_and_tokenizer
    encoded = encode(_turns(("How many dogs?", "No dogs.")), tokenizer, template)
    assert encoded.num_pictures == 0
    assert _trained_runs(encoded)


def test_no_bos_twice(template_and_tokenizer):
    template, tokenizer = template_and_tokenizer
    encoded = encode(DIALOGUE, tokenizer, template)
    assert encoded.input_ids.count(tokenizer.bos_token_id) == 1
    assert encoded.input_ids[0] == tokenizer.bos_token_id


# -------------------------------------------------------------------------------- golden F


def test_llama_3_equals_published_ids_and_labels(read_case, golden_folder):
    from transformers import PreTrainedTokenizerFast

    meta, _, _ = read_case("f_label_masking")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(golden_folder / meta["tokenizers"]["llama3_like"]),
        bos_token="<|begin_of_text|>",
        pad_token=meta["pad_for_llama3_like"],
    )
    cases = [c for c in meta["cases"] if c["tokenizer"] == "llama3_like, no automatic BOS"]
    assert len(cases) >= 4
    for case in cases:
        system = None if case["system"] == "default_system" else case["system"]
        encoded = encode(case["messages_after_image_move"], tokenizer, TEMPLATES["llama_3"], system)
        assert encoded.input_ids == case["input_ids"]
        assert encoded.labels == case["labels"]


def test_sentencepiece_templates_equal_published_ids_and_labels(read_case, golden_folder):
    """Where the published bookkeeping failed and ignored all labels, ours trains the answers."""
    from transformers import PreTrainedTokenizerFast

    meta, _, _ = read_case("f_label_masking")
    file = next(name for key, name in meta["tokenizers"].items() if "vicuna_like" in key)
    added = {
        "vicuna_v1": [],
        "phi3": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        "chatml_direct": ["<|im_start|>", "<|im_end|>"],
    }
    compared = dict.fromkeys(added, 0)
    # The fast tokenizer writes as the slow one did with legacy=True.
    for case in (case for case in meta["cases"] if "legacy=True" in case["tokenizer"]):
        name = case["template"]
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(golden_folder / file),
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
        )
        tokenizer.add_special_tokens({"additional_special_tokens": added[name]})
        system = None if case["system"] == "default_system" else case["system"]
        encoded = encode(case["messages_after_image_move"], tokenizer, TEMPLATES[name], system)
        assert encoded.input_ids == case["input_ids"]
        if case["every_label_ignored"]:
            assert _trained_runs(encoded)
        else:
            assert encoded.labels == case["labels"]
            compared[name] += 1
    assert min(compared.values()) >= 1


def test_what_the_open_prompt_lacks_is_trained(template_and_tokenizer):
    """Also where the space before an answer is a token of its own, as before a lone digit."""
    template, tokenizer = template_and_tokenizer
    for answer in ("7", "No", "(a)"):
        turns = _turns(("How many?", answer))
        whole = encode(turns, tokenizer, template, "")
        asked = encode(turns[:1], tokenizer, template, "")
        assert whole.input_ids[: len(asked.input_ids)] == asked.input_ids
        assert IGNORE_INDEX not in whole.labels[len(asked.input_ids) :]


def test_every_template_writes_the_published_prompt(read_case):
    meta, _, _ = read_case("f_label_masking")
    seen = set()
    for case in meta["cases"]:
        template = TEMPLATES[case["template"]]
        system = None if case["system"] == "default_system" else case["system"]
        written = "".join(
            piece for piece, _ in render(case["messages_after_image_move"], template, system)
        )
        assert written == case["tokenised_prompt"]
        turns = [{"from": turn["role"], "value": turn["value"]} for turn in case["messages"]]
        asked = "".join(piece for piece, _ in render(turns[:-1], template, system))
        assert asked == case["inference_prompt"]
        seen.add(case["template"])
    assert seen == {"llama_3", "vicuna_v1", "phi3", "chatml_direct"}


# -------------------------------------------------------------------------- unusable samples


@pytest.fixture(scope="module")
def llama():
    template = TEMPLATES["llama_3"]
    return template, train_tokenizer(TEXTS, 420, template)


def test_cutting_counts_the_pictures_and_never_cuts_one(llama):
    template, tokenizer = llama
    turns = _turns(("<image>\nWhat?", "A curve."), ("<image>\nAnd?", "A long answer here."))
    encoded = encode(turns, tokenizer, template, "")
    second = [i for i, t in enumerate(encoded.input_ids) if t == IMAGE_TOKEN_INDEX][1]
    whole = len(encoded.input_ids) - 2 + 20
    assert fit(encoded, [10, 10], whole, "x") == encoded
    cut = fit(encoded, [10, 10], second - 1 + 10 + 9, "x")
    assert len(cut.input_ids) == second
    assert cut.num_pictures == 1


def test_answers_that_are_cut_off_are_an_error_with_the_id(llama):
    template, tokenizer = llama
    encoded = encode(_turns(("<image>\nWhat?", "A curve.")), tokenizer, template, "")
    with pytest.raises(SampleError, match="abc.*answers_cut") as error:
        fit(encoded, [500], 100, "abc")
    assert error.value.sample_id == "abc"
    assert error.value.reason == "answers_cut"


@pytest.mark.parametrize(
    ("turns", "images", "reason"),
    [
        (_turns(("<image> Why?", "So.")), 0, "image_token_mismatch"),
        (_turns(("Why?", "So.")), 1, "image_token_mismatch"),
        (_turns(("Why?", "So <image>.")), 0, "image_token_in_answer"),
        (_turns(("Why?", "  ")), 0, "no_answer"),
        (_turns(("Why?",)), 0, "no_answer"),
        ([{"from": "robot", "value": "So."}], 0, "bad_turns"),
        (_turns(("Why? <|eot_id|>", "So.")), 0, "special_token"),
    ],
)
def test_what_a_record_may_not_be(llama, turns, images, reason):
    record = {"conversations": turns, "images": [{}] * images, "system": None}
    with pytest.raises(SampleError) as error:
        check_turns("abc", record, llama[0])
    assert error.value.reason == reason


def test_an_unknown_template_is_named():
    with pytest.raises(UserError, match="no template 'llama_9'.*llama_3"):
        template_of("llama_9")


def test_the_tokenizer_is_the_same_each_time_and_writes_everything(llama):
    template, tokenizer = llama
    again = train_tokenizer(TEXTS, 420, template)
    assert again.get_vocab() == tokenizer.get_vocab()
    text = "Strange: \u03b2 \u2248 3.5 \u00d7 10\u207b\u2074, \U0001f600\n\ttabs"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
