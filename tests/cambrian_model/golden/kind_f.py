"""Kind F: prompts, token ids and labels of published templates, for any tokenizer that is named.

Texts, ids and labels are compared exactly wherever the published result is sound. Where it is not:

* Tokenizers that add a BOS by themselves, under a template that spells it: published ids hold one
  BOS too many at the front, and in training another behind each picture. Ours hold the first only.
* Inference with a tokenizer that adds no BOS: the published splitter takes the first token behind
  each picture for one and drops it. Ours keep it, as training does.
* `every_label_ignored`: the published count of tokens does not add up and the sample is lost
  (phi3 and chatml_direct with several turns and legacy tokenizers, phi3 with several turns unless
  added tokens swallow white space, llama_3 with an automatic BOS). Ours are trained on exactly
  their answers; so they are where published labels cover something else than the answers.

Published templates hold a system prompt with what opens it; one given for a single case is written
as it is, even where that opening is then missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from cambrian_model.conversation import (
    IGNORE_INDEX,
    IMAGE_TOKEN_INDEX,
    TEMPLATES,
    FastTokenizer,
    Template,
    encode,
    image_position,
    render,
)
from tests.cambrian_model.golden.cases import Case
from tests.cambrian_model.golden.slow_tokenizer import SlowLlamaTokenizer

_BY_STYLE = {"LLAMA_3": "llama_3", "TWO": "vicuna_v1", "PHI3": "phi3", "MPT": "chatml_direct"}
"""Our template for a published style, where the name is not one of ours."""
_DEFAULT_SYSTEM = "default_system"
_AS_BEFORE = "as before"


@dataclass(frozen=True)
class _Ready:
    """A case with what it is encoded by."""

    entry: dict[str, Any]
    template: Template
    system: str
    tokenizer: SlowLlamaTokenizer | FastTokenizer
    bos: int
    spells_bos: bool
    adds_bos: bool

    def encode(self, turns: Sequence[dict[str, str]]) -> Any:
        return encode(turns, self.tokenizer, self.template, self.system, trim=False)

    def write(self, turns: Sequence[dict[str, str]]) -> str:
        pieces = render(turns, self.template, self.system, trim=False)
        return "".join(piece for piece, _ in pieces)

    def decode(self, ids: list[int]) -> str:
        if isinstance(self.tokenizer, SlowLlamaTokenizer):
            return self.tokenizer.decode(ids)
        return self.tokenizer.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def check(case: Case) -> None:
    """Assert that every conversation of a case is written as published, or better."""
    assert case.meta.get("image_token_index", IMAGE_TOKEN_INDEX) == IMAGE_TOKEN_INDEX
    assert case.meta.get("ignore_index", IGNORE_INDEX) == IGNORE_INDEX
    described = ""
    for number, entry in enumerate(case.meta["cases"]):
        told = entry["tokenizer"]
        described = f"{described}; {told}" if told.startswith(_AS_BEFORE) else told
        ready = _prepare(case, entry, described)
        where = f"{case.name}, case {number}: {entry['template']}, {told}"
        _check_training(ready, where)
        _check_inference(ready, where)


# ------------------------------------------------------------------------------ what is given


def _prepare(case: Case, entry: dict[str, Any], described: str) -> _Ready:
    published = case.meta["templates"][entry["template"]]
    name = entry["template"]
    known = TEMPLATES[name if name in TEMPLATES else _BY_STYLE[published["sep_style"]]]
    is_default = entry["system"] == _DEFAULT_SYSTEM
    system = published["system"] if is_default else entry["system"]
    template, system = _head(known, system, entry["tokenised_prompt"])
    if is_default and name in TEMPLATES:
        assert system == known.system, f"{name}: another system prompt than the published one"
    bare = _tokenizer(case, entry, described, adds_bos=True)
    bos = bare.bos_token_id
    assert bos is not None
    spells_bos = bool(known.start) and list(bare.encode_text(known.start)[0])[-1:] == [bos]
    num_front = next(n for n, token in enumerate(entry["input_ids"]) if token != bos)
    adds_bos = num_front > spells_bos
    tokenizer = _tokenizer(case, entry, described, adds_bos=adds_bos)
    template = replace(template, adds_bos=not spells_bos)
    return _Ready(entry, template, system, tokenizer, bos, spells_bos, adds_bos)


def _head(known: Template, system: str, prompt: str) -> tuple[Template, str]:
    """Return the template and system prompt that begin a prompt as it begins."""
    body = system.removeprefix(known.system_open)
    ours = known.start + known.system_open + body + known.system_close
    bare = known.start + system + known.system_close
    if body and prompt.startswith(ours):
        return known, body
    for head in (ours, bare):  # an empty one that is written all the same, or one without opening
        if prompt.startswith(head):
            return replace(known, start=head, system=""), ""
    return known, body


def _file(case: Case, described: str) -> str:
    """Return the file of the tokenizer that a description names first."""
    files: dict[str, str] = case.meta["tokenizers"]
    places = {described.find(key.split()[0]): file for key, file in files.items()}
    named = [place for place in places if place >= 0]
    assert named, f"no tokenizer of {list(files)} is named by {described!r}"
    return places[min(named)]


def _fast(case: Case, file: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(case.folder / file))
    vocab = tokenizer.get_vocab()
    tokenizer.bos_token = next(name for name in ("<|begin_of_text|>", "<s>") if name in vocab)
    return tokenizer


def _tokenizer(
    case: Case, entry: dict[str, Any], described: str, *, adds_bos: bool
) -> SlowLlamaTokenizer | FastTokenizer:
    added_ids: dict[str, dict[str, int]] = case.meta.get("added_token_ids", {})
    key = next((key for key in added_ids if entry["template"].startswith(key)), "")
    added = added_ids.get(key, {}) if "added" in described else {}
    file = _file(case, described)
    if file.endswith(".model"):
        legacy = re.findall(r"legacy=(True|False)", described)
        return SlowLlamaTokenizer(
            case.folder / file,
            added,
            legacy=legacy[-1:] != ["False"],
            rstrip="rstrip" in described,
            adds_bos=adds_bos,
        )
    tokenizer = _fast(case, file)
    extra = sorted(added.keys() - tokenizer.get_vocab().keys(), key=lambda name: added[name])
    if extra:
        tokenizer.add_special_tokens({"additional_special_tokens": extra})
    tokenizer.backend_tokenizer.post_processor = _processor(tokenizer, adds_bos)
    tokenizer.init_kwargs["add_bos_token"] = adds_bos
    return FastTokenizer(tokenizer)


def _processor(tokenizer: Any, adds_bos: bool) -> Any:
    """Return what puts the BOS before each text, so that `encode` has to do without it."""
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    if not adds_bos:
        return TemplateProcessing(single="$A", special_tokens=[])
    return TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)])


def _turns(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return messages as turns, from the first human one on, as the published code takes them."""
    turns = [{"from": m.get("from", m.get("role", "")), "value": m["value"]} for m in messages]
    first = next(number for number, turn in enumerate(turns) if turn["from"] == "human")
    return turns[first:]


