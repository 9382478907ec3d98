"""An answer while it is written: tokens of a running `generate` -> pieces of text.

The pieces joined are the text of the whole answer, to the character: what a later token could still
change (half of a character, white space at the end) is held back.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A token for one byte: how a run of them reads is known when it ends."""
_UNFINISHED = "\ufffd"


def answer_text(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """Return the text of an answer's tokens, without special ones and white space around it."""
    return _decode(tokenizer, ids).strip()


def _decode(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    # Tidying would take spaces away that the model wrote, and change text that was shown.
    found = tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return str(found)


class TextStream:
    """Tokens one after the other -> what is certain of their text.

    Decodes all tokens so far with each new one, since a token's text may depend on those before:
    below half a second in all for two thousand tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._shown = ""
        self.ids: list[int] = []

    def push(self, ids: Sequence[int]) -> str:
        """Take new tokens; returns the text that they make certain, which may be empty."""
        self.ids.extend(ids)
        last = str(self._tokenizer.convert_ids_to_tokens(self.ids[-1])) if self.ids else ""
        if _BYTE.fullmatch(last):
            return ""
        certain = _decode(self._tokenizer, self.ids).lstrip()
        while certain and (certain[-1] == _UNFINISHED or certain[-1].isspace()):
            certain = certain[:-1]
        return self._new(certain)

    def end(self) -> str:
        """Return what was held back."""
        return self._new(answer_text(self._tokenizer, self.ids))

    def _new(self, text: str) -> str:
        if not text.startswith(self._shown):
            return ""
        new = text[len(self._shown) :]
        self._shown = text
        return new


class _Tokens(BaseStreamer):
    """Puts each new token into a queue."""

    def __init__(self, queue: SimpleQueue[Any]) -> None:
        self._queue = queue

    def put(self, value: Tensor) -> None:
        """Take tokens; the prompt comes first, which is empty since it is given as embeddings."""
        self._queue.put(value.flatten().tolist())

    def end(self) -> None:
        """Do nothing: the thread tells the end itself, after errors too."""


class _Stop(StoppingCriteria):
    """Ends `generate` after the present token once it is set."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Return, a row, whether it has ended."""
        return torch.full((input_ids.shape[0],), self.asked.is_set(), device=input_ids.device)


def stream_tokens(generate: Callable[[dict[str, Any]], object]) -> Generator[list[int]]:
    """Run `generate` in a thread; yields its new tokens as they come.

    A reader that stops, by an interrupt or by closing the iterator, ends it after its present
    token.

    Args:
        generate: called with options for a `generate` of transformers.
    """
    queue: SimpleQueue[list[int] | BaseException | None] = SimpleQueue()
    stop = _Stop()

    def run() -> None:
        try:
            generate({"streamer": _Tokens(queue), "stopping_criteria": [stop]})
            queue.put(None)
        except BaseException as error:  # noqa: BLE001 - the reader raises it
            queue.put(error)

    thread = threading.Thread(target=run, name="answer", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.asked.set()
        thread.join()
