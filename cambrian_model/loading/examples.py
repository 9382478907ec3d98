"""Records of shards -> examples: token ids, labels, and which pictures they show.

No picture is looked at: how many tokens it takes is known from its size in the record. So the same
code serves the index, which reads every record once, and the workers that make batches. Imports no
torch, so that workers start quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cambrian_data.records import UserError
from cambrian_model.conversation import (
    IGNORE_INDEX,
    Encoded,
    SampleError,
    Template,
    check_turns,
    encode,
    fit,
)
from cambrian_model.pictures import Size, num_visual_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class BadSamplesError(UserError):
    """More samples are unusable than the recipe allows, or none is left."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sample, ready to be laid out."""

    sample_id: str
    encoded: Encoded
    pictures: tuple[str, ...]
    """sha256 of the pictures that the ids hold, in order."""
    sizes: tuple[Size, ...]
    """(width, height) of each, as the record says."""
    num_tokens: int
    """Length with the pictures' visible tokens."""

    @property
    def num_trained(self) -> int:
        """Return the labels that count; the first token of a row is never predicted."""
        return sum(label != IGNORE_INDEX for label in self.encoded.labels[1:])

    @property
    def num_text(self) -> int:
        """Return the tokens that are no picture's."""
        return len(self.encoded.input_ids) - len(self.pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleMaker:
    """Turns records into examples."""

    tokenizer: PreTrainedTokenizerFast
    template: Template
    system: str | None
    """System prompt of samples that bring none; the template's own if None."""
    max_tokens: int
    """Longest sample, its pictures' tokens counted; what is over is cut off."""
    side: int
    """Side of the grid of visual tokens."""
    pictures_per_row: int | None = None
    """Static shapes only: every row holds so many pictures (stand-ins where a sample has fewer),
    and each takes all places of its square, side * (side + 1)."""

    def __call__(self, record: Mapping[str, Any], sample_id: str) -> Example:
        """Check and encode a record.

        Raises:
            SampleError: it cannot be used for training.
        """
        check_turns(sample_id, record, self.template)
        images = record["images"]
        keys = tuple(str(image["sha256"]) for image in images)
        sizes = tuple(_size_of(image, sample_id) for image in images)
        places, limit = self._room(sizes, sample_id)
        system = record.get("system")
        encoded = encode(
            record["conversations"],
            self.tokenizer,
            self.template,
            self.system if system is None else system,
        )
        cut = fit(encoded, places, limit, sample_id)
        kept = cut.num_pictures
        visible = sum(num_visual_tokens(size, self.side) for size in sizes[:kept])
        length = len(cut.input_ids) - kept + visible
        return Example(sample_id, cut, keys[:kept], sizes[:kept], length)

    def _room(self, sizes: tuple[Size, ...], sample_id: str) -> tuple[list[int], int]:
        """Return the places that each picture takes, and how long the sample may be."""
        slots = self.pictures_per_row
        if slots is None:
            return [num_visual_tokens(size, self.side) for size in sizes], self.max_tokens
        if len(sizes) > slots:
            raise SampleError(
                sample_id,
                "too_many_pictures",
                f"{len(sizes)} pictures, and a row of static shape holds {slots}",
            )
        whole = self.side * (self.side + 1)
        return [whole] * len(sizes), self.max_tokens - (slots - len(sizes)) * whole


def _size_of(image: Mapping[str, Any], sample_id: str) -> Size:
    width, height = image.get("width"), image.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise SampleError(
            sample_id, "picture_unreadable", f"its record gives a picture of {width} x {height}"
        )
    return width, height
