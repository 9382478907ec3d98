"""All that a stage of training needs, put together: model, samples, loader, optimizer."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import AdamW

from cambrian_data.records import Progress
from cambrian_model.batches import FeatureStore
from cambrian_model.conversation import image_position, template_of
from cambrian_model.files.start import shared_model
from cambrian_model.layout import StaticShape
from cambrian_model.loading.examples import ExampleMaker
from cambrian_model.loading.loader import Loader, LoaderOptions
from cambrian_model.loading.samples import Samples, open_samples
from cambrian_model.metrics import LossTenths
from cambrian_model.model import CambrianModel
from cambrian_model.optimizer import build_optimizer, set_trainable
from cambrian_model.recipe import Stage, StageRecipe, TrainRecipe
from cambrian_model.runtime import Placement, Runtime
from cambrian_model.towers.features import FeatureCache, towers_identity
from cambrian_model.training.run_folder import TrainError
from cambrian_model.vision import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)
_MIB = 2**20


@dataclass(slots=True, kw_only=True)
class Run:
    """A stage that is under way, on one rank."""

    recipe: TrainRecipe
    config: StageRecipe
    stage: Stage
    out: Path
    runtime: Runtime
    model: CambrianModel
    tokenizer: PreTrainedTokenizerBase
    samples: Samples
    features: FeatureStore | None
    loader: Loader
    optimizer: AdamW
    learning: list[torch.nn.Parameter]
    steps: int
    tenths: LossTenths
    lost: dict[str, int] = field(default_factory=dict)
    """Times that a sample could not be loaded, by reason, on all ranks."""
    window: list[float] = field(default_factory=list)
    """Losses since the last line of the log."""
    step: int = 0

    def close(self) -> None:
        """End the loader's workers."""
        self.loader.close()
        self.samples.close()


def set_up(
    recipe: TrainRecipe,
    stage: Stage,
    *,
    shards: Path | str,
    out: Path,
    start: Path | None,
    runtime: Runtime,
    seed: int,
    cache: Path,
    progress: Progress,
) -> Run:
    """Load or make the model, read the samples, and build what the loop needs; on every rank.

    Args:
        start: folder of the model to begin with, or None for the recipe's fresh one.
        cache: folder for the sample index and copies of remote shards.
    Raises:
        UserError: something is not there or does not fit.
    """
    part = recipe.stage(stage)
    if part.rate_factor != 1.0 and runtime.is_main:
        _LOG.warning("rates of %s: %s", stage, part.rate_rule)
    model, tokenizer = shared_model(recipe, stage, shards, start, runtime)
    static = _static_shape(recipe, stage, tokenizer) if runtime.static_shapes else None
    samples = _open_samples(recipe, stage, tokenizer, shards, cache, static, progress)
    set_trainable(
        model,
        stage,
        unfreeze=recipe.model.unfreeze,
        freeze=part.freeze,
        embeddings=recipe.adapters is not None and recipe.adapters.train_embeddings,
    )
    model.train()
    model = runtime.wrap(model, _placement(recipe, stage))
    if part.gradient_checkpointing:
        model.use_checkpointing(runtime.checkpoint_function())
    optimizer = build_optimizer(model, part)
    features = feature_store(recipe, model, runtime)
    steps = part.num_steps(len(samples))
    return Run(
        recipe=recipe,
        config=part,
        stage=stage,
        out=out,
        runtime=runtime,
        model=model,
        tokenizer=tokenizer,
        samples=samples,
        features=features,
        loader=Loader(
            samples,
            _loader_options(recipe, stage, seed, static, runtime),
            model.tower_specs,
            pad_token_id=tokenizer.pad_token_id,
            rank=runtime.rank,
            world_size=runtime.world_size,
            features=features,
        ),
        optimizer=optimizer,
        learning=[value for group in optimizer.param_groups for value in group["params"]],
        steps=steps,
        tenths=LossTenths(steps),
    )


