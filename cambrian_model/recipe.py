"""Typed configs of a training recipe: model, tokenizer, template and the two stages.

`cambrian_data.recipes.load_recipe("tiny", "train", TrainRecipe)` fills them from YAML. Nothing here
imports torch, so that a recipe can be read and shown at once.
"""

from __future__ import annotations

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
    )


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
    The largest one is the grid of visual tokens."""

    @model_validator(mode="after")
    def _check(self) -> ConnectorRecipe:
        if not self.query_grids or min(self.query_grids) < 1:
            raise ValueError(f"query_grids must name sides >= 1, got {self.query_grids}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of num_heads {self.num_heads}"
            )
        return self


class ModelRecipe(Config):
    """Towers, connector and language model."""

    towers: tuple[str, ...] = Field(min_length=1)
    """Keys of the registry in `cambrian_model.vision`, in order; the first gives the context."""
    connector: ConnectorRecipe = ConnectorRecipe()
    decoder: dict[str, Any]
    """Config of the language model as `AutoConfig` takes it, with `model_type`; the vocabulary size
    and the special ids are set from the tokenizer."""

    @model_validator(mode="after")
    def _check(self) -> ModelRecipe:
        if "model_type" not in self.decoder:
            raise ValueError("decoder needs a model_type, such as llama")
        return self


class TokenizerRecipe(Config):
    """The tokenizer that is trained from the text of the shards."""

    vocab_size: int = Field(default=2048, ge=300)
    """Most tokens it may have; 256 of them are the bytes."""


class StageRecipe(Config):
    """One stage of training."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; exactly one of `steps` and `epochs` is given."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the samples."""
    batch_size: int = Field(default=16, ge=1)
    """Samples in a step."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Samples that go through the model at once; all of the step's if not given. A batch is sorted
    by length before it is cut, so that smaller ones save padding too."""
    lr: float = Field(gt=0)
    """Highest learning rate."""
    sampler_lr: float | None = Field(default=None, gt=0)
    """Highest learning rate of the SVA's samplers and queries; `lr` if not given."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay; biases and norms never decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's betas."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps over which the rate rises from 0; then it falls to 0 as a cosine."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    gradient_checkpointing: bool = False
    """Run the language model's layers again in the backward pass instead of keeping what they
    computed: less memory, more time."""
    save_every: int = Field(default=1000, ge=1)
    """Steps between checkpoints; the last step is always saved."""
    keep_last: int = Field(default=2, ge=1)
    """Checkpoints that are kept."""

    @model_validator(mode="after")
    def _check(self) -> StageRecipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self


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
    max_bad_share: float = Field(default=0.05, ge=0, le=1)
    """Share of samples that may be unusable before the run stops."""
    feature_cache_mb: int = Field(default=512, ge=0)
    """Memory for the features of frozen towers, kept by picture; 0 computes them every time."""
    picture_cache_mb: int = Field(default=512, ge=0)
    """Memory for decoded pictures at the towers' sizes."""
    cpu_threads: int = Field(default=2, ge=1)
    """Threads of the cpu runtime; part of the recipe, since sums depend on it in the last bit."""
    pretrain: StageRecipe
    """Stage 1: the connector alone learns."""
    finetune: StageRecipe
    """Stage 2: connector and language model learn."""

    def stage(self, name: Stage) -> StageRecipe:
        """Return the part of a stage."""
        return self.pretrain if name == "pretrain" else self.finetune
