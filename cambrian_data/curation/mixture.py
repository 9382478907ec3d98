"""Which samples make the mixture: the planned number of every source, chosen by hash.

Each source's samples are lined up by a hash of seed and id; the plan's number is taken from the
front. So neither the order of the pool nor other sources decide about a sample, and one more sample
in a source moves no other but the one at the edge. One hash and one sort; no text is looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from cambrian_data.curation.drops import drops_of, result_of
from cambrian_data.curation.plan import (
    PUBLISHED_RATIOS,
    CategoryShare,
    MixtureConfig,
    MixturePlan,
    SourceShare,
    plan_mixture,
)
from cambrian_data.records import StageResult, canonical_json

__all__ = [
    "PUBLISHED_RATIOS",
    "CategoryShare",
    "MixtureConfig",
    "MixturePlan",
    "SourceShare",
    "count_sources",
    "plan_mixture",
    "select",
]

STAGE = "mixture"
_GROUP = ["source", "category"]


def count_sources(samples: pa.Table) -> dict[tuple[str, str], int]:
    """Count a pool's samples by (source, category)."""
    counted = samples.select(_GROUP).group_by(_GROUP).aggregate([([], "count_all")])
    return {(row["source"], row["category"]): row["count_all"] for row in counted.to_pylist()}


def select(samples: pa.Table, plan: MixturePlan, config: MixtureConfig) -> StageResult:
    """Keep the planned samples, in their order; drop the others as over_cap or over_ratio.

    Raises:
        ValueError: the plan was made from another table.
    """
    if count_sources(samples) != {(s.source, s.category): s.have for s in plan.sources if s.have}:
        raise ValueError("the plan was made from another pool: its counts are not this table's")
    ranked = _ranked(samples, config.seed).join(_limits(plan), on=_GROUP, how="left").sort("row")
    is_kept = pa.array(ranked["rank"].to_numpy() < ranked["take"].to_numpy())
    lost = ranked.filter(pl.col("rank") >= pl.col("take"))
    is_over_cap = pl.col("rank") >= pl.col("cap")
    lost = lost.select(
        pl.when(is_over_cap).then(pl.lit("over_cap")).otherwise(pl.lit("over_ratio")).alias("why"),
        pl.when(is_over_cap).then("cap_detail").otherwise("ratio_detail").alias("detail"),
    )
    dropped = samples.filter(pc.invert(is_kept))
    drops = drops_of(STAGE, dropped, lost["why"].to_list(), lost["detail"].to_list())
    return result_of(samples.filter(is_kept), drops)


def _ranked(samples: pa.Table, seed: int) -> pl.DataFrame:
    """Return source, category and row of every sample with its place in its source's line."""
    ids = samples["id"].to_pylist()
    origin = samples["origin"]
    frame = pl.DataFrame(
        {
            "row": np.arange(len(ids)),
            "key": _keys(seed, ids),
            "id": pl.Series(ids, dtype=pl.String),
            **{name: pl.Series(samples[name].to_pylist(), dtype=pl.String) for name in _GROUP},
            "dataset": pl.Series(samples["dataset"].to_pylist(), dtype=pl.String),
            "file": pl.Series(pc.struct_field(origin, "file").to_pylist(), dtype=pl.String),
            "line": pl.Series(pc.struct_field(origin, "line").to_pylist(), dtype=pl.Int64),
        }
    )
    # Without deduplication an id can stand twice: its origin decides, the row number last.
    frame = frame.sort([*_GROUP, "key", "id", "dataset", "file", "line", "row"])
    return frame.select("row", *_GROUP, pl.int_range(pl.len()).over(_GROUP).alias("rank"))


def _keys(seed: int, ids: Sequence[str]) -> np.ndarray:
    """Return 64 bits of the hash of seed and id for every id."""
    digests = b"".join(
        hashlib.sha256(canonical_json([seed, STAGE, sample_id])).digest()[:8] for sample_id in ids
    )
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _limits(plan: MixturePlan) -> pl.DataFrame:
    """Return what the plan says of every source, with the words for what is left out."""
    takes = {share.category: share.take for share in plan.categories}
    rows = [
        {
            "source": share.source,
            "category": share.category,
            "take": share.take,
            "cap": share.cap,
            "cap_detail": f"{share.source} has {share.have}, its cap is {share.cap}",
            "ratio_detail": _why_not(share, plan, takes),
        }
        for share in plan.sources
    ]
    kinds = {
        name: pl.Int64 if name in ("take", "cap") else pl.String
        for name in (*_GROUP, "take", "cap", "cap_detail", "ratio_detail")
    }
    return pl.DataFrame(rows, schema=kinds)


def _why_not(share: SourceShare, plan: MixturePlan, takes: dict[str, int]) -> str:
    if share.category in plan.without_ratio:
        return f"{share.category} has no ratio"
    if share.source in plan.too_small:
        return f"{share.source} has {share.have}, fewer than min_per_source"
    return f"{share.category} gives {takes[share.category]}, {share.take} of them {share.source}"
