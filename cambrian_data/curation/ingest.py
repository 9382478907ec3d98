"""Published instruction sets to the pool, one bounded part at a time.

A part of raw lines becomes three tables (samples, images, drops) and counts, and depends on nothing
but its lines, its pictures and its config, so that parts can be made in any order and made again.
Every row ends up in samples or in drops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import yaml
from pydantic import Field, field_validator

from cambrian_data.curation.lines import START, Position, RawLine, cut_parts, read_rows
from cambrian_data.curation.pictures import FolderPictures, PictureProblem, PictureSource
from cambrian_data.curation.rows import MENDS, ParsedSample, drop_row, parse_row
from cambrian_data.recipes import Config
from cambrian_data.records import SAMPLE, UserError, sample_id, table_of

__all__ = [
    "MENDS",
    "FolderPictures",
    "IngestConfig",
    "IngestedPart",
    "ParsedSample",
    "PictureProblem",
    "PictureSource",
    "Position",
    "RawLine",
    "category_of",
    "cut_parts",
    "ingest_part",
    "merge_stats",
    "parse_row",
    "parts_of",
    "published_sizes",
    "read_rows",
]

OTHER = "other"
"""The category of a source that no table knows."""


@cache
def _known_sources() -> dict[str, Any]:
    path = Path(__file__).parent / "sources.yaml"
    known: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return known


def published_sizes() -> dict[str, tuple[str, int]]:
    """Return every published source with its category and its size in thousands of samples."""
    published = _known_sources()["published"]
    return {
        source: (category, thousands)
        for category, sizes in published.items()
        for source, thousands in sizes.items()
    }


def _known_categories() -> dict[str, str]:
    known = _known_sources()
    published = {source: category for source, (category, _) in published_sizes().items()}
    return {**published, **known["aliases"], **known["demo"]}


class IngestConfig(Config):
    """How a file of an instruction set is read."""

    rows_per_part: int = Field(default=50_000, ge=1)
    """Rows in one unit of work, and in one file of the pool."""
    bytes_per_part: int = Field(default=256 * 2**20, ge=1)
    """A part ends early once its rows hold this many bytes."""
    check_images: Literal["none", "exists", "decode"] = "decode"
    """Whether pictures are looked for; decode also reads, checks and stores them."""
    max_image_bytes: int = Field(default=100 * 2**20, ge=1)
    """A larger picture file is not read."""
    categories: dict[str, str] = Field(default_factory=dict)
    """Category of a source (`FILE:FOLDER` or `FILE`), beside and before the known ones."""
    strict: bool = False
    """Whether a source without a category is an error; else it gets the category `other`."""

    @field_validator("categories")
    @classmethod
    def _add_known(cls, given: dict[str, str]) -> dict[str, str]:
        return {**_known_categories(), **given}


# -------------------------------------------------------------------------------- one part


@dataclass(frozen=True, slots=True)
class IngestedPart:
    """What a part of a file became: its tables and its counts (JSON data)."""

    samples: pa.Table
    images: pa.Table
    drops: pa.Table
    stats: dict[str, Any]


@dataclass(slots=True)
class _Pictures:
    """The pictures of one part: every path is looked up once."""

    source: PictureSource | None
    check: str
    known: dict[str, Mapping[str, Any] | PictureProblem] = field(default_factory=dict)

    def look_up(self, path: str) -> Mapping[str, Any]:
        if path not in self.known:
            self.known[path] = self._look_up(path)
        found = self.known[path]
        if isinstance(found, PictureProblem):
            raise found
        return found

    def _look_up(self, path: str) -> Mapping[str, Any] | PictureProblem:
        unread = {"sha256": None, "path": path, "width": None, "height": None}
        if self.check == "none":
            return unread
        if self.source is None:
            raise UserError(
                f"the rows name pictures, such as {path!r}, and no folder of pictures is given: "
                "name it with --images, or leave them unread with --check-images none"
            )
        try:
            if self.check == "decode":
                return self.source.store(path)
            self.source.check(path)
        except PictureProblem as problem:
            return problem
        return unread

    def rows(self) -> list[Mapping[str, Any]]:
        """Return the rows of `images` of all pictures that were stored, by hash."""
        stored = {
            row["sha256"]: row
            for row in self.known.values()
            if not isinstance(row, PictureProblem) and row["sha256"]
        }
        return [stored[sha256] for sha256 in sorted(stored)]


def ingest_part(
    lines: Iterable[RawLine],
    *,
    dataset: str,
    file_name: str,
    images: PictureSource | None,
    config: IngestConfig,
) -> IngestedPart:
    """Turn some rows of a file into samples, drops and counts.

    Args:
        lines: rows as `read_rows` gives them.
        dataset: the pool's name for the set.
        file_name: the file's name, for origins and for rows that name no source.
        images: the pictures; may be None where the config does not check them, or no row has any.
        config: what is checked.
    Raises:
        UserError: a source without a category, where the config is strict.
    """
    pictures = _Pictures(images, config.check_images)
    kept: list[ParsedSample] = []
    refs: list[list[Mapping[str, Any]]] = []
    drops: list[dict[str, Any]] = []
    blank = 0
    for raw in lines:
        if not raw.data.strip():
            blank += 1
            continue
        sample = parse_row(raw, file_name)
        if isinstance(sample, dict):
            drops.append(sample)
            continue
        try:
            refs.append([pictures.look_up(path) for path in sample.images])
            kept.append(sample)
        except PictureProblem as problem:
            drops.append(drop_row(sample, file_name, problem.reason, problem.detail))
    categories = [category_of(sample.source, config) for sample in kept]
    stats = _stats(kept, categories, drops, blank)
    if config.strict and stats["unknown_sources"]:
        raise UserError(_unknown(file_name, stats["unknown_sources"]))
    samples = _samples_table(kept, refs, categories, dataset=dataset, file_name=file_name)
    image_rows = pictures.rows()
    stats["images"] = len(image_rows)
    return IngestedPart(samples, table_of("images", image_rows), table_of("drops", drops), stats)


def category_of(source: str, config: IngestConfig) -> str:
    """Return the category of a source, of its file as a whole, or `other`."""
    table = config.categories
    return table.get(source) or table.get(source.rsplit(":", 1)[0]) or OTHER


def merge_stats(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the counts of parts, nested ones too."""
    total: dict[str, Any] = {}
    for stats in parts:
        for key, value in stats.items():
            if isinstance(value, Mapping):
                total[key] = merge_stats([total.get(key, {}), value])
            else:
                total[key] = total.get(key, 0) + value
    return dict(sorted(total.items()))


