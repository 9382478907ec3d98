"""Worker processes for reading: started clean, holding what they need, gone with their parent.

They are forked from a server that has imported what reading needs (no torch) and has no threads,
never from the training process: a fork of a process with threads can hang.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

_PRELOADED = ["cambrian_model.loading.read_ahead", "transformers.tokenization_utils_tokenizers"]
"""Imported once, in the server; a name that is not there does no harm."""
_held: dict[str, Any] = {}


def new_pool(num_workers: int, **values: Any) -> ProcessPoolExecutor:
    """Return a pool of processes; each gets the values once, at its start, for `held`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return ProcessPoolExecutor(num_workers, context, initializer=_start, initargs=(values,))


def held(name: str) -> Any:
    """Return a value that this worker process was given at its start."""
    return _held[name]


def _start(values: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends this
    _held.update(values)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone, which the pool itself would not notice."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
