"""What curation does with one part of the pool at a time: plain functions of files and a config.

Each is the work of a stage of units, so it takes JSON data (a piece) and what all pieces share, and
may run in a thread, in another process or on another machine, in any order and more than once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cambrian_data.curation.duplicates.look_alikes import Pictures, load_pictures
from cambrian_data.curation.duplicates.near import NearConfig, Shingles, shingles_of
from cambrian_data.curation.index import (
    BATCH_ROWS,
    IndexConfig,
    index_bytes,
    index_part,
    load_scores,
    read_index_file,
)
from cambrian_data.curation.overlaps.against_set import AgainstConfig, AgainstSet
from cambrian_data.curation.overlaps.overlap import PictureHits, match, picture_hits
from cambrian_data.curation.system_prompts import SystemPromptsConfig, assign
from cambrian_data.pool import PoolPart
from cambrian_data.records import DROP, MATCH, SAMPLE
from cambrian_data.units import StageOutput, Written
from cambrian_data.workspace import Workspace

_NAMES = pa.dictionary(pa.int32(), pa.string())
DECISION = pa.schema(
    [("take", pa.int32()), ("stage", _NAMES), ("reason", _NAMES), ("detail", _NAMES)]
)
"""What was decided about the rows of a part: how often each is taken, or why it is not.

`detail` is null where the row's own index has it.
"""


# ----------------------------------------------------------------------------------- index


def index_file(part: PoolPart) -> str:
    """Return the name of a part's index within the folder of the curation."""
    return f"index/{part.name}.arrow"


def index_work(workspace: Workspace, config: IndexConfig, piece: Sequence[Any]) -> StageOutput:
    """Make the index of a part."""
    part = PoolPart(*piece)
    index = index_part(workspace.root / part.path, config)
    return StageOutput(
        {}, files={index_file(part): index_bytes(index)}, numbers={"rows": len(index)}
    )


# --------------------------------------------------------------------------------- overlap


def overlap_file(part: PoolPart, against: str) -> str:
    """Return the name of the table of a part's rows that stand in a set."""
    return f"overlap/{against}/{part.name}.arrow"


def overlap_work(
    workspace: Workspace, config: AgainstConfig, folder: Path, name: str, piece: Sequence[Any]
) -> StageOutput:
    """Find the rows of a part whose text or picture stands in a set.

    Args:
        folder: where the set was saved.
        name: the set's name within the curation's folder.
        piece: the part, and the key of the set.
    """
    part = PoolPart(*piece[:3])
    against, pictures, hits = _loaded(workspace.root, folder, config.model_dump_json())
    table = pq.read_table(
        workspace.root / part.path, columns=["id", "images", "conversations"]
    ).combine_chunks()
    found, start = [_OVERLAP.empty_table()], 0
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        matches = match(batch, against, hits, pictures, config)
        reasons, details = matches.drops(len(batch), against)
        rows = matches.row
        own = {
            "row": pa.array(rows + start, pa.int64()),
            "reason": pa.array(reasons[rows], pa.string()),
            "detail": pa.array(details[rows], pa.string()),
        }
        columns = [*own.values(), *matches.table(batch, against).columns]
        found.append(pa.Table.from_arrays(columns, schema=_OVERLAP))
        start += len(batch)
    return StageOutput({}, files={overlap_file(part, name): _ipc(pa.concat_tables(found))})


_OVERLAP = pa.schema(
    [("row", pa.int64()), ("reason", pa.string()), ("detail", pa.string()), *MATCH]
)


@lru_cache(maxsize=2)
def _loaded(root: Path, folder: Path, config: str) -> tuple[AgainstSet, Pictures, PictureHits]:
    """Load a set, and compare the workspace's pictures with it once in a process."""
    workspace = Workspace(root)
    against, pictures = AgainstSet.load(folder), load_pictures(workspace)
    return (
        against,
        pictures,
        picture_hits(against, pictures, AgainstConfig.model_validate_json(config), workspace),
    )


