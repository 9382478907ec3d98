"""Typed configs of a training recipe: model, tokenizer, template, data and the two stages.

`cambrian_data.recipes.load_recipe("tiny", "train", TrainRecipe)` fills them from YAML. Nothing here
imports torch, so that a recipe can be read and shown at once.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Stage = Literal["pretrain", "finetune"]
TemplateName = Literal["llama_3", "vicuna_v1", "chatml_direct", "phi3", "plain"]


class Config(BaseModel):
    """Base of the configs: frozen, no unknown keys, docstrings under the fields."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


class InDecoderRecipe(Config):
    """Samplers inside the language model: they let its visual tokens look at the towers again."""

    start: int = Field(default=0, ge=0)
    """The first sampler runs after this layer of the language model."""
    stride: int = Field(default=1, ge=1)
    """Layers from one sampler to the next."""
    count: int = Field(ge=1)
    """How many samplers there are."""

    @property
    def places(self) -> list[int]:
        """Return the layers after which a sampler runs."""
        return [self.start + number * self.stride for number in range(self.count)]


class ConnectorRecipe(Config):
    """What stands between the vision towers and the language model."""

    kind: Literal["sva", "mlp2x_gelu"] = "sva"
    """The Spatial Vision Aggregator, or a 2-layer MLP over the towers' concatenated features."""
    layer_type: Literal["joint", "sep"] = "joint"
    """SVA: one softmax over the keys of all towers, or each tower on its own and then a mixture."""
    hidden_size: int = Field(default=1024, ge=8)
    """SVA: width of queries and keys."""
    num_heads: int = Field(default=16, ge=1)
    """SVA: attention heads; they divide `hidden_size`."""
    num_layers: int = Field(default=3, ge=1)
    """SVA: layers of each sampler."""
    query_grids: tuple[int, ...] = (24,)
    """Side of the query grid of each query group; every tower's grid is a multiple of each.
    The largest one is the grid of visual tokens if `grid` is not given."""
    grid: int | None = Field(default=None, ge=1)
    """Side of the grid of visual tokens, to which coarser query groups are interpolated."""
    in_decoder: InDecoderRecipe | None = None
    """SVA: samplers inside the language model, one layer each; none if not given."""

    @property
    def side(self) -> int:
        """Return the side of the grid of visual tokens."""
        return self.grid or max(self.query_grids)

    @model_validator(mode="after")
    def _check(self) -> ConnectorRecipe:
        if not self.query_grids or min(self.query_grids) < 1:
            raise ValueError(f"query_grids must name sides >= 1, got {self.query_grids}")
        if self.grid is not None and self.grid < max(self.query_grids):
            raise ValueError(f"grid {self.grid} is coarser than query_grids {self.query_grids}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of num_heads {self.num_heads}"
            )
        return self


class ModelRecipe(Config):
    """Towers, connector and language model."""

    towers: tuple[str, ...] = Field(min_length=1)
    """Keys of the registry in `cambrian_model.vision`, in order; the first gives the context."""
    tower_weights: dict[str, str] = {}
    """Key of a tower -> where its weights are: a folder, a file or a hub id. Towers that are not
    named here take the registry's own; the tiny ones are drawn from the seed."""
    unfreeze: tuple[str, ...] = ()
    """Towers that learn in both stages, by key; the others stay as they are."""
    connector: ConnectorRecipe = ConnectorRecipe()
    connector_weights: str | None = None
    """A connector that is trained already: a published `mm_projector.bin`, or safetensors. Stage 2
    then needs no checkpoint of stage 1."""
    decoder: dict[str, Any] = {}
    """Config of the language model as `AutoConfig` takes it, with `model_type`; the vocabulary size
    and the special ids are set from the tokenizer. Beside `decoder_weights` it changes single
    values of the config that lies there."""
    decoder_weights: str | None = None
    """A pretrained language model with its tokenizer: a folder or a hub id. Random weights and a
    tokenizer made from the shards if not given."""

    @model_validator(mode="after")
    def _check(self) -> ModelRecipe:
        if "model_type" not in self.decoder and self.decoder_weights is None:
            raise ValueError(
                "decoder needs a model_type, such as llama, or decoder_weights a language model"
            )
        for field in ("tower_weights", "unfreeze"):
            strange = [key for key in getattr(self, field) if key not in self.towers]
            if strange:
                raise ValueError(
                    f"{field} names {strange[0]!r}, which is not among the towers "
                    f"({', '.join(self.towers)})"
                )
        return self


