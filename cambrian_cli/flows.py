"""Commands that run flows: set Prefect up, start, show the numbers."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cambrian_cli import output
from cambrian_cli.data import show_ingest
from cambrian_cli.engine import show_funnel
from cambrian_cli.mixture import show_mixture
from cambrian_cli.start import open_workspace
from cambrian_data.records import UserError
from cambrian_data.workspace import Workspace


def start_curate(
    path: Path, *, dry_run: bool, sweep: list[str], settings: list[str], **arguments: Any
) -> None:
    """Make a mixture and its shards, or plan them, and print the plan."""
    Workspace.existing(path)
    from cambrian_data.curation.mixing.sweep import parse_sweep
    from cambrian_data.curation.recipe import CurateRecipe
    from cambrian_data.recipes import load_recipe
    from cambrian_data.shard_store import check_address

    loaded = load_recipe(arguments["recipe"], "data", CurateRecipe, settings)
    _check_options(arguments, loaded.config.against)
    if sweep:
        parse_sweep(sweep, loaded.config.mixture)
    if arguments["shards_to"]:
        check_address(arguments["shards_to"])
    workspace = open_workspace(path)
    from flows.curate import CurateOptions, plan_curate, run_curate

    options = CurateOptions(settings=settings, **arguments)
    with output.Show() as progress:
        if dry_run or sweep:
            result = plan_curate(workspace, options, sweep=sweep, progress=progress)
        else:
            result = run_curate(workspace, options, progress=progress)
    if output.wants_json:
        output.emit_json(result)
        return
    show_mixture(result)


def _check_options(arguments: Mapping[str, Any], against: Sequence[str]) -> None:
    """Refuse options that would be without effect.

    Args:
        against: the sets that the recipe names.
    """
    if arguments["shards_to"] and not arguments["with_shards"]:
        raise UserError("--shards-to needs shards, and --no-shards makes none: leave out one")
    images = arguments["against_images"]
    if images is None:
        return
    if not arguments["against"] and not against:
        raise UserError(
            "--against-images needs a set to compare with: name it with --against, or leave it out"
        )
    if not Path(images).is_dir():
        raise UserError(f"--against-images {str(images)!r}: there is no folder of that name")


_TRAIN_INPUTS = ("stage", "recipe", "settings", "shards", "start_from")


def start_train(path: Path, *, dry_run: bool, **arguments: Any) -> None:
    """Train a stage and print what it reached, or what it would do.

    Of the processes that torchrun starts the first one alone tells anything.
    """
    from flows.train_inputs import check_start, find_inputs, plan_train, rank

    if dry_run:
        show_plan(plan_train(path, **arguments))
        return
    workspace = Workspace.existing(path)
    inputs = find_inputs(workspace, **{name: arguments[name] for name in _TRAIN_INPUTS})
    check_start(inputs, arguments["runtime"])  # mistakes first
    if rank() == 0:
        workspace = open_workspace(path)
    else:
        _prepare_prefect(workspace)
    from flows.train import run_train

    with output.Show(quiet=rank() > 0) as progress:
        result = run_train(workspace, progress=progress, **arguments)
    if rank() > 0:
        return
    if output.wants_json:
        output.emit_json(result)
        return
    output.fields(result)


def _prepare_prefect(workspace: Workspace) -> None:
    from flows.settings import prepare

    prepare(workspace.root)


def show_plan(plan: Mapping[str, Any]) -> None:
    """Print what a stage of training would do."""
    if output.wants_json:
        output.emit_json(plan)
        return
    from cambrian_model.plan import lines

    where = {name: plan[name] for name in ("recipe", "stage", "shards", "from", "checkpoints")}
    output.fields(where | dict(lines(plan)))
    output.out.print("  what this rests on", style="bold")
    for sentence in plan["assumed"]:
        output.out.print(f"    {sentence}", markup=False)


def start_demo(path: Path, *, topic: str) -> None:
    """Run everything on the embedded corpus and print where things are."""
    started = time.monotonic()
    workspace = open_workspace(path)
    from flows.demo import run_demo

    with output.Show() as progress:
        result = run_demo(workspace, topic=topic, progress=progress)
    if output.wants_json:
        output.emit_json(result)
        return
    show_demo(workspace, result, started)


def program() -> str:
    """Return what to type for this program: its path where it is not on the PATH."""
    return "cambrian" if shutil.which("cambrian") else sys.argv[0]


def show_demo(workspace: Workspace, result: Mapping[str, Any], started: float) -> None:
    """Print the demo's numbers, where things are, and what to try next."""
    heading = "\n[bold cyan]{}[/]"
    output.out.print(heading.format("engine: from the topic to questions and answers"))
    show_funnel(result["engine"])
    output.out.print(heading.format("ingest: published instruction data, every row checked"))
    show_ingest(result["ingest"])
    output.out.print(heading.format("curate: from the pool to a balanced mixture"))
    show_mixture(result["curate"])
    output.out.print(heading.format("train: first the connector, then the language model too"))
    output.table(
        "",
        ["stage", "steps", "loss, first tenth", "loss, last tenth"],
        [
            (t["stage"], t["steps"], t["first_tenth_loss"], t["last_tenth_loss"])
            for t in result["train"]
        ],
    )
    last = result["train"][-1]
    output.out.print(
        f"loss on its samples with their own pictures {last['own_pictures_loss']:.3f}, with "
        f"pictures shuffled among them {last['shuffled_pictures_loss']:.3f}"
    )
    output.out.print(heading.format("generate: a question about a picture"))
    output.fields(result["answer"])
    output.out.print(heading.format("where things are"))
    output.fields(result["where"])
    output.out.print(heading.format("three queries to try"))
    for query in result["queries"]:
        output.out.print(f'  {program()} data sql -w {workspace.root} "{query}"', markup=False)
    output.out.print(f"\ndone in {time.monotonic() - started:.0f} s")
