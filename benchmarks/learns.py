"""Does the tiny model use its pictures? Shape and colour of what is drawn, on unseen pictures.

    python -m benchmarks.learns                              # three seeds, both connectors
    python -m benchmarks.learns --seeds 0 --connectors sva --unfreeze --json numbers.json

Both stages of the tiny recipe, with the settings below, on pictures of `benchmarks.shapes`; then
the same questions about pictures that were not trained on, with each one's own picture, with a
blank one of its size and ground, and with another one's. All answers are equally frequent and the
text says nothing about them, so without its picture a model is right by chance alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.shapes import ANSWERS, CHANCE, Drawn, draw_shape, others, write_shapes
from cambrian_data.recipes import load_recipe
from cambrian_model.generate import Answerer, Question, load
from cambrian_model.recipe import Stage, TrainRecipe
from cambrian_model.runtime import runtime_of
from cambrian_model.train import train

NUM_TRAINED, NUM_HELD_OUT = 4800, 960
CONNECTORS = ("sva", "mlp2x_gelu")
UNFROZEN = ("model.unfreeze=[tiny-clip,tiny-convnext]", "data.feature_cache_mb=0")
SETTINGS = (
    "system=Look.",
    "model.connector.num_layers=1",
    "pretrain.steps=20",
    "finetune.steps=700",
    "finetune.warmup_ratio=0.1",
    "finetune.micro_batch_size=16",
    "finetune.lr=5.0e-4",
    "finetune.sampler_lr=5.0e-4",
    "finetune.projector_lr=5.0e-4",
    "finetune.tower_lr=2.0e-3",
    "finetune.save_every=100000",
)
"""What is changed in the tiny recipe, whose towers have random weights and stay as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Shares of the held-out questions that are answered word for word."""

    own: float
    """With their own pictures."""
    blank: float
    """With a blank picture of the same size and ground instead."""
    others: float
    """With the picture of another question instead."""


def shapes_recipe(connector: str = "sva", settings: Sequence[str] = ()) -> TrainRecipe:
    """Return the tiny recipe with the settings of this task and more."""
    chosen = [*SETTINGS, f"model.connector.kind={connector}", *settings]
    return load_recipe("tiny", "train", TrainRecipe, chosen).config


def learn_shapes(folder: Path, recipe: TrainRecipe, seed: int, num_trained: int) -> Answerer:
    """Train both stages on the pictures of a seed; returns the model, to be asked.

    Args:
        folder: gets shards and checkpoints.
    """
    shards = write_shapes(folder / "shards", range(num_trained), seed)
    runtime = runtime_of("cpu", threads=recipe.cpu_threads)
    start: Path | None = None
    stages: tuple[Stage, ...] = ("pretrain", "finetune")
    for stage in stages:
        done = train(
            recipe, stage, shards, folder / stage, init_from=start, runtime=runtime, seed=seed
        )
        start = done.checkpoint
    return load(folder / "finetune")


def held_out(seed: int, first: int, count: int) -> list[Drawn]:
    """Return tasks of numbers that come after the trained ones.

    Raises:
        ValueError: not all answers would be equally frequent.
    """
    if count % len(ANSWERS):
        raise ValueError(f"{count} tasks are no multiple of the {len(ANSWERS)} answers")
    return [draw_shape(number, seed) for number in range(first, first + count)]


def accuracies(answerer: Answerer, tasks: Sequence[Drawn], seed: int) -> Accuracy:
    """Ask all questions with each kind of picture."""
    own = [task.picture for task in tasks]
    return Accuracy(
        own=_share_right(answerer, tasks, own),
        blank=_share_right(answerer, tasks, [task.blank for task in tasks]),
        others=_share_right(answerer, tasks, others(own, seed)),
    )


def _share_right(answerer: Answerer, tasks: Sequence[Drawn], pictures: Sequence[bytes]) -> float:
    asked = [
        Question(text=task.question, pictures=[picture])
        for task, picture in zip(tasks, pictures, strict=True)
    ]
    answers = answerer.answer_many(asked, batch_size=50, max_new_tokens=12)
    right = [answer == task.answer for answer, task in zip(answers, tasks, strict=True)]
    return sum(right) / len(tasks)


def measure(
    recipe: TrainRecipe, seed: int, num_trained: int, num_held_out: int
) -> dict[str, float]:
    """Train with a seed and ask; returns the accuracies and the seconds of training."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        answerer = learn_shapes(Path(folder), recipe, seed, num_trained)
        seconds = time.monotonic() - begun
        found = accuracies(answerer, held_out(seed, num_trained, num_held_out), seed)
    return asdict(found) | {"seconds": round(seconds, 1)}


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Accuracy with and without the picture.")
    parser.add_argument("--seeds", default="0,1,2", help="such as 0,1,2")
    parser.add_argument("--connectors", default=",".join(CONNECTORS))
    parser.add_argument("--unfreeze", action="store_true", help="let the towers learn too")
    parser.add_argument("--trained", type=int, default=NUM_TRAINED, help="pictures to train on")
    parser.add_argument("--held-out", type=int, default=NUM_HELD_OUT, help="pictures to ask about")
    parser.add_argument("--set", action="append", default=[], help="more settings of the recipe")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train, ask, and print a table."""
    options = parsed(arguments)
    settings = [*(UNFROZEN if options.unfreeze else ()), *options.set]
    print(f"{len(ANSWERS)} answers, chance {CHANCE:.3f}, {options.held_out} held-out pictures")
    columns = ("own", "blank", "others")
    print(f"{'connector':<12}{'seed':>5}" + "".join(f"{c:>8}" for c in columns) + f"{'seconds':>9}")
    rows = []
    for connector in options.connectors.split(","):
        recipe = shapes_recipe(connector, settings)
        for seed in map(int, options.seeds.split(",")):
            found = measure(recipe, seed, options.trained, options.held_out)
            rows.append({"connector": connector, "seed": seed, **found})
            shares = "".join(f"{found[column]:>8.3f}" for column in columns)
            print(f"{connector:<12}{seed:>5}{shares}{found['seconds']:>9.0f}", flush=True)
    if options.json:
        numbers = {"chance": CHANCE, "held_out": options.held_out, "rows": rows}
        options.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
