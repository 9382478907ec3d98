"""A process that trains both stages of a tiny recipe: `train_worker.py cpu|xla SHARDS FOLDER`.

Writes results and the programs compiled after each step to FOLDER/found.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cambrian_model.runtime import runtime_of
from cambrian_model.train import train
from tests.cambrian_model.conftest import make_recipe
from tests.xla.xla_worker import num_compiles

STAGE: dict[str, Any] = {
    "steps": 4,
    "batch_size": 8,
    "lr": 2e-3,
    "warmup_ratio": 0.2,
    "save_every": 2,
    "gradient_checkpointing": True,
    "eps": 1e-4,
}


def main(name: str, shards: Path, folder: Path) -> None:
    runtime = runtime_of(name, threads=1)
    data = {"feature_cache_mb": 0}
    recipe = make_recipe(pretrain=STAGE, finetune=STAGE, max_tokens=160, data=data)
    compiles: list[int] = []

    def progress(stage: str, done: int, total: int | None, **numbers: Any) -> None:
        if stage in ("pretrain", "finetune"):
            compiles.append(num_compiles() if name == "xla" else 0)

    found: dict[str, Any] = {"num_devices": runtime.num_devices}
    start = None
    for stage_name in ("pretrain", "finetune"):
        out = folder / stage_name
        compiles.clear()
        result = train(
            recipe,
            stage_name,  # type: ignore[arg-type]
            shards,
            out,
            init_from=start,
            runtime=runtime,
            progress=progress,
            cache=folder / "index",
        )
        lines = (out / "log.jsonl").read_text().splitlines()
        found[stage_name] = {
            "losses": [json.loads(line)["loss"] for line in lines],
            "compiles": list(compiles),
            "own": result.own_pictures_loss,
            "shuffled": result.shuffled_pictures_loss,
            "checkpoint": str(result.checkpoint),
        }
        start = result.checkpoint
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