# ------------------------------------------------------------------------------ what is checked


def _check_training(ready: _Ready, where: str) -> None:
    entry, bos = ready.entry, ready.bos
    turns = _turns(entry["messages_after_image_move"])
    text = ready.write(turns)
    assert entry["tokenised_prompt"] == text, where
    assert entry["get_prompt"] in (text, text + ready.template.assistant_open), where
    ours = ready.encode(turns)
    assert len(ours.labels) == len(ours.input_ids), where
    published = list(zip(entry["input_ids"], entry["labels"], strict=True))
    if ready.spells_bos and ready.adds_bos:
        assert entry["input_ids"][:2] == [bos, bos], where
        published = [p for place, p in enumerate(published) if not place or p[0] != bos]
    assert ours.input_ids == [token for token, _ in published], where
    answers = [t["value"] + ready.template.assistant_close for t in turns if t["from"] == "gpt"]
    assert _trained(ready, ours.labels) == [answer.strip() for answer in answers], where
    labels = [label for _, label in published]
    told = "".join(_trained(ready, labels))
    assert _squeezed(told) == _squeezed(entry["supervised_text"]), where
    if entry["every_label_ignored"]:
        assert set(labels) == {IGNORE_INDEX}, where
    elif ours.labels != labels:
        assert _trained(ready, labels) != [answer.strip() for answer in answers], where
    if text.count("<image>") and turns[0]["value"].startswith("<image>"):
        place = image_position(ready.template, ready.tokenizer, ready.system)
        assert ours.input_ids.index(IMAGE_TOKEN_INDEX) == place, where


def _trained(ready: _Ready, labels: Sequence[int]) -> list[str]:
    """Return the texts of the runs of trained tokens."""
    runs = groupby(labels, key=lambda label: label != IGNORE_INDEX)
    return [ready.decode(list(run)).strip() for trained, run in runs if trained]


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _check_inference(ready: _Ready, where: str) -> None:
    turns = _turns(ready.entry["messages"])
    asked = max(number for number, turn in enumerate(turns) if turn["from"] == "human")
    turns = turns[: asked + 1]
    assert ready.entry["inference_prompt"] == ready.write(turns), where
    ours = ready.encode(turns).input_ids
    published = ready.entry["inference_input_ids"]
    if ready.spells_bos and ready.adds_bos:
        assert published == [ready.bos, *ours], where
    elif ready.adds_bos:
        assert published == ours, where
    else:
        behind = [place + 1 for place, token in enumerate(ours) if token == IMAGE_TOKEN_INDEX]
        lossy = [token for place, token in enumerate(ours) if place not in behind]
        assert published in (ours, lossy), where