class TokenizerRecipe(Config):
    """The tokenizer that is trained from the text of the shards, where none is given."""

    vocab_size: int = Field(default=2048, ge=300)
    """Most tokens it may have; 256 of them are the bytes."""


class DataRecipe(Config):
    """How samples come from the shards."""

    workers: int = Field(default=0, ge=0)
    """Processes that read and decode; 0 reads in the training process."""
    prefetch: int = Field(default=2, ge=1)
    """Steps that are made ready ahead by the workers."""
    max_bad_share: float = Field(default=0.05, ge=0, le=1)
    """Share of samples that may be unusable before the run stops."""
    picture_cache_mb: int = Field(default=512, ge=0)
    """Memory for decoded pictures at the towers' sizes, in MB."""
    feature_cache_mb: int = Field(default=0, ge=0)
    """Memory for the features of frozen towers, kept by picture, in MB; 0 computes them always. For
    small towers: those of a picture at the released ones take 220 MB."""
    feature_cache: str | None = None
    """Folder that keeps the features of frozen towers on disk; none if not given."""
    pictures_per_row: int = Field(default=1, ge=1)
    """With static shapes (XLA): picture slots of each row; samples with more are left out."""
    cache: str | None = None
    """Folder for the sample index and for copies of remote shards; in the workspace if not
    given."""
    cache_mb: int = Field(default=65_536, ge=1)
    """Most that copies of remote shards may take on disk, in MB."""
    window_shards: int | None = Field(default=None, ge=1)
    """Shards among which samples are mixed; all if not given. Remote shards that do not fit into
    `cache_mb` together need a number."""


class AdapterRecipe(Config):
    """Low-rank adapters (LoRA) on the language model's linear layers, which learn in its place."""

    rank: int = Field(default=64, ge=1)
    """Rank of the two factors."""
    alpha: float = Field(default=128.0, gt=0)
    """Their product is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the first factor's inputs that is dropped while training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the layers that get one: all linear ones but the head, or by the end of their
    names."""
    train_embeddings: bool = False
    """Train the tokens' embeddings and the head in full beside."""
    quantize: Literal["none", "4bit"] = "none"
    """4bit: the language model's own weights in 4 bits (QLoRA); needs bitsandbytes and a GPU."""
    seed: int = 0
    """Seed of the adapters' first values."""


