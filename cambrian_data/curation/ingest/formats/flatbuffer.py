"""How large a message of an Arrow stream is once it is unpacked, read before it is unpacked.

Arrow's reader trusts the sizes that a compressed buffer states. The few fields that say them are
read here, by the layout of Arrow's Message.fbs: a message's header is a record batch or a
dictionary batch (which holds a record batch), and that has a list of buffers and a compression.
"""

from __future__ import annotations

import struct

import pyarrow as pa

_DICTIONARY, _RECORD = 2, 3
_HEADER_TYPE, _HEADER = 1, 2
_DATA = 1
_BUFFERS, _COMPRESSION = 2, 3


def unfolded_size(metadata: bytes, body: pa.Buffer | None) -> int:
    """Return the bytes that a message's body takes in memory.

    Args:
        metadata: the message's header.
        body: the buffers, packed or not.
    Raises:
        ValueError: the header is damaged.
    """
    size = body.size if body is not None else 0
    if body is None:
        return size
    try:
        message = _u32(metadata, 0)
        kind_at, header_at = (
            _field(metadata, message, _HEADER_TYPE),
            _field(metadata, message, _HEADER),
        )
        kind = metadata[kind_at] if kind_at else 0
        if kind not in (_DICTIONARY, _RECORD) or not header_at:
            return size
        batch = _follow(metadata, header_at)
        if kind == _DICTIONARY:
            data_at = _field(metadata, batch, _DATA)
            batch = _follow(metadata, data_at) if data_at else batch
        if not _field(metadata, batch, _COMPRESSION):
            return size
        return _packed(metadata, _follow(metadata, _field(metadata, batch, _BUFFERS)), body)
    except (struct.error, IndexError) as error:
        raise ValueError(f"the header of a batch is damaged: {error}") from None


def _packed(metadata: bytes, buffers: int, body: pa.Buffer) -> int:
    """Add up the sizes that the buffers state: each begins with its own, -1 if it is not packed."""
    total, count = 0, _u32(metadata, buffers)
    for number in range(count):
        offset, length = struct.unpack_from("<qq", metadata, buffers + 4 + 16 * number)
        if length < 8:
            continue
        if offset < 0 or offset + length > body.size:
            raise ValueError("a buffer lies outside of its batch")
        (stated,) = struct.unpack("<q", body.slice(offset, 8).to_pybytes())
        total += length if stated < 0 else stated
    return total


def _u32(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<I", data, at)[0]
    return value


def _follow(data: bytes, at: int) -> int:
    return at + _u32(data, at)


def _field(data: bytes, table: int, number: int) -> int:
    """Return where a table's field lies; 0 where the table does not have it."""
    (back,) = struct.unpack_from("<i", data, table)
    layout = table - back
    if layout < 0 or table < 0:
        raise ValueError("the header of a batch is damaged")
    (layout_size,) = struct.unpack_from("<H", data, layout)
    at = 4 + 2 * number
    if at + 2 > layout_size:
        return 0
    (offset,) = struct.unpack_from("<H", data, layout + at)
    return table + offset if offset else 0
