"""Messages -> token ids and labels, in one pass, by a template that is data.

The prompt is written as pieces, each marked as trained or not. The text is cut at `<image>`, each
part is tokenised, and a token is trained if it overlaps an answer or its end token; `<image>`
itself becomes IMAGE_TOKEN_INDEX, so that its place is known from the ids alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cambrian_data.records import IMAGE_TOKEN, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IMAGE_TOKEN_INDEX = -200
"""Stands for a picture in token ids; as in published checkpoints."""
IGNORE_INDEX = -100
"""Label of what is not trained."""

SAMPLE_REASONS = frozenset(
    {
        "answers_cut",
        "bad_turns",
        "image_token_in_answer",
        "image_token_mismatch",
        "no_answer",
        "picture_unreadable",
        "special_token",
    }
)
"""Why a sample may be unusable for training."""


class SampleError(ValueError):
    """A sample that cannot be used: its id, a reason of `SAMPLE_REASONS`, and a detail."""

    def __init__(self, sample_id: str, reason: str, detail: str) -> None:
        assert reason in SAMPLE_REASONS, reason
        super().__init__(f"sample {sample_id}: {reason}: {detail}")
        self.sample_id, self.reason, self.detail = sample_id, reason, detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a conversation is written for one family of language models."""

    start: str = ""
    """Literal text at the very beginning."""
    adds_bos: bool = True
    """Whether the tokenizer's BOS is put first; not where `start` spells it."""
    system: str = ""
    system_open: str = ""
    system_close: str = ""
    user_open: str = ""
    user_close: str = ""
    assistant_open: str = ""
    assistant_close: str
    """Ends an answer; trained, and where generation stops."""
    shows_questions: bool = True
    """False: of a human turn only its pictures stay."""
    special_tokens: tuple[str, ...] = ()
    """Tokens of the template that no text of a sample may hold."""
    bos_token: str = "<s>"
    eos_token: str = "</s>"
    pad_token: str = "<unk>"


_CAMBRIAN = (
    "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X.",
    "As a multimodal AI, you have the ability to process and analyze images. Whenever an image is "
    "present in the conversation, very carefully examine it and consider its content when "
    "formulating your response.",
    "You should give concise responses to very simple questions, but provide thorough responses to "
    "more complex and open-ended questions.",
)

TEMPLATES: dict[str, Template] = {
    "llama_3": Template(
        start="<|begin_of_text|>",
        adds_bos=False,
        # The odd white space is that of the released model.
        system=f"{_CAMBRIAN[0]} \n    {_CAMBRIAN[1]}\n    {_CAMBRIAN[2]} ",
        system_open="<|start_header_id|>system<|end_header_id|>",
        system_close="<|eot_id|>",
        user_open="<|start_header_id|>user<|end_header_id|>",
        user_close="<|eot_id|>",
        assistant_open="<|start_header_id|>assistant<|end_header_id|>",
        assistant_close="<|eot_id|>",
        special_tokens=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|reserved_special_token_0|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|reserved_special_token_0|>",
    ),
    "vicuna_v1": Template(
        system="A chat between a curious user and an artificial intelligence assistant. The "
        "assistant gives helpful, detailed, and polite answers to the user's questions.",
        system_close=" ",
        user_open="USER: ",
        user_close=" ",
        assistant_open="ASSISTANT: ",
        assistant_close="</s>",
        special_tokens=("<s>", "</s>", "<unk>"),
    ),
    "chatml_direct": Template(
        system=" ".join(_CAMBRIAN),
        system_open="<|im_start|>system\n",
        system_close="<|im_end|>",
        user_open="<|im_start|>user\n",
        user_close="<|im_end|>",
        assistant_open="<|im_start|>assistant\n",
        assistant_close="<|im_end|>",
        special_tokens=("<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"),
        eos_token="<|im_end|>",
    ),
    "phi3": Template(
        system="You are a helpful AI assistant.",
        system_open="<|system|>\n",
        system_close="<|end|>",
        user_open="\n<|user|>\n",
        user_close="<|end|>",
        assistant_open="\n<|assistant|>\n",
        assistant_close="<|end|>",
        special_tokens=(
            "<s>",
            "</s>",
            "<unk>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|end|>",
        ),
        eos_token="<|end|>",
    ),
    "plain": Template(
        assistant_close="</s>",
        shows_questions=False,
        special_tokens=("<s>", "</s>", "<unk>"),
    ),
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids with IMAGE_TOKEN_INDEX once a picture, and labels of the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def num_pictures(self) -> int:
        """Return how many pictures the ids hold."""
        return self.input_ids.count(IMAGE_TOKEN_INDEX)


def render(
    turns: Sequence[Mapping[str, str]], template: Template, system: str | None
) -> Iterator[tuple[str, bool]]:
    """Yield the prompt as pieces of text, each with whether it is trained.

    A space before an answer belongs to it, since tokens begin with their space: it is trained, and
    the open prompt that ends a conversation whose last turn is a human one goes without it.
    """
    opening = template.assistant_open.rstrip(" ")
    space = template.assistant_open[len(opening) :]
    system = template.system if system is None else system
    yield template.start, False
    if system and template.shows_questions:
        yield template.system_open + system + template.system_close, False
    for turn in turns:
        if turn["from"] == "human":
            shown = turn["value"]
            if not template.shows_questions:
                shown = IMAGE_TOKEN * shown.count(IMAGE_TOKEN)
            yield template.user_open + shown + template.user_close, False
        else:
            yield opening, False
            yield space + turn["value"].strip() + template.assistant_close, True
    if turns and turns[-1]["from"] == "human":
        yield opening, False


def encode(
    turns: Sequence[Mapping[str, str]],
    tokenizer: PreTrainedTokenizerFast,
    template: Template,
    system: str | None = None,
) -> Encoded:
    """Write a conversation as token ids and labels.

    Args:
        turns: `{"from": "human" | "gpt", "value": text}`, as in records.
        system: replaces the template's system prompt; empty for none.
    The ids are those of the whole text at once: no token depends on where an answer begins.
    """
    text, trained = "", []
    for piece, is_trained in render(turns, template, system):
        if is_trained:
            trained.append((len(text), len(text) + len(piece)))
        text += piece
    ids = [tokenizer.bos_token_id] if template.adds_bos else []
    labels = [IGNORE_INDEX] * len(ids)
    start = 0
    for number, part in enumerate(text.split(IMAGE_TOKEN)):
        if number:
            ids.append(IMAGE_TOKEN_INDEX)
            labels.append(IGNORE_INDEX)
        found = tokenizer(part, add_special_tokens=False, return_offsets_mapping=True)
        for token, (left, right) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            ids.append(token)
            answer = _overlaps(start + left, start + right, trained)
            labels.append(token if answer else IGNORE_INDEX)
        start += len(part) + len(IMAGE_TOKEN)
    return Encoded(ids, labels)


def _overlaps(left: int, right: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(left < end and right > begin for begin, end in spans)


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


def template_of(name: str) -> Template:
    """Return a template by its key.

    Raises:
        UserError: there is none of that name.
    """
    if name not in TEMPLATES:
        raise UserError(f"there is no template {name!r}; use one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
