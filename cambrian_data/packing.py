"""From a mixture to shards, shuffled across all sources, without holding the mixture in memory.

An external merge sort in two stages of picklable work, which flows map over their workers:

    parts of the mixture -> one sorted file a part (`shards_sort`, packed_rows.py)
    `cut`: sizes of all rows in shuffled order -> which rows go into which shard
    slices of the sorted files -> one tar file each (`shards`), pictures inside

`cut` holds some 50 bytes a row. A worker holds a part of the mixture, or the records of one shard.
The sorted files take as much disk as the mixture's text and are removed at the end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cambrian_data.build import MANIFEST, Build, published
from cambrian_data.packed_pictures import PackedPictures, PictureLost
from cambrian_data.packed_rows import PACKED, pack_part
from cambrian_data.records import Progress, RunFailed, UserError, silent
from cambrian_data.shards import (
    INDEX_NAME,
    ShardsConfig,
    ShardWriter,
    make_index,
    parse_record,
    plan_shards,
    shard_name,
    verify_shards,
)
from cambrian_data.tarfiles import TarWriter
from cambrian_data.units import Stage, StageOutput, Unit, Units, Written
from cambrian_data.workspace import Workspace, read_sealed, remove

SHARDS_VERSION = "2"
_NUM_LEAD = 5
"""Rows of the first file that `datasets` looks at to learn the columns."""
_WRITE_BUFFER = 2**16


@dataclass(frozen=True, slots=True)
class Cut:
    """Which rows go into which shard, and those that go into none."""

    pieces: list[list[Any]]
    """[number of the shard, position of its first sample, hash of its rows' places, runs of the
    rows that lead, runs of the others]; runs are part, first row, row after the last, part ..."""
    dropped: list[dict[str, str]]
    """Samples whose pictures are lost: id, detail."""
    left_over: list[str]
    """Ids of samples that would make the ranks' shares unequal."""


