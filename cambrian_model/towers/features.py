"""Features of frozen towers by picture: in memory up to a bound, and on disk where asked for.

A picture whose features are there never goes through the towers again. Files are named by the
towers' identity (names, types and weights), so that other weights never serve old features; a
damaged file is made anew. With the released towers a picture takes 110 MB in bfloat16, nearly all
of it ConvNeXt's 9216 x 5760: the cache is for small grids, few pictures or small towers.

Shape letters: N tokens of a tower, D width.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cambrian_model.pictures import MemoryCache, total_nbytes
from cambrian_model.towers.weights import tower_weights_id
from cambrian_model.vision import Tower

_LOG = logging.getLogger(__name__)

_FORMAT = "1"
"""Raised when the same towers would give other features, or files look different."""
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class FeatureCache:
    """Features by picture; the same bits whether they are made, in memory or read from disk."""

    def __init__(
        self,
        max_bytes: int,
        *,
        folder: Path | None = None,
        identity: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:
        """Open a cache.

        Args:
            max_bytes: bound of what is kept in memory.
            folder: where features are kept on disk, one file a picture; None for memory alone.
            identity: of the towers, from `towers_identity`; needed with a folder.
            dtype: that they are kept and returned in; None for the one they are made in.
        Raises:
            ValueError: a folder is given without an identity, or a type that is not kept.
        """
        if folder is not None and not identity:
            raise ValueError("a folder of features needs the identity of their towers")
        if dtype is not None and dtype not in _DTYPES.values():
            raise ValueError(f"features are kept as {', '.join(_DTYPES)}, not {dtype}")
        self._memory: MemoryCache[list[Tensor]] = MemoryCache(max_bytes, total_nbytes)
        self._dtype = dtype
        self._folder = None
        if folder is not None:
            content = f"{_FORMAT} {identity} {dtype}"
            self._folder = folder / hashlib.sha256(content.encode()).hexdigest()[:32]
        self.num_made = 0
        """Pictures whose features were computed."""
        self.num_read = 0
        """Pictures whose features came from disk."""
        self.num_damaged = 0
        """Files that could not be used."""

    def get(self, key: str, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Return a picture's features, one (N, D) a tower, on the CPU.

        Args:
            key: the picture's sha256, or another word that is a good file name.
            make: computes them, where they are not there.
        """
        return self._memory.get(key, lambda: self._find(key, make))

    def __len__(self) -> int:
        """Return the pictures in memory."""
        return len(self._memory)

    def _find(self, key: str, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        file = self._folder / key[:2] / f"{key}.features" if self._folder else None
        if file is not None:
            kept = self._read(file)
            if kept is not None:
                self.num_read += 1
                return kept
        made = [value.detach().cpu() for value in make()]
        features = [(t if self._dtype is None else t.to(self._dtype)).contiguous() for t in made]
        self.num_made += 1
        if file is not None:
            _write(file, features)
        return features

    def _read(self, file: Path) -> list[Tensor] | None:
        try:
            return _decode(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            self.num_damaged += 1
            _LOG.warning("%s is damaged and is made anew: %s", file, error)
            return None


def towers_identity(towers: Sequence[Tower] | nn.ModuleList) -> str:
    """Return what features depend on beside the picture: all towers' names, types and weights."""
    digest = hashlib.sha256()
    for tower in towers:
        assert isinstance(tower, Tower)
        digest.update(tower_weights_id(tower).encode())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------- files


def _encode(features: Sequence[Tensor]) -> bytes:
    from safetensors.torch import save

    data = save({f"{number:04d}": value for number, value in enumerate(features)})
    return struct.pack("<I", zlib.crc32(data)) + data


def _decode(data: bytes) -> list[Tensor]:
    """Return the features in a file's bytes.

    Raises:
        ValueError: they are not what was written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if len(data) < 4 or struct.unpack("<I", data[:4])[0] != zlib.crc32(data[4:]):
        raise ValueError("its checksum is wrong")
    try:
        tensors = load(data[4:])
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    return [tensors[name] for name in sorted(tensors)]


def _write(file: Path, features: Sequence[Tensor]) -> None:
    """Write a file whole or not at all; what cannot be written is only told."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(_encode(features))
        temporary.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        _LOG.warning("the features of a picture cannot be kept in %s: %s", file.parent, error)
