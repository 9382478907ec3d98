"""Where everything stands in a batch: token ids and picture sizes -> a layout of rows.

Computed on the CPU when a batch is made, so that a device is never asked for a position, and the
same for training, questions and every kind of device. The place of a picture is that of
IMAGE_TOKEN_INDEX in the ids. A picture takes one place a visible cell and a newline a row, its
padding cropped off; with static shapes it takes all cells and newlines of the square, and what is
padding is hidden from attention (the published training batch; golden cases B and C).

Shape letters: B rows, T tokens of a row, G side of the grid of visual tokens, P pictures,
C = P * G * G cells, M laid visual tokens, W laid newlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX, Encoded
from cambrian_model.pictures import Size, content_span

Padding = Literal["right", "left"]
_STAND_IN = -1


@dataclass(frozen=True, slots=True)
class StaticShape:
    """Shapes that are the same in every batch, for devices that compile for a shape."""

    num_tokens: int
    """Tokens of every row; what is over is cut off."""
    pictures_per_row: int = 1
    """Picture slots of every row; hidden stand-ins fill what is not used."""
    stand_in_at: int = 0
    """Index in a row's ids where stand-ins go; they are hidden, so it changes no result."""


@dataclass(slots=True, kw_only=True)
class Layout:
    """A batch's rows with the pictures' places in them."""

    input_ids: Tensor
    """(B, T): IMAGE_TOKEN_INDEX at a picture's first place, the pad token at its others."""
    labels: Tensor
    """(B, T): IGNORE_INDEX where nothing is trained."""
    attention_mask: Tensor
    """(B, T) bool: True where a token counts."""
    position_ids: Tensor
    """(B, T): counts the tokens that count; starts anew with each sample of a packed row."""
    segments: Tensor | None
    """(B, T): number of the sample in its row from 1, 0 on padding; None unless packed."""
    cell_place: Tensor
    """(M,): where each laid visual token stands in the flattened B * T."""
    cell_index: Tensor
    """(M,): which of the C cells it shows."""
    newline_place: Tensor
    """(W,): where the newlines stand in B * T."""
    label_columns: Tensor | None
    """Columns of T whose next token is trained in some row; None where shapes are static."""
    picture_order: tuple[int, ...]
    """For each of the P slots the number of its picture among those given, -1 for a stand-in."""
    shows_all_cells: bool
    """Whether `cell_index` is simply 0, 1, 2 ... C - 1."""
    is_static: bool
    is_full: bool
    """Whether every token counts, so that no mask is needed."""

    @property
    def num_trained(self) -> int:
        """Return the labels that are predicted: those of all tokens but a row's first."""
        return int((self.labels[:, 1:] != IGNORE_INDEX).sum())

    def to(self, device: torch.device | str) -> Layout:
        """Return the same layout on a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True, slots=True)
class _Block:
    """A picture of one size: what its places are, counted from its first."""

    cells: np.ndarray
    """Cell of the G * G grid of each place, -1 for a newline."""
    counts: np.ndarray
    """Whether a place counts; hidden padding does not."""


@lru_cache(maxsize=4096)
def picture_block(size: Size, side: int, static: bool) -> _Block:
    """Return the places of a picture: row by row its cells and a newline."""
    top, bottom, left, right = content_span(size, side)
    grid = np.full((side, side + 1), -1)
    grid[:, :side] = np.arange(side * side).reshape(side, side)
    shown = np.zeros((side, side + 1), dtype=bool)
    shown[top:bottom, left:right] = True
    shown[top:bottom, side] = True
    if static:
        return _Block(grid.ravel(), shown.ravel())
    kept = grid[shown]
    return _Block(kept, np.ones(len(kept), dtype=bool))


@dataclass(slots=True)
class _Row:
    """A row while it is put together, before it is padded."""

    ids: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    cells: np.ndarray
    """Slot * G * G + cell at the places of visual tokens; -1 newline, -2 text."""


_TEXT = -2


def lay_out(
    rows: Sequence[Sequence[Encoded]],
    sizes: Sequence[Size],
    side: int,
    *,
    pad_token_id: int,
    padding: Padding = "right",
    static: StaticShape | None = None,
) -> Layout:
    """Lay out a batch.

    Args:
        rows: the samples of each row; several make a packed row.
        sizes: (width, height) of the pictures that the ids name, in order.
        side: side of the grid of visual tokens.
        padding: on which side short rows are padded.
        static: gives every batch the same shapes.
    Raises:
        ValueError: the ids name another number of pictures than there are, or with static shapes
            more than a row has slots for, or a picture that does not fit into its row.
    """
    named = sum(sample.num_pictures for row in rows for sample in row)
    if named != len(sizes):
        raise ValueError(f"the ids name {named} pictures, {len(sizes)} are given")
    is_packed = any(len(row) > 1 for row in rows)
    built: list[_Row] = []
    order: list[int] = []
    given = iter(range(len(sizes)))
    for row in rows:
        slots = [next(given) for sample in row for _ in range(sample.num_pictures)]
        samples = list(row)
        if static is not None:
            samples[0], slots = _with_stand_ins(samples[0], slots, static)
        blocks = [
            picture_block(sizes[slot], side, static is not None)
            if slot != _STAND_IN
            else _hidden_block(side)
            for slot in slots
        ]
        built.append(_build_row(samples, blocks, len(order), side * side, pad_token_id, slots))
        order += slots
    length = static.num_tokens if static else max(len(row.ids) for row in built)
    if static is not None:
        built = [_cut(row, length) for row in built]
    return _stack(built, order, length, side, pad_token_id, padding, static is not None, is_packed)


def _with_stand_ins(
    sample: Encoded, slots: list[int], static: StaticShape
) -> tuple[Encoded, list[int]]:
    """Name hidden stand-ins in a row's first sample until the row uses all its slots."""
    lacking = static.pictures_per_row - len(slots)
    if lacking < 0:
        raise ValueError(
            f"a row holds {len(slots)} pictures and has {static.pictures_per_row} slots; "
            "raise pictures_per_row"
        )
    at = min(static.stand_in_at, len(sample.input_ids))
    before = sample.input_ids[:at].count(IMAGE_TOKEN_INDEX)
    ids = [*sample.input_ids[:at], *[IMAGE_TOKEN_INDEX] * lacking, *sample.input_ids[at:]]
    labels = [*sample.labels[:at], *[IGNORE_INDEX] * lacking, *sample.labels[at:]]
    return Encoded(ids, labels), [*slots[:before], *[_STAND_IN] * lacking, *slots[before:]]


