"""A step of training: its time, tokens and memory, and how many operations it is.

    python -m benchmarks.step                                    # tiny, measured on the CPU
    python -m benchmarks.step --model 1b --device meta           # counted without weights
    python -m benchmarks.step --model 1b --device cuda --compile # measured on one GPU
    python -m benchmarks.step --model 8b --device cuda --checkpointing --weights bf16

The model has random weights and the batch is made: every row holds one square picture and text to
its end, the last part of which is trained. Steps go through the runtime as training's do. On `meta`
nothing is computed: parameters, memory by `cambrian_model.training.memory`, and the operations of
`cambrian_model.training.flops` (the MFU's) beside those that torch counts while the model runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cambrian_data.recipes import load_recipe
from cambrian_data.records import UserError
from cambrian_model.batches import Batch
from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX, Encoded
from cambrian_model.files.pretrained import build_on_meta, model_config
from cambrian_model.layout import lay_out
from cambrian_model.model import CambrianModel
from cambrian_model.optimizer import build_optimizer, set_trainable
from cambrian_model.pictures import num_visual_tokens
from cambrian_model.plan import parameters_by_group
from cambrian_model.recipe import Stage, TrainRecipe
from cambrian_model.runtime import Placement, Runtime, runtime_of
from cambrian_model.training.flops import ModelFlops, model_flops, peak_flops
from cambrian_model.training.memory import estimate_memory
from cambrian_model.vision import Pictures

_VOCABULARY = 1024  # of tiny, whose tokenizer is made from the shards
_GIB = 2**30

ONE_BILLION: dict[str, Any] = {
    "model": {
        "towers": ["siglip-so400m@384", "clip-l@336"],
        "connector": {"query_grids": [24], "in_decoder": {"start": 0, "stride": 4, "count": 4}},
        "decoder": {
            "model_type": "llama",
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
    },
    "pretrain": {"epochs": 1, "lr": 1e-3},
    "finetune": {"epochs": 1, "lr": 4e-5},
}
"""Like Llama 3.2 1B, with two towers, 576 queries and four samplers in the language model."""


def recipe_of(name: str) -> TrainRecipe:
    """Return the recipe of a model: `1b`, or one of recipes/train."""
    if name == "1b":
        return TrainRecipe.model_validate(ONE_BILLION)
    return load_recipe(name, "train", TrainRecipe).config


def device_runtime(name: str) -> Runtime:
    """Return the runtime of a device.

    Raises:
        UserError: it is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: torch finds no CUDA device here; use --device cpu to measure the tiny "
            "model, or --device meta to count operations and memory without one"
        )
    return runtime_of(name, threads=torch.get_num_threads())


# ------------------------------------------------------------------------------------- the batch


def made_batch(model: CambrianModel, rows: int, num_tokens: int, trained_share: float) -> Batch:
    """Return a batch of rows that are all as long: one square picture each, then text."""
    visual = num_visual_tokens((1, 1), model.connector.side)
    num_text = num_tokens - visual
    num_trained = round(num_text * trained_share)
    if num_trained < 1 or num_trained >= num_text:
        raise UserError(
            f"--tokens {num_tokens}: the picture takes {visual} of them and {num_trained} of the "
            "others are trained; give more"
        )
    draws = torch.Generator().manual_seed(0)
    config: Any = model.decoder.config
    vocabulary = config.get_text_config().vocab_size
    encoded = []
    for _ in range(rows):
        text = torch.randint(0, vocabulary, (num_text,), generator=draws).tolist()
        hidden = [IGNORE_INDEX] * (num_text + 1 - num_trained)
        encoded.append([Encoded([IMAGE_TOKEN_INDEX, *text], hidden + text[-num_trained:])])
    layout = lay_out(encoded, [(1, 1)] * rows, model.connector.side, pad_token_id=0)
    shapes = [(rows, 3, spec.px, spec.px) for spec in model.tower_specs]
    pixels = [torch.randint(0, 256, shape, generator=draws, dtype=torch.uint8) for shape in shapes]
    pictures = Pictures([(1, 1)] * rows, pixels=pixels)
    return Batch(layout, pictures, [], rows * num_tokens, rows * num_trained)


