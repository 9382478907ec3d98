"""Work in several processes: pieces go out, results come back as they are ready.

Pieces and results travel as pickles over one socket a worker, so that no more of them is held than
there are workers. The workers end with the parent, however it ends: each waits in a thread for the
closing of a pipe that the parent alone holds open. The first worker is a new Python process that
imports what is needed and forks the others before it does anything else (an import costs as much
as some ten thousand rows); nothing of the parent's memory, threads or `__main__` is in them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from cambrian_data.records import RunFailed

MAX_DEATHS = 3
"""So many workers may die at one piece (killed, out of memory) before it is given up."""
MAX_WORKERS = 4
"""More workers than this are only used when asked for: each holds some hundred MB."""

# Memory that a worker gives back it needs again for its next piece, and to get it anew from the
# system, page by page, takes a fifth of the time: so it is kept. Threads of the arithmetic library
# would only stand in each other's way, and in the way of the fork.
_ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**26),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "OPENBLAS_NUM_THREADS": "1",
}

Piece = TypeVar("Piece")
Result = TypeVar("Result")
_Work = Callable[[Any], Any]


def default_workers() -> int:
    """Return the number of workers to use unless told: the cores of this process, at most 4."""
    return min(MAX_WORKERS, len(os.sched_getaffinity(0)))


def map_in_processes(
    work: Callable[[Piece], Result], pieces: Iterable[Piece], workers: int
) -> Iterator[tuple[int, Result]]:
    """Yield the number of each piece and what the work makes of it, in the order of finishing.

    Closing the iterator, an error or Ctrl-C ends the workers at once.

    Args:
        work: can be pickled: a function of a module, or a `functools.partial` of one.
        pieces: drawn one by one, as workers get free; can be pickled.
        workers: processes beside this one; with 1 the work is done in this one.
    Raises:
        RunFailed: a piece at which three workers died, or an error that cannot be pickled.
        Exception: what `work` raised, with the worker's traceback as a note.
    """
    if workers <= 1:
        for number, piece in enumerate(pieces):
            yield number, work(piece)
        return
    with contextlib.closing(_Pool(work, workers)) as pool:
        yield from pool.run(enumerate(pieces))


class _Pool:
    """Worker processes and what each is at; the parent's side."""

    def __init__(self, work: _Work, workers: int) -> None:
        self._work = pickle.dumps(work)
        self._lifeline, self._held = os.pipe()  # nobody writes: its closing is the sign
        self._started: list[subprocess.Popen[bytes]] = []
        self._idle: list[Connection] = []
        self._busy: dict[Connection, tuple[int, Any]] = {}
        self._deaths: dict[int, int] = {}
        self._start(workers)

    def run(self, pieces: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Yield results until all pieces are done."""
        again: deque[tuple[int, Any]] = deque()
        while True:
            while self._idle:
                task = again.popleft() if again else next(pieces, None)
                if task is None:
                    break
                self._send(task)
            if not self._busy:
                return
            for ready in wait(list(self._busy)):
                worker = ready  # a Connection: nothing else is waited for
                assert isinstance(worker, Connection)
                task = self._busy.pop(worker)
                try:
                    succeeded, answer = pickle.loads(worker.recv_bytes())
                except (EOFError, OSError):
                    again.append(self._bury(worker, task))
                    continue
                self._idle.append(worker)
                if not succeeded:
                    raise answer
                yield task[0], answer

    def close(self) -> None:
        """End all workers, also those in the middle of a piece."""
        os.close(self._held)
        os.close(self._lifeline)
        for worker in (*self._idle, *self._busy):
            worker.close()
        for process in self._started:
            process.wait()

    def _send(self, task: tuple[int, Any]) -> None:
        worker = self._idle.pop()
        self._busy[worker] = task
        with contextlib.suppress(OSError):  # a worker that is gone is found by `wait`
            worker.send_bytes(pickle.dumps(task[1]))

    def _bury(self, worker: Connection, task: tuple[int, Any]) -> tuple[int, Any]:
        """Start a worker in place of a dead one; return the piece that it was at."""
        worker.close()
        number, piece = task
        self._deaths[number] = self._deaths.get(number, 0) + 1
        if self._deaths[number] >= MAX_DEATHS:
            raise RunFailed(
                f"piece {number} ({piece!r:.200}) was given up: {MAX_DEATHS} processes died at it "
                "(killed, or out of memory); use fewer workers, or look into that piece"
            )
        self._start(1)
        return task

    def _start(self, count: int) -> None:
        """Start one process that becomes `count` workers."""
        pairs = [socket.socketpair() for _ in range(count)]
        theirs = [their.fileno() for _, their in pairs]
        path = os.pathsep.join(part for part in sys.path if part)
        environment = {**_ENVIRONMENT, **os.environ, "PYTHONPATH": path}
        arguments = ",".join(map(str, (self._lifeline, *theirs)))
        self._started.append(
            subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({arguments})"],
                pass_fds=(self._lifeline, *theirs),
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is the parent's to answer
            )
        )
        for mine, their in pairs:
            their.close()
            worker = Connection(mine.detach())
            with contextlib.suppress(OSError):
                worker.send_bytes(self._work)
            self._idle.append(worker)


# ------------------------------------------------------------------------- the worker's side


def serve(lifeline: int, *sockets: int) -> None:
    """Be as many workers as there are sockets; return never."""
    connections = [Connection(number) for number in sockets]
    own, works = connections[0], []
    for connection in connections:
        try:
            works.append(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)
    try:
        work = pickle.loads(works[0])
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is to hear of it
        failure: Exception = error
        work = _Fails(failure)
    for number, connection in enumerate(connections[1:], 1):
        if os.fork() == 0:
            own = connection
            for other in connections[:number] + connections[number + 1 :]:
                other.close()
            break
    else:
        for other in connections[1:]:
            other.close()
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    _answer(own, work)
    os._exit(0)


class _Fails:
    """Stands for work that could not be loaded: every piece gets the reason."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, piece: Any) -> Any:
        raise self._error


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


def _answer(connection: Connection, work: _Work) -> None:
    """Work on pieces until the parent has no more."""
    while True:
        try:
            piece = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer = (True, work(piece))
        except Exception as error:  # noqa: BLE001 - it is raised again in the parent
            answer = (False, _portable(error))
        try:
            connection.send_bytes(pickle.dumps(answer))
        except OSError:
            return


def _portable(error: Exception) -> Exception:
    """Return an error that survives a pickle, with the traceback as a note."""
    text = "".join(traceback.format_exception(error)).strip()
    try:
        error.add_note(f"in a worker process:\n{text}")
        again = pickle.loads(pickle.dumps(error))
        if type(again) is type(error) and str(again) == str(error):
            return error
    except Exception:  # noqa: BLE001 - an error that cannot be pickled becomes text
        pass
    return RunFailed(f"a worker failed: {text}")
