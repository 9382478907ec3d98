"""The loader beside raw decoding of the same pictures, and beside a dataset that scans a JSONL.

    python -m benchmarks.loader                         # 2,000 and 20,000 lines
    python -m benchmarks.loader --lines 2000 --workers 4 --towers clip-l@336

All in one run with the same number of processes. `raw` reads, decodes, pads and resizes pictures
for every tower and throws the pixels away. The loader does that too, and brings them to the
training process with ids, labels and layout. The scanning dataset opens the JSONL for every sample
and reads on to its line, as published; it gives the same pixels, normalised.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cambrian_data.records import bytes_id, canonical_json, sample_id
from cambrian_data.shards import ShardSample, encode_shard, make_index, shard_name
from cambrian_model.conversation import TEMPLATES, encode
from cambrian_model.loading.examples import ExampleMaker
from cambrian_model.loading.loader import Loader, LoaderOptions
from cambrian_model.loading.order import OrderOptions, epoch_order
from cambrian_model.loading.picture_store import crops_of
from cambrian_model.loading.pool import new_pool
from cambrian_model.loading.sample_index import COLUMNS, SampleIndex, mixed
from cambrian_model.loading.sample_reader import Crop
from cambrian_model.loading.samples import Samples, open_samples
from cambrian_model.pictures import decode_picture, normalise, square_pixels_all
from cambrian_model.tokenizer import train_tokenizer
from cambrian_model.vision import TowerSpec, tower_spec

_TOWERS = ("siglip-so400m@384", "clip-l@336", "dinov2-giant@378", "convnext-xxl@1024")
_WORDS = ("the", "picture", "shows", "a", "red", "circle", "beside", "two", "green", "squares")
_NUM_PICTURES = 64
_PER_SHARD = 500

# -------------------------------------------------------------------------------------- data


def make_pictures(size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """Return JPEG pictures that take about as long to decode as photographs of their size."""
    draws = np.random.default_rng(0)
    pictures = []
    for _ in range(_NUM_PICTURES):
        rough = draws.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        image = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
        noise = draws.integers(-12, 13, (size[1], size[0], 3))
        grainy = np.clip(np.asarray(image).astype(np.int16) + noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grainy).save(buffer, "JPEG", quality=85)
        pictures.append(buffer.getvalue())
    return pictures


def make_records(count: int, pictures: Sequence[bytes]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield records of one picture each, with the picture."""
    draws = np.random.default_rng(1)
    for number in range(count):
        data = pictures[number % len(pictures)]
        image = {"sha256": bytes_id(data), "width": 640, "height": 480, "file": "0.jpg"}
        turns = []
        for turn in range(int(draws.integers(1, 4))):
            question = " ".join(draws.choice(_WORDS, 12))
            answer = " ".join(draws.choice(_WORDS, 60))
            turns.append({"from": "human", "value": ("" if turn else "<image>\n") + question})
            turns.append({"from": "gpt", "value": f"{number} {answer}"})
        record = {
            "id": sample_id(turns, [image]),
            "source": "bench",
            "conversations": turns,
            "system": None,
            "images": [image],
        }
        yield record, data


def write_data(folder: Path, count: int) -> tuple[Path, Path]:
    """Write the same samples as shards, and as a JSONL with a folder of pictures.

    Returns:
        The folder of the shards, and the JSONL.
    """
    shards, plain = folder / "shards", folder / "plain"
    (plain / "images").mkdir(parents=True)
    shards.mkdir()
    pictures = make_pictures()
    for number, data in enumerate(pictures):
        (plain / "images" / f"{number}.jpg").write_bytes(data)
    entries, waiting = list[dict[str, Any]](), list[ShardSample]()
    with (plain / "samples.jsonl").open("w") as lines:
        for number, (record, data) in enumerate(make_records(count, pictures)):
            line = {**record, "image": f"images/{number % len(pictures)}.jpg"}
            lines.write(json.dumps(line) + "\n")
            waiting.append(ShardSample(f"{number:09d}", record, [data]))
            if len(waiting) == _PER_SHARD or number == count - 1:
                content, entry = encode_shard(waiting)
                name = shard_name(len(entries))
                (shards / name).write_bytes(content)
                entries.append({"file": name, **entry})
                waiting.clear()
    (shards / "index.json").write_bytes(canonical_json(make_index("bench", entries)))
    return shards, plain / "samples.jsonl"


