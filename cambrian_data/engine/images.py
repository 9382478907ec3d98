"""Bytes from anywhere to a picture that is safe to keep: upright, RGB, bounded, re-encoded.

What a file is follows from its content, never from its name or its Content-Type. Sizes are read
from the header and refused before anything is decoded; the picture is then decoded, turned
upright, laid on white where it is transparent and encoded anew, so nothing but pixels is kept.
Pure: same bytes and config, same result. At most some 700 MB of memory and ten seconds for the
worst file within the limits; an ordinary picture takes some 20 ms.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from pydantic import Field

from cambrian_data.engine.bombs import StructureError, check_structure
from cambrian_data.engine.svg import SvgError, draw_svg, looks_like_svg
from cambrian_data.recipes import Config
from cambrian_data.records import bytes_id

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "PSD")
"""Formats that are read. Not among them: those that run a program, such as PostScript."""
_MAGIC = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0", b"8BPS"),
    *(b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"),
)
_PHOTO_FORMATS = frozenset({"JPEG", "MPO", "AVIF", "JPEG2000"})
_JPEG_QUALITY = 95
_MAX_PIXELS = {"JPEG2000": 20_000_000, "WEBP": 30_000_000, "AVIF": 40_000_000}
"""Formats whose decoders hold the picture several times over, or take long for each pixel."""
_BAND_PIXELS = 4_000_000
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture is turned upright, by its EXIF orientation."""


class ImagesConfig(Config):
    """Which pictures are kept, and at what size."""

    min_side_px: int = Field(default=64, ge=1)
    """Least length of the shorter side."""
    max_side_px: int = Field(default=1600, ge=64)
    """Longer side of what is stored; larger pictures are scaled down."""
    max_aspect: float = Field(default=8.0, ge=1.0)
    """Greatest ratio of the longer side to the shorter one."""
    max_pixels: int = Field(default=60_000_000, ge=4096)
    """Greatest number of pixels that is decoded; bounds memory and time."""
    max_bytes: int = Field(default=40_000_000, ge=1024)
    """Greatest size of the source file."""
    require_license: list[str] = Field(default=[])
    """Licences of which one is needed, such as `CC BY*` or `Public domain` (`*` stands for
    anything, case does not matter); a picture whose licence is not known is then left out."""


