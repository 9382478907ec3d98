"""Keeping a picture: checked, re-encoded, stored under its hash, with its row of `images`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cambrian_data.engine.images import ImagesConfig, decode_picture
from cambrian_data.workspace import Workspace

_ABOUT = ("source_url", "license", "license_url", "author", "description_url")


def keep_picture(
    workspace: Workspace, data: bytes, config: ImagesConfig, **about: str | None
) -> tuple[dict[str, Any], Path]:
    """Store a picture's bytes; return its row of `images` and its file.

    Args:
        data: the file as it was found.
        config: which pictures are kept.
        about: source_url, license, license_url, author and description_url, where known.
    Raises:
        PictureError: the bytes are no picture, or none that the config allows.
    """
    picture = decode_picture(data, config)
    sha256, path = workspace.store_picture(picture.data, picture.suffix)
    row = {
        "sha256": sha256,
        "path": workspace.relative(path),
        "width": picture.width,
        "height": picture.height,
        "format": picture.format,
        "bytes": len(picture.data),
        "phash": picture.phash,
        **{name: about.get(name) for name in _ABOUT},
    }
    return row, path