class StageRecipe(Config):
    """One stage of training."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; exactly one of `steps` and `epochs` is given."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the samples."""
    batch_size: int = Field(default=16, ge=1)
    """Samples in an optimizer step, over all devices and micro batches."""
    base_batch_size: int | None = Field(default=None, ge=1)
    """The batch size that the rates are written for. With another `batch_size` every rate is
    multiplied by sqrt(batch_size / base_batch_size); not given: they are used as written.
    Source: README of the published code, "Hyperparameters"."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Samples that go through the model at once on a device; all of its share if not given. More
    micro batches make the same step with less memory."""
    group_by: Literal["none", "length", "modality"] = "none"
    """length: samples of a batch have about the same length, and all have pictures or none has;
    modality: the latter alone. Less padding; the samples of an epoch stay the same."""
    shuffle: bool = True
    """Another order in every epoch, from the seed; else that of the shards."""
    packing: bool = False
    """Put several samples into one row; none sees another (block-diagonal attention)."""
    max_tokens: int | None = Field(default=None, ge=16)
    """Longest sample of this stage; the recipe's `max_tokens` if not given."""
    lr: float = Field(gt=0)
    """Highest learning rate."""
    sampler_lr: float | None = Field(default=None, gt=0)
    """Highest learning rate of the SVA's samplers and queries; `lr` if not given."""
    projector_lr: float | None = Field(default=None, gt=0)
    """Highest learning rate of the projections before and after the samplers; `lr` if not given."""
    tower_lr: float | None = Field(default=None, gt=0)
    """Highest learning rate of towers that learn (`model.unfreeze`); `lr` if not given."""
    freeze: tuple[Literal["projector", "connector", "decoder"], ...] = ()
    """Parts that do not learn in this stage although they would: the connector's last projection,
    the whole connector, the language model."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the rate goes on after the warm-up: down to 0 as half a cosine, or as it is."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps over which the rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay; biases and norms never decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's betas."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """What the model computes in; bf16 keeps the weights that learn, and their optimizer states, in
    float32. auto: bf16 on CUDA, float32 elsewhere."""
    sharding: Literal["auto", "none", "full", "hybrid"] = "auto"
    """With several devices: full spreads weights, gradients and optimizer states over all of them,
    hybrid over those of a machine, none keeps a whole copy on each. auto: full on CUDA and XLA."""
    gradient_checkpointing: bool = False
    """Run the language model's layers again in the backward pass instead of keeping what they
    computed: less memory, more time."""
    save_every: int = Field(default=1000, ge=1)
    """Steps between checkpoints; the last step is always saved."""
    keep_last: int = Field(default=2, ge=1)
    """Checkpoints that are kept."""
    async_save: bool = False
    """Write checkpoints while training goes on; the step only waits for a copy in memory."""
    log_every: int = Field(default=1, ge=1)
    """Steps between lines of the log; the device is waited for on these steps alone."""
    logs: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where the log's numbers go besides `log.jsonl`."""
    num_compared: int = Field(default=512, ge=0)
    """After stage 2: samples with pictures whose loss is compared with that beside pictures of
    others; 0 compares nothing."""

    @model_validator(mode="after")
    def _check(self) -> StageRecipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are at least 0 and less than 1, got {self.betas}")
        return self

    @property
    def rate_factor(self) -> float:
        """Return what every rate is multiplied by: sqrt(batch_size / base_batch_size), or 1."""
        return (self.batch_size / (self.base_batch_size or self.batch_size)) ** 0.5

    @property
    def rate_rule(self) -> str:
        """Say how the rates follow from the batch size."""
        if self.base_batch_size is None:
            return "as written: the stage has no base_batch_size"
        if self.base_batch_size == self.batch_size:
            return f"as written, for batch_size {self.batch_size}"
        return (
            f"as written x {self.rate_factor:.4g} = sqrt(batch_size {self.batch_size} / "
            f"base_batch_size {self.base_batch_size})"
        )

    def rates(self) -> dict[str, float]:
        """Return the highest rate of each kind of parameters, the square-root rule applied."""
        chosen = {
            "base": self.lr,
            "sampler": self.sampler_lr,
            "projector": self.projector_lr,
            "tower": self.tower_lr,
        }
        return {
            kind: (self.lr if rate is None else rate) * self.rate_factor
            for kind, rate in chosen.items()
        }

    def num_steps(self, samples: int) -> int:
        """Return the optimizer steps for a number of samples."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, math.ceil(self.epochs * samples / self.batch_size))


class PlanRecipe(Config):
    """What a dry run counts on where it cannot know; without effect on training."""

    devices: int = Field(default=1, ge=1)
    """Devices that train together."""
    device: str = "H100"
    """Name of the device, from which its peak FLOPs and memory are known."""
    mfu: float = Field(default=0.4, gt=0, le=1)
    """Share of the peak FLOPs that training reaches."""
    pretrain_samples: int | None = Field(default=None, ge=1)
    """Samples of stage 1 where no shards are at hand."""
    finetune_samples: int | None = Field(default=None, ge=1)
    """Samples of stage 2 where no shards are at hand."""
    text_tokens: int = Field(default=250, ge=1)
    """Tokens of text in a sample, the answers counted, where no shards are at hand."""
    trained_tokens: int = Field(default=120, ge=1)
    """Those of them that are answers."""
    pictures: float = Field(default=0.9, ge=0)
    """Pictures in a sample."""


class TrainRecipe(Config):
    """A model and its two stages."""

    model: ModelRecipe
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    template: TemplateName = "llama_3"
    """Key of `cambrian_model.conversation.TEMPLATES`."""
    system: str | None = None
    """System prompt of samples that bring none; the template's own if not given."""
    max_tokens: int = Field(default=2048, ge=16)
    """Longest sample in tokens, the picture's counted; what is over is cut off."""
    data: DataRecipe = DataRecipe()
    adapters: AdapterRecipe | None = None
    """Adapters on the language model in stage 2; it learns itself if not given."""
    cpu_threads: int = Field(default=2, ge=1)
    """Threads of the cpu runtime; part of the recipe, since sums depend on it in the last bit."""
    plan: PlanRecipe = PlanRecipe()
    pretrain: StageRecipe
    """Stage 1: the connector alone learns."""
    finetune: StageRecipe
    """Stage 2: connector and language model learn."""

    def stage(self, name: Stage) -> StageRecipe:
        """Return the part of a stage."""
        return self.pretrain if name == "pretrain" else self.finetune

    def tokens_of(self, name: Stage) -> int:
        """Return the longest sample of a stage, in tokens."""
        return self.stage(name).max_tokens or self.max_tokens
