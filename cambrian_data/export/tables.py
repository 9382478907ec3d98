"""Samples as Parquet: for Hugging Face `datasets` with the pictures inside, or flat.

The parts are read a few rows at a time, and files are cut by size, so memory is bounded by
`GROUP_BYTES`, whatever the mixture holds. Equal samples give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cambrian_data.export.card import dataset_card
from cambrian_data.export.folder import (
    Account,
    Images,
    Kind,
    PictureError,
    Samples,
    filled_aside,
    find_samples,
    picture_bytes,
    place_picture,
    result,
    target_folder,
    write_about,
)
from cambrian_data.records import SAMPLE, Progress, UserError, silent
from cambrian_data.workspace import Workspace

FILE_BYTES = 500 * 2**20
"""A file is closed when it is this large, as Hugging Face advises."""
GROUP_ROWS = 2_000
GROUP_BYTES = 64 * 2**20
"""Rows and bytes that are gathered for one row group; a reader holds one at a time."""
_SLICE_ROWS = 64
"""Rows whose pictures are in memory together before they are counted."""
_READERS = 8
"""Threads that read pictures: they wait for the disk, and hash without the interpreter."""

_PICTURES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_SCORES = pa.list_(pa.struct([("name", pa.string()), ("score", pa.float32())]))
_TAKEN = ("id", "source", "dataset", "category", "conversations", "system")
_KNOWN = ("provenance", "origin", "original")
HF_SCHEMA = pa.schema(
    [SAMPLE.field(n) if n != "images" else pa.field(n, _PICTURES) for n in ("id", "images")]
    + [SAMPLE.field(name) for name in (*_TAKEN[1:], *_KNOWN)]
    + [pa.field("scores", _SCORES)]
)
PLAIN_HF_SCHEMA = HF_SCHEMA.set(1, pa.field("image_paths", pa.list_(pa.string())))
"""Without pictures: their paths alone."""
FLAT_SCHEMA = pa.schema(
    [SAMPLE.field(name) for name in ("id", "source", "dataset", "category", "system")]
    + [pa.field("image", pa.list_(pa.string())), pa.field("image_sha256", pa.list_(pa.string()))]
    + [pa.field("num_turns", pa.int32()), pa.field("question", pa.string())]
    + [pa.field("answer", pa.string()), SAMPLE.field("conversations")]
    + [pa.field(name, pa.string()) for name in ("license", "author", "page_url")]
    + [pa.field("origin_file", pa.string()), pa.field("origin_line", pa.int64())]
)


def export_hf(
    workspace: Workspace,
    name: str,
    out: Path | None = None,
    *,
    images: Images = "copy",
    kind: Kind | None = None,
    file_bytes: int = FILE_BYTES,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a folder that `datasets.load_dataset(OUT)` loads, with a dataset card.

    `OUT/data/train-*.parquet` hold the samples, `images` as a list of the feature `Image` with
    the stored bytes inside. A sample that stands several times in a mixture does so here too.

    Args:
        images: copy (the bytes are inside), or none (a column `image_paths` instead).
        file_bytes: a file is closed when it is this large.
    Returns:
        dataset, kind, to, folder, files, samples, pictures, text_only, left_out, bytes.
    Raises:
        UserError, WorkspaceError, RunFailed: as `export_llava`.
    """
    if images == "none":
        schema, shape = _with_features(PLAIN_HF_SCHEMA), _plain
    else:
        schema, shape = _with_features(HF_SCHEMA), _Embed(workspace)
    samples = find_samples(workspace, name, kind)
    if not samples.total:
        raise UserError(f"{name} has no samples, and `datasets` cannot load an empty set")
    return _export(workspace, samples, out, "hf", schema, shape, file_bytes, progress)