# ---------------------------------------------------------------------------------- the ways


def prepare_raw(path: str, crops: Sequence[Crop]) -> int:
    """Decode and resize a picture; return the bytes of its pixels."""
    image = decode_picture(Path(path).read_bytes())
    return sum(pixels.nbytes for pixels in square_pixels_all(image, crops))


def time_raw(pool: ProcessPoolExecutor, folder: Path, crops: Sequence[Crop], count: int) -> float:
    """Return pictures a second of decoding and resizing alone."""
    paths = [str(folder / "images" / f"{number % _NUM_PICTURES}.jpg") for number in range(count)]
    begun = time.perf_counter()
    list(pool.map(prepare_raw, paths, [crops] * count))
    return count / (time.perf_counter() - begun)


def time_loader(loader: Loader, steps: int) -> float:
    """Return samples a second of the loader; every micro batch is made."""
    begun, count = time.perf_counter(), 0
    for _ in range(steps):
        step = loader.next_step()
        count += sum(len(batch.sample_ids) for batch in step.micro)
    return count / (time.perf_counter() - begun)


class ScanningDataset(Dataset[tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]]):
    """Sample i is line i of a JSONL, which is opened and read up to there, every time."""

    def __init__(self, path: Path, make: ExampleMaker, specs: Sequence[TowerSpec]) -> None:
        self._path, self._make = path, make
        self._crops = crops_of(specs)
        self._scales = [(spec.mean, spec.std) for spec in specs]
        with path.open() as lines:
            self._length = sum(1 for _ in lines)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        record = self.find(at)
        image = decode_picture((self._path.parent / record["image"]).read_bytes())
        squares = square_pixels_all(image, self._crops)
        pixels = [
            torch.from_numpy(normalise(square, *scale))
            for square, scale in zip(squares, self._scales, strict=True)
        ]
        encoded = encode(record["conversations"], self._make.tokenizer, self._make.template, None)
        return torch.tensor(encoded.input_ids), torch.tensor(encoded.labels), pixels

    def find(self, at: int) -> dict[str, Any]:
        """Return the record of a sample."""
        with self._path.open() as lines:
            for number, line in enumerate(lines):
                if number == at:
                    return json.loads(line)
        raise IndexError(at)


def time_scanning(dataset: ScanningDataset, workers: int, count: int) -> float:
    """Return samples a second of the scanning dataset in random order."""
    order = np.random.default_rng(2).permutation(len(dataset))[: count + workers].tolist()
    feed = DataLoader(
        dataset, batch_size=None, sampler=order, num_workers=workers, prefetch_factor=2
    )
    stream = iter(feed)
    for _ in range(workers):  # their start is not counted
        next(stream)
    begun = time.perf_counter()
    for _ in range(count):
        next(stream)
    return count / (time.perf_counter() - begun)


def time_finding(find: Callable[[int], object], length: int, count: int = 50) -> float:
    """Return milliseconds that it takes to find a record and to parse it."""
    places = np.random.default_rng(3).integers(0, length, count).tolist()
    begun = time.perf_counter()
    for place in places:
        find(place)
    return 1000 * (time.perf_counter() - begun) / count


# -------------------------------------------------------------------------------- measuring


def processor_s() -> float:
    """Return the processor time of this process and the workers that it has (Linux)."""
    ticks = 0
    for process in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def spent(run: Callable[[], float], count: int) -> tuple[float, float]:
    """Return what a measurement returns, and the processor's milliseconds by sample."""
    begun = processor_s()
    speed = run()
    return speed, 1000 * (processor_s() - begun) / count


