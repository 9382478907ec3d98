"""Reference values and a small stand-in for real data: drawn pictures with questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.reference import shared


@pytest.fixture(scope="session")
def golden_folder():
    """Return the folder of the reference values that tests name, or skip.

    `CAMBRIAN_GOLDEN` is for `golden/test_golden.py` alone: another folder has other names.
    """
    return shared("golden")


@pytest.fixture(scope="session")
def read_case(golden_folder):
    """Return a reader of golden cases: name -> description, tensors, weights."""

    def read(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        from safetensors.torch import load_file

        meta = json.loads((golden_folder / f"{name}.json").read_text())
        tensors = golden_folder / f"{name}.safetensors"
        weights = golden_folder / f"{name}.weights.safetensors"
        return (
            meta,
            load_file(tensors) if tensors.exists() else {},
            load_file(weights) if weights.exists() else {},
        )

    return read


# ------------------------------------------------------------------- a stand-in for real data

QUANTITIES = ("speed", "pressure", "temperature", "voltage", "mass", "energy", "force", "current")
PLACES = (
    "a copper wire",
    "a falling stone",
    "the upper air",
    "a small engine",
    "two mirrors",
    "a growing cell",
    "the river bed",
    "a spring under load",
)
COLOURS = ("red", "green", "blue", "black", "orange", "purple")
SHAPES = ("circles", "squares")
ONE_WORD = "Answer the question using a single word or phrase."


def _pick(options, *parts):
    from cambrian_data.records import draw

    return options[int(draw(7, *parts) * len(options))]


def _png(image) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def draw_figure(number: int) -> tuple[bytes, int, str]:
    """Draw axes with some curves; returns the PNG, the number of curves and their colour."""
    import math

    from PIL import Image, ImageDraw

    width, height = 120 + 20 * (number % 5), 90 + 25 * (number % 4)
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    pen.line([(12, 6), (12, height - 12), (width - 6, height - 12)], fill="black", width=2)
    curves, colour = 1 + number % 4, COLOURS[number % len(COLOURS)]
    for curve in range(curves):
        rate = 0.02 + 0.015 * ((number * 7 + curve * 3) % 9)
        points = [
            (x, (height - 20) * (0.5 + 0.4 * math.sin(rate * x + curve + number)) + 4)
            for x in range(14, width - 6, 3)
        ]
        pen.line(points, fill=colour, width=2)
    return _png(image), curves, colour


def draw_shapes(number: int) -> tuple[bytes, int, str]:
    """Draw some circles or squares; returns the PNG, their number and their name."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(image)
    count, shape = 1 + number % 5, SHAPES[number % 2]
    for item in range(count):
        x, y = 8 + 40 * (item % 3), 8 + 40 * (item // 3) + number % 7
        box = (x, y, x + 26, y + 26)
        fill = COLOURS[(number + item) % len(COLOURS)]
        (pen.ellipse if shape == "circles" else pen.rectangle)(box, fill=fill)
    return _png(image), count, shape


@pytest.fixture(scope="session")
def new_sample():
    """Return the maker of samples."""
    return make_sample


@pytest.fixture(scope="session")
def draw_picture():
    """Return a maker of pictures of one colour."""

    def draw_one(colour, size=(40, 40)) -> bytes:
        from PIL import Image

        return _png(Image.new("RGB", size, colour))

    return draw_one


@pytest.fixture(scope="session")
def new_shards():
    """Return the writer of shards."""
    return write_shards


@pytest.fixture(scope="session")
def standin_shards(tmp_path_factory):
    """Return a folder of shards with a fifth of the stand-in data."""
    samples = standin_samples(num_figures=14, num_counting=12, num_text=7)
    return write_shards(tmp_path_factory.mktemp("standin"), samples)


@pytest.fixture(scope="session")
def half_standin_shards(tmp_path_factory):
    """Return a folder of shards with half of the stand-in data."""
    samples = standin_samples(num_figures=35, num_counting=30, num_text=17)
    return write_shards(tmp_path_factory.mktemp("half"), samples)


@pytest.fixture(scope="session")
def tiny_recipe():
    """Return a recipe smaller than tiny, changed by dotted settings."""
    return make_recipe


def make_recipe(**changes):
    """Return a TrainRecipe; `finetune__steps=3` changes `finetune.steps`."""
    from cambrian_model.recipe import TrainRecipe

    stage = {"steps": 6, "batch_size": 4, "lr": 2e-3, "warmup_ratio": 0.2, "save_every": 2}
    content = {
        "model": {
            "towers": ["tiny-clip", "tiny-convnext"],
            "connector": {"hidden_size": 32, "num_heads": 4, "num_layers": 1, "query_grids": [4]},
            "decoder": {
                "model_type": "llama",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "tie_word_embeddings": True,
            },
        },
        "tokenizer": {"vocab_size": 400},
        "system": "Be brief.",
        "max_tokens": 200,
        "pretrain": dict(stage),
        "finetune": dict(stage),
    }
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        at = content
        for key in path:
            at = at[key]
        at[last] = value
    return TrainRecipe.model_validate(content)


def make_sample(turns, pictures=(), system=None, source="test"):
    """Return a ShardSample of (question, answer) pairs and stored pictures."""
    import io

    from PIL import Image

    from cambrian_data.records import bytes_id, sample_id
    from cambrian_data.shards import ShardSample

    conversations = [
        {"from": role, "value": value}
        for pair in turns
        for role, value in zip(("human", "gpt"), pair, strict=True)
    ]
    images = []
    for number, data in enumerate(pictures):
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
        except OSError:
            width = height = 1
        images.append(
            {"sha256": bytes_id(data), "width": width, "height": height, "file": f"{number}.png"}
        )
    record = {
        "id": sample_id(conversations, images),
        "source": source,
        "dataset": source,
        "category": "science",
        "conversations": conversations,
        "system": system,
        "images": images,
    }
    return ShardSample("", record, list(pictures))


def standin_samples(num_figures=70, num_counting=60, num_text=35):
    """Return samples like the real ones: the same questions over different pictures."""
    samples = []
    for number in range(num_figures):
        data, curves, colour = draw_figure(number)
        quantity, other = _pick(QUANTITIES, "q", number), _pick(QUANTITIES, "o", number)
        place = _pick(PLACES, "p", number)
        answers = [
            (
                "What does the figure show?",
                f"The figure shows the {quantity} of {place} against its {other}, drawn as "
                f"{curves} {colour} curves over part {number} of the range.",
                None,
            ),
            ("How many curves are in the figure?", f"{curves}", ONE_WORD),
            ("Which colour are the curves?", f"The curves are {colour}.", None),
        ]
        for question, answer, system in answers[: 3 if number % 2 else 4]:
            samples.append(make_sample([(f"<image>\n{question}", answer)], [data], system))
    for number in range(num_counting):
        data, count, shape = draw_shapes(number)
        question = f"<image>\nHow many {shape} are there?"
        samples.append(make_sample([(question, f"There are {count} {shape}.")], [data]))
    for number in range(num_text):
        quantity = QUANTITIES[number % len(QUANTITIES)]
        samples.append(
            make_sample(
                [
                    (
                        f"What is {quantity}, in lesson {number}?",
                        f"In lesson {number} the {quantity} is at work: "
                        f"{_pick(PLACES, 't', number)}.",
                    )
                ]
            )
        )
    return samples


def write_shards(folder: Path, samples, max_samples=100) -> Path:
    """Write samples as a folder of shards; returns the folder."""
    from cambrian_data.records import canonical_json
    from cambrian_data.shards import ShardSample, encode_shard, make_index, shard_name

    folder.mkdir(parents=True, exist_ok=True)
    numbered = [ShardSample(f"{at:09d}", s.record, s.pictures) for at, s in enumerate(samples)]
    entries = []
    for number, start in enumerate(range(0, len(numbered), max_samples)):
        data, entry = encode_shard(numbered[start : start + max_samples])
        (folder / shard_name(number)).write_bytes(data)
        entries.append({"file": shard_name(number), **entry})
    (folder / "index.json").write_bytes(canonical_json(make_index("test", entries)))
    return folder
