"""Questions by a language model: one call a figure, its answer judged before it is believed.

Requests are built one by one as the client takes them, so that a chunk of figures never has all
its pictures in memory. What is not kept is a drop: what the model itself calls ungrounded or
unfit, what `checks` finds, and calls without an answer that can be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cambrian_data.engine.vqa import prompts
from cambrian_data.engine.vqa.checks import find_fault, tidy
from cambrian_data.engine.vqa.config import VqaConfig
from cambrian_data.engine.vqa.pictures import UnreadablePicture, picture_url
from cambrian_data.engine.vqa.writers import Row, Written, figure_drop, figure_text
from cambrian_data.llm.exchange import Asks, LlmAnswer, LlmRequest
from cambrian_data.llm.extractive import QA, FigureText
from cambrian_data.llm.phrases import tokens
from cambrian_data.records import content_id

_TOKENS_PER_WORD = 4
"""Upper end over languages and tokenizers; English has about 1.3."""
_TOKENS_OF_SHAPE = 150
"""Braces, names of properties and the pairs' fields beside the texts."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A figure that a request was built for."""

    row: Row
    text: FigureText
    system: str
    has_seen: bool


class LlmWriter:
    """Asks a language model for questions on each figure, and keeps what is sound."""

    name = "llm"

    def __init__(
        self,
        client: Asks,
        config: VqaConfig,
        *,
        workspace_root: Path,
        model: str,
        can_see: bool,
        seed: int | None = None,
    ) -> None:
        """Keep what requests are made of.

        Args:
            client: asks the model; shared with other writers and stages.
            config: the recipe's section `vqa`.
            workspace_root: the folder that the paths of pictures are relative to.
            model: name of the model; part of the version.
            can_see: whether the model takes pictures; counts where the recipe says `auto`.
            seed: chooses the kinds asked for; the config's where it is left out.
        """
        self._client, self._config, self._root = client, config.llm, workspace_root
        self._model = model
        self._seed = config.seed if seed is None else seed
        show = config.llm.show_picture
        self._shows = show == "always" or (show == "auto" and can_see)
        sample = self._system(prompts.KINDS, asks_fit=self._shows)
        parts = (sample, model, self._shows, self._seed, config.llm.model_dump(mode="json"))
        self.version = f"{prompts.PROMPT_VERSION}-{content_id(*parts)[:16]}"

    def write(self, rows: Sequence[Row]) -> Written:
        """Ask for all figures of a chunk at once and return what is sound of the answers."""
        judgement = _Judgement(self._config.questions_per_figure, self._config.max_answer_words)
        asked: list[_Asked] = []

        def requests() -> Iterator[LlmRequest]:
            for figure, request in self._asked(rows, judgement.pass_over):
                asked.append(figure)
                yield request

        answers = self._client.ask(requests())
        for figure, answer in zip(asked, answers, strict=True):
            judgement.judge(figure, answer, self._about(answer))
        judgement.written.llm_keys = sorted({answer.key for answer in answers})
        return judgement.written

    def requests(self, rows: Iterable[Row]) -> Iterator[LlmRequest]:
        """Yield the requests that `write` would send, each built when it is taken."""
        return (request for _, request in self._asked(rows, lambda *_: None))

    def _asked(
        self, rows: Iterable[Row], refuse: Callable[[Row, str, str], None]
    ) -> Iterator[tuple[_Asked, LlmRequest]]:
        """Yield the figures that can be asked about, each with its request."""
        for row in rows:
            text = figure_text(row["figure"], row["page"]["title"] or "")
            if not tokens(f"{text.caption} {text.text}"):
                refuse(row, "no_question", "neither caption nor prose")
                continue
            try:
                figure, request = self._request(row, text)
            except UnreadablePicture as error:
                refuse(row, "unfit", f"the stored picture cannot be read: {error}")
                continue
            yield figure, request

    def _request(self, row: Row, text: FigureText) -> tuple[_Asked, LlmRequest]:
        config = self._config
        content: Any = prompts.user_text(text, config.max_prose_words)
        if self._shows:
            url = picture_url(
                self._root / row["picture"]["path"],
                max_side_px=config.max_picture_side_px,
                quality=config.picture_quality,
            )
            content = [
                {"type": "text", "text": content},
                {"type": "image_url", "image_url": {"url": url}},
            ]
        kinds = prompts.kinds_in_order(text.figure_id, config, self._seed)
        asks_fit = self._shows and bool(tokens(text.caption))
        system = self._system(kinds, asks_fit=asks_fit)
        request = LlmRequest(
            messages=[
                {"role": "system", "content": system},
                {"role": "user", "content": content},
            ],
            schema=prompts.answer_schema(kinds, asks_fit=asks_fit),
            max_tokens=config.max_tokens or self._enough_tokens(),
            about=text.figure_id,
        )
        return _Asked(row, text, system, self._shows), request

    def _system(self, kinds: tuple[str, ...], *, asks_fit: bool) -> str:
        return prompts.system_prompt(
            kinds,
            num_pairs=self._config.questions_per_figure,
            max_answer_words=self._config.max_answer_words,
            language=self._config.language,
            with_picture=self._shows,
            asks_fit=asks_fit,
        )

    def _enough_tokens(self) -> int:
        words = self._config.questions_per_figure * (self._config.max_answer_words + 40)
        return _TOKENS_OF_SHAPE + _TOKENS_PER_WORD * words

    def _about(self, answer: LlmAnswer) -> dict[str, Any]:
        return {
            "generator": self.name,
            "model": answer.model or self._model,
            "prompt_version": prompts.PROMPT_VERSION,
            "llm_key": answer.key,
        }