@dataclass(frozen=True, slots=True)
class Packing:
    """The packing of one mixture: where from, where to, how. Picklable: paths and numbers."""

    build: Build
    mixture: Path
    config: ShardsConfig
    seed: int
    folder: Path
    """Where the shards are made, to be swapped in when all are there."""
    scratch: Path
    """Where sorted files and pictures that were written anew are kept until then."""

    @property
    def workspace(self) -> Workspace:
        """Where pictures and shards lie."""
        return self.build.workspace

    # ------------------------------------------------------------------------ first stage

    def parts(self) -> list[list[Any]]:
        """Return the pieces of `sort_stage`: number, path and hash of every part of the mixture.

        Raises:
            WorkspaceError: the mixture is missing or damaged.
        """
        files = published(self.mixture)["files"]
        parts = sorted(
            (entry["path"], entry["sha256"])
            for entry in files
            if entry["path"].startswith("samples/") and entry["path"].endswith(".parquet")
        )
        return [[number, *part] for number, part in enumerate(parts)]

    def sort_stage(self) -> Stage:
        """Return the stage that brings one part of the mixture into shuffled order."""
        return Stage(self._units(self.scratch, "shards_sort"), self._sort, is_complete=_is_complete)

    def _sort(self, piece: Sequence[Any]) -> StageOutput:
        number, name, _ = piece
        packed = pack_part(self.mixture / name, self._pictures(), self.seed)
        path = self.workspace.scratch()
        try:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, PACKED) as writer:
                writer.write_table(packed.rows)
            written = Written.of(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        numbers = {"rows": len(packed.rows), "dropped": packed.dropped}
        return StageOutput({}, files={_sorted_name(number): written}, numbers=numbers)

    # ------------------------------------------------------------------------ between them

    def cut(self, sorted_units: Sequence[Unit]) -> Cut:
        """Cut the shuffled rows into shards.

        Args:
            sorted_units: of the first stage, in the order of its pieces.
        Raises:
            UserError: there are fewer samples than ranks that are to get equally many.
        """
        dropped = [row for unit in sorted_units for row in unit.numbers["dropped"]]
        rows = self._all_rows(len(sorted_units))
        order = np.argsort(rows.keys, kind="stable")
        lead = _lead(rows.num_pictures, order)
        order = np.concatenate([order[lead], np.delete(order, lead)])
        first = len(lead) if 0 < len(lead) < _NUM_LEAD else None
        plan = plan_shards(rows.sizes[order], self.config, first)
        num_ranks, total = self.config.equal_for_ranks, len(order)
        if num_ranks and total < num_ranks and not dropped:
            raise UserError(
                f"shards.equal_for_ranks = {num_ranks}, and the mixture has {total} samples: "
                "not one a rank; give fewer ranks or a larger mixture"
            )
        pieces: list[list[Any]] = []
        for number, shard in enumerate(plan):
            mine = order[shard.start : shard.stop]
            num_lead = max(0, min(len(lead), shard.stop) - shard.start)
            digest = hashlib.sha256(rows.keys[mine].tobytes()).hexdigest()[:32]
            runs = rows.runs(mine[:num_lead]), rows.runs(np.sort(mine[num_lead:]))
            pieces.append([number, shard.start, digest, *runs])
        packed = plan[-1].stop if plan else 0
        return Cut(pieces, dropped, self._ids(rows.runs(order[packed:])))

    def _all_rows(self, num_parts: int) -> _AllRows:
        tables = [self._open(number) for number in range(num_parts)]
        lengths = [len(table) for table in tables]
        return _AllRows(
            keys=_joined([table["key"].to_numpy() for table in tables], np.uint64),
            sizes=_joined([table["size"].to_numpy() for table in tables], np.int64),
            num_pictures=_joined([_list_lengths(table) for table in tables], np.int32),
            starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        )

    def _ids(self, runs: Sequence[int]) -> list[str]:
        return [
            parse_record(record)["id"]
            for table in self._slices(runs)
            for record in table["record"].to_pylist()
        ]

    # ------------------------------------------------------------------------ second stage

    def write_stage(self) -> Stage:
        """Return the stage that writes the shard of a piece of `Cut.pieces`."""
        return Stage(self._units(self.folder, "shards"), self._write, is_complete=_is_complete)

    def _write(self, piece: Sequence[Any]) -> StageOutput:
        number, first = piece[:2]
        path, dropped = self.workspace.scratch(), list[dict[str, str]]()
        try:
            with path.open("wb", buffering=_WRITE_BUFFER) as file:
                tar = TarWriter(file)
                writer = ShardWriter(tar)
                self._fill(writer, piece, dropped)
                entry = writer.finish()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        name = shard_name(number)
        numbers = {"entry": {"file": name, **entry}, "first": first, "dropped": dropped}
        files = {name: Written(path, entry["bytes"], entry["sha256"])}
        return StageOutput({}, files=files, numbers=numbers)

    def _fill(
        self, writer: ShardWriter, piece: Sequence[Any], dropped: list[dict[str, str]]
    ) -> None:
        """Write the samples of a shard; those whose pictures are damaged go to `dropped`."""
        _, first, _, lead, runs = piece
        pictures = self._pictures()
        for position, (record, paths, hashes) in enumerate(self._merged(lead, runs), start=first):
            try:
                packed = [pictures.get(*place).data for place in zip(paths, hashes, strict=True)]
            except PictureLost as error:
                dropped.append({"id": parse_record(record)["id"], "detail": str(error)})
                continue
            names = [pictures.name(number, path) for number, path in enumerate(paths)]
            writer.add(f"{position:09d}", record, list(zip(names, packed, strict=True)))

    def _merged(
        self, lead: Sequence[int], runs: Sequence[int]
    ) -> Iterator[tuple[bytes, list[str], list[str]]]:
        """Yield record, paths and hashes of pictures: leading rows first, then as shuffled."""
        for slices, is_sorted in ((self._slices(lead), True), (self._slices(runs), False)):
            if not slices:
                continue
            keys = np.concatenate([table["key"].to_numpy() for table in slices])
            order = np.arange(len(keys)) if is_sorted else np.argsort(keys, kind="stable")
            places = [(table, row) for table in slices for row in range(len(table))]
            columns = {
                id(table): tuple(table[name].combine_chunks() for name in PACKED.names[2:])
                for table in slices
            }
            for place in order.tolist():
                table, row = places[place]
                record, paths, hashes = columns[id(table)]
                yield record[row].as_py(), paths[row].as_py(), hashes[row].as_py()

    def _slices(self, runs: Sequence[int]) -> list[pa.Table]:
        triples = zip(runs[::3], runs[1::3], runs[2::3], strict=True)
        return [self._open(part).slice(start, stop - start) for part, start, stop in triples]

    # ------------------------------------------------------------------------ places

    def _open(self, part: int) -> pa.Table:
        """Map a sorted file into memory: only the pages that are read are loaded."""
        with pa.memory_map(str(self.scratch / _sorted_name(part))) as source:
            return pa.ipc.open_file(source).read_all()

    def _pictures(self) -> PackedPictures:
        return PackedPictures(self.workspace, self.scratch / "pictures", self.config)

    def _units(self, folder: Path, stage: str) -> Units:
        return Units(self.workspace, folder, stage, version=SHARDS_VERSION, config=self.build.key)


@dataclass(frozen=True, slots=True)
class _AllRows:
    """Numbers of all rows, part after part."""

    keys: np.ndarray
    sizes: np.ndarray
    num_pictures: np.ndarray
    starts: np.ndarray
    """Number of the first row of every part, and of all rows: int64 [parts + 1]."""

    def runs(self, rows: np.ndarray) -> list[int]:
        """Return row numbers as runs: part, first row, row after the last, part ..."""
        if not len(rows):
            return []
        parts = np.searchsorted(self.starts, rows, side="right") - 1
        is_start = np.ones(len(rows), dtype=bool)
        is_start[1:] = (np.diff(rows) != 1) | (np.diff(parts) != 0)
        at = np.flatnonzero(is_start)
        begins = rows[at] - self.starts[parts[at]]
        lengths = np.diff(np.append(at, len(rows)))
        runs: list[int] = np.stack([parts[at], begins, begins + lengths], axis=1).ravel().tolist()
        return runs


def plan_packing(
    workspace: Workspace, build: Build, mixture: Path, config: ShardsConfig, seed: int
) -> Packing:
    """Return the packing of a mixture; what packings of other keys left is removed.

    Args:
        build: of the shards' folder; its key covers mixture, config and seed.
        mixture: a published folder with samples/part-*.parquet.
        seed: decides the order.
    """
    name, staging = build.target.name, workspace.root / "staging"
    scratch = staging / f"packing-{name}-{build.key[:16]}"
    if staging.is_dir():
        for path in staging.iterdir():
            if re.fullmatch(rf"packing-{re.escape(name)}-[0-9a-f]{{16}}", path.name) and (
                path != scratch
            ):
                remove(path)
    return Packing(build, mixture, config, seed, build.folder(), scratch)


def publish_shards(
    packing: Packing,
    name: str,
    cut: Cut,
    units: Sequence[Unit],
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the index of finished shards, read them all back, swap the folder in.

    What is in the files was checked as they were written; here their bytes are.

    Args:
        units: of the second stage, in the order of its pieces.
        progress: told after every shard that was verified.
    Returns:
        The index.
    Raises:
        RunFailed: a shard, read back, is not what the index says.
    """
    folder, config = packing.folder, packing.config
    index = make_index(name, [unit.numbers["entry"] for unit in units])
    index["dropped"] = cut.dropped + [row for unit in units for row in unit.numbers["dropped"]]
    index["ranks"] = None
    if config.equal_for_ranks:
        index["ranks"] = {
            "num": config.equal_for_ranks,
            "samples_per_rank": index["samples"] // config.equal_for_ranks,
            "left_over": cut.left_over,
        }
    listed = {entry["file"] for entry in index["shards"]}
    for path in folder.glob("*.tar"):
        if path.name not in listed:  # of a run that had more samples
            path.unlink()
    packing.workspace.write_json(folder / INDEX_NAME, index)
    if problems := verify_shards(folder, contents=False, progress=progress).problems:
        raise RunFailed(
            f"the shards in {folder} differ from their index, run the same command again: "
            + "; ".join(problems[:5])
        )
    mixture = read_sealed(packing.mixture / MANIFEST) or {}
    packing.build.publish({"samples": index["samples"], "mixture": mixture.get("key")})
    remove(packing.scratch)
    return index


def _is_complete(unit: Unit) -> bool:
    """Whether no picture was lost: a unit that lacks samples is tried again."""
    return not unit.numbers["dropped"]


def _lead(num_pictures: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the positions of the rows that go first: some with as many pictures as any has.

    `datasets` takes the columns from the first five samples, which must all have the same, and
    passes over what comes later under other names.
    """
    most = num_pictures.max(initial=0)
    if not most:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(num_pictures[order] == most)[:_NUM_LEAD]


def _list_lengths(table: pa.Table) -> np.ndarray:
    return np.asarray(pc.list_value_length(table["paths"]).to_numpy(), dtype=np.int32)


def _joined(arrays: Sequence[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *arrays]).astype(kind, copy=False)


def _sorted_name(part: int) -> str:
    return f"part-{part:06d}.arrow"
