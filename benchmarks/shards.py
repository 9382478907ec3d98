"""Packing a mixture into shards, beside webdataset's ShardWriter given the same bytes.

    python -m benchmarks.shards --samples 20000 --picture-kb 60

ShardWriter gets finished samples from memory and only writes them. Packing starts from the mixture
on disk: it makes the records, shuffles, reads every picture and checks its hash, writes and hashes
the files, and then reads all of it back and compares. Pictures are random bytes.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cambrian_data.build import Build
from cambrian_data.packing import plan_packing, publish_shards
from cambrian_data.records import content_id, sample_id
from cambrian_data.shards import ShardsConfig, read_shards, stored_record
from cambrian_data.units import Stage, Unit, Units
from cambrian_data.workspace import Workspace

_WORDS = ("the", "picture", "shows", "a", "red", "circle", "beside", "two", "green", "squares")


def make_mixture(
    workspace: Workspace, num_samples: int, picture_bytes: int, part_rows: int = 10_000
) -> Path:
    """Write a mixture of samples with one picture each, every tenth without."""
    draws = random.Random(7)
    build = Build(workspace, workspace.mixture("bench"), content_id(num_samples, picture_bytes))
    units = Units(workspace, build.folder(), "curate", version="1", config=None)
    for start in range(0, num_samples, part_rows):
        rows = [
            _row(workspace, draws, number, picture_bytes)
            for number in range(start, min(start + part_rows, num_samples))
        ]
        units.commit(units.key(start), {"samples": rows})
    return build.publish()


def _row(
    workspace: Workspace, draws: random.Random, number: int, picture_bytes: int
) -> dict[str, Any]:
    images = []
    if picture_bytes and number % 10:
        size = draws.randrange(picture_bytes // 2, picture_bytes * 3 // 2)
        sha256, path = workspace.store_picture(draws.randbytes(size), "jpg")
        images = [{"sha256": sha256, "path": workspace.relative(path), "width": 640, "height": 480}]
    turns = []
    for turn in range(draws.randrange(1, 4)):
        question = " ".join(draws.choices(_WORDS, k=12))
        turns += [
            {"from": "human", "value": ("" if turn else "<image>\n" * len(images)) + question},
            {"from": "gpt", "value": f"{number} " + " ".join(draws.choices(_WORDS, k=60))},
        ]
    return {
        "id": sample_id(turns, images),
        "source": f"source-{number % 40}",
        "dataset": "bench",
        "category": "general",
        "images": images,
        "conversations": turns,
    }


def pack(workspace: Workspace, mixture: Path, workers: int) -> dict[str, Any]:
    """Pack the mixture; return the index and the seconds of each step."""
    clock, seconds = time.perf_counter, dict[str, float]()
    shutil.rmtree(workspace.shards("bench"), ignore_errors=True)
    os.sync()  # neither way pays for what the other left to be written
    config = ShardsConfig(max_samples=5_000)
    build = Build(workspace, workspace.shards("bench"), content_id("bench"))
    packing = plan_packing(workspace, build, mixture, config, 0)
    begun = time.process_time()
    start = clock()
    sorted_units = _run(packing.sort_stage(), packing.parts(), workers)
    cut = packing.cut(sorted_units)
    seconds["sort"] = clock() - start
    start = clock()
    units = _run(packing.write_stage(), cut.pieces, workers)
    seconds["write"] = clock() - start
    start = clock()
    index = publish_shards(packing, "bench", cut, units)
    seconds["verify"] = clock() - start
    return {"index": index, "seconds": seconds, "processor_s": time.process_time() - begun}


def _run(stage: Stage, pieces: Sequence[Sequence[Any]], workers: int) -> list[Unit]:
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(stage.run, pieces))


def write_plainly(shards: Path, folder: Path) -> tuple[float, float]:
    """Write the same samples with webdataset's ShardWriter.

    Returns:
        Its seconds, and those of the processor.
    """
    import webdataset

    samples = [
        {
            "__key__": sample.key,
            "json": stored_record(sample.record),
            **{
                image["file"]: data
                for image, data in zip(sample.record["images"], sample.pictures, strict=True)
            },
        }
        for sample in read_shards(shards)
    ]
    os.sync()
    options = {"maxcount": 5_000, "maxsize": 256 * 2**20, "verbose": 0, "mtime": 0}
    start, begun = time.perf_counter(), time.process_time()
    with webdataset.ShardWriter(str(folder / "plain-%06d.tar"), **options) as writer:
        for sample in samples:
            writer.write(sample)
    return time.perf_counter() - start, time.process_time() - begun


def measure(num_samples: int, picture_bytes: int, workers: int, rounds: int) -> dict[str, Any]:
    """Pack a mixture both ways, in turns; of each the fastest round counts.

    Returns:
        Samples, bytes, seconds of either way, and how fast packing is beside ShardWriter: with
        everything, and without reading back.
    """
    with tempfile.TemporaryDirectory(prefix="cambrian-bench-") as name:
        workspace = Workspace.create(Path(name) / "ws")
        mixture = make_mixture(workspace, num_samples, picture_bytes)
        packs, plains = [], []
        for _ in range(rounds):
            packs.append(pack(workspace, mixture, workers))
            plains.append(write_plainly(workspace.shards("bench"), Path(name)))
    packed = min(packs, key=lambda one: sum(one["seconds"].values()))
    (plain_s, plain_processor_s), seconds = min(plains), packed["seconds"]
    return {
        "samples": packed["index"]["samples"],
        "bytes": packed["index"]["bytes"],
        "shard_writer_s": plain_s,
        **{f"{step}_s": taken for step, taken in seconds.items()},
        "shard_writer_processor_s": plain_processor_s,
        "processor_s": packed["processor_s"],
        "ratio": plain_s / sum(seconds.values()),
        "ratio_without_verify": plain_s / (seconds["sort"] + seconds["write"]),
    }


def show(found: dict[str, Any]) -> str:
    """Return the numbers as text."""
    mb, without = found["bytes"] / 1e6, found["ratio_without_verify"]
    plain, total = found["shard_writer_s"], sum(found[f"{s}_s"] for s in _STEPS)
    steps = ", ".join(f"{step} {found[f'{step}_s']:.1f} s" for step in _STEPS)
    cpu, plain_cpu = found["processor_s"], found["shard_writer_processor_s"]
    return (
        f"{found['samples']:,} samples, {mb:,.0f} MB\n"
        f"  ShardWriter, from memory  {plain:6.1f} s  {mb / plain:6.0f} MB/s  processor "
        f"{plain_cpu:.1f} s\n"
        f"  packing, from the mixture {total:6.1f} s  {mb / total:6.0f} MB/s  processor "
        f"{cpu:.1f} s  ({steps})\n"
        f"  ratio {found['ratio']:.2f}, without reading back {without:.2f}"
    )


_STEPS = ("sort", "write", "verify")


def main(
    arguments: Sequence[str] | None = None, out: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="packing beside webdataset.ShardWriter")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--picture-kb", type=int, default=60, help="0: text only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    options = parser.parse_args(arguments)
    found = measure(options.samples, options.picture_kb * 1000, options.workers, options.rounds)
    out(show(found))
    return found


if __name__ == "__main__":
    main()
