"""Compare a drawn picture with a stored one by their pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

MAX_MEAN_DIFFERENCE = 2.0
"""Mean difference of grey levels (0 to 255) that other library versions may make."""


def decode(name: str, data: bytes) -> Image.Image:
    """Decode a picture to RGB; SVG is rendered."""
    if name.endswith(".svg"):
        data = bytes(resvg_py.svg_to_bytes(svg_string=data.decode()))
    return Image.open(io.BytesIO(data)).convert("RGB")


def find_difference(path: Path, drawn: bytes) -> str | None:
    """Say how a stored picture differs from a drawn one; None where they agree."""
    if not path.is_file():
        return "missing"
    stored = path.read_bytes()
    if stored == drawn:
        return None
    try:
        old, new = decode(path.name, stored), decode(path.name, drawn)
    except (OSError, ValueError) as error:
        return f"bytes differ and cannot be decoded ({error})"
    if old.size != new.size:
        return f"size {old.size} instead of {new.size}"
    mean = float(np.abs(np.asarray(old, float) - np.asarray(new, float)).mean())
    return f"mean difference {mean:.1f}" if mean > MAX_MEAN_DIFFERENCE else None