def _placement(recipe: TrainRecipe, stage: Stage) -> Placement:
    """Return how the model lies on the devices; with adapters each has a whole copy.

    Raises:
        TrainError: adapters, and a sharding that they do not go with.
    """
    part = recipe.stage(stage)
    sharding = part.sharding
    if stage == "finetune" and recipe.adapters is not None:
        if sharding not in ("auto", "none"):
            raise TrainError(
                f"finetune.sharding {sharding} does not go with adapters: nearly all weights are "
                "frozen and each device keeps them whole; set it to none"
            )
        sharding = "none"
    return Placement(sharding=sharding, precision=part.precision)


# ------------------------------------------------------------------------------- the samples


def _open_samples(
    recipe: TrainRecipe,
    stage: Stage,
    tokenizer: Any,
    shards: Path | str,
    cache: Path,
    static: StaticShape | None,
    progress: Progress,
) -> Samples:
    """Return the usable samples; stage 1 needs pictures in some.

    Raises:
        TrainError: there is none with a picture.
    """
    make = ExampleMaker(
        tokenizer=tokenizer,
        template=template_of(recipe.template),
        system=recipe.system,
        max_tokens=recipe.tokens_of(stage),
        side=recipe.model.connector.side,
        pictures_per_row=static.pictures_per_row if static else None,
    )
    samples = open_samples(
        shards,
        make,
        cache=cache,
        max_bad_share=recipe.data.max_bad_share,
        num_workers=recipe.data.workers,
        cache_bytes=recipe.data.cache_mb * _MIB,
        progress=progress,
    )
    if stage == "pretrain" and not samples.num_with_pictures:
        raise TrainError(
            f"pretrain trains what reads pictures, and no sample in {shards} has one; "
            "give shards with pictures"
        )
    return samples


def _static_shape(recipe: TrainRecipe, stage: Stage, tokenizer: Any) -> StaticShape:
    template = template_of(recipe.template)
    return StaticShape(
        num_tokens=recipe.tokens_of(stage),
        pictures_per_row=recipe.data.pictures_per_row,
        stand_in_at=image_position(template, tokenizer, recipe.system),
    )


def _loader_options(
    recipe: TrainRecipe, stage: Stage, seed: int, static: StaticShape | None, runtime: Runtime
) -> LoaderOptions:
    part = recipe.stage(stage)
    micro = part.micro_batch_size
    return LoaderOptions(
        global_batch=part.batch_size,
        micro_batch=micro * runtime.num_devices if micro else None,
        seed=seed,
        shuffle=part.shuffle,
        group_by=part.group_by,
        window_shards=recipe.data.window_shards,
        packing=part.packing,
        row_tokens=recipe.tokens_of(stage) if part.packing else None,
        static=static,
        num_workers=recipe.data.workers,
        prefetch=recipe.data.prefetch,
        picture_cache_bytes=recipe.data.picture_cache_mb * _MIB,
        max_bad_share=recipe.data.max_bad_share,
    )


def feature_store(
    recipe: TrainRecipe, model: CambrianModel, runtime: Runtime
) -> FeatureStore | None:
    """Return what keeps the features of frozen towers, if the recipe asks for it.

    Not where shapes are static: towers would run outside of the step that was compiled.

    Raises:
        TrainError: it does, and a tower learns.
    """
    data = recipe.data
    if runtime.static_shapes or not (data.feature_cache or data.feature_cache_mb):
        return None
    if recipe.model.unfreeze:
        raise TrainError(
            f"data.feature_cache keeps features of towers that stay as they are, and "
            f"{recipe.model.unfreeze[0]} learns; set data.feature_cache_mb to 0 and leave "
            "data.feature_cache out, or take it out of model.unfreeze"
        )
    folder = Path(data.feature_cache).expanduser() if data.feature_cache else None
    identity = towers_identity(model.towers) if folder else ""
    cache = FeatureCache(data.feature_cache_mb * _MIB, folder=folder, identity=identity)

    def run_towers(pictures: Any) -> list[torch.Tensor]:
        with runtime.autocast():
            return encode(model.towers, pictures)

    return FeatureStore(cache, run_towers, runtime.device)
