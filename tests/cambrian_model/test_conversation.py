"""Templates, label masks and cutting, for every template and many kinds of tokenizers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby

import pytest

from cambrian_data.records import UserError
from cambrian_model.conversation import (
    IGNORE_INDEX,
    IMAGE_TOKEN_INDEX,
    TEMPLATES,
    SampleError,
    Template,
    check_turns,
    encode,
    fit,
    image_position,
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


@pytest.fixture(scope="module")
def llama():
    template = TEMPLATES["llama_3"]
    return template, train_tokenizer(TEXTS, 420, template)


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


def test_what_the_open_prompt_lacks_is_trained(template_and_tokenizer):
    """Also where the space before an answer is a token of its own, as before a lone digit."""
    template, tokenizer = template_and_tokenizer
    for answer in ("7", "No", "(a)"):
        turns = _turns(("How many?", answer))
        whole = encode(turns, tokenizer, template, "")
        asked = encode(turns[:1], tokenizer, template, "")
        assert whole.input_ids[: len(asked.input_ids)] == asked.input_ids
        assert IGNORE_INDEX not in whole.labels[len(asked.input_ids) :]


def test_white_space_around_answers_is_cut_unless_it_is_to_stay(llama):
    template, tokenizer = llama
    turns = _turns(("What?", "  A curve. \n"))
    (trained,) = _trained_runs(encode(turns, tokenizer, template))
    assert tokenizer.decode(trained) == "A curve.<|eot_id|>"
    (trained,) = _trained_runs(encode(turns, tokenizer, template, trim=False))
    assert tokenizer.decode(trained) == "  A curve. \n<|eot_id|>"


def test_plain_shows_pictures_and_answers_only():
    template = TEMPLATES["plain"]
    tokenizer = train_tokenizer(TEXTS, 420, template)
    turns = _turns(("<image>\nWhat does it show? <image>", "A curve."), ("And now?", "No dogs."))
    encoded = encode(turns, tokenizer, template, "You answer questions.")
    assert encoded.input_ids[:3] == [tokenizer.bos_token_id, IMAGE_TOKEN_INDEX, IMAGE_TOKEN_INDEX]
    assert tokenizer.decode(encoded.input_ids[3:]) == "A curve.</s>No dogs.</s>"
    assert encoded.labels[3:] == encoded.input_ids[3:]


# ------------------------------------------------------------------- tokenizers of many kinds


@dataclass
class _Letters:
    """A tokenizer of single letters that leaves out white space, with a token for nothing."""

    bos_token_id: int | None = 1

    def encode_text(self, text):
        kept = [(ord(sign), (at, at + 1)) for at, sign in enumerate(text) if not sign.isspace()]
        return [0, *(token for token, _ in kept)], [(0, 0), *(span for _, span in kept)]


def test_any_tokenizer_with_offsets_will_do():
    template = Template(user_open="U:", assistant_open="A: ", assistant_close=";")
    encoded = encode(_turns(("hi <image> ho", "yes sir"), ("so", "no")), _Letters(), template)
    text = "".join(chr(t) if t > 1 else {1: "^", 0: "_"}.get(t, "#") for t in encoded.input_ids)
    assert text == "^_U:hi#_hoA:yessir;U:soA:no;"
    trained = "".join("." if label == IGNORE_INDEX else chr(label) for label in encoded.labels)
    assert trained == "...........yessir;......no;".rjust(len(text), ".")


def _llama_tokenizer(golden_folder, meta, *, legacy, added=(), rstrip=False):
    """Return a fast Llama tokenizer of transformers over the vocabulary of the reference."""
    from tokenizers import AddedToken
    from transformers import LlamaTokenizer

    file = next(name for key, name in meta["tokenizers"].items() if "vicuna_like" in key)
    model = json.loads((golden_folder / file).read_text())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    tokenizer = LlamaTokenizer(vocab=model["vocab"], merges=merges, legacy=legacy)
    new = [AddedToken(t, rstrip=rstrip, normalized=False, special=True) for t in added]
    tokenizer.add_special_tokens({"additional_special_tokens": new})
    return tokenizer


def test_fast_llama_tokenizers_write_as_the_slow_ones_of_the_released_models(
    read_case, golden_folder
):
    """With the `legacy` of their configuration, ids are those of the published slow tokenizers."""
    meta, _, _ = read_case("f_label_masking")
    compared, legacy = 0, True
    for case in (case for case in meta["cases"] if not case["tokenizer"].startswith("llama3")):
        name = case["template"]
        if "legacy" in case["tokenizer"]:
            legacy = "legacy=True" in case["tokenizer"]
        ids = meta["added_token_ids"].get(name.split("_")[0], {})
        tokenizer = _llama_tokenizer(
            golden_folder,
            meta,
            legacy=legacy,
            added=[token for token in sorted(ids, key=ids.get) if ids[token] > 2],
            rstrip="rstrip" in case["tokenizer"],
        )
        system = None if case["system"] == "default_system" else case["system"]
        encoded = encode(case["messages_after_image_move"], tokenizer, TEMPLATES[name], system)
        assert encoded.input_ids == case["input_ids"]
        if not case["every_label_ignored"]:
            assert encoded.labels == case["labels"]
            compared += 1
    assert compared >= 10


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", ["vicuna_v1", "phi3", "chatml_direct"])
def test_spaces_that_a_tokenizer_puts_in_do_not_shift_labels(
    name, legacy, read_case, golden_folder
):
    meta, _, _ = read_case("f_label_masking")
    template = TEMPLATES[name]
    added = [t for t in template.special_tokens if t not in ("<s>", "</s>", "<unk>")]
    tokenizer = _llama_tokenizer(golden_folder, meta, legacy=legacy, added=added)
    answers = ["7", "\u4f60\u597d", "\U0001f600 yes", "(a)", "no"]
    turns = _turns(*((f"And {number}?", answer) for number, answer in enumerate(answers)))
    encoded = encode(turns, tokenizer, template)
    trained = [tokenizer.decode(run) for run in _trained_runs(encoded)]
    expected = [answer + template.assistant_close for answer in answers]
    assert ["".join(t.split()) for t in trained] == ["".join(t.split()) for t in expected]


def _with_processor(tokenizer, adds_bos):
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A" if adds_bos else "$A",
        special_tokens=[(bos, tokenizer.bos_token_id)] if adds_bos else [],
    )


def test_exactly_one_bos_whether_the_tokenizer_adds_one_or_not(template_and_tokenizer):
    template, tokenizer = template_and_tokenizer
    found = []
    for adds_bos in (True, False):
        _with_processor(tokenizer, adds_bos)
        starts = tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
        assert starts is adds_bos
        found.append(encode(DIALOGUE, tokenizer, template))
    assert found[0] == found[1]
    assert found[0].input_ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", [name for name in TEMPLATES if TEMPLATES[name].adds_bos])
def test_a_tokenizer_without_bos_gets_none(name):
    template = TEMPLATES[name]
    tokenizer = train_tokenizer(TEXTS, 420, template)
    with_bos = encode(DIALOGUE, tokenizer, template)
    tokenizer.bos_token = None
    without = encode(DIALOGUE, tokenizer, template)
    assert without.input_ids == with_bos.input_ids[1:]
    assert without.labels == with_bos.labels[1:]


def test_a_tokenizers_own_cutting_padding_and_splitting_is_left_out(llama):
    template, _ = llama
    tokenizer = train_tokenizer(TEXTS, 420, template)
    expected = encode(DIALOGUE, tokenizer, template)
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    assert encode(DIALOGUE, tokenizer, template) == expected


def test_the_image_position_is_what_stands_before_a_first_picture(template_and_tokenizer):
    template, tokenizer = template_and_tokenizer
    for system in (None, "", "You answer questions."):
        place = image_position(template, tokenizer, system)
        encoded = encode(DIALOGUE, tokenizer, template, system)
        assert encoded.input_ids.index(IMAGE_TOKEN_INDEX) == place


# -------------------------------------------------------------------------- unusable samples


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
