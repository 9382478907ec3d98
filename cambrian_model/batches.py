"""Examples and their pictures -> batches; and the examples of an evaluation.

A batch is rows of one sample each, or of several (packed). Where everything stands in them is
computed here, on the CPU, by `layout.lay_out`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cambrian_model.conversation import IGNORE_INDEX, Encoded
from cambrian_model.layout import Layout, StaticShape, lay_out
from cambrian_model.loading.examples import BadSamplesError, Example, ExampleMaker
from cambrian_model.loading.picture_store import (
    FeatureStore,
    ShownPicture,
    black_picture,
    crops_of,
    load_pictures,
    shown_pictures,
    stack_pictures,
)
from cambrian_model.loading.sample_reader import Crop, Fault, SampleReader
from cambrian_model.loading.samples import Samples
from cambrian_model.loading.shard_index import shard_texts
from cambrian_model.pictures import Size
from cambrian_model.vision import Pictures, TowerSpec

__all__ = [
    "BadSamplesError",
    "Batch",
    "Collator",
    "Example",
    "ExampleMaker",
    "ExampleSet",
    "FeatureStore",
    "load_pictures",
    "shard_texts",
]


@dataclass(slots=True)
class Batch:
    """Rows, laid out, and their pictures."""

    layout: Layout
    pictures: Pictures
    """In the order of the picture slots; pixels are uint8. Black stand-ins with static shapes."""
    sample_ids: list[str]
    num_tokens: int
    """Tokens of the samples, those of pictures counted, padding not."""
    num_trained: int
    """Labels that are predicted."""

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on a device."""
        return Batch(
            self.layout.to(device),
            self.pictures.to(device),
            self.sample_ids,
            self.num_tokens,
            self.num_trained,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Collator:
    """Makes batches of rows."""

    side: int
    pad_token_id: int
    crops: tuple[Crop, ...]
    static: StaticShape | None = None
    features: FeatureStore | None = None

    def __call__(
        self,
        rows: Sequence[Sequence[Example]],
        shown: Sequence[ShownPicture],
        num_rows: int | None = None,
    ) -> Batch:
        """Make a batch.

        Args:
            rows: the examples of each row.
            shown: the pictures that their ids name, in order.
            num_rows: rows of the batch; those that are lacking hold one token that counts for
                nothing, as does a batch of no samples.
        """
        encoded = [[example.encoded for example in row] for row in rows]
        for _ in range(max(num_rows or 1, 1) - len(encoded)):
            encoded.append([Encoded([self.pad_token_id], [IGNORE_INDEX])])
        sizes: list[Size] = [picture.size for picture in shown]
        layout = lay_out(
            encoded, sizes, self.side, pad_token_id=self.pad_token_id, static=self.static
        )
        slots = [self._stand_in() if at < 0 else shown[at] for at in layout.picture_order]
        examples = [example for row in rows for example in row]
        return Batch(
            layout=layout,
            pictures=stack_pictures(slots),
            sample_ids=[example.sample_id for example in examples],
            num_tokens=sum(example.num_tokens for example in examples),
            num_trained=layout.num_trained,
        )

    def _stand_in(self) -> ShownPicture:
        if self.features is not None:
            return self.features.stand_in(self.crops)
        return black_picture(self.crops)


class ExampleSet:
    """Chosen samples, in batches with their own pictures or with those of others of the set."""

    def __init__(
        self,
        samples: Samples,
        numbers: Sequence[int],
        specs: Sequence[TowerSpec],
        *,
        pad_token_id: int,
        features: FeatureStore | None = None,
        static: StaticShape | None = None,
        cache_bytes: int = 0,
    ) -> None:
        """Read the samples once; what cannot be read is left out and counted.

        Args:
            numbers: of the samples, such as `range(100)`.
            cache_bytes: bound for decoded pictures that are kept.
        """
        crops = crops_of(specs)
        self._samples = samples
        self._reader = SampleReader(samples.make, crops, cache_bytes)
        self._collate = Collator(
            side=samples.make.side,
            pad_token_id=pad_token_id,
            crops=crops,
            static=static,
            features=features,
        )
        self.items: list[Example] = []
        self._found: dict[str, tuple[int, int]] = {}
        skipped: Counter[str] = Counter()
        for number in numbers:
            loaded = self._load(number)
            if isinstance(loaded, Fault):
                skipped[loaded.reason] += 1
                continue
            example, _ = loaded
            self.items.append(example)
            for place, key in enumerate(example.pictures):
                self._found.setdefault(key, (number, place))
        self.skipped: Mapping[str, int] = dict(sorted(skipped.items()))

    def batch(
        self,
        examples: Sequence[Example],
        shown: Sequence[Sequence[str]] | None = None,
        num_rows: int | None = None,
    ) -> Batch:
        """Make a batch of examples of the set, one a row.

        Args:
            shown: pictures (sha256) to show instead of the examples' own, example by example.
            num_rows: rows of the batch, where shapes are static.
        Raises:
            BadSamplesError: a sample that could be read before can no longer be.
        """
        keys = shown if shown is not None else [example.pictures for example in examples]
        pictures = [self._picture(key) for row in keys for key in row]
        return self._collate([[example] for example in examples], pictures, num_rows)

    def _load(self, number: int) -> tuple[Example, list[ShownPicture]] | Fault:
        features = self._collate.features
        loaded = self._reader.load(self._samples.spot(number), with_pixels=features is None)
        if isinstance(loaded, Fault):
            return loaded
        shown = shown_pictures(loaded, self._reader, features)
        return shown if isinstance(shown, Fault) else (loaded.example, shown)

    def _picture(self, key: str) -> ShownPicture:
        number, place = self._found[key]
        loaded = self._load(number)
        if isinstance(loaded, Fault):
            raise BadSamplesError(f"{loaded}; it could be read before, check the shards")
        return loaded[1][place]