def _stats(
    kept: Sequence[ParsedSample],
    categories: Sequence[str],
    drops: Sequence[Mapping[str, Any]],
    blank: int,
) -> dict[str, Any]:
    unknown = Counter(
        sample.source
        for sample, category in zip(kept, categories, strict=True)
        if category == OTHER
    )
    return {
        "rows": len(kept) + len(drops),
        "blank_lines": blank,
        "kept": len(kept),
        "dropped": dict(sorted(Counter(row["reason"] for row in drops).items())),
        "mended": dict(sorted(Counter(mend for s in kept for mend in s.mended).items())),
        "unknown_sources": dict(sorted(unknown.items())),
    }


def _unknown(file_name: str, sources: Mapping[str, int]) -> str:
    named = ", ".join(repr(source) for source in list(sources)[:5])
    return (
        f"{file_name}: no category is known for {len(sources)} of its sources: {named}; "
        "name them with --category SOURCE=CATEGORY, or file them under 'other' without --strict"
    )


# ------------------------------------------------------------------------- rows to columns


def _samples_table(
    parsed: Sequence[ParsedSample],
    refs: Sequence[Sequence[Mapping[str, Any]]],
    categories: Sequence[str],
    *,
    dataset: str,
    file_name: str,
) -> pa.Table:
    """Build the table from flat columns, which is several times faster than from nested rows."""
    count = len(parsed)
    roles = [role for sample in parsed for role, _ in sample.turns]
    texts = [text for sample in parsed for _, text in sample.turns]
    columns: dict[str, Any] = {
        "id": [_id_of(sample, images) for sample, images in zip(parsed, refs, strict=True)],
        "source": [sample.source for sample in parsed],
        "dataset": [dataset] * count,
        "category": categories,
        "images": _lists(
            "images",
            [len(row) for row in refs],
            [
                [image[name] for row in refs for image in row]
                for name in ("sha256", "path", "width", "height")
            ],
        ),
        "conversations": _lists("conversations", [len(s.turns) for s in parsed], [roles, texts]),
        "system": [sample.system for sample in parsed],
        "origin": pa.StructArray.from_arrays(
            [
                pa.array([file_name] * count, pa.string()),
                pa.array([sample.raw.line for sample in parsed], pa.int64()),
                pa.array([sample.row_id for sample in parsed], pa.string()),
            ],
            fields=list(SAMPLE.field("origin").type),
        ),
    }
    arrays = [_column(columns.get(column.name), column.type, count) for column in SAMPLE]
    return pa.Table.from_arrays(arrays, schema=SAMPLE)


def _id_of(sample: ParsedSample, images: Sequence[Mapping[str, Any]]) -> str:
    return sample_id([{"from": role, "value": text} for role, text in sample.turns], images)


def _column(values: Any, kind: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _lists(name: str, lengths: Sequence[int], values: Sequence[Sequence[Any]]) -> pa.ListArray:
    """Build a list<struct> column of `SAMPLE` from the lists' lengths and flat struct fields."""
    kind = SAMPLE.field(name).type
    fields = list(kind.value_type)
    flat = pa.StructArray.from_arrays(
        [pa.array(column, item.type) for column, item in zip(values, fields, strict=True)],
        fields=fields,
    )
    offsets = pa.array([0, *accumulate(lengths)], pa.int32())
    return pa.ListArray.from_arrays(offsets, flat, type=kind)


def parts_of(path: Path, config: IngestConfig, start: Position = START) -> Iterator[list[RawLine]]:
    """Yield a file's rows in parts of the config's size."""
    rows = read_rows(path, start)
    yield from cut_parts(rows, max_rows=config.rows_per_part, max_bytes=config.bytes_per_part)