@lru_cache(maxsize=16)
def _hidden_block(side: int) -> _Block:
    whole = picture_block((1, 1), side, True)
    return _Block(whole.cells, np.zeros_like(whole.counts))


def _build_row(
    samples: Sequence[Encoded],
    blocks: Sequence[_Block],
    first_slot: int,
    num_cells: int,
    pad_token_id: int,
    slots: Sequence[int],
) -> _Row:
    """Put the samples of a row after each other, their pictures expanded."""
    parts = [
        _expand(sample, pad_token_id, picture_slots, num_cells)
        for sample, picture_slots in _deal(samples, blocks, first_slot, slots)
    ]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    numbers = [np.full(len(part[0]), number, np.int64) for number, part in enumerate(parts, 1)]
    ids, labels, counts, positions, cells = columns
    return _Row(ids, labels, counts, positions, np.concatenate(numbers), cells)


def _deal(
    samples: Sequence[Encoded], blocks: Sequence[_Block], first_slot: int, slots: Sequence[int]
) -> list[tuple[Encoded, list[tuple[int, _Block, bool]]]]:
    """Return each sample with its pictures: slot in the batch, block, whether a stand-in."""
    pictures = [
        (first_slot + number, block, slot == _STAND_IN)
        for number, (block, slot) in enumerate(zip(blocks, slots, strict=True))
    ]
    dealt, start = [], 0
    for sample in samples:
        stop = start + sample.num_pictures
        dealt.append((sample, pictures[start:stop]))
        start = stop
    return dealt


def _expand(
    sample: Encoded,
    pad_token_id: int,
    pictures: Sequence[tuple[int, _Block, bool]],
    num_cells: int,
) -> tuple[np.ndarray, ...]:
    """Return ids, labels, counts, positions and cells of a sample with its pictures' places."""
    ids = np.asarray(sample.input_ids, dtype=np.int64)
    labels = np.asarray(sample.labels, dtype=np.int64)
    places = np.flatnonzero(ids == IMAGE_TOKEN_INDEX)
    repeats = np.ones(len(ids), dtype=np.int64)
    repeats[places] = [len(block.cells) for _, block, _ in pictures]
    starts = np.cumsum(repeats) - repeats
    ids, labels = np.repeat(ids, repeats), np.repeat(labels, repeats)
    counts = np.ones(len(ids), dtype=bool)
    cells = np.full(len(ids), _TEXT, dtype=np.int64)
    stand_ins = []
    for place, (slot, block, is_stand_in) in zip(places, pictures, strict=True):
        here = slice(starts[place], starts[place] + len(block.cells))
        ids[here] = pad_token_id
        ids[here.start] = IMAGE_TOKEN_INDEX
        labels[here] = IGNORE_INDEX
        counts[here] = block.counts
        cells[here] = np.where(block.cells < 0, -1, slot * num_cells + block.cells)
        if is_stand_in:
            stand_ins.append(here)
    positions = np.cumsum(counts) - 1
    for here in stand_ins:
        positions[here] = 0
    return ids, labels, counts, np.maximum(positions, 0), cells


