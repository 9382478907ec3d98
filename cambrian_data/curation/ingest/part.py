"""Published instruction sets to the pool, one bounded part at a time.

A part of rows becomes three tables (samples, images, drops) and counts, and depends on nothing but
its rows, its pictures and its config, so that parts can be made in any order, by any process, and
made again. Every row ends up in samples or in drops. `ingest_lines` takes the bytes of a JSON Lines
file and is several times as fast as `ingest_part`, which takes rows of any format. A line goes the
quickest of three ways that it fits: `ingest_plain`, `fast_rows`, `rows`; all give the same tables.
"""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cambrian_data.curation.ingest.columns import Block, Columns
from cambrian_data.curation.ingest.config import (
    OTHER,
    IngestConfig,
    category_of,
    published_sizes,
)
from cambrian_data.curation.ingest.counts import merge_stats, most_frequent
from cambrian_data.curation.ingest.fast_rows import FastRows
from cambrian_data.curation.ingest.formats.rows import SourceRow
from cambrian_data.curation.ingest.lines import (
    MAX_ROW_BYTES,
    START,
    Lines,
    Position,
    RawLine,
    cut_parts,
    read_rows,
)
from cambrian_data.curation.ingest.picture_files import PictureProblem
from cambrian_data.curation.ingest.plain_columns import PlainColumns, merged
from cambrian_data.curation.ingest.plain_rows import read_plain
from cambrian_data.curation.ingest.plain_strings import Block as RawBlock
from cambrian_data.curation.ingest.rows import ParsedSample, drop_row, parse_row
from cambrian_data.records import RAW_LIMIT, UserError, table_of

if TYPE_CHECKING:  # what fetches pictures takes long to import, and most pieces need none of it
    from cambrian_data.curation.ingest.pictures import Outcome, Pictures

__all__ = [
    "IngestConfig",
    "IngestedPart",
    "category_of",
    "ingest_lines",
    "ingest_part",
    "merge_stats",
    "parts_of",
    "published_sizes",
]

# -------------------------------------------------------------------------------- one part

_BLOCK_BYTES = 2**17
"""Lines are read in blocks of about this size, so that the processor's caches hold what is made."""
_PLAIN_BYTES = 2**20
"""Plain lines are read in larger blocks: many operations, each on all of a block at once."""
_BLOCK_ROWS = 1_000
_BLOCK_PICTURE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class IngestedPart:
    """What a part of a file became: its tables and its counts (JSON data)."""

    samples: pa.Table
    images: pa.Table
    drops: pa.Table
    stats: dict[str, Any]


def ingest_lines(
    data: bytes,
    *,
    first_line: int,
    dataset: str,
    file_name: str,
    images: Pictures | None,
    config: IngestConfig,
) -> IngestedPart:
    """Turn whole lines of a JSON Lines file into samples, drops and counts.

    Args:
        data: the lines; the last one may lack its end.
        first_line: the number of the first line in its file, from 0.
        dataset, file_name, images, config: as for `ingest_part`.
    """
    part = _Part(dataset, file_name, images, config)
    rules = config.path_rules

    def parse(number: int, line: bytes) -> ParsedSample | dict[str, Any] | None:
        if not line.strip():
            return None
        return parse_row(_raw(number, line), file_name, rules=rules)

    fast = FastRows(
        file_name,
        parse,
        is_plain_path=(lambda path: rules.apply(path) == path)
        if rules.strip_prefixes or rules.renames
        else None,
    )
    collects = gc.isenabled()
    gc.disable()  # nothing here has cycles, and looking for them takes a fifth of the time
    try:
        if config.check_images == "none" and fast.keeps_all_paths:
            part.read_plain(data, first_line, fast)
        else:
            part.read_fast(data, first_line, fast)
        return part.finish()
    finally:
        if collects:
            gc.enable()


def ingest_part(
    rows: Iterable[RawLine | SourceRow],
    *,
    dataset: str,
    file_name: str,
    images: Pictures | None,
    config: IngestConfig,
) -> IngestedPart:
    """Turn some rows of a file into samples, drops and counts.

    Args:
        rows: rows of one file, as `read_rows` or a `RowSource` gives them.
        dataset: the pool's name for the set.
        file_name: the file's name, for origins and for rows that name no source.
        images: the pictures; may be None where the config does not check them, or no row has any.
        config: what is checked.
    Raises:
        UserError: a row has a picture, which the config checks, and `images` is None.
    """
    part = _Part(dataset, file_name, images, config)
    part.add_rows(rows)
    return part.finish()


