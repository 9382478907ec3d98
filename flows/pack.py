"""A mixture's shards, as the last part of curation's flow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cambrian_data.build import Build
from cambrian_data.packing import SHARDS_VERSION, plan_packing, publish_shards
from cambrian_data.records import RunFailed, content_id
from cambrian_data.shard_store import shown
from cambrian_data.shard_upload import send_shards
from cambrian_data.shards import read_index
from flows.running import map_stage

if TYPE_CHECKING:
    from flows.curate import CurateJob


def make_shards(job: CurateJob) -> dict[str, Any]:
    """Write the shards that are missing, verify them all, send them on; return their totals."""
    started = time.monotonic()
    folder, build = job.workspace.shards(job.name), _build(job)
    if not build.is_done() or read_index(folder)["dropped"]:
        recipe = job.recipe.config
        mixture = job.workspace.mixture(job.name)
        packing = plan_packing(job.workspace, build, mixture, recipe.shards, recipe.seed)
        cut = packing.cut(
            map_stage(packing.sort_stage(), packing.parts(), job.progress, record=job.record)
        )
        units = map_stage(packing.write_stage(), cut.pieces, job.progress, record=job.record)
        publish_shards(packing, job.name, cut, units)
        _limit_lost(job, read_index(folder))
    index = read_index(folder)
    dropped = len(index["dropped"])
    left_over = len((index.get("ranks") or {}).get("left_over", ()))
    job.record.stage(
        "shards",
        rows_in=index["samples"] + dropped + left_over,
        rows_out=index["samples"],
        seconds=time.monotonic() - started,
        drops={"picture_damaged": dropped} if dropped else None,
        left_over=left_over,
    )
    result = {
        "folder": job.workspace.relative(folder),
        "shards": len(index["shards"]),
        "dropped": dropped,
        "left_over": left_over,
        **{k: index[k] for k in ("samples", "pictures", "bytes")},
    }
    if job.options.shards_to:
        sent = send_shards(folder, job.options.shards_to, job.progress)
        result |= {
            "sent_to": shown(job.options.shards_to),
            "sent": sent.num_sent,
            "already_there": sent.num_kept,
        }
    return result


def stale_shards(job: CurateJob) -> str | None:
    """Return the folder of shards of this name where they hold another mixture."""
    folder = job.workspace.shards(job.name)
    if not folder.is_dir() or _build(job).is_done():
        return None
    return job.workspace.relative(folder)


def _build(job: CurateJob) -> Build:
    config = job.recipe.config
    folder = job.workspace.shards(job.name)
    key = content_id(job.key, config.shards.model_dump(mode="json"), config.seed, SHARDS_VERSION)
    return Build(job.workspace, folder, key)


def _limit_lost(job: CurateJob, index: dict[str, Any]) -> None:
    """Stop where more samples lost their pictures than the recipe allows to be bad."""
    lost, share = len(index["dropped"]), job.recipe.config.max_drop_share
    if lost > share * (lost + index["samples"]):
        raise RunFailed(
            f"shards: {lost:,} of {lost + index['samples']:,} samples have pictures that are "
            f"missing or damaged, more than max_drop_share = {share} in the recipe allows "
            f"(the first: {index['dropped'][0]['detail']}); run the commands that filled the pool "
            "again, they make only what is lost anew"
        )
