"""`cambrian generate` and `cambrian chat`: their options, which are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cambrian_cli import options

Model = Annotated[
    Path, typer.Option(help="Folder of a checkpoint, a run, a published model or adapters.")
]
Image = Annotated[list[Path] | None, typer.Option(help="A picture; repeatable.")]
System = Annotated[str | None, typer.Option(help="Another system prompt; empty for none.")]
MaxNewTokens = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of an answer; default: 512 or what fits.")
]
Temperature = Annotated[float, typer.Option(min=0, help="0: the likeliest token each time.")]
TopP = Annotated[float, typer.Option(help="Draw among the likeliest tokens of this share.")]
NumBeams = Annotated[int, typer.Option(min=1, help="Answers followed at once.")]
Seed = Annotated[int, typer.Option(help="Of drawn answers.")]
Runtime = Annotated[str, typer.Option(help="cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="auto (bfloat16 on cuda), float32, bfloat16 or float16.")]


def generate(
    question: Annotated[
        str, typer.Argument(help="What to ask; <image> in it is a picture, else they come first.")
    ],
    model: Model,
    image: Image = None,
    system: System = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    num_beams: NumBeams = 1,
    seed: Seed = 0,
    runtime: Runtime = "cpu",
    dtype: Dtype = "auto",
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Ask a trained model about pictures."""
    from cambrian_cli.model import answer

    answer(
        model,
        question,
        images=image or [],
        system=system,
        runtime=runtime,
        dtype=dtype,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
        seed=seed,
    )


def chat(
    model: Model,
    image: Image = None,
    system: System = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    num_beams: NumBeams = 1,
    seed: Seed = 0,
    runtime: Runtime = "cpu",
    dtype: Dtype = "auto",
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    json: options.Json = False,
) -> None:
    """Talk with a trained model: turns, pictures, answers as they come; /help shows how."""
    from cambrian_cli.model import chat as talk

    talk(
        model,
        images=image or [],
        system=system,
        runtime=runtime,
        dtype=dtype,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        num_beams=num_beams,
        seed=seed,
    )
