"""What training reports: a JSONL log by step, and the mean losses of its first and last tenth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOG_NAME = "log.jsonl"


class JsonlLog:
    """Appends one JSON object a step; the only file with times in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Drop the lines after a step, and a last line that was cut in two."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                break
            if entry["step"] <= step:
                kept.append(line + "\n")
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(self.path)

    def write(self, **numbers: Any) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(numbers) + "\n")


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
