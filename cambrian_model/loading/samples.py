"""The usable samples of shards: an index of all, and any of them by its number.

This is what training takes: `open_samples` makes or finds the index and stops where too many
samples are unusable; `loader.Loader` makes batches of it, `batches.ExampleSet` those for an
evaluation.
"""

from __future__ import annotations

from pathlib import Path

from cambrian_data.records import Progress, silent
from cambrian_data.shard_store import ShardError
from cambrian_model.loading.examples import Example, ExampleMaker
from cambrian_model.loading.sample_index import SampleIndex, index_samples
from cambrian_model.loading.sample_reader import SampleReader, Spot
from cambrian_model.loading.shard_files import ShardFiles

_GIB = 2**30


class Samples:
    """Samples by number, 0 to len - 1."""

    def __init__(self, index: SampleIndex, files: ShardFiles, make: ExampleMaker) -> None:
        self.index, self.files, self.make = index, files, make
        self._reader = SampleReader(make, ())

    def __len__(self) -> int:
        return len(self.index)

    @property
    def skipped(self) -> dict[str, int]:
        """Return how many samples of the shards are left out, by reason."""
        return self.index.unusable

    @property
    def num_with_pictures(self) -> int:
        """Return how many samples show a picture."""
        return int((self.index.columns["num_pictures"] > 0).sum())

    @property
    def num_tokens(self) -> int:
        """Return the tokens of all samples, those of pictures counted."""
        return int(self.index.columns["num_tokens"].sum())

    @property
    def num_trained(self) -> int:
        """Return the tokens of all samples that are trained."""
        return int(self.index.columns["num_trained"].sum())

    @property
    def num_pictures(self) -> int:
        """Return the pictures of all samples."""
        return int(self.index.columns["num_pictures"].sum())

    def spot(self, number: int) -> Spot:
        """Return where a sample lies; its shard is fetched if it is remote.

        Raises:
            ShardError: the shard cannot be fetched.
        """
        columns = self.index.columns
        path = self.files.path(int(columns["shard"][number]))
        offset, size = int(columns["offset"][number]), int(columns["size"][number])
        return Spot(path, offset, size, int(columns["num_tokens"][number]))

    def example(self, number: int) -> Example:
        """Return a sample without its pictures.

        Raises:
            ShardError: the shard is gone or no longer what it was.
        """
        spot = self.spot(number)
        try:
            return self._reader.read(spot)[0]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ShardError(
                f"sample {spot.name} cannot be read: {error}; check the shards with "
                "`cambrian data verify`"
            ) from None

    def close(self) -> None:
        """Stop fetching shards ahead."""
        self.files.close()


def open_samples(
    place: Path | str,
    make: ExampleMaker,
    *,
    cache: Path,
    max_bad_share: float = 0.05,
    num_workers: int = 0,
    cache_bytes: int = 64 * _GIB,
    progress: Progress = silent,
) -> Samples:
    """Return the usable samples of a folder or an address of shards.

    Args:
        cache: folder for the index and for copies of remote shards.
        max_bad_share: share of unusable samples above which this stops.
        num_workers: processes that make the index where there are many samples.
        cache_bytes: most bytes of copies of remote shards.
    Raises:
        BadSamplesError: more unusable samples than allowed, or no usable one.
        ShardError: the shards cannot be read.
    """
    files = ShardFiles(place, cache, cache_bytes)
    try:
        index = index_samples(files, make, folder=cache, num_workers=num_workers, progress=progress)
    finally:
        files.close()
    index.check(max_bad_share, files.shown)
    return Samples(index, files, make)