class _Judgement:
    """Gathers what is kept and what is dropped of a chunk's answers."""

    def __init__(self, max_pairs: int, max_answer_words: int) -> None:
        self._max_pairs, self._max_answer_words = max_pairs, max_answer_words
        self.written = Written()

    def refuse(self, row: Row, reason: str, detail: str, raw: str | None = None) -> None:
        """Write down a drop of a figure, or of one pair of it."""
        self.written.drops.append(figure_drop(row, reason, detail, raw))

    def pass_over(self, row: Row, reason: str, detail: str) -> None:
        """Write down a figure that nothing was asked about."""
        self.refuse(row, reason, detail)
        # A picture that was damaged since it was stored is stored again by the next run.
        self.written.num_passing += reason == "unfit"

    def judge(self, figure: _Asked, answer: LlmAnswer, about: dict[str, Any]) -> None:
        """Keep or drop what came back for one figure."""
        if answer.outcome == "over_budget":
            self.written.num_left += 1
            return
        if answer.outcome != "ok":
            self.written.num_passing += answer.outcome == "llm_error" and answer.is_passing
            self.refuse(figure.row, answer.outcome, answer.detail)
            return
        said: Any = answer.value
        if not getattr(said, "picture_fits_caption", True):
            self.refuse(figure.row, "unfit", "the model says that picture and caption differ")
        elif not said.pairs:
            self.refuse(figure.row, "no_question", "the model found none")
        else:
            self._keep(figure, said.pairs, about)

    def _keep(self, figure: _Asked, pairs: Sequence[prompts.Pair], about: dict[str, Any]) -> None:
        kept: list[QA] = []
        known: set[str] = set()
        for pair in map(tidy, pairs):
            fault = find_fault(
                pair,
                figure.text,
                system=figure.system,
                max_answer_words=self._max_answer_words,
                has_seen=figure.has_seen,
            )
            question = " ".join(tokens(pair.question))
            if fault is None and question in known:
                fault = "duplicate", "the same question twice"
            if fault is None and len(kept) == self._max_pairs:
                fault = "surplus", f"more than the {self._max_pairs} pairs that were asked for"
            if fault:
                self.refuse(figure.row, *fault, raw=f"{pair.question}\n{pair.answer}")
            else:
                known.add(question)
                kept.append(QA(pair.kind, f"llm/{pair.kind}", pair.question, pair.answer))
        if kept:
            self.written.questions[figure.text.figure_id] = kept
            self.written.about[figure.text.figure_id] = about
            self.written.kinds.update(qa.kind for qa in kept)
