"""Parsed rows of a part to its table of samples, column by column.

Rows come in blocks of some thousand; a block's texts leave Python at once, so that a part holds
numbers, ids and paths as objects and the texts as Arrow buffers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, cycle, pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from cambrian_data.curation.ingest.rows import ParsedSample
from cambrian_data.records import SAMPLE, picture_key

_ROLES = ("human", "gpt")


@dataclass(slots=True)
class Block:
    """Some kept rows as lists, one entry a row; `texts` has all turns, question first."""

    lines: list[int] = field(default_factory=list)
    row_ids: list[str | None] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    images: list[Sequence[str]] = field(default_factory=list)
    systems: list[str | None] = field(default_factory=list)
    num_turns: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def append(self, sample: ParsedSample) -> None:
        """Add a row that was parsed alone."""
        self.lines.append(sample.raw.line)
        self.row_ids.append(sample.row_id)
        self.sources.append(sample.source)
        self.images.append(sample.images)
        self.systems.append(sample.system)
        self.num_turns.append(len(sample.turns))
        self.texts += [text for _, text in sample.turns]

    def keep(self, wanted: Sequence[bool]) -> Block:
        """Return the block of the rows that are wanted."""
        rows = [number for number, flag in enumerate(wanted) if flag]
        begins = [0, *accumulate(self.num_turns)]
        return Block(
            [self.lines[n] for n in rows],
            [self.row_ids[n] for n in rows],
            [self.sources[n] for n in rows],
            [self.images[n] for n in rows],
            [self.systems[n] for n in rows],
            [self.num_turns[n] for n in rows],
            [text for n in rows for text in self.texts[begins[n] : begins[n + 1]]],
        )


Found = Mapping[str, Mapping[str, Any]]
"""The reference of each path (`images` of a sample); a path that is not in it was not read."""


class Columns:
    """The columns of a part's samples, filled block by block."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self._ids: list[str] = []
        self._lines: list[int] = []
        self._row_ids: list[str | None] = []
        self._systems: list[str | None] = []
        self._num_turns: list[int] = []
        self._num_images: list[int] = []
        self._image_fields: list[list[Any]] = [[], [], [], []]
        self._texts: list[pa.Array] = []

    def __len__(self) -> int:
        return len(self.sources)

    def add(self, block: Block, pictures: Found, texts: Sequence[pa.Array] = ()) -> None:
        """Add the rows of a block.

        Args:
            pictures: what was found of the block's pictures.
            texts: the block's texts, where they are arrays already.
        """
        self._ids += _ids(block, pictures)
        self.sources += block.sources
        self._lines += block.lines
        self._row_ids += block.row_ids
        self._systems += block.systems
        self._num_turns += block.num_turns
        self._num_images += map(len, block.images)
        paths = list(chain.from_iterable(block.images))
        fields: list[list[Any]] = [
            [None] * len(paths),
            paths,
            [None] * len(paths),
            [None] * len(paths),
        ]
        if pictures:
            found = [pictures.get(path) or {"path": path} for path in paths]
            names = ("sha256", "path", "width", "height")
            fields = [[image.get(name) for image in found] for name in names]
        for values, more in zip(self._image_fields, fields, strict=True):
            values += more
        self._texts += texts or [pa.array(block.texts, pa.string())]

    def table(self, *, dataset: str, file: str, category_of: Mapping[str, str]) -> pa.Table:
        """Return the samples; columns that ingest does not know are null.

        Args:
            category_of: the category of each source.
        """
        texts = pa.concat_arrays(self._texts or [pa.array([], pa.string())])
        roles = alternating_roles(len(texts))
        return samples_table(
            dataset,
            file,
            {
                "id": pa.array(self._ids, pa.string()),
                "source": pa.array(self.sources, pa.string()),
                "category": pa.array([category_of[source] for source in self.sources], pa.string()),
                "images": lists_of("images", self._num_images, self._image_fields),
                "conversations": lists_of("conversations", self._num_turns, [roles, texts]),
                "system": pa.array(self._systems, pa.string()),
            },
            pa.array(self._lines, pa.int64()),
            pa.array(self._row_ids, pa.string()),
        )

    def count_sources(self) -> Counter[str]:
        """Return how many rows each source has."""
        return Counter(self.sources)


def _ids(block: Block, pictures: Found) -> list[str]:
    """Return `records.sample_id` of every row; its content is spelled here without a detour.

    The content holds no objects, so that the one JSON spelling needs no sorting of keys.
    """
    turns = list(zip(cycle(_ROLES), block.texts, strict=False))
    ends = pairwise(accumulate(block.num_turns, initial=0))
    if pictures:
        keys = [
            [picture_key(pictures.get(path) or {"path": path}) for path in paths]
            for paths in block.images
        ]
    else:
        keys = [[f"path:{path}" for path in paths] for paths in block.images]
    dumps, sha256 = orjson.dumps, hashlib.sha256
    return [
        sha256(dumps(("sample", turns[begin:end], images))).hexdigest()
        for (begin, end), images in zip(ends, keys, strict=True)
    ]


def samples_table(
    dataset: str, file: str, columns: Mapping[str, pa.Array], lines: pa.Array, row_ids: pa.Array
) -> pa.Table:
    """Return samples of a file by their columns; those that are not given are null.

    Args:
        lines, row_ids: the rows' numbers and ids in their file.
    """
    count = len(lines)
    origin = pa.StructArray.from_arrays(
        [pa.repeat(file, count), lines, row_ids], fields=list(SAMPLE.field("origin").type)
    )
    known = {**columns, "dataset": pa.repeat(dataset, count), "origin": origin}
    arrays = [known.get(item.name, pa.nulls(count, item.type)) for item in SAMPLE]
    return pa.Table.from_arrays(arrays, schema=SAMPLE)


def alternating_roles(num_turns: int) -> pa.Array:
    """Return who says each of so many turns, question first."""
    times = num_turns // 2
    encoded = [word.encode() for word in _ROLES]
    lengths = np.tile(np.array([len(word) for word in encoded], np.int32), times)
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    data = b"".join(encoded) * times
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(data))


def lists_of(
    name: str, lengths: Sequence[int] | np.ndarray[Any, Any], values: Sequence[Any]
) -> pa.ListArray:
    """Build a list<struct> column of `SAMPLE` from the lists' lengths and flat struct fields."""
    kind = SAMPLE.field(name).type
    fields = list(kind.value_type)
    flat = pa.StructArray.from_arrays(
        [
            column if isinstance(column, pa.Array) else pa.array(column, item.type)
            for column, item in zip(values, fields, strict=True)
        ],
        fields=fields,
    )
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(np.array(lengths, np.int32), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), flat, type=kind)
