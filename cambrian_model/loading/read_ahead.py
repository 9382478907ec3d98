"""Samples read ahead of their use: in worker processes within a bound, or one by one in this one.

Results come in the order in which samples are named, whatever the number of workers. Imports no
torch, since the workers import it.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from cambrian_data.records import RunFailed
from cambrian_data.shard_store import ShardError
from cambrian_model.loading.pool import held, new_pool
from cambrian_model.loading.sample_reader import Fault, Loaded, SampleReader, Spot
from cambrian_model.loading.samples import Samples


class ReadAhead:
    """Reads samples by number; the processes start with the first one."""

    def __init__(
        self, samples: Samples, reader: SampleReader, *, with_pixels: bool, num_workers: int
    ) -> None:
        """Keep what reading needs.

        Args:
            with_pixels: whether pictures are decoded.
        """
        self._samples, self._reader, self._with_pixels = samples, reader, with_pixels
        self._num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None
        self._numbers: Iterator[int | None] = iter(())
        self._max_ahead = 1
        self._ahead: deque[tuple[int, Future[Loaded | Fault]] | None] = deque()

    def follow(self, numbers: Iterator[int | None], max_ahead: int) -> None:
        """Forget what was read ahead; from now on `take` returns these samples, in order.

        Args:
            numbers: may be endless; None stands for a step without samples, of which an endless
                sequence may consist.
            max_ahead: most that is read ahead.
        """
        for waiting in self._ahead:
            if waiting is not None:
                waiting[1].cancel()
        self._ahead.clear()
        self._numbers, self._max_ahead = numbers, max(max_ahead, 2 * self._num_workers, 1)

    def take(self) -> Loaded | Fault | None:
        """Return the next sample, or None where None stands in its place.

        Raises:
            ShardError: its shard is gone, or cannot be fetched.
            RunFailed: a worker process died.
        """
        if not self._num_workers:
            upcoming = next(self._numbers)
            return None if upcoming is None else self._here(upcoming)
        self._fill()
        waiting = self._ahead.popleft()
        if waiting is None:
            return None
        number, future = waiting
        try:
            return future.result()
        except FileNotFoundError:  # a copy that made room for others: it is fetched again
            return self._here(number)
        except BrokenProcessPool:
            raise RunFailed(
                "a process that reads samples died, most likely for lack of memory: go on with "
                "fewer workers or a smaller prefetch; a script of your own must keep what it does "
                "under `if __name__ == '__main__':`, since each of them imports it"
            ) from None

    def close(self) -> None:
        """End the processes."""
        self.follow(iter(()), 1)
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _fill(self) -> None:
        pool = self._running()
        while len(self._ahead) < self._max_ahead:
            number = next(self._numbers)
            if number is None:
                self._ahead.append(None)
                continue
            future = pool.submit(_load_here, self._samples.spot(number), self._with_pixels)
            self._ahead.append((number, future))

    def _running(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = new_pool(self._num_workers, reader=self._reader)
            # Without this, whoever forgets to close waits at exit for all that was read ahead.
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        return self._pool

    def _here(self, number: int) -> Loaded | Fault:
        for _ in range(2):  # a copy may go between the look and the reading
            spot = self._samples.spot(number)
            try:
                return self._reader.load(spot, self._with_pixels)
            except FileNotFoundError:
                continue
        raise ShardError(
            f"{spot.path} is gone; make the shards again with the command that made them"
        )


def _load_here(spot: Spot, with_pixels: bool) -> Loaded | Fault:
    """Do the work in a worker process."""
    reader: SampleReader = held("reader")
    return reader.load(spot, with_pixels)
