"""A process that goes on from a checkpoint on the CPU: `resume_worker.py cpu CHECKPOINT FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cambrian_model.runtime import runtime_of
from tests.cambrian_model.small_run import prepare
from tests.xla.xla_worker import MODEL, MORE, train


def main(name: str, checkpoint: Path, folder: Path) -> None:
    runtime = runtime_of(name, threads=1)
    model, optimizer = prepare(runtime, checkpointing=True, **MODEL)
    assert runtime.load_state(checkpoint, model, optimizer) == {"step": MORE.start}
    trace, _ = train(runtime, model, optimizer, MORE)
    (folder / "losses.json").write_text(json.dumps(trace.losses))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
