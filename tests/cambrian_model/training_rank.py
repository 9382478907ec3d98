"""One of the processes of `test_train_ranks`: does the runs that a JSON file names, one by one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cambrian_model.recipe import TrainRecipe
from cambrian_model.runtime import Runtime
from cambrian_model.train import TrainError, train


class Stop(Exception):
    """Stands for whatever ends a process in the middle."""


def run(told: dict[str, Any], runtime: Runtime) -> str:
    """Run stage 2; returns what it ended with."""

    def progress(stage: str, done: int, total: int | None, **numbers: float) -> None:
        if stage == "finetune" and done == told["stop"]:
            raise Stop

    try:
        train(
            TrainRecipe.model_validate(told["recipe"]),
            "finetune",
            Path(told["shards"]),
            Path(told["out"]),
            init_from=Path(told["start"]),
            runtime=runtime,
            progress=progress,
        )
    except Stop:
        return "stopped"
    except TrainError as error:
        return str(error)
    return "done"


def main() -> None:
    """Do the runs of the file that the argument names."""
    runtime = Runtime(threads=1)
    runs = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps({name: run(told, runtime) for name, told in runs.items()}))
    runtime.barrier()
    runtime.close()


if __name__ == "__main__":
    main()
