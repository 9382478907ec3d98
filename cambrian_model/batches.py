"""Shards -> examples -> batches.

Every sample is read and encoded once at the start: what cannot be used is counted by reason and
left out, and too many of them stop the run. Records and stored pictures stay in memory, decoded
pictures and tower features within a bound. The order of an epoch is that of hash(seed, epoch, id),
so the position in the data is a single number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from cambrian_data.records import UserError, draw
from cambrian_data.shards import ShardSample, read_shards
from cambrian_model.conversation import (
    IGNORE_INDEX,
    Encoded,
    SampleError,
    Template,
    check_turns,
    encode,
    fit,
)
from cambrian_model.model import CambrianModel
from cambrian_model.pictures import (
    MemoryCache,
    PictureError,
    Size,
    decode_picture,
    normalise,
    num_visual_tokens,
    square_pixels,
    total_nbytes,
)
from cambrian_model.vision import Pictures, TowerSpec

_MIB = 2**20


class BadSamplesError(UserError):
    """More samples are unusable than the recipe allows, or none is left."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sample, ready to be batched."""

    sample_id: str
    encoded: Encoded
    pictures: tuple[str, ...]
    """sha256 of the pictures that the ids hold, in order."""
    num_tokens: int
    """Length with the pictures' tokens."""

    @property
    def num_trained(self) -> int:
        """Return the labels that count; the first token of a row is never predicted."""
        return sum(label != IGNORE_INDEX for label in self.encoded.labels[1:])


@dataclass(slots=True)
class Batch:
    """Right-padded rows and their pictures, in the order of their places."""

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    pictures: Pictures
    sample_ids: list[str]
    num_tokens: int

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on a device."""
        return Batch(
            self.input_ids.to(device),
            self.labels.to(device),
            self.attention_mask.to(device),
            self.pictures.to(device),
            self.sample_ids,
            self.num_tokens,
        )


# ---------------------------------------------------------------------------------- pictures


class PictureSource(Protocol):
    """Gives the pictures of a batch by their sha256."""

    def __call__(self, keys: Sequence[str]) -> Pictures: ...


class PictureStore:
    """Stored pictures by sha256, and their pixels at the towers' sizes within a bound."""

    def __init__(self, specs: Sequence[TowerSpec], max_bytes: int) -> None:
        self.specs = tuple(specs)
        self.sizes: dict[str, Size] = {}
        self._stored: dict[str, bytes] = {}
        self._pixels: MemoryCache[list[np.ndarray]] = MemoryCache(max_bytes, total_nbytes)

    def add(self, key: str, data: bytes) -> Size:
        """Take a stored picture, decode it, and return its size.

        Raises:
            PictureError: it cannot be decoded.
        """
        if key not in self.sizes:
            image = decode_picture(data)
            pixels = [square_pixels(image, spec.px, spec.mean) for spec in self.specs]
            self._pixels.get(key, lambda: pixels)
            self._stored[key], self.sizes[key] = data, image.size
        return self.sizes[key]

    def tensors(self, key: str) -> list[Tensor]:
        """Return one normalised (3, px, px) a tower."""
        pixels = self._pixels.get(key, lambda: self._decode(key))
        return [
            torch.from_numpy(normalise(array, spec.mean, spec.std))
            for array, spec in zip(pixels, self.specs, strict=True)
        ]

    def _decode(self, key: str) -> list[np.ndarray]:
        image = decode_picture(self._stored[key])
        return [square_pixels(image, spec.px, spec.mean) for spec in self.specs]

    def __call__(self, keys: Sequence[str]) -> Pictures:
        """Return pictures as pixels."""
        if not keys:
            return Pictures([], features=[])
        towers = zip(*(self.tensors(key) for key in keys), strict=True)
        pixels = [torch.stack(tensors) for tensors in towers]
        return Pictures([self.sizes[key] for key in keys], pixels=pixels)


class FeatureStore:
    """Features of frozen towers by picture, within a bound.

    A picture goes through the towers alone: its features are then the same, to the last bit,
    whatever batch it is asked for in, which resuming relies on.
    """

    def __init__(self, store: PictureStore, model: CambrianModel, max_bytes: int) -> None:
        self._store, self._model = store, model
        self._features: MemoryCache[list[Tensor]] = MemoryCache(max_bytes, total_nbytes)

    def __call__(self, keys: Sequence[str]) -> Pictures:
        """Return pictures as features."""
        if not keys:
            return Pictures([], features=[])
        each = [self._features.get(key, partial(self._encode, key)) for key in keys]
        features = [torch.stack(tensors) for tensors in zip(*each, strict=True)]
        return Pictures([self._store.sizes[key] for key in keys], features=features)

    @torch.no_grad()
    def _encode(self, key: str) -> list[Tensor]:
        pictures = self._store([key]).to(self._model.device)
        return [feats_BND[0] for feats_BND in self._model.encode_pictures(pictures)]


