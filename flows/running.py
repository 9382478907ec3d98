"""What all flows share: the task runner by name, and units mapped over it.

A flow maps a stage over chunks: finished units are filtered out before anything is submitted, the
others run as tasks, and the units come back in the order of the chunks, so that neither the number
of workers nor a restart changes what is made. Prefect's own caches and retries are not used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from prefect import Flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.server.api.server import SubprocessASGIServer
from prefect.task_runners import ConcurrentTaskRunner, TaskRunner

from cambrian_data.records import Progress, RunFailed, UserError
from cambrian_data.runs import RunRecord
from cambrian_data.units import Stage, StageOutput, Unit
from flows.settings import remember_helper

RUNNERS = ("threads", "dask", "ray")
"""Names for --runner."""
# What goes wrong in a flow is raised to the caller, who explains it; these would print it too, and
# the last one what an interrupt breaks off in a task's callback.
for _name in ("prefect.flow_runs", "prefect.task_runs", "concurrent.futures"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

ResultT = TypeVar("ResultT")
Worker: TypeAlias = tuple[str, int]
"""Host and process that made a unit."""
_watchers: list[subprocess.Popen[bytes]] = []


def task_runner(
    name: str, workers: int | None = None, address: str | None = None
) -> TaskRunner[Any]:
    """Return the task runner of a name.

    Args:
        workers: threads, or worker processes of a cluster that is started here.
        address: scheduler of a cluster that is there already (dask, ray).
    Raises:
        UserError: no such runner, or the package that it needs is not installed.
    """
    if name not in RUNNERS:
        raise UserError(f"there is no runner {name!r} (known: {', '.join(RUNNERS)})")
    count = workers or os.cpu_count() or 2
    if name == "threads":
        if address is not None:
            raise UserError(f"--address {address} is for --runner dask or ray, not for threads")
        return ConcurrentTaskRunner(max_workers=count)
    from flows import clusters

    return clusters.dask(count, address) if name == "dask" else clusters.ray(count, address)


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="{stage.name}")
def run_unit(stage: Stage, chunk: Sequence[Any]) -> tuple[Unit, Worker]:
    """Make one unit of a stage; return it and the process that made it."""
    return stage.run(chunk), (socket.gethostname(), os.getpid())


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="{name}")
def run_call(name: str, call: Callable[[], ResultT]) -> ResultT:
    """Make one plain call as a task, for work that is a single piece."""
    return call()


def map_stage(
    stage: Stage,
    pieces: Sequence[Sequence[Any]],
    progress: Progress,
    *,
    record: RunRecord | None = None,
) -> list[Unit]:
    """Return the units of a stage for all chunks, making those that are not done.

    Must be called inside a flow. Progress counts chunks; the record is told which processes worked.
    """
    units = {number: stage.finished(piece) for number, piece in enumerate(pieces)}
    missing = [number for number, unit in units.items() if unit is None]
    done = len(pieces) - len(missing)
    progress(stage.name, done, len(pieces))
    futures: dict[PrefectFuture[tuple[Unit, Worker]], int] = {
        run_unit.submit(stage, pieces[number]): number for number in missing
    }
    workers: set[Worker] = set()
    for future in as_completed(list(futures)):
        units[futures[future]], worker = future.result()
        workers.add(worker)
        done += 1
        progress(stage.name, done, len(pieces))
    if record is not None and workers:
        record.workers(workers)
    stage.units.keep_only(unit.key for unit in units.values() if unit)
    return [unit for unit in units.values() if unit]


class Lane:
    """A stage whose pieces are submitted as they come, and waited for one by one.

    Must be used inside a flow. Progress counts rows, those of finished units too.
    """

    def __init__(
        self,
        stage: Stage,
        progress: Progress,
        total: int | None = None,
    ) -> None:
        """Name the stage.

        Args:
            stage: makes the units.
            progress: told after every unit.
            total: rows that will come, where that is known.
        """
        self._stage, self._progress, self._total = stage, progress, total
        self._done = 0
        self._lock = threading.Lock()
        self.units: list[Unit] = []

    def submit(self, piece: Sequence[Any]) -> Unit | PrefectFuture[tuple[Unit, Worker]]:
        """Return the unit of a piece if it is done, else a future of it."""
        unit = self._stage.finished(piece)
        if unit is not None:
            self._advance(len(piece))
            return unit
        return run_unit.submit(replace(self._stage, work=self._counted), piece)

    def result(self, made: Unit | PrefectFuture[tuple[Unit, Worker]]) -> Unit:
        """Wait for a unit; raise what went wrong in it."""
        unit = made if isinstance(made, Unit) else made.result()[0]
        self.units.append(unit)
        return unit

    def close(self) -> None:
        """Remove units of earlier inputs."""
        self._stage.units.keep_only(unit.key for unit in self.units)

    def _counted(self, piece: Sequence[Any]) -> StageOutput:
        output = self._stage.work(piece)
        self._advance(len(piece))
        return output

    def _advance(self, rows: int) -> None:
        with self._lock:
            self._done += rows
            self._progress(self._stage.name, self._done, self._total)


def run_flow(
    flow: Flow[..., ResultT],
    *arguments: Any,
    runner: str = "threads",
    workers: int | None = None,
    address: str | None = None,
) -> ResultT:
    """Run a flow on the task runner of a name; its errors are raised as they are.

    Raises:
        UserError: no such runner.
    """
    chosen = task_runner(runner, workers, address)
    if "PREFECT_API_URL" not in os.environ:
        _watch_helper(Path(os.environ["PREFECT_HOME"]))
    try:
        return flow.with_options(task_runner=chosen)(*arguments)
    except RuntimeError as error:
        if runner != "threads" and "failed to start" in str(error):
            raise RunFailed(
                f"the {runner} cluster did not come up ({error}): a worker ended while it started; "
                "run the same command again, it goes on"
            ) from None
        raise


def _watch_helper(home: Path) -> None:
    """Write down Prefect's helper process as soon as it starts, and tie it to this process.

    It would outlive a kill -9. Where the shell that watches is killed too, the next start finds
    the helper by its number (`flows.settings.end_orphan`).
    """

    def watch() -> None:
        while True:
            server = SubprocessASGIServer._instances.get(None)
            if server is not None and server.server_process is not None:
                remember_helper(home, server.server_process.pid)
                _end_with_us(server.server_process.pid)
                return
            time.sleep(0.05)

    threading.Thread(target=watch, name="prefect-helper-watch", daemon=True).start()


def _end_with_us(pid: int) -> None:
    """Have a shell wait until this process is gone, however it ends, and then end the helper.

    It reads a pipe that nobody writes to: the end of this process closes it.
    """
    with contextlib.suppress(OSError):  # no shell: then the next start tidies up
        _watchers.append(
            subprocess.Popen(
                ["/bin/sh", "-c", 'read -r _; kill -9 "$0" 2>/dev/null', str(pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