def export_parquet(
    workspace: Workspace,
    name: str,
    out: Path | None = None,
    *,
    images: Images = "copy",
    kind: Kind | None = None,
    file_bytes: int = FILE_BYTES,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write flat Parquet files under `OUT/data/`, the pictures beside them under `OUT/images/`.

    One row a sample: scalar columns, the first question and answer, all turns, paths of pictures.
    """
    samples = find_samples(workspace, name, kind)

    def shape(table: pa.Table, account: Account, folder: Path) -> pa.Table:
        return _flat(_placed(workspace, table, account, folder, images))

    return _export(workspace, samples, out, "parquet", FLAT_SCHEMA, shape, file_bytes, progress)


_Shape = Callable[[pa.Table, Account, Path], pa.Table]
"""What makes rows of the export of a few samples, and keeps the account."""


def _export(
    workspace: Workspace,
    samples: Samples,
    out: Path | None,
    to: str,
    schema: pa.Schema,
    shape: _Shape,
    file_bytes: int,
    progress: Progress,
) -> dict[str, Any]:
    target = target_folder(workspace, samples.name, out)
    account = Account()
    with (
        workspace.lock(f"exports-{samples.name}", lambda note: progress(note, 0, None)),
        filled_aside(target) as folder,
    ):
        tables = (shape(table, account, folder) for table in _slices(samples, progress))
        files = write_files(folder / "data", schema, tables, file_bytes)
        account.check(samples.name, samples.total)
        account.num_bytes = sum(path.stat().st_size for path in files)
        card = dataset_card(workspace, samples, account, to=to)
        (folder / "README.md").write_text(card, encoding="utf-8")
        about = {"dataset": samples.name, "kind": samples.kind, "to": to}
        write_about(folder, about | {"files": [path.name for path in files]}, account)
    return result(samples, to, target, account, files=len(files))


# ---------------------------------------------------------------------------- reading, writing


def _slices(samples: Samples, progress: Progress) -> Iterator[pa.Table]:
    """Yield all samples in order, a few at a time."""
    done = 0
    for part in samples.parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=GROUP_ROWS, use_threads=False):
                table = pa.Table.from_batches([batch]).select(SAMPLE.names).cast(SAMPLE)
                for start in range(0, len(table), _SLICE_ROWS):
                    yield table.slice(start, _SLICE_ROWS).combine_chunks()
                done += len(table)
                progress("export", done, samples.total)


def write_files(
    folder: Path, schema: pa.Schema, tables: Iterator[pa.Table], file_bytes: int
) -> list[Path]:
    """Write tables into `train-00000-of-00003.parquet` and so on; at least one file."""
    folder.mkdir(parents=True)
    made: list[Path] = []
    writer: pq.ParquetWriter | None = None
    for group in _groups(schema, tables):
        if writer is None:
            made.append(folder / f"{len(made)}")
            writer = pq.ParquetWriter(made[-1], schema, compression="zstd")
        writer.write_table(group, row_group_size=GROUP_ROWS)
        if made[-1].stat().st_size >= file_bytes:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
    if not made:
        made = [folder / "0"]
        pq.write_table(schema.empty_table(), made[0])
    names = [f"train-{n:05d}-of-{len(made):05d}.parquet" for n in range(len(made))]
    return [path.rename(folder / name) for path, name in zip(made, names, strict=True)]


def _groups(schema: pa.Schema, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables joined to row groups of bounded size."""
    held: list[pa.Table] = []
    rows = num_bytes = 0
    for table in tables:
        held.append(table.cast(schema))
        rows, num_bytes = rows + len(table), num_bytes + table.get_total_buffer_size()
        if rows >= GROUP_ROWS or num_bytes >= GROUP_BYTES:
            yield pa.concat_tables(held)
            held, rows, num_bytes = [], 0, 0
    if rows:
        yield pa.concat_tables(held)


# ------------------------------------------------------------------------------ shapes of rows


class _Embed:
    """Puts the bytes of pictures into the rows; those without all of theirs are left out."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._pool = ThreadPoolExecutor(_READERS)

    def __call__(self, table: pa.Table, account: Account, folder: Path) -> pa.Table:
        column = table["images"].combine_chunks()
        lengths = _lengths(column)
        images = column.flatten().to_pylist()
        found = list(self._pool.map(self._read, images))
        keep = _keep(table, lengths, found, account)
        kept = np.flatnonzero(np.repeat(keep, lengths)).tolist()
        ends = np.concatenate([[0], np.cumsum(lengths[keep])])
        account.pictures += len(kept)
        pictures = pa.StructArray.from_arrays(
            [
                pa.array([found[place] for place in kept], pa.binary()),
                pa.array([images[place]["path"] for place in kept], pa.string()),
            ],
            names=["bytes", "path"],
        )
        listed = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pictures)
        return _hf_rows(table.filter(pa.array(keep)), "images", listed)

    def _read(self, image: dict[str, Any]) -> bytes | PictureError:
        try:
            return picture_bytes(self._workspace, image)
        except PictureError as error:
            return error


def _plain(table: pa.Table, account: Account, folder: Path) -> pa.Table:
    """Return rows with the paths of pictures alone."""
    account.samples += len(table)
    account.text_only += int((_lengths(table["images"].combine_chunks()) == 0).sum())
    return _hf_rows(table, "image_paths", _field_of_images(table, "path"))


def _hf_rows(table: pa.Table, name: str, pictures: pa.Array) -> pa.Table:
    """Return the columns of the export in order; scores as a list, since there are no maps."""
    columns = {"id": table["id"], name: pictures}
    columns |= {column: table[column] for column in (*_TAKEN[1:], *_KNOWN)}
    return pa.table(columns | {"scores": _score_lists(table["scores"].combine_chunks())})


def _score_lists(scores: pa.MapArray) -> pa.Array:
    """Return scores as lists of name and score."""
    pairs = pa.StructArray.from_arrays([scores.keys, scores.items], names=["name", "score"])
    listed = pa.ListArray.from_arrays(scores.offsets, pairs)
    return pc.if_else(pc.is_valid(scores), listed, pa.scalar(None, listed.type))


def _placed(
    workspace: Workspace, table: pa.Table, account: Account, folder: Path, images: Images
) -> pa.Table:
    """Put the pictures of samples into the folder; return the samples that have all of theirs."""
    column = table["images"].combine_chunks()
    found: list[bytes | PictureError] = []
    for image in column.flatten().to_pylist():
        try:
            account.pictures += place_picture(workspace, image, folder, images)
            found.append(b"")
        except PictureError as error:
            found.append(error)
    return table.filter(pa.array(_keep(table, _lengths(column), found, account)))


def _keep(table: pa.Table, lengths: np.ndarray, found: list[Any], account: Account) -> np.ndarray:
    """Return which samples have all their pictures; count those and name the others."""
    row_of = np.repeat(np.arange(len(table)), lengths)
    problems = {
        int(row): str(data)
        for row, data in zip(row_of[::-1], found[::-1], strict=True)
        if isinstance(data, PictureError)
    }
    for row in sorted(problems):
        account.leave_out(table["id"][row].as_py(), problems[row])
    keep = np.ones(len(table), dtype=bool)
    keep[list(problems)] = False
    account.samples += int(keep.sum())
    account.text_only += int((lengths[keep] == 0).sum())
    return keep


def _flat(table: pa.Table) -> pa.Table:
    """Return the columns of `FLAT_SCHEMA`."""
    turns = table["conversations"].combine_chunks()
    known, origin = table["provenance"].combine_chunks(), table["origin"].combine_chunks()
    columns = {name: table[name] for name in ("id", "source", "dataset", "category", "system")}
    columns |= {
        "image": _field_of_images(table, "path"),
        "image_sha256": _field_of_images(table, "sha256"),
        "num_turns": pc.list_value_length(turns),
        "question": _turn(turns, 0),
        "answer": _turn(turns, 1),
        "conversations": turns,
        **{name: pc.struct_field(known, name) for name in ("license", "author", "page_url")},
        "origin_file": pc.struct_field(origin, "file"),
        "origin_line": pc.struct_field(origin, "line"),
    }
    return pa.table(columns)


def _turn(turns: pa.ListArray, place: int) -> pa.Array:
    """Return the text of the first or second turn, null where there are not so many."""
    starts = np.asarray(turns.offsets)[:-1] + place
    is_there = _lengths(turns) > place
    indices = pa.array(np.where(is_there, starts, 0), mask=~is_there)
    return turns.values.field("value").take(indices)


def _field_of_images(table: pa.Table, name: str) -> pa.Array:
    """Return a list of one field of the pictures of each sample."""
    images = table["images"].combine_chunks()
    ends = np.concatenate([[0], np.cumsum(_lengths(images))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), images.flatten().field(name))


def _lengths(lists: Any) -> np.ndarray:
    return np.asarray(pc.list_value_length(lists), dtype=np.int64)


def _with_features(schema: pa.Schema) -> pa.Schema:
    """Return a schema that tells `datasets` its features, so that nothing has to be guessed."""
    features = {field.name: _feature(field.type) for field in schema}
    if "images" in features:
        features["images"] = [{"_type": "Image"}]
    return schema.with_metadata({"huggingface": orjson.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Any:
    """Return how `datasets` names a type; a list in brackets is what all its versions read."""
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    names = {"float": "float32", "double": "float64"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}