class _Part:
    """The tables of one part while they are filled."""

    def __init__(
        self, dataset: str, file_name: str, images: Pictures | None, config: IngestConfig
    ) -> None:
        self._dataset, self._file, self._config = dataset, file_name, config
        self._images = images
        self._columns, self._plain = Columns(), PlainColumns(file_name)
        self._stored: dict[str, Mapping[str, Any]] = {}
        self._drops: list[dict[str, Any]] = []
        self._mended: Counter[str] = Counter()
        self._num_blank = 0

    def read_plain(self, data: bytes, first_line: int, fast: FastRows) -> None:
        """Add whole lines whose pictures nobody looks at: most of them without a detour."""
        others, numbers, start = list[bytes](), list[int](), 0
        for block in _blocks(data, _PLAIN_BYTES):
            if len(block) > MAX_ROW_BYTES:
                self.read_fast(block, first_line, fast)
                first_line += len(Lines(block))
                start += len(block)
                continue
            lines = RawBlock(block)
            rows = read_plain(lines)
            if rows is not None:
                self._plain.add(rows, first_line)
                self._mended["number_id"] += rows.num_number_ids
            odd = lines.others(None if rows is None else rows.lines)
            others += map(lines.line, odd)
            numbers += [first_line + number for number in odd]
            first_line += len(lines)
            start += len(block)
            if 2 * len(odd) > len(lines):  # lines of another kind: no more is tried
                break
            if sum(map(len, others)) >= _BLOCK_BYTES:
                self._add_fast(fast, Lines(b"\n".join(others) + b"\n"), numbers)
                others, numbers = [], []
        if others:
            self._add_fast(fast, Lines(b"\n".join(others) + b"\n"), numbers)
        if start < len(data):
            self.read_fast(data[start:], first_line, fast)

    def read_fast(self, data: bytes, first_line: int, fast: FastRows) -> None:
        """Add whole lines, the ordinary ones block by block."""
        for block in _blocks(data, _BLOCK_BYTES):
            lines = Lines(block)
            if len(block) > MAX_ROW_BYTES:  # a row may be too large: one by one
                self.add_rows(_raw(first_line + at, lines[at]) for at in range(len(lines)))
            else:
                self._add_fast(fast, lines, range(first_line, first_line + len(lines)))
            first_line += len(lines)

    def _add_fast(self, fast: FastRows, lines: Lines, numbers: Sequence[int]) -> None:
        """Add a block of lines of these numbers, in order."""

        def sample_of(row: int) -> ParsedSample:
            sample = fast.parse(row, lines[bisect_left(numbers, row)])
            assert isinstance(sample, ParsedSample)  # it was kept a moment ago
            return sample

        read = fast.read(lines, numbers)
        self._mended.update(read.mended)
        self._num_blank += read.num_blank
        self._drops += read.drops
        self._add(read.block, sample_of, texts=read.texts)

    def add_rows(self, rows: Iterable[RawLine | SourceRow]) -> None:
        """Parse rows one by one and add them."""
        some: list[RawLine | SourceRow] = []
        filled = 0
        for row in rows:
            some.append(row)
            if isinstance(row, SourceRow) and row.pictures:
                filled += sum(map(len, row.pictures.values()))
            if len(some) >= _BLOCK_ROWS or filled >= _BLOCK_PICTURE_BYTES:
                self._add_some(some)
                some, filled = [], 0
        self._add_some(some)

    def finish(self) -> IngestedPart:
        """Return the tables and the counts."""
        counts = self._columns.count_sources() + self._plain.count_sources()
        category_of_source = {source: category_of(source, self._config) for source in counts}
        samples = self._columns.table(
            dataset=self._dataset, file=self._file, category_of=category_of_source
        )
        if len(self._plain):
            plain = self._plain.table(dataset=self._dataset, category_of=category_of_source)
            samples = merged(plain, samples)
        self._drops.sort(key=lambda row: row["origin"]["line"])
        images = [self._stored[sha256] for sha256 in sorted(self._stored)]
        return IngestedPart(
            samples,
            table_of("images", images),
            table_of("drops", self._drops),
            self._stats(counts, category_of_source),
        )

    def _add_some(self, rows: Sequence[RawLine | SourceRow]) -> None:
        block, samples = Block(), dict[int, ParsedSample]()
        embedded: dict[str, bytes] = {}
        for row in rows:
            sample = self._parse(row)
            if sample is None:
                self._num_blank += 1
            elif isinstance(sample, ParsedSample):
                block.append(sample)
                samples[row.line] = sample
                self._mended.update(sample.mended)
                if isinstance(row, SourceRow):
                    rules = self._config.path_rules
                    embedded.update({rules.apply(n): d for n, d in row.pictures.items()})
            else:
                self._drops.append(sample)
        self._add(block, samples.__getitem__, embedded=embedded)

    def _parse(self, row: RawLine | SourceRow) -> ParsedSample | dict[str, Any] | None:
        rules = self._config.path_rules
        if isinstance(row, RawLine):
            return parse_row(row, self._file, rules=rules) if row.data.strip() else None
        raw = _raw(row.line, row.data)
        if row.row is None and row.problem is None and not row.data.strip():
            return None
        if row.problem is not None:
            sample: ParsedSample | dict[str, Any] = drop_row(
                ParsedSample(raw), row.file, *row.problem
            )
        else:
            sample = parse_row(raw, row.file, rules=rules, loaded=row.row)
        if isinstance(sample, ParsedSample):
            sample.mended |= row.mended
            if row.row is not None:
                sample.text_of = row.text
            return sample
        sample["raw"] = row.text().decode("utf-8", errors="replace")[:RAW_LIMIT]
        return sample

    def _add(
        self,
        block: Block,
        sample_of: Callable[[int], ParsedSample],
        *,
        texts: Sequence[pa.Array] = (),
        embedded: Mapping[str, bytes] | None = None,
    ) -> None:
        """Add rows; those with a picture that cannot be used become drops.

        Args:
            sample_of: the sample of a line of the block, for a drop.
            texts: the block's texts as arrays, where they are there already.
            embedded: pictures that lie inside of the rows.
        """
        if self._config.check_images == "none":
            self._columns.add(block, {}, texts)
            return
        outcomes = self._look_up(block, embedded or {})
        problems: dict[int, PictureProblem] = {}
        for number, paths in enumerate(block.images):
            mends: set[str] = set()
            for path in paths:
                outcome = outcomes[path]
                if isinstance(outcome, PictureProblem):
                    problems[number] = outcome
                    break
                mends.update(outcome.mended)
            else:
                self._mended.update(mends)
        for number, problem in problems.items():
            sample = sample_of(block.lines[number])
            self._mended.subtract(sample.mended)
            self._drops.append(drop_row(sample, self._file, problem.reason, problem.detail))
        if problems:
            block, texts = block.keep([n not in problems for n in range(len(block.lines))]), ()
        rows = {
            path: one.row for path, one in outcomes.items() if not isinstance(one, PictureProblem)
        }
        for path in chain.from_iterable(block.images):
            if sha256 := rows[path].get("sha256"):
                self._stored[sha256] = rows[path]
        self._columns.add(block, rows, texts)

    def _look_up(self, block: Block, embedded: Mapping[str, bytes]) -> Mapping[str, Outcome]:
        paths = dict.fromkeys(chain.from_iterable(block.images))
        if self._images is None:
            if paths:
                raise UserError(
                    f"the rows name pictures, such as {next(iter(paths))!r}, and no folder of "
                    "pictures is given: name it with --images, or leave them unread with "
                    "--check-images none"
                )
            return {}
        inside = self._images.keep(embedded) if embedded else {}
        outside = [path for path in paths if path not in inside]
        return {**(self._images.look_up(outside) if outside else {}), **inside}

    def _stats(
        self, counts: Mapping[str, int], category_of_source: Mapping[str, str]
    ) -> dict[str, Any]:
        unknown = {
            source: count for source, count in counts.items() if category_of_source[source] == OTHER
        }
        kept = len(self._columns) + len(self._plain)
        return {
            "rows": kept + len(self._drops),
            "blank_lines": self._num_blank,
            "kept": kept,
            "dropped": dict(sorted(Counter(row["reason"] for row in self._drops).items())),
            "mended": {mend: count for mend, count in sorted(self._mended.items()) if count},
            "unknown_sources": most_frequent(unknown),
            "images": len(self._stored),
        }


def _raw(line: int, data: bytes) -> RawLine:
    """Return a row whose place in its file nobody asks for."""
    return RawLine(line, 0, 0, data.rstrip(b"\r\n"))


def _blocks(data: bytes, size: int) -> Iterator[bytes]:
    """Cut whole lines into blocks of whole lines, of about a size."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start + size) + 1 or len(data)
        yield data[start:end]
        start = end


def parts_of(path: Path, config: IngestConfig, start: Position = START) -> Iterator[list[RawLine]]:
    """Yield a file's rows in parts of the config's size."""
    rows = read_rows(path, start)
    yield from cut_parts(rows, max_rows=config.rows_per_part, max_bytes=config.bytes_per_part)
