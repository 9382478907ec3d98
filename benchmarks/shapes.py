"""A made task that cannot be answered without its picture: which colour and shape is drawn?

A number gives a picture of one shape on a plain ground; place, size and turn of the shape, the
ground's colour and the picture's own width and height follow from hashes of the number and are
independent of the answer, which goes through all `ANSWERS` in turn. So every answer is equally
frequent, chance is 1 / len(ANSWERS), and the text of a sample says nothing about it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, ImageDraw

from cambrian_data.records import bytes_id, canonical_json, draw, sample_id
from cambrian_data.shards import ShardSample, encode_shard, make_index, shard_name

COLOURS = {
    "red": (210, 30, 30),
    "green": (20, 140, 50),
    "blue": (30, 60, 200),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "cross")
ANSWERS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
CHANCE = 1 / len(ANSWERS)
QUESTIONS = (  # each for any answer
    "What colour and shape is it?",
    "Name the colour and the shape.",
    "Which shape is drawn, and in which colour?",
)
_SIDES = (90, 144)
"""Least and most width and height in px: wide and tall pictures are padded to a square."""
_RADII = (36, 48)
"""Least and most radius of the shape in percent of the shorter side."""
_ARM = 0.22
"""Half the width of a cross's arms, in parts of their length."""
_CORNERS = 48
"""Of what stands for a circle."""
_SHARD_SAMPLES = 500

ChoiceT = TypeVar("ChoiceT")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question about a picture, with its answer."""

    question: str
    answer: str
    picture: bytes
    """PNG."""
    blank: bytes
    """PNG of the same size and ground without the shape."""


def draw_shape(number: int, seed: int = 0) -> Drawn:
    """Return the task of a number; pictures differ between numbers and between seeds."""
    answer = ANSWERS[number % len(ANSWERS)]
    colour, shape = answer.split()
    size = (_between(*_SIDES, seed, number, "width"), _between(*_SIDES, seed, number, "height"))
    ground = tuple(_between(215, 255, seed, number, channel) for channel in "rgb")
    image = Image.new("RGB", size, ground)
    blank = _png(image)
    radius = _between(*_RADII, seed, number, "radius") / 100 * min(size)
    x = radius + draw(seed, number, "x") * (size[0] - 2 * radius)
    y = radius + draw(seed, number, "y") * (size[1] - 2 * radius)
    turn = (draw(seed, number, "turn") - 0.5) * math.pi / 6
    ImageDraw.Draw(image).polygon(_outline(shape, x, y, radius, turn), fill=COLOURS[colour])
    question = QUESTIONS[_between(0, len(QUESTIONS) - 1, seed, number, "question")]
    return Drawn(question, answer, _png(image), blank)


def _between(low: int, high: int, seed: int, *parts: object) -> int:
    return low + int(draw(seed, *parts) * (high - low + 1))


def _outline(
    shape: str, x: float, y: float, radius: float, turn: float
) -> list[tuple[float, float]]:
    """Return the corners of a shape within a radius around its middle."""
    if shape == "cross":
        corners = [(1, _ARM), (_ARM, _ARM), (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM)]
        corners += [(-across, -down) for across, down in corners]
        points = [(math.atan2(b, a), math.hypot(a, b) / math.hypot(1, _ARM)) for a, b in corners]
    else:
        points = [(2 * math.pi * corner / _CORNERS, 1.0) for corner in range(_CORNERS)]
    return [
        (x + radius * share * math.cos(angle + turn), y + radius * share * math.sin(angle + turn))
        for angle, share in points
    ]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def write_shapes(folder: Path, numbers: Iterable[int], seed: int = 0) -> Path:
    """Write the tasks of numbers as a folder of shards; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = [_sample(at, draw_shape(number, seed)) for at, number in enumerate(numbers)]
    entries: list[dict[str, Any]] = []
    for start in range(0, len(samples), _SHARD_SAMPLES):
        name = shard_name(len(entries))
        data, entry = encode_shard(samples[start : start + _SHARD_SAMPLES])
        (folder / name).write_bytes(data)
        entries.append({"file": name, **entry})
    (folder / "index.json").write_bytes(canonical_json(make_index("shapes", entries)))
    return folder


def _sample(at: int, drawn: Drawn) -> ShardSample:
    turns = [
        {"from": "human", "value": f"<image>\n{drawn.question}"},
        {"from": "gpt", "value": drawn.answer},
    ]
    with Image.open(io.BytesIO(drawn.picture)) as image:
        width, height = image.size
    picture = {"sha256": bytes_id(drawn.picture), "width": width, "height": height, "file": "0.png"}
    record = {
        "id": sample_id(turns, [picture]),
        "source": "shapes",
        "dataset": "shapes",
        "category": "general",
        "conversations": turns,
        "system": None,
        "images": [picture],
    }
    return ShardSample(f"{at:09d}", record, [drawn.picture])


def others(items: Sequence[ChoiceT], seed: int) -> list[ChoiceT]:
    """Deal items out anew by a hash, so that none stays in its place."""
    order = sorted(range(len(items)), key=lambda at: draw(seed, "others", at))
    dealt = dict(zip(order, order[1:] + order[:1], strict=True))
    return [items[dealt[at]] for at in range(len(items))]