def read_overlaps(path: Path) -> pa.Table:
    """Return the matches of a part: its rows by number, and the columns of `MATCH`."""
    with pa.memory_map(str(path)) as mapped:
        return pa.ipc.open_file(mapped).read_all()


# -------------------------------------------------------------------------------- shingles


def shingles_file(part: PoolPart, number: int) -> str:
    """Return the name of the shingles of a part's candidates."""
    return f"shingles/{number:06d}-{part.name}.arrow"


def shingle_work(
    workspace: Workspace, folder: Path, config: NearConfig, piece: Sequence[Any]
) -> StageOutput:
    """Make the shingles of some rows of a part.

    Args:
        folder: the curation's folder, in which the piece's list of rows lies.
        piece: the part, its number, and name and hash of the list of rows.
    """
    part, number, rows_file = PoolPart(*piece[:3]), piece[3], piece[4]
    rows = np.load(folder / rows_file)
    columns = ["id", "conversations"]
    table = pq.read_table(workspace.root / part.path, columns=columns).take(pa.array(rows))
    batches = table.combine_chunks().to_batches(max_chunksize=BATCH_ROWS)
    made = [shingles_of(batch, config) for batch in batches]
    ends = np.cumsum([0, *(len(shingles.values) for shingles in made)])
    joined = Shingles(
        np.concatenate([shingles.values for shingles in made]),
        np.concatenate([s.ends + start for s, start in zip(made, ends[:-1], strict=True)]),
    )
    scratch = workspace.scratch()
    joined.save(scratch)
    return StageOutput({}, files={shingles_file(part, number): Written.of(scratch)})


# ----------------------------------------------------------------------------------- write


def write_work(
    workspace: Workspace,
    folder: Path,
    prompts: SystemPromptsConfig,
    index: IndexConfig,
    piece: Sequence[Any],
) -> StageOutput:
    """Write a part's rows of the mixture, and a drop for every other row.

    Args:
        folder: the curation's folder, in which the part's index lies.
        index: names the files of scores that are joined.
        piece: the part, and path (in the workspace) and hash of what was decided about it.
    """
    part, decided = PoolPart(*piece[:3]), _read_decision(workspace.root / piece[3])
    scores = load_scores(index.scores, index.scores_key)
    table = pq.read_table(workspace.root / part.path, schema=SAMPLE)
    take = decided["take"].to_numpy()
    rows = np.repeat(np.arange(len(table)), take)
    samples = table.take(pa.array(rows)).combine_chunks()
    if scores is not None and len(samples):
        samples = scores.add_scores(samples)
    samples, stats = assign(samples, prompts)
    drops = _drops(table, decided, folder / index_file(part))
    return StageOutput(
        {"samples": samples, "drops": drops},
        numbers={"samples": len(samples), "prompts": stats},
    )


def _drops(table: pa.Table, decided: pa.Table, index: Path) -> pa.Table:
    """Return the drops of a part's rows that are not taken."""
    is_lost = pc.equal(decided["take"], 0)
    lost, why = table.filter(is_lost), decided.filter(is_lost)
    own = read_index_file(index, ["detail"])["detail"].filter(is_lost)
    detail = pc.coalesce(why["detail"].cast(pa.string()), own)
    columns = {
        "stage": why["stage"].cast(pa.string()),
        "record_id": lost["id"],
        "reason": why["reason"].cast(pa.string()),
        "detail": detail,
        "source": lost["source"],
        "origin": lost["origin"],
        "raw": pa.nulls(len(lost), pa.string()),
    }
    return pa.Table.from_arrays([columns[field.name] for field in DROP], schema=DROP)


def decision_bytes(columns: Mapping[str, pa.Array]) -> bytes:
    """Return what was decided about a part (columns of `DECISION`) as a file's bytes."""
    return _ipc(pa.table(dict(columns), schema=DECISION))


def _read_decision(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as mapped:
        return pa.ipc.open_file(mapped).read_all()


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()
