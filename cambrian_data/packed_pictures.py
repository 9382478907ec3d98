"""The pictures that go into shards: read from the workspace, checked, written anew where asked.

A picture that is written anew is kept on a shelf beside the half-made shards until these are
done, with its hash at its end: it is made once however many samples show it, a run that was killed
finds it again, and a shelf that was damaged is noticed.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from cambrian_data.records import bytes_id
from cambrian_data.shards import ReencodeConfig, ShardsConfig
from cambrian_data.workspace import Workspace

_FOOTER = struct.Struct(">32sII")
_FORMATS = {"jpg": "jpeg", "jpeg": "jpeg", "tif": "tiff"}
_ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}


class PictureLost(Exception):
    """A picture that is missing, damaged or unreadable; its samples stay out of the shards."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A picture as it goes into a shard; sizes are known where it was written anew."""

    data: bytes
    sha256: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class PackedPictures:
    """The pictures of one workspace in the form that a recipe asks for. Picklable."""

    workspace: Workspace
    shelf: Path
    """Folder of pictures that were written anew."""
    config: ShardsConfig

    def name(self, number: int, path: str) -> str:
        """Return the name of a sample's picture after the key and a dot."""
        if self.config.reencode:
            return f"{number}.{_ENDINGS[self.config.reencode.format]}"
        return f"{number}.jpg" if self.config.uniform_names else f"{number}.{_ending(path)}"

    def format(self, path: str) -> str:
        """Return the format of a picture's bytes in the shard."""
        ending = _ending(path)
        return self.config.reencode.format if self.config.reencode else _FORMATS.get(ending, ending)

    def stored_bytes(self, path: str, sha256: str | None) -> int:
        """Return the size of a stored picture without reading it.

        Raises:
            PictureLost: it is missing, or was never read.
        """
        _check_known(path, sha256)
        try:
            return os.stat(self._place(path)).st_size  # noqa: PTH116 - Path takes longer than stat
        except OSError as error:
            raise PictureLost(f"{path}: {error.strerror}") from None

    def get(self, path: str, sha256: str | None) -> Packed:
        """Read a picture, or take it from the shelf.

        Args:
            path: of the stored picture, relative to the workspace.
            sha256: of the stored picture.
        Raises:
            PictureLost: it is missing, damaged or cannot be decoded.
        """
        known = _check_known(path, sha256)
        if self.config.reencode is None:
            return Packed(self._read(path, known), known)
        place = self.shelf / known[:2] / known
        packed = _from_shelf(place)
        if packed is None:
            try:
                packed = reencode(self._read(path, known), self.config.reencode)
            except ValueError as error:
                raise PictureLost(f"{path} cannot be written anew: {error}") from None
            footer = _FOOTER.pack(bytes.fromhex(packed.sha256), packed.width, packed.height)
            self.workspace.write_bytes(place, packed.data + footer)
        return packed

    def _place(self, path: str) -> str:
        return f"{self.workspace.root}/{path}"

    def _read(self, path: str, sha256: str) -> bytes:
        try:
            with open(self._place(path), "rb", buffering=0) as file:  # noqa: PTH123 - as above
                data: bytes = file.readall()
        except OSError as error:
            raise PictureLost(f"{path}: {error.strerror}") from None
        if bytes_id(data) != sha256:
            raise PictureLost(f"{path} is damaged: its content is not what its name says")
        return data


def _check_known(path: str, sha256: str | None) -> str:
    if not sha256:
        raise PictureLost(f"{path} was not read: ingest its data set with --check-images decode")
    return sha256


def _ending(path: str) -> str:
    ending = Path(path).suffix[1:].lower()
    return ending if re.fullmatch("[a-z0-9]{1,8}", ending) else "bin"


def _from_shelf(place: Path) -> Packed | None:
    """Return a picture of the shelf; None where it is not there or is damaged."""
    try:
        content = place.read_bytes()
        digest, width, height = _FOOTER.unpack(content[-_FOOTER.size :])
    except (OSError, struct.error):
        return None
    data = content[: -_FOOTER.size]
    if hashlib.sha256(data).digest() != digest:
        return None
    return Packed(data, digest.hex(), width, height)


def reencode(data: bytes, config: ReencodeConfig) -> Packed:
    """Write a picture anew: upright, RGB on white, scaled down where it is too large.

    Raises:
        ValueError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            bare = _on_white(upright)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    except (OSError, SyntaxError, EOFError, IndexError, KeyError, TypeError, AttributeError,
            OverflowError, ZeroDivisionError, RuntimeError, struct.error) as error:  # fmt: skip
        # What the decoders of Pillow raise on damaged files.
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if config.max_side_px and max(bare.size) > config.max_side_px:
        scale = config.max_side_px / max(bare.size)
        size = max(1, round(bare.width * scale)), max(1, round(bare.height * scale))
        bare = bare.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if config.format == "jpeg":
        bare.save(buffer, "JPEG", quality=config.quality)
    elif config.format == "webp":
        bare.save(buffer, "WEBP", quality=config.quality)
    else:
        bare.save(buffer, "PNG")
    encoded = buffer.getvalue()
    return Packed(encoded, bytes_id(encoded), bare.width, bare.height)


def _on_white(image: Image.Image) -> Image.Image:
    """Return the pixels alone, in RGB: no EXIF, profile or text goes along."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image.convert("RGBA"))
        image = white
    rgb = image.convert("RGB")
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())
