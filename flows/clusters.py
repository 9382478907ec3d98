"""Runners for more than one process or machine: dask and ray, imported only when asked for."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner

from cambrian_data.records import UserError

_LOUD = ("comm", "core", "nanny", "scheduler", "worker", "worker.memory", "deploy")
"""Loggers of dask that tell of every start and end; a flow's errors reach its caller anyway."""


def dask(workers: int, address: str | None) -> TaskRunner[Any]:
    """Return a runner on a dask cluster: one that is there, or one of processes started here.

    Raises:
        UserError: prefect-dask is not installed.
    """
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise _missing("dask", error) from None
    importlib.import_module("distributed")  # sets up its own logging: made quiet after it

    for name in ("distributed", *(f"distributed.{part}" for part in _LOUD)):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")  # read by its workers
    if address is not None:
        return DaskTaskRunner(address=_reachable(address))
    # One thread a worker: a worker that is killed takes one unit with it.
    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    return DaskTaskRunner(cluster_kwargs={**local, "silence_logs": logging.CRITICAL})


def ray(workers: int, address: str | None) -> TaskRunner[Any]:
    """Return a runner on a ray cluster: one that is there, or one of processes started here.

    Raises:
        UserError: prefect-ray is not installed.
    """
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise _missing("ray", error) from None
    if address is not None:
        return RayTaskRunner(address=address if address == "auto" else _reachable(address))
    local = {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False}
    return RayTaskRunner(init_kwargs={**local, "logging_level": logging.ERROR})


def _reachable(address: str) -> str:
    """Return an address if something listens there, so that a wrong one is told at once.

    Raises:
        UserError: nothing does.
    """
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise UserError(f"--address {address!r}: write it with a port, such as tcp://HOST:8786")
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"--address: nobody answers at {address!r} ({error}); start the scheduler there, or "
            "leave --address out to start a cluster of this machine's own"
        ) from None
    return address


def _missing(name: str, error: ImportError) -> UserError:
    return UserError(
        f"--runner {name} needs the package prefect-{name} ({error}); install it with "
        f"pip install 'cambrian[{name}]'"
    )
