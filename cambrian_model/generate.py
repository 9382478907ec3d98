"""Ask a trained model: turns and pictures -> an answer, by the path that training takes.

A prompt is written by the same `encode` as a training sample; answers end at the template's end
token, at the tokenizer's, or at one of the model's own generation config. Greedy answers are the
same one by one, many at once, and streamed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from cambrian_data.records import IMAGE_TOKEN, UserError
from cambrian_model.answers.questions import (
    DEFAULT_NEW_TOKENS,
    AnswerOptions,
    Prompt,
    Question,
    QuestionError,
    Shown,
    join,
    miscounted,
    place_pictures,
    show,
)
from cambrian_model.answers.streaming import TextStream, answer_text, stream_tokens
from cambrian_model.conversation import Template, encode, find_special, template_of
from cambrian_model.files.folder import load_folder
from cambrian_model.model import CambrianModel
from cambrian_model.pictures import num_visual_tokens
from cambrian_model.runtime import Runtime
from cambrian_model.vision import Pictures
from cambrian_model.vision import encode as run_towers

__all__ = ["AnswerOptions", "Answerer", "Question", "QuestionError", "load"]


@dataclass(slots=True)
class Answerer:
    """A loaded model that answers questions about pictures."""

    model: CambrianModel
    tokenizer: PreTrainedTokenizerFast
    more_stops: tuple[int, ...] = ()
    """Tokens that end an answer beside the template's and the tokenizer's."""
    stops: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find the tokens that end an answer.

        Raises:
            UserError: the tokenizer does not know the template's.
        """
        close = self.template.assistant_close
        token = self.tokenizer.get_vocab().get(close)
        if token is None:
            raise UserError(
                f"the tokenizer does not know {close!r}, which ends an answer under the template "
                f"{self.model.config.template!r}; the model was trained with another template, or "
                "the folder holds another model's tokenizer"
            )
        found = (token, self.tokenizer.eos_token_id, *self.more_stops)
        self.stops = tuple(dict.fromkeys(stop for stop in found if stop is not None))

    @property
    def template(self) -> Template:
        """Return how the model's conversations are written."""
        return template_of(self.model.config.template)

    @property
    def context(self) -> int | None:
        """Return how many tokens question and answer may have together, if it is limited."""
        config: Any = self.model.decoder.config
        config = config.get_text_config()
        return getattr(config, "max_position_embeddings", None)

    @torch.no_grad()
    def look(self, picture: bytes | Path) -> Pictures:
        """Run the towers on a picture that several questions will be about.

        Returns:
            Its features, to be given in its place: 110 MB a picture for the released towers in
            bfloat16, twice that in float32.
        Raises:
            QuestionError: it cannot be read.
        """
        shown = show(self.model.tower_specs, [picture])
        features = run_towers(self.model.towers, shown.to(self.model.device))
        return Pictures(shown.sizes, features=features)

    # ---------------------------------------------------------------------------- answers

    def answer(
        self,
        question: str,
        pictures: Sequence[Shown] = (),
        *,
        system: str | None = None,
        **options: Any,
    ) -> str:
        """Answer one question.

        Args:
            question: may hold `<image>` where each picture stands; else they come first.
            pictures: stored bytes, files, or what `look` returned.
            system: replaces the recipe's system prompt.
            options: fields of `AnswerOptions`.
        Raises:
            QuestionError: an unreadable picture, a question that does not fit the pictures, or one
                that is too long.
        """
        asked = Question(text=question, pictures=pictures, system=system)
        return self.answer_many([asked], **options)[0]

    def answer_many(
        self, questions: Sequence[Question], *, batch_size: int = 8, **options: Any
    ) -> list[str]:
        """Answer questions, some at once, those of like length together.

        Drawn answers (`temperature` above 0) are drawn one by one, so that each depends on its
        question and the seed alone.

        Args:
            batch_size: questions that go through the model at once.
            options: fields of `AnswerOptions`.
        Raises:
            QuestionError: as for `answer`; pictures are read batch by batch, so it may come late.
        """
        chosen = AnswerOptions(**options)
        asked = [
            [{"from": "human", "value": place_pictures(question.text, len(question.pictures))}]
            for question in questions
        ]
        order = sorted(range(len(asked)), key=lambda number: len(asked[number][0]["value"]))
        size = 1 if chosen.temperature > 0 else batch_size
        answers = [""] * len(asked)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            prompts = [
                self.prompt(
                    asked[n], questions[n].pictures, system=questions[n].system, options=chosen
                )
                for n in batch
            ]
            for number, ids in zip(batch, self._generate(prompts, chosen), strict=True):
                answers[number] = answer_text(self.tokenizer, ids)
        return answers

    def stream(
        self,
        turns: Sequence[Mapping[str, str]],
        pictures: Sequence[Shown] = (),
        *,
        system: str | None = None,
        **options: Any,
    ) -> Generator[str]:
        """Answer the last of several turns; returns the answer's pieces as they are written.

        Joined, they are what `answer` returns. With beams there is a single piece. Closing the
        iterator ends the answer after its present token.

        Args:
            turns: as for `encode`, the last one human, with `<image>` where each picture stands.
            pictures: of all turns, in order.
            options: fields of `AnswerOptions`.
        Raises:
            QuestionError: as for `answer`, before the first piece.
        """
        chosen = AnswerOptions(**options)
        prompt = self.prompt(turns, pictures, system=system, options=chosen)
        if chosen.num_beams > 1:
            return self._at_once(prompt, chosen)
        return self._pieces(prompt, chosen)

    def _at_once(self, prompt: Prompt, options: AnswerOptions) -> Generator[str]:
        yield answer_text(self.tokenizer, self._generate([prompt], options)[0])

    def _pieces(self, prompt: Prompt, options: AnswerOptions) -> Generator[str]:
        text = TextStream(self.tokenizer)
        tokens = stream_tokens(lambda more: self._generate([prompt], options, **more))
        with closing(tokens):
            for ids in tokens:
                if piece := text.push([token for token in ids if token not in self.stops]):
                    yield piece
        if piece := text.end():
            yield piece

    # ---------------------------------------------------------------------------- prompts

    def prompt(
        self,
        turns: Sequence[Mapping[str, str]],
        pictures: Sequence[Shown],
        *,
        system: str | None,
        options: AnswerOptions,
    ) -> Prompt:
        """Write what is asked, and see that it can be.

        Raises:
            QuestionError: it cannot.
        """
        texts = [turn["value"] for turn in turns]
        if special := find_special([*texts, system or ""], self.template):
            raise QuestionError(f"the question holds {special!r}, which only the template may use")
        if any(IMAGE_TOKEN in t["value"] for t in turns if t["from"] != "human"):
            raise QuestionError(f"an answer names {IMAGE_TOKEN}; only questions show pictures")
        named = sum(text.count(IMAGE_TOKEN) for text in texts)
        if named != len(pictures):
            raise QuestionError(miscounted(named, len(pictures)))
        system = self.model.config.system if system is None else system
        if IMAGE_TOKEN in (system or ""):
            raise QuestionError(
                f"the system prompt names {IMAGE_TOKEN}, and only questions show pictures; leave "
                "it out"
            )
        encoded = encode(turns, self.tokenizer, self.template, system)
        shown = show(self.model.tower_specs, pictures)
        side = self.model.connector.side
        num_shown = sum(num_visual_tokens(size, side) for size in shown.sizes)
        num_text = len(encoded.input_ids) - len(shown.sizes)
        room = self._room(num_text, num_shown, options.max_new_tokens)
        return Prompt(encoded.input_ids, shown, room)

    def _room(self, num_text: int, num_shown: int, wanted: int | None) -> int:
        """Return how many tokens the answer may have."""
        if self.context is None:
            return wanted or DEFAULT_NEW_TOKENS
        left = self.context - num_text - num_shown
        if left >= (wanted or 1):
            return wanted or min(DEFAULT_NEW_TOKENS, left)
        told = (
            f"the question has {num_text + num_shown} tokens, {num_shown} of them of its pictures, "
            f"and the model's context {self.context}"
        )
        if left < 1:
            raise QuestionError(f"{told}; leave out turns or pictures, or shorten the text")
        raise QuestionError(
            f"{told}: {left} are left and max_new_tokens is {wanted}; lower it to {left} or less, "
            "or leave out turns or pictures"
        )

    def _generate(
        self, prompts: Sequence[Prompt], options: AnswerOptions, **more: Any
    ) -> list[list[int]]:
        """Return the new ids of each prompt, up to its end."""
        longest = max(len(prompt.input_ids) for prompt in prompts)
        pad = self.tokenizer.pad_token_id
        pad = self.stops[0] if pad is None else pad
        rows = [[pad] * (longest - len(p.input_ids)) + p.input_ids for p in prompts]
        keep = [[False] * (longest - len(p.input_ids)) + [True] * len(p.input_ids) for p in prompts]
        device = self.model.device
        shown = join([prompt.pictures for prompt in prompts if prompt.pictures.sizes])
        if options.temperature > 0:
            torch.manual_seed(options.seed)
        ids = self.model.generate(
            torch.tensor(rows, device=device),
            attention_mask=torch.tensor(keep, device=device),
            pictures=shown.to(device) if shown.sizes else None,
            max_new_tokens=max(prompt.max_new_tokens for prompt in prompts),
            eos_token_id=list(self.stops),
            pad_token_id=pad,
            **options.for_model(),
            **more,
        )
        return [
            self._until_stop(row[: prompt.max_new_tokens])
            for row, prompt in zip(ids.tolist(), prompts, strict=True)
        ]

    def _until_stop(self, ids: list[int]) -> list[int]:
        end = next((place for place, token in enumerate(ids) if token in self.stops), len(ids))
        return ids[:end]


def load(
    checkpoint: Path, *, runtime: Runtime | None = None, dtype: torch.dtype | None = None
) -> Answerer:
    """Load a model to ask it.

    Args:
        checkpoint: a checkpoint, a run's folder (its newest whole one), a published model, or
            adapters whose `adapter_config.json` names the model under them.
        runtime: where it runs; the CPU if not given.
        dtype: of the weights; float32 if not given.
    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    found = load_folder(Path(checkpoint), dtype=dtype)
    if runtime is not None:
        found.model.to(runtime.device)  # type: ignore[arg-type]
    return Answerer(found.model, found.tokenizer, found.stops)
