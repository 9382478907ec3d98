"""The pictures of a workspace, which samples name them, and which of them look alike.

Two pictures look alike when their perceptual hashes differ in at most a few bits. That alone is a
guess: drawings of one kind on white ground are as near as copies (see docs/overlap.md), so groups
that are too large are taken apart, and members are compared as pictures where that is asked for.
Held are 49 bytes a picture; 5 million of them are 250 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from cambrian_data.curation.duplicates.hamming import MAX_RADIUS, settle, star
from cambrian_data.curation.rules.text_counts import text_bytes
from cambrian_data.curation.turns import flags, numbers
from cambrian_data.curation.words import word_blocks
from cambrian_data.recipes import Config
from cambrian_data.workspace import Workspace

MIN_BITS = 24
"""A hash is cut at its median, so half of its 64 bits are set; far fewer mean that the picture is
plain (blank, a ramp, a single edge) and that its hash says nothing."""

_DIGITS = np.full(256, 255, dtype=np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)

Confirm: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Says of pairs of pictures (by place) whether they show the same: bool, as many."""


class PicturesConfig(Config):
    """What is done about pictures that look alike."""

    on_duplicate: Literal["report", "group", "remove"] = "report"
    """`report`: only say which. `group`: they count as one picture where samples are compared.
    `remove`: of each group the samples of one picture and source stay."""
    radius: int = Field(default=4, ge=0, le=MAX_RADIUS)
    """Bits of 64 in which the hashes of look-alikes may differ. Source: docs/overlap.md."""
    max_group: int = Field(default=50, ge=2)
    """Larger groups are drawings of one kind, not copies: they are taken apart."""
    confirm: bool = True
    """Whether look-alikes are opened and compared; without it many drawings are taken for one."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures sorted by content hash, each once; they are named by their place here."""

    sha256: np.ndarray
    """uint64 [n, 4]: the hash, highest bits first."""
    phash: np.ndarray
    """uint64 [n]."""
    has_phash: np.ndarray
    """bool [n]: False where there is none, or one that says nothing (see `MIN_BITS`)."""
    width: np.ndarray
    """int32 [n]."""
    height: np.ndarray
    """int32 [n]."""

    def __len__(self) -> int:
        return len(self.phash)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the places of pictures, -1 where they are unknown.

        Args:
            keys: uint64 [m, 2], the first 128 bits of their hashes, as in `PictureRefs`.
        """
        return find_keys(self.sha256, keys)

    def named(self, keys: np.ndarray) -> Pictures:
        """Return the pictures whose first 64 bits are among `keys` (uint64 [m])."""
        return self.take(np.flatnonzero(np.isin(self.sha256[:, 0], keys)))

    def take(self, places: np.ndarray) -> Pictures:
        """Return some of the pictures; the places must ascend."""
        columns = (self.sha256, self.phash, self.has_phash, self.width, self.height)
        return Pictures(*(column[places] for column in columns))

    def names(self, places: np.ndarray) -> list[str]:
        """Return the content hashes (hex) of pictures."""
        data = np.ascontiguousarray(self.sha256[places]).astype(">u8").tobytes().hex()
        return [data[start : start + 64] for start in range(0, len(data), 64)]


@dataclass(frozen=True, slots=True)
class PictureRefs:
    """The pictures that the samples of a batch name, one after the other."""

    keys: np.ndarray
    """uint64 [r, 2]: the first 128 bits of the content hash; where the picture was not read, of
    another hash, of its path."""
    is_read: np.ndarray
    """bool [r]."""
    row: np.ndarray
    """int64 [r]: the sample."""
    lengths: np.ndarray
    """int64 [rows]: pictures of every sample."""


def refs_of(batch: pa.RecordBatch) -> PictureRefs:
    """Return the pictures that a batch of samples names."""
    images = batch.column("images")
    lengths = numbers(pc.list_value_length(images))
    flat = images.flatten()
    sha256, path = flat.field("sha256"), flat.field("path")
    is_read = flags(pc.and_(pc.is_valid(sha256), pc.not_equal(pc.fill_null(sha256, ""), "")))
    keys = np.empty((len(flat), 2), dtype=np.uint64)
    keys[is_read] = hex_words(sha256.filter(pa.array(is_read)), 64)[:, :2]
    keys[~is_read] = path_keys(path.filter(pa.array(~is_read)))
    return PictureRefs(keys, is_read, np.repeat(np.arange(len(lengths)), lengths), lengths)


def load_pictures(workspace: Workspace) -> Pictures:
    """Return the pictures of a workspace's table `images`, a batch in memory at a time."""
    columns: list[tuple[np.ndarray, ...]] = []
    for batch in image_batches(workspace, ["sha256", "phash", "width", "height"]):
        known = batch.column("phash").fill_null("")
        is_known = flags(pc.not_equal(known, ""))
        phash = np.zeros(len(batch), dtype=np.uint64)
        phash[is_known] = hex_words(known.filter(pa.array(is_known)), 16)[:, 0]
        sizes = [numbers(batch.column(name)).astype(np.int32) for name in ("width", "height")]
        columns.append((hex_words(batch.column("sha256"), 64), phash, is_known, *sizes))
    if not columns:
        return Pictures(
            np.empty((0, 4), np.uint64),
            np.empty(0, np.uint64),
            np.empty(0, bool),
            np.empty(0, np.int32),
            np.empty(0, np.int32),
        )
    sha256, phash, is_known, width, height = map(np.concatenate, zip(*columns, strict=True))
    # Of several rows of one picture those with a hash come first; then the order is of no account.
    order = np.lexsort((~is_known, *sha256.T[::-1]))
    ordered = sha256[order]
    is_first = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]
    order = order[is_first]
    says_something = is_known & (np.bitwise_count(phash) >= MIN_BITS)
    return Pictures(
        ordered[is_first], phash[order], says_something[order], width[order], height[order]
    )


