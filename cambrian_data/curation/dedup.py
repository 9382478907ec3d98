"""Exact duplicates: the same conversation about the same pictures, whatever its id and source.

Texts are compared in Unicode form NFC with every run of white space as one space; pictures by their
hash, or by their path where they were not read. Of each group one sample is kept, by rule and not
by its place, so that the order of the rows makes no difference. One hash a row; linear.
"""

from __future__ import annotations

import hashlib
import unicodedata
from fnmatch import fnmatchcase

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from cambrian_data.curation.drops import drops_of, result_of
from cambrian_data.curation.turns import batches_of, numbers, turns_of
from cambrian_data.recipes import Config
from cambrian_data.records import CLUSTER, DROP, StageResult, content_id, picture_key

STAGE = "exact_dedup"
# Signs that cannot be in a text once its white space is normalised: Python counts them as such.
_BETWEEN_TURNS, _BEHIND_ROLE = "\x1e", "\x1f"


class DedupConfig(Config):
    """Which duplicates are looked for, and which one of them is kept."""

    exact: bool = True
    """Whether equal samples are dropped."""
    prefer_sources: list[str] = Field(default_factory=list)
    """Sources whose sample is kept before others', best first; * stands for anything."""


def exact_dedup(samples: pa.Table, config: DedupConfig) -> tuple[StageResult, pa.Table]:
    """Keep one sample of every group of equal ones.

    Kept is the sample of the source that the config prefers, then the one with the longer answers,
    then the one with the smaller id (then source, data set and place in its file).

    Returns:
        The result, and the table of clusters: every member of every group of more than one.
    """
    if not config.exact or not samples.num_rows:
        return result_of(samples, DROP.empty_table(), clusters=0), CLUSTER.empty_table()
    groups = _rank(_members(samples, config))
    is_kept = np.ones(samples.num_rows, dtype=bool)
    lost = groups.filter(pl.col("rank") > 0).sort("row")
    is_kept[lost["row"].to_numpy()] = False
    details = [
        f"equals {kept_id} of {source}"
        for kept_id, source in lost.select("kept_id", "kept_source").iter_rows()
    ]
    dropped = samples.filter(pa.array(~is_kept))
    drops = drops_of(STAGE, dropped, ["exact_duplicate"] * dropped.num_rows, details)
    kept = samples.filter(pa.array(is_kept))
    return result_of(kept, drops, clusters=groups["key"].n_unique()), _clusters(groups)


def conversation_key(texts: list[tuple[str, str]], pictures: list[str]) -> str:
    """Return the hash by which samples are equal: normalised (role, text) turns and pictures."""
    said = _BETWEEN_TURNS.join(f"{role}{_BEHIND_ROLE}{_normal(text)}" for role, text in texts)
    return hashlib.sha256(f"{said}\0{content_id(pictures)}".encode()).hexdigest()


def _normal(text: str) -> str:
    composed = text if text.isascii() else unicodedata.normalize("NFC", text)
    return " ".join(composed.split())


def _members(samples: pa.Table, config: DedupConfig) -> pl.DataFrame:
    """Return the rows of all groups of more than one, with what the choice depends on."""
    keys, answers = [], []
    for batch in batches_of(samples):
        turns = turns_of(batch)
        texts, is_human = turns.text.to_pylist(), turns.is_human.tolist()
        said = [
            ("human" if human else "gpt", text) for human, text in zip(is_human, texts, strict=True)
        ]
        ends = np.cumsum(turns.lengths)
        for end, length, images in zip(
            ends.tolist(), turns.lengths.tolist(), batch.column("images").to_pylist(), strict=True
        ):
            pictures = [picture_key(image) for image in images]
            keys.append(conversation_key(said[end - length : end], pictures))
        sizes = numbers(pc.utf8_length(turns.text)) * ~turns.is_human
        answers.append(turns.total(sizes))
    frame = pl.DataFrame(
        {
            "row": np.arange(samples.num_rows),
            "key": keys,
            "answer": np.concatenate(answers),
        }
    )
    frame = frame.filter(pl.len().over("key") > 1)
    return frame.with_columns(_choice_columns(samples.take(frame["row"].to_arrow()), config))


def _choice_columns(members: pa.Table, config: DedupConfig) -> list[pl.Series]:
    order = {
        source: _preference(source, config.prefer_sources)
        for source in set(members["source"].to_pylist())
    }
    origin = members["origin"]
    return [
        pl.Series("preference", [order[s] for s in members["source"].to_pylist()], pl.Int64),
        *(
            pl.Series(name, members[name].to_pylist(), pl.String)
            for name in ("id", "source", "dataset", "category")
        ),
        pl.Series("file", pc.struct_field(origin, "file").to_pylist(), pl.String),
        pl.Series("line", pc.struct_field(origin, "line").to_pylist(), pl.Int64),
    ]


def _preference(source: str, preferred: list[str]) -> int:
    return next(
        (number for number, pattern in enumerate(preferred) if fnmatchcase(source, pattern)),
        len(preferred),
    )


def _rank(members: pl.DataFrame) -> pl.DataFrame:
    """Number the members of every group, the kept one 0, and name it beside the others."""
    by = ["key", "preference", "answer", "id", "source", "dataset", "category"]
    by += ["file", "line", "row"]
    ordered = members.sort(by, descending=[name == "answer" for name in by])
    return ordered.with_columns(
        (pl.int_range(pl.len()).over("key")).alias("rank"),
        pl.col("id").first().over("key").alias("kept_id"),
        pl.col("source").first().over("key").alias("kept_source"),
    )


def _clusters(groups: pl.DataFrame) -> pa.Table:
    count = groups.height
    columns = [
        pa.array([STAGE] * count, pa.string()),
        pa.array(groups["key"].to_list(), pa.string()),
        pa.array(groups["id"].to_list(), pa.string()),
        pa.array((groups["rank"] == 0).to_list(), pa.bool_()),
        pa.array([1.0] * count, pa.float32()),
    ]
    return pa.Table.from_arrays(columns, schema=CLUSTER)
