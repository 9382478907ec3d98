"""Unpacking of gzip and deflate with a cap, so that a small answer cannot fill the memory."""

from __future__ import annotations

import zlib

from cambrian_data.web.answers import FetchError
from cambrian_data.web.retry import Fault

ACCEPTED = "gzip, deflate"
_MAX_LAYERS, _MAX_MEMBERS = 2, 100
_GZIP, _ZLIB, _RAW = 31, 15, -15


def unpack(packed: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return a body without its Content-Encoding.

    Raises:
        FetchError: too_large, or refused: packed in a way that was not asked for.
        Fault: unreachable; cut short or damaged.
    """
    layers = [name.strip().lower() for name in encoding.split(",")]
    layers = [name for name in layers if name not in ("", "identity")]
    if not packed or not layers:
        return packed
    if len(layers) > _MAX_LAYERS:
        raise FetchError("too_large", f"packed {len(layers)} times over")
    for name in reversed(layers):
        if name in ("gzip", "x-gzip"):
            packed = _members(packed, max_bytes)
        elif name == "deflate":
            is_zlib = packed[0] & 0x0F == 8 and int.from_bytes(packed[:2], "big") % 31 == 0
            packed, _ = _inflate(packed, _ZLIB if is_zlib else _RAW, max_bytes)
        else:
            raise FetchError("refused", f"the answer is packed as {name[:20]!r}, not as asked for")
    return packed


def _members(packed: bytes, max_bytes: int) -> bytes:
    """Unpack gzip, which may hold several members; what else follows them is passed over."""
    unpacked = b""
    for _ in range(_MAX_MEMBERS):
        member, packed = _inflate(packed, _GZIP, max_bytes - len(unpacked))
        unpacked += member
        if not packed.startswith(b"\x1f\x8b"):
            return unpacked
    raise FetchError("too_large", f"packed in more than {_MAX_MEMBERS} parts")


def _inflate(packed: bytes, window: int, max_bytes: int) -> tuple[bytes, bytes]:
    """Unpack one stream; return it and what follows it."""
    reader = zlib.decompressobj(window)
    try:
        unpacked = reader.decompress(packed, max(max_bytes, 0) + 1)
    except zlib.error:
        raise Fault("unreachable", "the packed answer is damaged") from None
    if len(unpacked) > max_bytes:
        raise FetchError("too_large", f"more than {max_bytes} bytes, unpacked")
    if not reader.eof:
        raise Fault("unreachable", "the packed answer was cut short")
    return unpacked, reader.unused_data