class PictureError(ValueError):
    """A picture that is not kept; `reason` is one of `DROP_REASONS["images"]`.

    `is_passing` says that it may be kept at another try.
    """

    def __init__(self, reason: str, detail: str, *, is_passing: bool = False) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.is_passing = reason, detail, is_passing


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture as it is kept, named by the hash of its stored bytes."""

    data: bytes
    sha256: str
    suffix: str
    width: int
    height: int
    format: str
    phash: str


def decode_picture(data: bytes, config: ImagesConfig) -> StoredPicture:
    """Return a picture ready to store.

    Raises:
        PictureError: it is not one, or none that the config allows.
    """
    if len(data) > config.max_bytes:
        raise PictureError("too_large", f"{len(data)} bytes, at most {config.max_bytes}")
    if looks_like_svg(data):
        image, source = _decode_svg(data, config), "SVG"
        _check_size(image.size, config)
        image = _shrunk(image, config.max_side_px)
    else:
        image, source = _decode_raster(data, config)
    is_photo = source in _PHOTO_FORMATS or (source == "WEBP" and _is_lossy_webp(data))
    stored = data if _is_own_photo(data, image.size) else _encoded(image, is_photo)
    return StoredPicture(
        data=stored,
        sha256=bytes_id(stored),
        suffix="jpg" if is_photo else "png",
        width=image.width,
        height=image.height,
        format=source,
        phash=str(imagehash.phash(image)),
    )


def _check_size(size: tuple[int, int], config: ImagesConfig, max_pixels: int | None = None) -> None:
    short, long = min(size), max(size)
    most = min(config.max_pixels, max_pixels or config.max_pixels)
    if short * long > most:
        raise PictureError("too_large", f"{size[0]} x {size[1]} pixels, at most {most}")
    if short < config.min_side_px:
        raise PictureError("too_small", f"{size[0]} x {size[1]}, at least {config.min_side_px}")
    if long > config.max_aspect * short:
        raise PictureError("bad_aspect", f"{size[0]} x {size[1]}, at most {config.max_aspect:g}:1")


def _decode_svg(data: bytes, config: ImagesConfig) -> Image.Image:
    try:
        return _on_white(draw_svg(data, config.max_side_px))
    except SvgError as error:
        raise PictureError(error.reason, error.detail, is_passing=error.is_passing) from None


# --------------------------------------------------------------------------------- rasters


def _decode_raster(data: bytes, config: ImagesConfig) -> tuple[Image.Image, str]:
    """Return the first frame, upright, in RGB and bounded in size, with the format it came in."""
    try:
        check_structure(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            source = str(image.format)
            _check_size(image.size, config, _MAX_PIXELS.get(source, config.max_pixels))
            _check_tiles(image, config)
            if image.mode in ("RGB", "L"):  # a photo of 50 megapixels need not be decoded in full
                image.draft(image.mode, (config.max_side_px * 2,) * 2)
            image.load()
            _check_size(image.size, config)  # an icon's header says little of what is in it
            orientation = _orientation(image)
            upright = _TURNS.get(orientation)  # of the small picture: a turn needs a second one
            shrunk = _shrunk(_rgb(image), config.max_side_px)
            return shrunk.transpose(upright) if upright is not None else shrunk, source
    except UnidentifiedImageError:
        raise PictureError(*_unknown(data)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError("too_large", str(error)) from None
    except StructureError as error:
        raise PictureError(error.reason, error.detail) from None
    except PictureError:
        raise
    except ValueError as error:
        reason = "hostile" if "too large" in str(error).lower() else "corrupt"
        raise PictureError(reason, str(error)) from None
    # What the decoders of Pillow raise on damaged files.
    except (OSError, SyntaxError, EOFError, IndexError, KeyError, TypeError, AttributeError,
            MemoryError, OverflowError, ZeroDivisionError, RuntimeError, NotImplementedError,
            struct.error) as error:  # fmt: skip
        raise PictureError("corrupt", f"{type(error).__name__}: {error}") from None


def _unknown(data: bytes) -> tuple[str, str]:
    is_known = data.startswith(_MAGIC) or data[:4] + data[8:12] == b"RIFFWEBP"
    if is_known or data[4:12] in (b"ftypavif", b"ftypavis"):
        return "corrupt", "the header is damaged"
    return "not_a_picture", f"begins with {data[:12]!r}"


def _check_tiles(image: Image.Image, config: ImagesConfig) -> None:
    """Refuse frames that reach beyond the size in the header, as those of a GIF can."""
    for tile in getattr(image, "tile", None) or []:
        extents = tile[1]
        if extents and extents[2] * extents[3] > config.max_pixels:
            raise PictureError("too_large", f"a frame of {extents[2]} x {extents[3]} pixels")


def _orientation(image: Image.Image) -> int:
    """Return how the picture is held, as its EXIF says; damaged EXIF says nothing."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error, OverflowError,
            ZeroDivisionError, AttributeError, IndexError):  # fmt: skip
        return 1
    return found if isinstance(found, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    """Return the picture in sRGB on white."""
    if image.mode.startswith(("I", "F")):
        return _in_bands(image, _scale_of(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _in_bands(image, lambda band: _on_white(_managed(band).convert("RGBA")))
    if image.mode == "LAB":
        return _in_bands(image, _from_lab)
    return _in_bands(image, lambda band: _managed(band).convert("RGB"))


def _in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a picture band by band, so that large ones are held no more often than needed."""
    rows = max(1, _BAND_PIXELS // image.width)
    if image.height <= rows:
        return convert(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        whole.paste(convert(image.crop((0, top, image.width, bottom))), (0, top))
    return whole


def _from_lab(image: Image.Image) -> Image.Image:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(lab, srgb, "LAB", "RGB").apply(image)


def _managed(image: Image.Image) -> Image.Image:
    """Return the picture converted from its own colour profile to sRGB, where it has a good one."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK", "RGBA"):
        return image
    output = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, own, srgb, outputMode=output) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _scale_of(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return what brings more than eight bits of grey to eight; clipping would leave it white."""
    lows, highs = zip(*((v.min(), v.max()) for v in _deep_bands(image)), strict=True)
    low, high = float(min(lows)), float(max(highs))
    offset, factor = 0.0, 1.0
    if low >= 0 and 255 < high <= 65_535:
        bits = 16 if high >= 4096 else int(high).bit_length()  # cameras store 10 or 12 bits in 16
        factor = 255.0 / (2**bits - 1)
    elif image.mode == "F" or not 0 <= low <= high <= 255:
        offset, factor = low, 255.0 / (high - low) if high > low else 0.0
    transparent = image.info.get("transparency")

    def scale(band: Image.Image) -> Image.Image:
        values = _deep(band)
        scaled = (values - np.float32(offset)) * np.float32(factor)
        if isinstance(transparent, int):
            scaled = np.where(values == transparent, np.float32(255), scaled)
        return Image.fromarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8)).convert("RGB")

    return scale


def _deep_bands(image: Image.Image) -> Iterator[np.ndarray]:
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield _deep(image.crop((0, top, image.width, min(top + rows, image.height))))


def _deep(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _is_lossy_webp(data: bytes) -> bool:
    """Walk the chunks of a WebP to the one that holds the pixels."""
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        at += 24 if name == b"ANMF" else 8 + size + size % 2  # frames nest after 16 bytes
    return False


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    return white.convert("RGB")


# -------------------------------------------------------------------------------- encoding


def _shrunk(image: Image.Image, max_side_px: int) -> Image.Image:
    scale = max_side_px / max(image.size)
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _is_own_photo(data: bytes, size: tuple[int, int]) -> bool:
    """Whether a JPEG is one that `_encoded` made, of this size: it is kept to the byte.

    Encoding it again would change its pixels, and with them the ids of the samples that show it.
    """
    header = _photo_header()
    at = header.index(b"\xff\xc0") + 5
    sides = size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big")
    start = header[:at] + sides + header[at + 4 :]
    return data.startswith(start) and data.find(b"\xff\xd9", len(start)) == len(data) - 2


@functools.cache
def _photo_header() -> bytes:
    """Return what a JPEG of `_encoded` begins with, up to its pixels."""
    data = _encoded(Image.new("RGB", (8, 8)), is_photo=True)
    start = data.index(b"\xff\xda")
    return data[: start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")]


def _encoded(image: Image.Image, is_photo: bool) -> bytes:
    """Return the pixels alone: no EXIF, profile, text or time goes along."""
    buffer = io.BytesIO()
    bare = Image.frombytes("RGB", image.size, image.tobytes())
    if is_photo:
        bare.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        bare.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