def operations(flops: ModelFlops, batch: Batch, rows: int, *, hidden: bool = False) -> float:
    """Return the floating point operations of a batch's step, as the MFU counts them.

    Args:
        hidden: count the hidden half of the attention too, as torch does.
    """
    length = batch.num_tokens / rows
    pairs = length**2 if hidden else length * (length + 1) / 2
    return flops.step(
        tokens=batch.num_tokens,
        pairs=rows * pairs,
        trained_tokens=batch.num_trained,
        pictures=rows,
    )


# ------------------------------------------------------------------------------ without a device


def prepared_on_meta(recipe: TrainRecipe, stage: Stage) -> CambrianModel:
    """Return the model without weights, told what learns."""
    has_size = "vocab_size" in recipe.model.decoder
    model = build_on_meta(recipe, vocab_size=None if has_size else _VOCABULARY)
    set_trainable(model, stage, unfreeze=recipe.model.unfreeze, freeze=recipe.stage(stage).freeze)
    return model.train()


def count(recipe: TrainRecipe, options: argparse.Namespace) -> dict[str, Any]:
    """Count parameters, memory and operations of a step without computing any."""
    model = prepared_on_meta(recipe, options.stage)
    batch = made_batch(model, options.batch, options.tokens, options.trained_share)
    memory = estimate_memory(
        model,
        bf16=options.precision == "bf16",
        shards=1,
        tokens=batch.num_tokens,
        trained_tokens=batch.num_trained,
        pictures=options.batch,
        checkpointing=options.checkpointing,
    )
    flops = model_flops(model)
    formula = operations(flops, batch, options.batch)
    whole = operations(flops, batch, options.batch, hidden=True)
    counted = counted_operations(model, batch)
    groups = parameters_by_group(model)
    return {
        "parameters_learn": groups["all"]["learns"],
        "parameters_frozen": groups["all"]["frozen"],
        "memory_gib": round(memory.total / _GIB, 2),
        "tflop_per_sample": round(formula / options.batch / 1e12, 6),
        "with_hidden_attention": round(whole / options.batch / 1e12, 6),
        "counted_by_torch": round(counted / options.batch / 1e12, 6),
        "counted_to_formula": round(counted / whole, 4),
    }


def counted_operations(model: CambrianModel, batch: Batch) -> float:
    """Return what torch counts in a forward and backward pass on tensors without values.

    It counts whole attention, hidden halves included, and the head where some row is trained.
    """
    placed = batch.to("meta")
    layout = replace(placed.layout, is_static=True)  # a mask that no one looks into
    with FlopCounterMode(display=False) as counter:
        loss = model(layout=layout, pictures=placed.pictures).loss
        loss.backward()
    model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


# -------------------------------------------------------------------------------------- measured


def measure(recipe: TrainRecipe, options: argparse.Namespace) -> dict[str, Any]:
    """Run steps on a device and time them."""
    runtime = device_runtime(options.device)
    runtime.prepare(0)
    model = placed_model(recipe, runtime, options)
    optimizer = build_optimizer(model, recipe.stage(options.stage))
    batch = runtime.place(made_batch(model, options.batch, options.tokens, options.trained_share))
    step = stepper(model, optimizer, batch, runtime)
    for _ in range(options.warmup):
        step()
    seconds = [timed(step, runtime) for _ in range(options.steps)]
    best, middle = min(seconds), statistics.median(seconds)
    formula = operations(model_flops(prepared_on_meta(recipe, options.stage)), batch, options.batch)
    name = device_name(runtime)
    peak = peak_flops(name, options.precision)
    return {
        "device": name,
        "step_s": round(middle, 4),
        "fastest_step_s": round(best, 4),
        "tokens_per_s": round(batch.num_tokens / middle, 1),
        "samples_per_s": round(options.batch / middle, 2),
        "tflop_per_step": round(formula / 1e12, 6),
        "tflop_per_s": round(formula / middle / 1e12, 3),
        "mfu": round(formula / middle / peak, 4) if peak else None,
        "peak_memory_gib": round(peak_memory(runtime) / _GIB, 2),
    }


