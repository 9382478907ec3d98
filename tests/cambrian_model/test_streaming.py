"""Pieces of an answer joined are the answer, for tokenizers that write bytes in many ways."""

from __future__ import annotations

import pytest

from cambrian_model.answers.streaming import TextStream, answer_text, stream_tokens
from cambrian_model.templates import TEMPLATES
from cambrian_model.tokenizer import train_tokenizer
from tests.cambrian_model.tiny_answerer import TEXTS

ANSWERS = [
    " A curve of speed.\n\n  Indented, it  's odd .",
    "caf\u00e9 \u4f60\u597d\u4e16\u754c \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 end",
    "tabs\tand\r\nlines ",
    "\u05e9\u05dc\u05d5\u05dd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "",
    "   ",
]


def _byte_level(golden_folder):
    return train_tokenizer(TEXTS, 420, TEMPLATES["llama_3"])


def _byte_fallback(golden_folder):
    """Return a Llama tokenizer: unknown characters are tokens of one byte each."""
    from transformers import PreTrainedTokenizerFast

    file = golden_folder / "f_tokenizer_vicuna_like.json"
    return PreTrainedTokenizerFast(
        tokenizer_file=str(file), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _tidying(golden_folder):
    """Return a tokenizer that would take spaces away when it decodes, as that of Llama 3."""
    tokenizer = train_tokenizer(TEXTS, 420, TEMPLATES["llama_3"])
    tokenizer.clean_up_tokenization_spaces = True
    return tokenizer


@pytest.fixture(scope="module", params=[_byte_level, _byte_fallback, _tidying])
def tokenizer(request, golden_folder):
    return request.param(golden_folder)


@pytest.mark.parametrize("text", ANSWERS)
def test_pieces_joined_are_the_answer(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert answer_text(tokenizer, ids) == text.strip()
    stream = TextStream(tokenizer)
    pieces = [stream.push([token]) for token in ids]
    assert "".join(pieces) + stream.end() == text.strip()
    assert all("\ufffd" not in piece for piece in pieces)


def test_answers_cut_in_the_middle_of_a_character_are_the_same_streamed(tokenizer):
    for text in ANSWERS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for end in range(len(ids)):
            stream = TextStream(tokenizer)
            pieces = [stream.push([token]) for token in ids[:end]]
            assert "".join(pieces) + stream.end() == answer_text(tokenizer, ids[:end])


def test_any_tokens_at_all_are_the_same_streamed(tokenizer):
    """Bytes that are no text among them."""
    import random

    dice = random.Random(0)
    for _ in range(40):
        ids = [dice.randrange(len(tokenizer)) for _ in range(25)]
        stream = TextStream(tokenizer)
        pieces = [stream.push([token]) for token in ids]
        assert "".join(pieces) + stream.end() == answer_text(tokenizer, ids)


def test_words_come_as_they_are_written(tokenizer):
    text = "What does the figure show? A curve of speed against time, for two mirrors."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer)
    for number, token in enumerate(ids):
        stream.push([token])
        so_far = answer_text(tokenizer, ids[: number + 1])
        assert so_far.startswith(stream._shown)
        assert len(so_far) - len(stream._shown) <= 1


def test_special_tokens_are_not_shown(tokenizer):
    stream = TextStream(tokenizer)
    words = tokenizer("curve", add_special_tokens=False)["input_ids"]
    ids = [tokenizer.bos_token_id, *words, tokenizer.eos_token_id]
    assert "".join(stream.push([token]) for token in ids) + stream.end() == "curve"


def test_tokens_come_in_order_and_an_error_after_them():
    import torch

    def generate(options):
        for number in range(3):
            options["streamer"].put(torch.tensor([number]))
        raise ValueError("no more")

    tokens = stream_tokens(generate)
    assert [next(tokens) for _ in range(3)] == [[0], [1], [2]]
    with pytest.raises(ValueError, match="no more"):
        next(tokens)
    tokens = stream_tokens(lambda options: options["streamer"].put(torch.tensor([[5, 6]])))
    assert list(tokens) == [[5, 6]]


def test_closing_asks_the_model_to_stop():
    import torch

    asked = []

    def generate(options):
        (criterion,) = options["stopping_criteria"]
        while not criterion(torch.zeros(2, 1), None).all():
            options["streamer"].put(torch.tensor([1]))
        asked.append(True)

    tokens = stream_tokens(generate)
    next(tokens)
    tokens.close()
    assert asked == [True]