def measure(count: int, specs: Sequence[TowerSpec], workers: int, rounds: int) -> dict[str, Any]:
    """Measure all ways on the same samples, in turns.

    Returns:
        The fastest round of each way, and the medians of the rounds' ratios.
    """
    template = TEMPLATES["llama_3"]
    tokenizer = train_tokenizer([" ".join(_WORDS)] * 3, 400, template)
    make = ExampleMaker(
        tokenizer=tokenizer, template=template, system="Be brief.", max_tokens=2048, side=24
    )
    taken = min(count, 96)
    with tempfile.TemporaryDirectory(prefix="cambrian-bench-") as name:
        shards, lines = write_data(Path(name), count)
        begun = time.perf_counter()
        samples = open_samples(shards, make, cache=Path(name))
        index_s = time.perf_counter() - begun
        dataset = ScanningDataset(lines, make, specs)
        crops = crops_of(specs)
        raws, loads, scans = [], [], []
        with new_pool(workers) as pool, _loader(samples, specs, workers) as loader:
            time_raw(pool, lines.parent, crops, 4 * workers)  # the start of processes
            loader.next_step()
            for _ in range(rounds):
                loader.load_state(loader.state())  # forgets what was read ahead
                time.sleep(1)
                raws.append(spent(lambda: time_raw(pool, lines.parent, crops, taken), taken))
                loads.append(spent(lambda: time_loader(loader, taken // 8), taken))
                loader.load_state(loader.state())
                scans.append(time_scanning(dataset, workers, taken))
        find_ms = [
            min(time_finding(find, count) for _ in range(rounds))
            for find in (samples.example, dataset.find)
        ]
    (raw, raw_ms), (loaded, loaded_ms), scanned = max(raws), max(loads), max(scans)
    return {
        "lines": count,
        "workers": workers,
        "index_samples_per_s": count / index_s,
        "raw_per_s": raw,
        "loader_per_s": loaded,
        "scanning_per_s": scanned,
        "raw_processor_ms": raw_ms,
        "loader_processor_ms": loaded_ms,
        "find_by_index_ms": find_ms[0],
        "find_by_scanning_ms": find_ms[1],
        "loader_beside_raw": median(a[0] / b[0] for a, b in zip(loads, raws, strict=True)),
        "loader_beside_scanning": median(a[0] / b for a, b in zip(loads, scans, strict=True)),
    }


def _loader(samples: Samples, specs: Sequence[TowerSpec], workers: int) -> Loader:
    options = LoaderOptions(global_batch=8, num_workers=workers, prefetch=2)
    return Loader(samples, options, specs, pad_token_id=0)


def measure_memory(count: int) -> dict[str, float]:
    """Return MB of an index of so many samples, and of the order of an epoch while it is made."""
    columns = {name: np.ones(count, kind) for name, kind in COLUMNS.items()}
    columns["shard"] = (np.arange(count) // 10_000).astype(np.int32)
    columns["place"] = mixed(np.arange(count, dtype=np.uint64))
    index = SampleIndex(columns, {})
    tracemalloc.start()
    begun = time.perf_counter()
    order = epoch_order(index, OrderOptions(global_batch=512, window_shards=16), 0)
    seconds, peak = time.perf_counter() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "samples": count,
        "index_mb": sum(values.nbytes for values in columns.values()) / 1e6,
        "order_mb": order.nbytes / 1e6,
        "order_peak_mb": peak / 1e6,
        "order_s": seconds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--towers", nargs="+", default=list(_TOWERS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    specs = [tower_spec(name) for name in options.towers]
    found = [measure(count, specs, options.workers, options.rounds) for count in options.lines]
    found.append(measure_memory(1_000_000))
    for numbers in found:
        print("  ".join(f"{name} {value:,.2f}" for name, value in numbers.items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
