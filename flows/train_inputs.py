"""What a stage of training works on: recipe, shards, where it starts; and what it would do.

Nothing here starts Prefect, so that a dry run answers in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cambrian_data.optional import require
from cambrian_data.recipes import Recipe, load_recipe
from cambrian_data.records import UserError
from cambrian_data.shard_store import check_address, is_address, open_store
from cambrian_data.workspace import Workspace
from cambrian_model.recipe import Stage, TrainRecipe

STAGES = ("pretrain", "finetune")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainInputs:
    """What a stage works on."""

    recipe: Recipe[TrainRecipe]
    stage: Stage
    shards: Path | str
    """A folder or an address."""
    out: Path
    """Folder of the stage's checkpoints."""
    start: Path | None
    """Checkpoint, or folder of checkpoints, to start from; None: the recipe's fresh model."""

    @property
    def shown_shards(self) -> str:
        """Return where the shards lie, without a password in an address."""
        return open_store(self.shards).shown


def rank() -> int:
    """Return the number of this process among those that torchrun started; 0 alone."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0


def check_stage(stage: str) -> Stage:
    """Return a stage's name.

    Raises:
        UserError: there is no such stage.
    """
    if stage not in STAGES:
        raise UserError(f"--stage {stage!r}: known are {', '.join(STAGES)}")
    return cast(Stage, stage)


def find_inputs(
    workspace: Workspace,
    *,
    stage: str,
    recipe: str,
    settings: Sequence[str],
    shards: str | None,
    start_from: Path | None,
) -> TrainInputs:
    """Find what a stage works on; arguments as for `run_train`.

    Raises:
        UserError: a stage, recipe, shards or checkpoint that is not there.
    """
    name = check_stage(stage)
    require("torch", "transformers", "tokenizers", "safetensors", extra="train")
    loaded = load_recipe(recipe, "train", TrainRecipe, settings)
    return TrainInputs(
        recipe=loaded,
        stage=name,
        shards=find_shards(workspace, shards),
        out=workspace.checkpoints(loaded.name, name),
        start=find_start(workspace, loaded, name, start_from),
    )


def check_start(inputs: TrainInputs, runtime: str) -> None:
    """Check what a run would stumble over at once, before anything is started for it.

    Raises:
        UserError: no such runtime, or no device for it; no checkpoint, or no pretrained language
            model, to start from.
    """
    from cambrian_model.files.pretrained import check_place
    from cambrian_model.runtime import runtime_of
    from cambrian_model.training.run_folder import start_folder

    if "WORLD_SIZE" not in os.environ and runtime != "xla":  # those two bind the process
        runtime_of(runtime, threads=inputs.recipe.config.cpu_threads)
    start = start_folder(inputs.recipe.config, inputs.stage, inputs.start)
    weights = inputs.recipe.config.model.decoder_weights
    if start is None and weights is not None:
        check_place(weights)


def find_start(
    workspace: Workspace, recipe: Recipe[TrainRecipe], stage: Stage, start_from: Path | None
) -> Path | None:
    """Return what to start from: stage 2 takes the recipe's newest checkpoint of stage 1.

    Raises:
        UserError: a folder that is named is not there.
    """
    if start_from is not None and not start_from.is_dir():
        raise UserError(f"--from {str(start_from)!r}: there is no such folder")
    if start_from is not None or stage == "pretrain":
        return start_from
    if recipe.config.model.connector_weights is not None:
        return None
    return workspace.checkpoints(recipe.name, "pretrain")


def find_shards(workspace: Workspace, shards: str | None) -> Path | str:
    """Return shards given by name, path or address or, where there is only one, not at all.

    Raises:
        UserError: there is none, or it is not clear which one is meant.
    """
    known = workspace.names("shards")
    if shards is None:
        if len(known) != 1:
            have = (
                f"several: {', '.join(known)}; name one with --shards"
                if known
                else "none; make some with `cambrian data curate --recipe tiny`"
            )
            raise UserError(f"which shards to train on? {workspace.root} has {have}")
        return workspace.shards(known[0])
    if shards in known:
        return workspace.shards(shards)
    if is_address(shards):
        check_address(shards)
        return shards
    if Path(shards).is_dir():
        return Path(shards)
    raise UserError(
        f"--shards {shards!r}: no folder, no address (s3://..., gs://...) and none of the "
        f"workspace's shards ({', '.join(known) or 'there are none'})"
    )


def plan_train(
    root: Path,
    *,
    stage: str,
    recipe: str,
    settings: Sequence[str],
    shards: str | None,
    start_from: Path | None,
    **_: Any,
) -> dict[str, Any]:
    """Return what a stage would do: what `--dry-run` shows. Needs no shards and no weights.

    Args:
        root: folder of the workspace, which need not be there.
    Raises:
        UserError: a stage or recipe that is not there, or shards that are named and are not.
    """
    name = check_stage(stage)
    require("torch", "transformers", extra="train")
    loaded = load_recipe(recipe, "train", TrainRecipe, settings)
    from cambrian_model.plan import means_of_recipe, means_of_shards, plan_stage

    workspace = Workspace(root)
    place = None
    if shards is not None or len(workspace.names("shards")) == 1:
        place = find_shards(workspace, shards)
    means = (
        means_of_shards(place, loaded.config, name)
        if place is not None
        else means_of_recipe(loaded.config, name)
    )
    start = find_start(workspace, loaded, name, start_from)
    return {
        "recipe": loaded.name,
        "stage": name,
        "shards": open_store(place).shown if place is not None else "",
        "from": _shown_start(start, loaded.config),
        "checkpoints": str(workspace.checkpoints(loaded.name, name)),
        **plan_stage(loaded.config, name, means),
    }


def _shown_start(start: Path | None, config: TrainRecipe) -> str:
    if start is not None:
        return f"{start}{'' if start.is_dir() else ' (not there yet)'}"
    decoder = config.model.decoder_weights or "random weights"
    connector = config.model.connector_weights
    return f"{decoder}, the connector of {connector}" if connector else decoder
