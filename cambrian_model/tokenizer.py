"""A tokenizer trained from the shards' own text, for where none can be downloaded.

Byte-level BPE: every text can be written, and the same texts in the same order give the same
vocabulary. The template's special tokens come first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, repeat
from typing import TYPE_CHECKING

from cambrian_model.conversation import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


_MAX_CHARACTERS = 100_000
_LONG_WORD = re.compile(r"\S{256}")
_WEIGHT = 1000
"""How often the template's own words count: they stand in every sample."""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, template: Template
) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    Args:
        texts: everything it should write well, in a fixed order.
        vocab_size: most tokens, special ones and the 256 bytes counted.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(template.special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bare.train_from_iterator(
        chain(map(_bounded, texts), repeat(_own_words(template), _WEIGHT)), trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=template.bos_token,
        eos_token=template.eos_token,
        pad_token=template.pad_token,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def _bounded(text: str) -> str:
    """Return the beginning of a text, its words cut: training is quadratic in a word's length."""
    return _LONG_WORD.sub(r"\g<0> ", text[:_MAX_CHARACTERS])


def _own_words(template: Template) -> str:
    """Return what the template writes around the turns, without its special tokens."""
    written = " ".join(
        (
            template.system_open,
            template.user_open,
            template.user_close,
            template.assistant_open,
        )
    )
    return re.sub("|".join(map(re.escape, template.special_tokens)), "", written)
