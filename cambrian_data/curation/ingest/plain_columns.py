"""Plain rows of a part to its table of samples, and that of the other rows between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cambrian_data.curation.ingest.columns import alternating_roles, lists_of, samples_table
from cambrian_data.curation.ingest.plain_rows import PlainRows
from cambrian_data.curation.ingest.plain_strings import slices
from cambrian_data.curation.ingest.rows import TWO_FOLDERS, source_of


class PlainColumns:
    """The plain rows of a part, block by block; nobody looks at their pictures."""

    def __init__(self, file_name: str) -> None:
        """Name the file; it stands for the source of rows that name none."""
        self._file = file_name
        self._blocks: list[tuple[int, PlainRows]] = []
        self._num_rows = 0
        self._sources: tuple[list[str], pa.Array] = ([], pa.array([], pa.int32()))

    def __len__(self) -> int:
        return self._num_rows

    def add(self, rows: PlainRows, first_line: int) -> None:
        """Add the plain rows of a block of lines."""
        self._blocks.append((first_line, rows))
        self._num_rows += len(rows.lines)

    def count_sources(self) -> Counter[str]:
        """Return how many rows each source has; asked for once all rows are there."""
        if not self._blocks:
            return Counter()
        names = pa.concat_arrays([rows.sources for _, rows in self._blocks])
        images = pa.concat_arrays([rows.images for _, rows in self._blocks])
        kinds, rest = _encoded(names), _encoded(_folders(images))
        pairs = np.asarray(kinds.indices, np.int64) * len(rest.dictionary)
        both = pa.array(pairs + np.asarray(rest.indices)).dictionary_encode()
        known_names, folders = kinds.dictionary.to_pylist(), rest.dictionary.to_pylist()
        found: dict[str, int] = {}
        merged = []
        for pair in both.dictionary.to_pylist():
            name, folder = divmod(pair, len(folders))
            source = self._source(known_names[name], folders[folder])
            merged.append(found.setdefault(source, len(found)))
        codes = np.array(merged, np.int32)[np.asarray(both.indices)]
        self._sources = (list(found), pa.array(codes))
        counts = np.bincount(codes, minlength=len(found)).tolist()
        return Counter(dict(zip(found, counts, strict=True)))

    def _source(self, name: str | None, folder: str | None) -> str:
        paths = [] if folder is None else [f"{folder}/x" if folder else "x"]
        return source_of(name, self._file, paths)

    def table(self, *, dataset: str, category_of: Mapping[str, str]) -> pa.Table:
        """Return the samples, in the order of their lines, once the sources are counted."""
        blocks = [rows for _, rows in self._blocks]
        names, codes = self._sources
        images = pa.concat_arrays([rows.images for rows in blocks])
        texts = pa.concat_arrays([rows.texts for rows in blocks])
        paths = images.drop_null()
        none = {kind: pa.nulls(len(paths), kind) for kind in (pa.string(), pa.int32())}
        columns = {
            "id": _hex(b"".join([rows.ids for rows in blocks])),
            "source": pa.array(names, pa.string()).take(codes),
            "category": pa.array([category_of[name] for name in names], pa.string()).take(codes),
            "images": lists_of(
                "images",
                np.asarray(images.is_valid()).astype(np.int32),
                [none[pa.string()], paths, none[pa.int32()], none[pa.int32()]],
            ),
            "conversations": lists_of(
                "conversations",
                np.concatenate([rows.num_turns for rows in blocks]),
                [alternating_roles(len(texts)), texts],
            ),
        }
        lines = np.concatenate([first + rows.lines for first, rows in self._blocks])
        row_ids = pa.concat_arrays([rows.row_ids for rows in blocks])
        return samples_table(dataset, self._file, columns, pa.array(lines, pa.int64()), row_ids)


def merged(plain: pa.Table, others: pa.Table) -> pa.Table:
    """Return two tables of samples of one file as one, in the order of their lines."""
    if not len(others):
        return plain
    both = pa.concat_tables([plain, others]).combine_chunks()
    order = np.argsort(np.asarray(pc.struct_field(both["origin"], "line")), kind="stable")
    return both.take(pa.array(order)).combine_chunks()


def _encoded(values: pa.Array) -> pa.DictionaryArray:
    """Return values by their numbers in a dictionary, null too."""
    return values.dictionary_encode(null_encoding="encode")


def _folders(images: pa.Array) -> pa.Array:
    """Return the folder of each path by which sources are told apart; "" for the topmost."""
    _, bounds, _ = images.buffers()
    begins = np.frombuffer(bounds, np.int32)[images.offset : images.offset + len(images)]
    signs = np.frombuffer(images.buffers()[2] or b"", np.uint8)
    slashes = np.append(np.flatnonzero(signs == ord("/")), len(signs))
    ends = np.append(begins[1:], len(signs))
    first = slashes[np.searchsorted(slashes[:-1], begins)]  # may be of a later path: there is none
    folders = slices(images, begins, np.where(first < ends, first, begins))
    if pc.index(folders, TWO_FOLDERS).as_py() >= 0:
        paths = images.to_pylist()
        names = [
            "/".join(path.split("/")[:-1][:2]) if folder == TWO_FOLDERS else folder
            for path, folder in zip(paths, folders.to_pylist(), strict=True)
        ]
        folders = pa.array(names, pa.string())
    return pc.if_else(images.is_valid(), folders, None)


def _hex(digests: bytes) -> pa.Array:
    """Return hashes of 32 bytes as the text that they are shown by."""
    offsets = np.arange(0, 2 * len(digests) + 1, 64, dtype=np.int32)
    buffers: list[Any] = [None, pa.py_buffer(offsets), pa.py_buffer(digests.hex().encode())]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)
