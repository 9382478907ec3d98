"""Messages -> token ids and labels, in one pass, by a template that is data.

The prompt is written as pieces, each marked as trained or not. The text is cut at `<image>`, each
part is tokenised, and a token is trained if it overlaps an answer or its end token; `<image>`
itself becomes IMAGE_TOKEN_INDEX, so that its place is known from the ids alone. Cost: one call of
the tokenizer a part and one walk over its tokens.

Where this parts from the published code, each case shown by tests/cambrian_model/golden/kind_f.py:

* Labels come from the characters that a token covers, not from counting the tokens of pieces that
  are tokenised again on their own. The published counts do not add up, and the sample is dropped,
  for: phi3 and chatml_direct with several turns and a tokenizer that puts a space after its added
  tokens (slow Llama tokenizers with legacy=True); phi3 with several turns unless the added tokens
  swallow the white space after them; llama_3 with a tokenizer that adds a BOS by itself. Here all
  of these are trained on exactly their answers.
* Exactly one BOS, whether the template spells it, the tokenizer adds it, or both.
* A question is asked with the ids that it is trained with. The published llama_3 inference loses
  the token after each picture, which it takes for a BOS.
* A picture stays where the text has it; the published code moves it to the front of its turn.
* White space around answers is cut by default: an answer's first token then never merges with
  what the template puts before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from cambrian_data.records import IMAGE_TOKEN
from cambrian_model.templates import TEMPLATES, Template, template_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "IGNORE_INDEX",
    "IMAGE_TOKEN_INDEX",
    "SAMPLE_REASONS",
    "TEMPLATES",
    "Encoded",
    "FastTokenizer",
    "SampleError",
    "Template",
    "TextTokenizer",
    "check_turns",
    "encode",
    "find_special",
    "fit",
    "image_position",
    "render",
    "template_of",
]

IMAGE_TOKEN_INDEX = -200
"""Stands for a picture in token ids; as in published checkpoints."""
IGNORE_INDEX = -100
"""Label of what is not trained."""

SAMPLE_REASONS = frozenset(
    {
        "answers_cut",
        "bad_turns",
        "damaged",
        "image_token_in_answer",
        "image_token_mismatch",
        "no_answer",
        "picture_unreadable",
        "special_token",
        "too_many_pictures",
    }
)
"""Why a sample may be unusable for training."""


class SampleError(ValueError):
    """A sample that cannot be used: its id, a reason of `SAMPLE_REASONS`, and a detail."""

    def __init__(self, sample_id: str, reason: str, detail: str) -> None:
        assert reason in SAMPLE_REASONS, reason
        super().__init__(f"sample {sample_id}: {reason}: {detail}")
        self.sample_id, self.reason, self.detail = sample_id, reason, detail


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids with IMAGE_TOKEN_INDEX once a picture, and labels of the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def num_pictures(self) -> int:
        """Return how many pictures the ids hold."""
        return self.input_ids.count(IMAGE_TOKEN_INDEX)


class TextTokenizer(Protocol):
    """What `encode` needs of a tokenizer."""

    @property
    def bos_token_id(self) -> int | None:
        """Return what is to stand before a text, or None."""

    def encode_text(self, text: str) -> tuple[Sequence[int], Sequence[tuple[int, int]]]:
        """Return ids without BOS and EOS, and from where to where in the text each one reaches.

        Offsets count characters and never go back. They may leave out white space before a token,
        and be empty for a token that stands for no character or for part of one.
        """


@dataclass(frozen=True, slots=True)
class FastTokenizer:
    """A tokenizer of transformers as a `TextTokenizer`."""

    tokenizer: PreTrainedTokenizerFast

    @property
    def bos_token_id(self) -> int | None:
        """Return its BOS, unless its own configuration says that texts begin without."""
        if self.tokenizer.init_kwargs.get("add_bos_token") is False:
            return None
        return self.tokenizer.bos_token_id

    def encode_text(self, text: str) -> tuple[Sequence[int], Sequence[tuple[int, int]]]:
        """Return ids and offsets; whatever it would add, cut or pad by itself is left out."""
        backend = self.tokenizer.backend_tokenizer
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        if backend.encode_special_tokens:  # it would write the template's tokens as plain text
            backend.encode_special_tokens = False
        found = backend.encode(text, add_special_tokens=False)
        return found.ids, found.offsets


def render(
    turns: Sequence[Mapping[str, str]],
    template: Template,
    system: str | None,
    *,
    trim: bool = True,
) -> Iterator[tuple[str, bool]]:
    """Yield the prompt as pieces of text, each with whether it is trained.

    A space before an answer belongs to it, since tokens begin with their space: it is trained, and
    the open prompt that ends a conversation whose last turn is a human one goes without it.

    Args:
        trim: cut white space around answers.
    """
    opening = template.assistant_open.rstrip(" ")
    space = template.assistant_open[len(opening) :]
    system = template.system if system is None else system
    yield template.start, False
    if system and template.shows_questions:
        yield template.system_open + system + template.system_close, False
    for turn in turns:
        value = turn["value"]
        if turn["from"] == "human":
            if not template.shows_questions:
                value = IMAGE_TOKEN * value.count(IMAGE_TOKEN)
            yield template.user_open + value + template.user_close, False
        else:
            yield opening, False
            yield space + (value.strip() if trim else value) + template.assistant_close, True
    if turns and turns[-1]["from"] == "human":
        yield opening, False


def encode(
    turns: Sequence[Mapping[str, str]],
    tokenizer: PreTrainedTokenizerFast | TextTokenizer,
    template: Template,
    system: str | None = None,
    *,
    trim: bool = True,
) -> Encoded:
    """Write a conversation as token ids and labels.

    Args:
        turns: `{"from": "human" | "gpt", "value": text}`, as in records.
        system: replaces the template's system prompt; empty for none.
        trim: cut white space around answers.
    The ids are those of the whole text between two pictures at once: no token depends on where an
    answer begins.
    """
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    for piece, is_trained in render(turns, template, system, trim=trim):
        pieces.append(piece)
        if is_trained:
            spans.append((length, length + len(piece)))
        length += len(piece)
    writer = _text_tokenizer(tokenizer)
    bos = writer.bos_token_id if template.adds_bos else None
    encoded = Encoded([], []) if bos is None else Encoded([bos], [IGNORE_INDEX])
    start = 0
    for number, part in enumerate("".join(pieces).split(IMAGE_TOKEN)):
        if number:
            encoded.input_ids.append(IMAGE_TOKEN_INDEX)
            encoded.labels.append(IGNORE_INDEX)
        ids, offsets = writer.encode_text(part)
        encoded.input_ids.extend(ids)
        encoded.labels.extend(_labels(ids, offsets, start, spans))
        start += len(part) + len(IMAGE_TOKEN)
    return encoded


def _text_tokenizer(tokenizer: PreTrainedTokenizerFast | TextTokenizer) -> TextTokenizer:
    if hasattr(tokenizer, "encode_text"):
        return cast("TextTokenizer", tokenizer)
    return FastTokenizer(cast("PreTrainedTokenizerFast", tokenizer))


def _labels(
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    start: int,
    spans: Sequence[tuple[int, int]],
) -> Iterator[int]:
    """Yield the labels of a part that begins at a character: of spans in order, in one walk.

    White space between two tokens belongs to the later one, and a token that covers nothing to
    what follows: so does the space that some tokenizers put before a word.
    """
    remaining = iter(spans)
    begin, end = next(remaining, (0, 0))
    covered = 0
    for token, (left, right) in zip(ids, offsets, strict=True):
        left = min(left, covered)
        covered = max(covered, right)
        while end <= start + left and end:
            begin, end = next(remaining, (0, 0))
        yield token if end and start + max(right, left + 1) > begin else IGNORE_INDEX


def image_position(
    template: Template,
    tokenizer: PreTrainedTokenizerFast | TextTokenizer,
    system: str | None = None,
) -> int:
    """Return the place of a picture that opens the first turn, counted from 0.

    A check only, against `image_position` of published checkpoints (91 for llama_3): what a
    template, a system prompt and a tokenizer put before the picture. Nothing here depends on it.
    """
    turns = [{"from": "human", "value": IMAGE_TOKEN}]
    return encode(turns, tokenizer, template, system).input_ids.index(IMAGE_TOKEN_INDEX)


def check_turns(sample_id: str, record: Mapping[str, Any], template: Template) -> None:
    """Check what a record says before it is encoded.

    Raises:
        SampleError: turns that are neither human nor gpt, no answer, a picture named in an answer
            or a number of `<image>` other than that of the pictures, a special token in the text.
    """
    turns = record["conversations"]
    if any(turn.get("from") not in ("human", "gpt") for turn in turns):
        roles = sorted({str(turn.get("from")) for turn in turns})
        raise SampleError(sample_id, "bad_turns", f"roles {roles}, expected human and gpt")
    answers = [turn["value"] for turn in turns if turn["from"] == "gpt"]
    if not any(answer.strip() for answer in answers):
        raise SampleError(sample_id, "no_answer", "no turn of gpt says anything")
    system = record.get("system") or ""
    if any(IMAGE_TOKEN in text for text in [*answers, system]):
        raise SampleError(sample_id, "image_token_in_answer", f"{IMAGE_TOKEN} outside human turns")
    named = sum(turn["value"].count(IMAGE_TOKEN) for turn in turns)
    if named != len(record["images"]):
        raise SampleError(
            sample_id,
            "image_token_mismatch",
            f"{named} {IMAGE_TOKEN}, {len(record['images'])} pictures",
        )
    token = find_special([*(turn["value"] for turn in turns), system], template)
    if token:
        raise SampleError(sample_id, "special_token", f"its text holds {token!r}")


def find_special(texts: Sequence[str], template: Template) -> str | None:
    """Return the first special token of the template that stands in the texts, or None."""
    return next((t for t in template.special_tokens if any(t in text for text in texts)), None)


def fit(
    encoded: Encoded, picture_tokens: Sequence[int], max_tokens: int, sample_id: str
) -> Encoded:
    """Cut a sample to a length, counted with its pictures' tokens; a picture is never cut in two.

    Args:
        picture_tokens: tokens of each picture, in order.
    Raises:
        SampleError: nothing of the answers is left.
    """
    length, keep, pictures = 0, 0, iter(picture_tokens)
    for token in encoded.input_ids:
        length += next(pictures) if token == IMAGE_TOKEN_INDEX else 1
        if length > max_tokens:
            break
        keep += 1
    cut = Encoded(encoded.input_ids[:keep], encoded.labels[:keep])
    if all(label == IGNORE_INDEX for label in cut.labels):
        whole = len(encoded.input_ids) + sum(picture_tokens) - len(picture_tokens)
        raise SampleError(
            sample_id,
            "answers_cut",
            f"no token of an answer within max_tokens {max_tokens} of {whole}",
        )
    return cut