def placed_model(
    recipe: TrainRecipe, runtime: Runtime, options: argparse.Namespace
) -> CambrianModel:
    """Return the model with random weights on the device, as training places it."""
    settings = dict(recipe.model.decoder)
    settings.setdefault("vocab_size", _VOCABULARY)
    with runtime.device:
        model = CambrianModel(model_config(recipe, settings))
    set_trainable(
        model,
        cast(Stage, options.stage),
        unfreeze=recipe.model.unfreeze,
        freeze=recipe.stage(options.stage).freeze,
    )
    model.train()
    if options.weights == "bf16":
        model.to(torch.bfloat16)  # type: ignore[arg-type]
    model = runtime.wrap(model, Placement(sharding="none", precision=options.precision))
    if options.checkpointing:
        model.use_checkpointing(runtime.checkpoint_function())
    if options.compile:
        compile_parts(model)
    return model


def compile_parts(model: CambrianModel) -> None:
    """Compile the language model's layers, the towers and the connector, each for itself."""
    parts: list[nn.Module] = [*model.decoder_layers, *model.towers, model.connector]
    for part in parts:
        part.compile()


def stepper(
    model: CambrianModel, optimizer: torch.optim.Optimizer, batch: Batch, runtime: Runtime
) -> Callable[[], Tensor]:
    """Return what does one optimizer step and gives its loss."""
    learning = [value for group in optimizer.param_groups for value in group["params"]]

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with runtime.micro_batch(model, last=True):
            with runtime.autocast():
                loss = model(layout=batch.layout, pictures=batch.pictures).loss
            runtime.backward(loss)
        runtime.clip(learning, 1.0)
        optimizer.step()
        runtime.step_boundary()
        return loss.detach()

    return step


def timed(step: Callable[[], Tensor], runtime: Runtime) -> float:
    """Return the seconds of a step; reading its loss waits for the device."""
    begun = time.perf_counter()
    step().item()
    if runtime.name == "cuda":
        torch.cuda.synchronize(runtime.device)
    return time.perf_counter() - begun


def device_name(runtime: Runtime) -> str:
    """Return the name of what was measured."""
    if runtime.name == "cuda":
        return torch.cuda.get_device_name(runtime.device)
    return f"{runtime.name}, {runtime.threads} threads"


def peak_memory(runtime: Runtime) -> int:
    """Return the most bytes so far: of the device's tensors, or of the whole process on a CPU."""
    if runtime.name == "cuda":
        return torch.cuda.max_memory_allocated(runtime.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---------------------------------------------------------------------------------- command line


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options; what is not given depends on model and device."""
    parser = argparse.ArgumentParser(description="Time, memory and operations of a step.")
    parser.add_argument("--model", default="tiny", help="tiny, 1b, 8b, or another train recipe")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps", "meta"))
    parser.add_argument("--stage", default="finetune", choices=("pretrain", "finetune"))
    parser.add_argument("--batch", type=int, help="rows of a micro batch")
    parser.add_argument("--tokens", type=int, help="tokens of a row, its picture's counted")
    parser.add_argument("--trained-share", type=float, default=0.5, help="of the text")
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--precision", choices=("float32", "bf16"), help="bf16 on cuda and meta")
    parser.add_argument("--weights", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--checkpointing", action="store_true", help="of the decoder's layers")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    small = options.model == "tiny"
    options.batch = options.batch or (16 if small else 4)
    options.tokens = options.tokens or (96 if small else 2048)
    if options.precision is None:
        wants_half = options.device in ("cuda", "meta") and not small
        options.precision = "bf16" if wants_half else "float32"
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure or count, and print."""
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    try:
        recipe = recipe_of(options.model)
        found = (count if options.device == "meta" else measure)(recipe, options)
    except UserError as error:
        raise SystemExit(str(error)) from None
    keys = ("model", "stage", "batch", "tokens", "precision", "weights", "compile")
    numbers = {key: getattr(options, key) for key in (*keys, "checkpointing")} | found
    for key, value in numbers.items():
        print(f"{key:>26}  {value:,}" if type(value) is int else f"{key:>26}  {value}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
