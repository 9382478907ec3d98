"""How conversations are written for each family of language models, as data.

The texts are those of the released models; the default system prompts too.
"""

from __future__ import annotations

from dataclasses import dataclass

from cambrian_data.records import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a conversation is written for one family of language models."""

    start: str = ""
    """Literal text at the very beginning."""
    adds_bos: bool = True
    """Whether the tokenizer's BOS, if it has one in use, is put first; not where `start` does."""
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


def template_of(name: str) -> Template:
    """Return a template by its key.

    Raises:
        UserError: there is none of that name.
    """
    if name not in TEMPLATES:
        raise UserError(f"there is no template {name!r}; use one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