# ---------------------------------------------------------------------------------- examples


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleMaker:
    """Turns records into examples; the same object serves training and questions."""

    tokenizer: PreTrainedTokenizerFast
    template: Template
    system: str | None
    max_tokens: int
    side: int
    """Side of the grid of visual tokens."""

    def __call__(self, sample: ShardSample, store: PictureStore) -> Example:
        """Check and encode a sample and hand its pictures to the store.

        Raises:
            SampleError: it cannot be used.
        """
        record = sample.record
        sample_id = str(record.get("id") or sample.key)
        check_turns(sample_id, record, self.template)
        keys = [image["sha256"] for image in record["images"]]
        sizes = self._add_pictures(sample_id, keys, sample.pictures, store)
        system = record.get("system")
        encoded = encode(
            record["conversations"],
            self.tokenizer,
            self.template,
            self.system if system is None else system,
        )
        tokens = [num_visual_tokens(size, self.side) for size in sizes]
        cut = fit(encoded, tokens, self.max_tokens, sample_id)
        kept = cut.num_pictures
        length = len(cut.input_ids) - kept + sum(tokens[:kept])
        return Example(sample_id, cut, tuple(keys[:kept]), length)

    def _add_pictures(
        self, sample_id: str, keys: Sequence[str], data: Sequence[bytes], store: PictureStore
    ) -> list[Size]:
        if len(keys) != len(data):
            raise SampleError(
                sample_id, "image_token_mismatch", f"{len(keys)} pictures named, {len(data)} stored"
            )
        try:
            return [store.add(key, picture) for key, picture in zip(keys, data, strict=True)]
        except PictureError as error:
            raise SampleError(sample_id, "picture_unreadable", str(error)) from None


@dataclass(frozen=True, slots=True)
class Examples:
    """The usable samples of shards, and how many are not, by reason."""

    items: list[Example]
    skipped: dict[str, int]


def read_examples(
    shards: Path, make: ExampleMaker, store: PictureStore, max_bad_share: float
) -> Examples:
    """Read and encode all samples of a folder of shards.

    Raises:
        BadSamplesError: none is usable, or the share of unusable ones is above the limit.
        ShardError: the shards cannot be read.
    """
    items: list[Example] = []
    errors: list[SampleError] = []
    for sample in read_shards(shards):
        try:
            items.append(make(sample, store))
        except SampleError as error:
            errors.append(error)
    skipped = dict(sorted(Counter(error.reason for error in errors).items()))
    total = len(items) + len(errors)
    if not items or len(errors) > max_bad_share * total:
        first = f"; the first: {errors[0]}" if errors else ""
        raise BadSamplesError(
            f"{len(errors)} of {total} samples in {shards} are unusable {skipped}, the recipe "
            f"allows a share of {max_bad_share}{first}; mend the data or raise max_bad_share"
        )
    return Examples(items, skipped)


def shard_texts(shards: Path) -> Iterator[str]:
    """Yield all text of the shards in order, to train a tokenizer from."""
    for sample in read_shards(shards):
        if sample.record.get("system"):
            yield sample.record["system"]
        for turn in sample.record["conversations"]:
            yield turn["value"]


# ----------------------------------------------------------------------------------- batches


class Batches:
    """An endless stream of samples in batches; epochs follow each other without a gap."""

    def __init__(
        self, examples: Sequence[Example], batch_size: int, seed: int, consumed: int = 0
    ) -> None:
        self.examples, self.batch_size, self.seed = list(examples), batch_size, seed
        self.consumed = consumed
        self._epoch, self._order = -1, list[int]()

    def take(self) -> list[Example]:
        """Return the next batch and move on."""
        return [self._next() for _ in range(self.batch_size)]

    def state(self) -> dict[str, Any]:
        """Return the position in the data."""
        return {"consumed": self.consumed}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state` returned."""
        self.consumed = int(state["consumed"])

    def _next(self) -> Example:
        epoch, place = divmod(self.consumed, len(self.examples))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self.examples, self.seed, epoch)
        self.consumed += 1
        return self.examples[self._order[place]]


def epoch_order(examples: Sequence[Example], seed: int, epoch: int) -> list[int]:
    """Return the order of an epoch: by a hash of seed, epoch and sample id."""
    keys = [draw(seed, "order", epoch, example.sample_id) for example in examples]
    return sorted(range(len(examples)), key=keys.__getitem__)


def collate(
    examples: Sequence[Example],
    pictures: PictureSource,
    pad_token_id: int,
    shown: Sequence[Sequence[str]] | None = None,
) -> Batch:
    """Make a batch.

    Args:
        shown: pictures to show instead of the samples' own, sample by sample.
    """
    ids = [torch.tensor(example.encoded.input_ids) for example in examples]
    labels = [torch.tensor(example.encoded.labels) for example in examples]
    lengths = torch.tensor([len(row) for row in ids])
    keys = shown if shown is not None else [example.pictures for example in examples]
    return Batch(
        input_ids=pad_sequence(ids, batch_first=True, padding_value=pad_token_id),
        labels=pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX),
        attention_mask=torch.arange(int(lengths.max())) < lengths[:, None],
        pictures=pictures([key for row in keys for key in row]),
        sample_ids=[example.sample_id for example in examples],
        num_tokens=sum(example.num_tokens for example in examples),
    )


def make_picture_source(
    store: PictureStore, model: CambrianModel, feature_cache_mb: int
) -> PictureSource:
    """Return features kept by picture where towers are frozen and memory is given, or pixels."""
    if feature_cache_mb and all(tower.frozen for tower in model.towers):
        return FeatureStore(store, model, feature_cache_mb * _MIB)
    return store


def make_picture_store(specs: Sequence[TowerSpec], picture_cache_mb: int) -> PictureStore:
    """Return an empty store."""
    return PictureStore(specs, picture_cache_mb * _MIB)
