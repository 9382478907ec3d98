"""Small pictures for the page: decoded with limits, checked, encoded anew, as data addresses."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from cambrian_data.records import bytes_id, picture_key
from cambrian_data.workspace import Workspace

SIDE_PX = 400
MAX_BYTES = 64 * 2**20


class ThumbnailError(ValueError):
    """A picture that cannot be shown; the message says why, for the reader of the page."""


def thumbnails_of(
    workspace: Workspace, images: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return by picture its address, width and height, or the problem that keeps it from view."""
    by_key = {picture_key(image): image for image in images}
    return {key: _shown(workspace, image) for key, image in by_key.items()}


def _shown(workspace: Workspace, image: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return thumbnail(read_picture(workspace, image))
    except ThumbnailError as error:
        return {"problem": str(error)}


def read_picture(workspace: Workspace, image: Mapping[str, Any]) -> bytes:
    """Return the bytes of a stored picture, checked against the hash that the sample names.

    Raises:
        ThumbnailError: it is not in the workspace, too large, or not the one that is meant.
    """
    root = workspace.root.resolve()
    path = (root / image["path"]).resolve()
    if not path.is_relative_to(root):
        raise ThumbnailError("its file is not kept in the workspace")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ThumbnailError(f"its file is larger than {MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except OSError:
        is_kept = image["sha256"] or path.is_relative_to(workspace.images.resolve())
        why = "its file is missing" if is_kept else "its data set was read without its pictures"
        raise ThumbnailError(why) from None
    if image["sha256"] and bytes_id(data) != image["sha256"]:
        raise ThumbnailError("its file is damaged: it is not what its hash says")
    return data


def thumbnail(data: bytes) -> dict[str, Any]:
    """Return a picture as a WebP of at most `SIDE_PX` a side, in a data address.

    Raises:
        ThumbnailError: it cannot be decoded, or would need too much memory.
    """
    try:
        picture = _decode(data)
    except Image.DecompressionBombWarning:
        raise ThumbnailError("it has too many pixels to be shown") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        raise ThumbnailError("its file cannot be decoded") from None
    picture.thumbnail((SIDE_PX, SIDE_PX))
    sink = io.BytesIO()
    picture.save(sink, "WEBP", quality=82, method=4)
    address = "data:image/webp;base64," + base64.b64encode(sink.getvalue()).decode()
    return {"address": address, "width": picture.width, "height": picture.height}


def _decode(data: bytes) -> Image.Image:
    """Return a picture, of a JPEG only as much as is needed; too many pixels are an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data)) as found:
            found.draft("RGB", (SIDE_PX, SIDE_PX))
            return _on_white(found)


def _on_white(picture: Image.Image) -> Image.Image:
    """Return a picture without transparency, on white paper."""
    layer = picture.convert("RGBA")
    paper = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(paper, layer).convert("RGB")
