"""A workspace's folder with one stored picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace's folder with the picture of `joined`."""
    path = tmp_path / "images/ab/x.png"
    path.parent.mkdir(parents=True)
    image = Image.new("RGB", (1000, 500), "white")
    ImageDraw.Draw(image).ellipse((100, 100, 700, 400), fill="brown")
    image.save(path)
    return tmp_path
