"""What training reports: numbers by step to a JSONL log, TensorBoard or Weights & Biases.

`log.jsonl` is always written; the others are asked for by name in the recipe. All of them are cut
back to the step that a resumed run goes on from. Only here and there alone stand times.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from cambrian_data.records import UserError

LOG_NAME = "log.jsonl"
TENSORBOARD_NAME = "tensorboard"
_WANDB_RUN = "wandb_run.txt"

Numbers = Mapping[str, Any]
"""Name -> number, a dict of numbers by name, or None where it is not known."""


class Log(Protocol):
    """Takes the numbers of steps."""

    def rewind(self, step: int) -> None:
        """Forget what was logged after a step."""

    def write(self, step: int, numbers: Numbers) -> None:
        """Take the numbers of a step."""

    def close(self) -> None:
        """Finish writing."""


class JsonlLog:
    """Appends one JSON object a step to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Drop the lines after a step, and a last line that was cut in two."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                is_kept = json.loads(line)["step"] <= step
            except (ValueError, KeyError, TypeError):
                break
            if is_kept:
                kept.append(line + "\n")
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(self.path)

    def write(self, step: int, numbers: Numbers) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")

    def close(self) -> None:
        """Do nothing: every line is written at once."""


class TensorBoardLog:
    """Event files for TensorBoard, in a folder of the run."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first step.

        Raises:
            UserError: tensorboard is not installed.
        """
        _require("tensorboard")
        self._folder = folder
        self._writer: Any = None
        self._purge: int | None = None

    def rewind(self, step: int) -> None:
        """Have TensorBoard hide what it was told after a step."""
        self._purge = step + 1

    def write(self, step: int, numbers: Numbers) -> None:
        """Add a point to every curve."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge)
        for name, value in flat(numbers).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still kept."""
        if self._writer is not None:
            self._writer.close()


class WandbLog:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it in the run's folder."""

    def __init__(self, out: Path, name: str, config: Mapping[str, Any]) -> None:
        """Start the run, or go on with the one that this folder began.

        Raises:
            UserError: wandb is not installed, or it could not start.
        """
        _require("wandb")
        import wandb

        known = out / _WANDB_RUN
        begun = known.read_text(encoding="utf-8").strip() if known.exists() else None
        out.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "cambrian"),
                name=name,
                config=dict(config),
                dir=str(out),
                id=begun,
                resume="allow",
            )
        except wandb.errors.Error as error:
            raise UserError(
                f"Weights & Biases did not start: {error}; log in with `wandb login`, set "
                "WANDB_MODE=offline, or take wandb out of the stage's logs"
            ) from None
        known.write_text(str(self._run.id), encoding="utf-8")

    def rewind(self, step: int) -> None:
        """Do nothing: steps that come again are passed over by the service."""

    def write(self, step: int, numbers: Numbers) -> None:
        """Send the numbers of a step."""
        self._run.log(flat(numbers), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


@dataclass(slots=True)
class Logs:
    """Several logs as one."""

    parts: Sequence[Log]

    def rewind(self, step: int) -> None:
        """Rewind all."""
        for part in self.parts:
            part.rewind(step)

    def write(self, step: int, numbers: Numbers) -> None:
        """Write to all."""
        for part in self.parts:
            part.write(step, numbers)

    def close(self) -> None:
        """Close all."""
        for part in self.parts:
            part.close()


def open_logs(
    out: Path, names: Sequence[str], *, run: str, config: Mapping[str, Any] | None = None
) -> Logs:
    """Return the logs of a run: `log.jsonl` and those named.

    Args:
        out: folder of the run.
        names: of tensorboard, wandb.
        run: name of the run, for wandb.
        config: its recipe, for wandb.
    Raises:
        UserError: a package that is asked for is not installed.
    """
    parts: list[Log] = [JsonlLog(out / LOG_NAME)]
    if "tensorboard" in names:
        parts.append(TensorBoardLog(out / TENSORBOARD_NAME))
    if "wandb" in names:
        parts.append(WandbLog(out, run, config or {}))
    return Logs(parts)


def check_logs(names: Sequence[str]) -> None:
    """Raise unless the packages of logs are installed; done before anything is loaded.

    Raises:
        UserError: one is missing; the message gives the pip line.
    """
    for name in names:
        _require(name)


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"the stage's logs name {package}, which is not installed: `pip install {package}`, "
            "or take it out of the recipe's logs"
        )


def flat(numbers: Numbers) -> dict[str, float]:
    """Return the numbers that are known as `name` or `name/part` -> number."""
    found: dict[str, float] = {}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{part}": number for part, number in flat(value).items()}
        elif value is not None:
            found[name] = value
    return found


@dataclass(slots=True)
class LossTenths:
    """Running sums of the loss over the first and the last tenth of the steps."""

    steps: int
    """Steps of the whole run."""
    first_sum: float = 0.0
    last_sum: float = 0.0

    @property
    def size(self) -> int:
        """Return the steps in a tenth, at least one."""
        return max(1, self.steps // 10)

    def add(self, step: int, loss: float) -> None:
        """Take the loss of a step, counted from 1."""
        if step <= self.size:
            self.first_sum += loss
        if step > self.steps - self.size:
            self.last_sum += loss

    def means(self) -> tuple[float, float]:
        """Return the two means; right once all steps were added."""
        return self.first_sum / self.size, self.last_sum / self.size

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return asdict(self)