def image_batches(workspace: Workspace, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a workspace's table `images`."""
    for path in sorted(workspace.images.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(columns=list(columns))


def groups(
    pictures: Pictures, radius: int, *, max_group: int = 50, confirm: Confirm | None = None
) -> np.ndarray:
    """Return for every picture the one that it counts as: itself, where none is like it.

    Pictures are taken in order, more pixels first, then by content hash. Each joins the first kept
    one that it looks like, or is kept: there are no chains. A picture whose hash says nothing is
    like no other.

    Args:
        radius: bits in which hashes may differ.
        max_group: a larger group of near hashes is taken apart; its members stay on their own.
        confirm: asked about every pair of near hashes within such a group; only those that it
            takes for the same look alike.
    Returns:
        int64 [n].
    """
    group = np.arange(len(pictures))
    pixels = pictures.width.astype(np.int64) * pictures.height
    order = np.argsort(-pixels, kind="stable")
    order = order[pictures.has_phash[order]]
    joined = star(pictures.phash[order], radius)
    sizes = np.bincount(joined, minlength=len(order))[joined]
    near = np.flatnonzero((sizes > 1) & (sizes <= max_group))
    if confirm is None:
        group[order[near]] = order[joined[near]]
        return group
    near = near[np.argsort(joined[near], kind="stable")]
    worse, better = _pairs_within(joined[near])
    codes = pictures.phash[order[near]]
    is_near = np.bitwise_count(codes[worse] ^ codes[better]) <= radius
    worse, better = worse[is_near], better[is_near]
    is_same = confirm(order[near[worse]], order[near[better]])
    best = settle(len(near), worse[is_same], better[is_same])
    group[order[near]] = order[near[best]]
    return group


def _pairs_within(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of places with equal labels (sorted), the later of each pair first."""
    places = np.arange(len(label))
    first = np.searchsorted(label, label)
    before = places - first
    worse = np.repeat(places, before)
    ends = np.cumsum(before)
    better = np.arange(len(worse)) - np.repeat(ends - before, before) + np.repeat(first, before)
    return worse, better


def group_table(pictures: Pictures, group: np.ndarray, matter: np.ndarray | None) -> pa.Table:
    """Return every member of every group of more than one.

    Args:
        matter: bool [n], pictures that may be shown; None for all.
    Returns:
        cluster and sha256 (hex), kept, similarity (share of equal bits with the kept one); the
        kept one of each group first.
    """
    sizes = np.bincount(group, minlength=len(pictures))
    is_shown = sizes[group] > 1
    if matter is not None:
        is_shown &= matter
    places = np.flatnonzero(is_shown)
    places = places[np.lexsort((places, group[places] != places, group[places]))]
    kept = group[places]
    bits = np.bitwise_count(pictures.phash[places] ^ pictures.phash[kept])
    return pa.table(
        {
            "cluster": pa.array(pictures.names(kept), pa.string()),
            "sha256": pa.array(pictures.names(places), pa.string()),
            "kept": pa.array(places == kept),
            "similarity": pa.array((1 - bits / 64).astype(np.float32)),
        }
    )


# ------------------------------------------------------------------------------------ keys


def find_keys(known: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return where 128-bit keys stand in sorted ones, -1 where they do not.

    Args:
        known: uint64 [n, 2 or more], sorted by its first two columns.
        keys: uint64 [m, 2].
    """
    found = np.full(len(keys), -1, dtype=np.int64)
    place = np.searchsorted(known[:, 0], keys[:, 0])
    left = np.arange(len(keys))
    while len(left):  # as often as one half of 64 bits stands in several keys: once
        left = left[place[left] < len(known)]
        left = left[known[place[left], 0] == keys[left, 0]]
        is_same = known[place[left], 1] == keys[left, 1]
        found[left[is_same]] = place[left[is_same]]
        left = left[~is_same]
        place[left] += 1
    return found


def hex_words(texts: pa.Array, digits: int) -> np.ndarray:
    """Return texts of hexadecimal digits as numbers of 64 bits: uint64 [n, digits / 16].

    Raises:
        ValueError: a text has other signs, or another number of them.
    """
    data, offsets = text_bytes(texts)
    is_wrong = np.diff(offsets) != digits
    if not is_wrong.any():
        values = _DIGITS[data[offsets[0] : offsets[-1]].reshape(-1, digits)]
        is_wrong = (values > 15).any(axis=1)
    if is_wrong.any():
        wrong = texts[int(np.flatnonzero(is_wrong)[0])].as_py()
        raise ValueError(f"{wrong!r} is no hash of {digits} hexadecimal digits")
    pairs = np.ascontiguousarray((values[:, ::2] << 4) | values[:, 1::2])
    return pairs.view(">u8").astype(np.uint64).reshape(len(texts), digits // 16)


def path_keys(paths: pa.Array) -> np.ndarray:
    """Return 128 bits for every path, uint64 [n, 2], which depend on all its bytes."""
    keys = np.empty((len(paths), 2), dtype=np.uint64)
    # What has no white space and is ASCII is one word in its one form: hashed as a column.
    is_plain = flags(pc.match_substring_regex(paths, r"^[!-~]+$"))
    blocks = list(word_blocks(paths.filter(pa.array(is_plain)), lower=False))
    for lane in (0, 1):
        hashes = [block.hashes(lane) for block in blocks]
        keys[is_plain, lane] = np.concatenate(hashes) if hashes else []
    for place in np.flatnonzero(~is_plain).tolist():
        digest = blake2b((paths[place].as_py() or "").encode(), digest_size=16).digest()
        keys[place] = np.frombuffer(digest, "<u8")
    return keys
