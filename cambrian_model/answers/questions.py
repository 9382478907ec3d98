"""What is asked: options of an answer, questions, and the pictures that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cambrian_data.records import IMAGE_TOKEN, UserError
from cambrian_model.loading.picture_store import load_pictures
from cambrian_model.pictures import PictureError
from cambrian_model.vision import Pictures, TowerSpec

Shown = bytes | Path | Pictures
"""A picture as a question brings it: stored bytes, a file, or what `Answerer.look` returned."""
DEFAULT_NEW_TOKENS = 512
_MAX_BEAMS = 64


class QuestionError(UserError):
    """A question that cannot be put to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """How an answer is looked for."""

    max_new_tokens: int | None = None
    """Most tokens of the answer; None: 512, or what the model's context leaves."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above, tokens are drawn by `seed`."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that have this share together."""
    num_beams: int = 1
    """Above 1, the likeliest of so many answers that are followed at once."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: one is not allowed.
        """
        for name, value, allowed, fix in (
            ("max_new_tokens", self.max_new_tokens, (self.max_new_tokens or 1) >= 1, "at least 1"),
            (
                "temperature",
                self.temperature,
                self.temperature == 0 or 1e-3 <= self.temperature < float("inf"),
                "0, or 0.001 or more",
            ),
            ("seed", self.seed, -(2**63) <= self.seed < 2**63, "a number of at most 63 bits"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("num_beams", self.num_beams, 1 <= self.num_beams <= _MAX_BEAMS, f"1 to {_MAX_BEAMS}"),
        ):
            if not allowed or (name == "max_new_tokens" and value == 0):
                raise UserError(f"{name} is {value}; give {fix}")
        if self.num_beams > 1 and self.temperature > 0:
            raise UserError(
                f"num_beams {self.num_beams} and temperature {self.temperature:g} do not go "
                "together; beams follow the likeliest answers, so leave temperature at 0"
            )

    def for_model(self) -> dict[str, Any]:
        """Return them as `generate` takes them; nothing of a generation config is left to it."""
        draws = self.temperature > 0
        return {
            "do_sample": draws,
            "temperature": self.temperature if draws else None,
            "top_p": self.top_p if draws else None,
            "top_k": 0 if draws else None,
            "num_beams": self.num_beams,
            "repetition_penalty": None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One of many questions that are asked at once."""

    text: str
    pictures: Sequence[Shown] = ()
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, ready for the model."""

    input_ids: list[int]
    pictures: Pictures
    max_new_tokens: int


def place_pictures(question: str, num_pictures: int) -> str:
    """Return the question with one `<image>` a picture.

    Raises:
        QuestionError: it names some, and another number of them.
    """
    named = question.count(IMAGE_TOKEN)
    if named == 0:
        return f"{IMAGE_TOKEN}\n" * num_pictures + question
    if named != num_pictures:
        raise QuestionError(miscounted(named, num_pictures))
    return question


def miscounted(named: int, given: int) -> str:
    """Return the message about a question that names another number of pictures."""
    return (
        f"the question names {named} pictures by {IMAGE_TOKEN} and {given} are given; give as "
        f"many as it names, or leave {IMAGE_TOKEN} out of the text"
    )


def _read(picture: bytes | Path) -> tuple[bytes, str]:
    if isinstance(picture, bytes):
        return picture, "the picture"
    try:
        return picture.read_bytes(), str(picture)
    except OSError as error:
        raise QuestionError(f"{picture} cannot be read: {error.strerror}") from None


def show(specs: Sequence[TowerSpec], pictures: Sequence[Shown]) -> Pictures:
    """Read pictures for a question.

    Raises:
        QuestionError: one cannot be read.
    """
    shown = list[Pictures]()
    for picture in pictures:
        if isinstance(picture, Pictures):
            shown.append(picture)
            continue
        data, name = _read(picture)
        try:
            shown.append(load_pictures(specs, [data]))
        except PictureError as error:
            raise QuestionError(f"{name}: {error}; give a PNG or JPEG file") from None
    return join(shown)


def join(shown: Sequence[Pictures]) -> Pictures:
    """Return pictures of several prompts as those of one batch; all pixels or all features."""
    sizes = [size for pictures in shown for size in pictures.sizes]
    if not sizes:
        return Pictures([])
    if shown[0].features is not None:
        return Pictures(sizes, features=_stacked([pictures.features for pictures in shown]))
    return Pictures(sizes, pixels=_stacked([pictures.pixels for pictures in shown]))


def _stacked(groups: Sequence[Sequence[torch.Tensor | None] | None]) -> list[torch.Tensor]:
    towers = zip(*(group or () for group in groups), strict=True)
    return [torch.cat([t for t in tower if t is not None]) for tower in towers]
