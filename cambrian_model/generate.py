"""Ask a trained model: a checkpoint folder -> answers, by the path that training takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from cambrian_data.records import IMAGE_TOKEN, UserError, bytes_id
from cambrian_model.batches import make_picture_store
from cambrian_model.checkpoint import MANIFEST_NAME, checkpoint_problem, latest_checkpoint
from cambrian_model.conversation import encode, find_special, template_of
from cambrian_model.model import CambrianModel
from cambrian_model.pictures import PictureError
from cambrian_model.runtime import Runtime
from cambrian_model.vision import Pictures

_STORE_MB = 64


class QuestionError(UserError):
    """A question that cannot be put to the model."""


@dataclass(slots=True)
class Answerer:
    """A loaded model that answers questions about pictures."""

    model: CambrianModel
    tokenizer: PreTrainedTokenizerFast

    def answer(
        self,
        question: str,
        pictures: Sequence[bytes | Path] = (),
        *,
        system: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """Answer one question.

        Args:
            question: may hold `<image>` where each picture stands; else they come first.
            pictures: stored bytes or files.
            system: replaces the recipe's system prompt.
            temperature: 0 takes the likeliest token each time; above, tokens are drawn by `seed`.
        Raises:
            QuestionError: an unreadable picture, or a question that does not fit the pictures.
        """
        template = template_of(self.model.config.template)
        turns = [{"from": "human", "value": _placed(question, len(pictures))}]
        special = find_special([question, system or ""], template)
        if special:
            raise QuestionError(f"the question holds {special!r}, which only the template may use")
        system = self.model.config.system if system is None else system
        encoded = encode(turns, self.tokenizer, template, system)
        shown = self._load(pictures)
        options: dict[str, float | bool] = {"do_sample": False}
        if temperature > 0:
            torch.manual_seed(seed)
            options = {"do_sample": True, "temperature": temperature}
        ids = self.model.generate(
            torch.tensor([encoded.input_ids], device=self.model.device),
            shown.to(self.model.device),
            max_new_tokens=max_new_tokens,
            eos_token_id=self.tokenizer.convert_tokens_to_ids(template.assistant_close),
            pad_token_id=self.tokenizer.pad_token_id,
            **options,
        )
        return str(self.tokenizer.decode(ids[0], skip_special_tokens=True)).strip()

    def _load(self, pictures: Sequence[bytes | Path]) -> Pictures:
        store = make_picture_store(self.model.tower_specs, _STORE_MB)
        keys = []
        for picture in pictures:
            data, name = _read(picture)
            keys.append(bytes_id(data))
            try:
                store.add(keys[-1], data)
            except PictureError as error:
                raise QuestionError(f"{name}: {error}; give a PNG or JPEG file") from None
        return store(keys)


def _placed(question: str, num_pictures: int) -> str:
    """Return the question with one `<image>` a picture."""
    named = question.count(IMAGE_TOKEN)
    if named == 0:
        return f"{IMAGE_TOKEN}\n" * num_pictures + question
    if named != num_pictures:
        raise QuestionError(
            f"the question names {named} pictures by {IMAGE_TOKEN} and {num_pictures} are given; "
            "give as many as it names, or leave them out of the text"
        )
    return question


def _read(picture: bytes | Path) -> tuple[bytes, str]:
    if isinstance(picture, bytes):
        return picture, "the picture"
    try:
        return picture.read_bytes(), str(picture)
    except OSError as error:
        raise QuestionError(f"{picture} cannot be read: {error.strerror}") from None


def load(checkpoint: Path, *, runtime: Runtime | None = None) -> Answerer:
    """Load a checkpoint, or the newest whole one of a run's folder.

    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    folder = checkpoint
    if not (folder / "config.json").is_file():
        newest = latest_checkpoint(folder)
        if newest is None:
            raise UserError(
                f"there is no checkpoint at {checkpoint}; train one with `cambrian train` and "
                "give its step-* folder or the folder of the run"
            )
        folder = newest
    elif (folder / MANIFEST_NAME).is_file() and (problem := checkpoint_problem(folder)):
        raise UserError(f"{folder} cannot be used: {problem}; give another checkpoint")
    model = CambrianModel.from_pretrained(folder)
    if runtime is not None:
        model = runtime.wrap(model)
    return Answerer(model.eval(), PreTrainedTokenizerFast.from_pretrained(folder))
