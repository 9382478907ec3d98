"""A stored picture as it is sent to a model: scaled down, encoded anew, as a data URL.

Same picture and config, same bytes. Holds one picture at a time, at most as large as the stored
one; the URL of a picture of 768 pixels has some 50 to 700 kB.
"""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path

from PIL import Image

_MAX_PNG_BYTES = 500_000
"""A PNG that would be larger is a photo or noise, and is sent as JPEG."""


class UnreadablePicture(ValueError):
    """A stored picture that is not there any more, or is damaged."""


def picture_url(path: Path, *, max_side_px: int, quality: int) -> str:
    """Return a data URL of the picture in a file, JPEG or PNG as it is stored.

    Raises:
        UnreadablePicture: the file cannot be read, or not as a picture.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            is_photo = image.format == "JPEG"
            picture = _scaled(image, max_side_px)
    # What Pillow raises on damaged files, beside the errors of the file system.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise UnreadablePicture(f"{path.name}: {type(error).__name__}: {error}") from None
    if not is_photo:
        data = _encoded(picture, "PNG", compress_level=6)
        if len(data) <= _MAX_PNG_BYTES:
            return _data_url("image/png", data)
    return _data_url("image/jpeg", _encoded(picture, "JPEG", quality=quality))


def _scaled(image: Image.Image, max_side_px: int) -> Image.Image:
    scale = max_side_px / max(image.size)
    picture = image.convert("RGB")
    if scale >= 1:
        return picture
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
