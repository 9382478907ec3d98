"""Runners for more than one process or machine: dask and ray, imported only when asked for."""

from __future__ import annotations

import logging
import os
from typing import Any

from prefect.task_runners import TaskRunner

from cambrian_data.records import UserError


def dask(workers: int, address: str | None) -> TaskRunner[Any]:
    """Return a runner on a dask cluster: one that is there, or one of processes started here.

    Raises:
        UserError: prefect-dask is not installed.
    """
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise _missing("dask", error) from None
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")  # read by its workers
    if address is not None:
        return DaskTaskRunner(address=address)
    # One thread a worker: what a unit does is parallel inside where that helps, and a worker that
    # is killed takes one unit with it.
    local: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "dashboard_address": ":0",
    }
    local["silence_logs"] = logging.ERROR
    return DaskTaskRunner(cluster_kwargs=local)


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
        return RayTaskRunner(address=address)
    local = {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False}
    return RayTaskRunner(init_kwargs={**local, "logging_level": logging.ERROR})


def _missing(name: str, error: ImportError) -> UserError:
    return UserError(
        f"--runner {name} needs the package prefect-{name} ({error}); install it with "
        f"pip install 'cambrian[{name}]'"
    )
