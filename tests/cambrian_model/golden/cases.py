"""A reference case: what it is, its tensors and weights, and the tolerances that it asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

_DEFAULT = 1e-4


@dataclass(frozen=True)
class Case:
    """A case of a folder of reference values."""

    folder: Path
    name: str
    meta: dict[str, Any]

    @property
    def kind(self) -> str:
        """Return the letter of its kind, which `kind` in the JSON begins with."""
        return str(self.meta.get("kind", "?")).split(":")[0].strip().upper()

    @property
    def config(self) -> dict[str, Any]:
        """Return what was configured."""
        return self.meta["config"]

    @cached_property
    def io(self) -> dict[str, Tensor]:
        """Return inputs and expected outputs."""
        return self._tensors(f"{self.name}.safetensors")

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Return the parameters under their published names."""
        return self._tensors(self.meta.get("weights_file", f"{self.name}.weights.safetensors"))

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with a prefix, named without it."""
        return {k.removeprefix(prefix): v for k, v in self.io.items() if k.startswith(prefix)}

    def tolerance(self, what: str) -> dict[str, float]:
        """Return `atol` and `rtol` for a kind of number: the case's own, else 1e-4.

        Args:
            what: `output`, `grad`, `logits`, `loss`; a case's plain `atol` holds for all.
        """
        given = self.meta.get("suggested_tolerance", {})
        return {
            key: given.get(f"{what}_{key}", given.get(key, _DEFAULT)) for key in ("atol", "rtol")
        }

    def _tensors(self, file: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        path = self.folder / file
        return load_file(path) if path.exists() else {}


def find_cases(folder: Path) -> list[Case]:
    """Return the cases of a folder by name: every JSON file that says its `kind`."""
    cases = []
    for path in sorted(folder.glob("*.json")):
        meta = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(meta, dict) and "kind" in meta:
            cases.append(Case(path.parent, path.stem, meta))
    return cases
