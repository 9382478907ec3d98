"""Rows of the table `drops` for samples that a stage of curation leaves out, column by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cambrian_data.records import DROP, DROP_REASONS, StageResult


def drops_of(
    stage: str, samples: pa.Table, reasons: Sequence[str], details: Sequence[str | None]
) -> pa.Table:
    """Return one drop for every sample of a table; `raw` is null, since the pool still has it.

    Raises:
        ValueError: a reason is not in `DROP_REASONS` for the stage.
    """
    unknown = set(reasons) - DROP_REASONS[stage]
    if unknown:
        raise ValueError(f"stage {stage!r} has no drop reasons {sorted(unknown)}")
    count = samples.num_rows
    columns = [
        pa.array([stage] * count, pa.string()),
        samples["id"],
        pa.array(reasons, pa.string()),
        pa.array(details, pa.string()),
        samples["source"],
        samples["origin"],
        pa.nulls(count, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=DROP)


def result_of(kept: pa.Table, drops: pa.Table, **stats: Any) -> StageResult:
    """Return a stage's result with the counts that all stages report."""
    dropped = Counter(drops["reason"].to_pylist())
    counts = {
        "rows": kept.num_rows + drops.num_rows,
        "kept": kept.num_rows,
        "dropped": dict(sorted(dropped.items())),
    }
    return StageResult(kept, drops, {**counts, **stats})