def _cut(row: _Row, length: int) -> _Row:
    """Cut a row to a length; a picture is never cut in two."""
    if (row.cells[length:] != _TEXT).any():
        raise ValueError(
            f"a row of {len(row.ids)} places is cut to {length} and a picture would be cut in two; "
            "leave the picture out or raise num_tokens"
        )
    return _Row(*(getattr(row, field.name)[:length] for field in fields(row)))


def _stack(
    rows: Sequence[_Row],
    order: Sequence[int],
    length: int,
    side: int,
    pad_token_id: int,
    padding: Padding,
    is_static: bool,
    is_packed: bool,
) -> Layout:
    """Pad the rows to one length and find the pictures' places in the flattened batch."""
    shape = (len(rows), length)
    ids = np.full(shape, pad_token_id, dtype=np.int64)
    labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
    counts = np.zeros(shape, dtype=bool)
    positions, segments = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    cells = np.full(shape, _TEXT, dtype=np.int64)
    for number, row in enumerate(rows):
        used = len(row.ids)
        here = slice(0, used) if padding == "right" else slice(length - used, length)
        ids[number, here], labels[number, here] = row.ids, row.labels
        counts[number, here], cells[number, here] = row.counts, row.cells
        positions[number, here], segments[number, here] = row.positions, row.segments
        if is_static:  # the count goes on through the padding, as published
            positions[number, used:] = int(row.counts.sum()) + np.arange(length - used)
        elif is_packed:  # a sequence of its own, that no sample reads
            positions[number, used:] = np.arange(length - used)
    if is_packed or padding == "left":
        starts = np.diff(segments, axis=1, prepend=0) != 0
        labels[starts] = IGNORE_INDEX  # nothing before a sample predicts its first token
    flat = cells.ravel()
    cell_place = np.flatnonzero(flat >= 0)
    cell_index = flat[cell_place]
    columns = (labels[:, 1:] != IGNORE_INDEX).any(axis=0)
    num_cells = len(order) * side * side
    return Layout(
        input_ids=torch.from_numpy(ids),
        labels=torch.from_numpy(labels),
        attention_mask=torch.from_numpy(counts),
        position_ids=torch.from_numpy(positions),
        segments=torch.from_numpy(segments) if is_packed else None,
        cell_place=torch.from_numpy(cell_place),
        cell_index=torch.from_numpy(cell_index),
        newline_place=torch.from_numpy(np.flatnonzero(flat == -1)),
        label_columns=None if is_static else torch.from_numpy(np.flatnonzero(columns)),
        picture_order=tuple(order),
        shows_all_cells=bool(
            len(cell_index) == num_cells and (cell_index == np.arange(num_cells)).all()
        ),
        is_static=is_static,
        is_full=bool(counts.all()),
    )


def attention_of(layout: Layout, window: int | None = None) -> Tensor | None:
    """Return the mask that a language model takes, (B, T) or (B, 1, T, T), or None.

    None where every token counts, and for packed rows: their positions start anew with each
    sample, from which transformers makes the block-diagonal mask that fits the model's layers.
    With static shapes all is spelled out, so that no device is asked what a mask holds; a token
    always sees itself, which keeps hidden rows finite.

    Args:
        window: with static shapes, how many tokens back a token sees, itself counted; tokens that
            are hidden do not count.
    """
    if not layout.is_static:
        needless = layout.segments is not None or layout.is_full
        return None if needless else layout.attention_mask
    length, places = layout.input_ids.shape[1], layout.position_ids
    steps = torch.arange(length, device=layout.input_ids.device)
    sees = (steps[None, :] <= steps[:, None])[None] & layout.attention_mask[:, None, :]
    if layout.segments is not None:
        sees = sees & (layout.segments[:, :, None] == layout.segments[:, None, :])
    if window is not None:
        sees = sees & (places[:, :, None] - places[:, None, :] < window)
    return (sees | (steps[None, :] == steps[:, None])[None])[:, None]
