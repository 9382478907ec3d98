"""Stored pictures to data URLs: small enough, the same bytes each time, damage told."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from cambrian_data.engine.vqa.pictures import UnreadablePicture, picture_url


def opened(url: str) -> Image.Image:
    head, data = url.split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:image/{(image.format or '').lower()};base64"
    return image


def test_a_drawing_is_scaled_and_stays_png(root: Path) -> None:
    path = root / "images/ab/x.png"
    url = picture_url(path, max_side_px=400, quality=85)
    assert url == picture_url(path, max_side_px=400, quality=85)
    image = opened(url)
    assert (image.format, image.size) == ("PNG", (400, 200))
    assert image.getpixel((5, 5)) == (255, 255, 255)
    assert opened(picture_url(path, max_side_px=4000, quality=85)).size == (1000, 500)


def test_photos_and_noise_go_as_jpeg(tmp_path: Path) -> None:
    noise = Image.frombytes("RGB", (600, 600), os.urandom(600 * 600 * 3))
    for suffix in ("png", "jpg"):
        path = tmp_path / f"noise.{suffix}"
        noise.save(path)
        assert opened(picture_url(path, max_side_px=500, quality=85)).format == "JPEG"
    fine, coarse = (picture_url(path, max_side_px=500, quality=q) for q in (90, 20))
    assert len(coarse) < len(fine) / 2


def test_a_thin_picture_keeps_a_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 2)).save(tmp_path / "thin.png")
    image = opened(picture_url(tmp_path / "thin.png", max_side_px=300, quality=85))
    assert image.size == (300, 1)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "folder"])
def test_damage_is_told(root: Path, damage: str) -> None:
    path = root / "images/ab/x.png"
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"<svg/>"}[damage])
    with pytest.raises(UnreadablePicture, match=r"x\.png"):
        picture_url(path, max_side_px=400, quality=85)
