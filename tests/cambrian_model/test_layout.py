"""Where a batch's tokens and pictures stand, against a plain loop, static and packed rows too."""

from __future__ import annotations

import pytest
import torch

from cambrian_model.conversation import IGNORE_INDEX, IMAGE_TOKEN_INDEX, Encoded
from cambrian_model.layout import StaticShape, attention_of, lay_out
from cambrian_model.pictures import content_span, num_visual_tokens

PICTURE, PAD, SIDE = IMAGE_TOKEN_INDEX, 99, 4


def _sample(*ids):
    """Return a sample whose text is trained from its third token on."""
    labels = [
        token if place > 1 and token != PICTURE else IGNORE_INDEX for place, token in enumerate(ids)
    ]
    return Encoded(list(ids), labels)


def _by_hand(sample, sizes):
    """Return what each place holds: a token, or (picture, cell), or a newline as (picture, -1)."""
    row, pictures = [], iter(enumerate(sizes))
    for token in sample.input_ids:
        if token != PICTURE:
            row.append(token)
            continue
        number, size = next(pictures)
        top, bottom, left, right = content_span(size, SIDE)
        for y in range(top, bottom):
            row += [(number, y * SIDE + x) for x in range(left, right)] + [(number, -1)]
    return row


SIZES = [(80, 80), (90, 45), (30, 60), (1, 100)]


@pytest.mark.parametrize("padding", ["right", "left"])
def test_places_equal_those_of_a_plain_loop(padding):
    samples = [_sample(1, PICTURE, 2, 3), _sample(4, 5), _sample(PICTURE, PICTURE, 6, PICTURE)]
    layout = lay_out([[s] for s in samples], SIZES, SIDE, pad_token_id=PAD, padding=padding)
    length = layout.input_ids.shape[1]
    cells = dict(zip(layout.cell_place.tolist(), layout.cell_index.tolist(), strict=True))
    newlines = set(layout.newline_place.tolist())
    first = 0
    for number, sample in enumerate(samples):
        shown = SIZES[first : first + sample.num_pictures]
        expected = _by_hand(sample, shown)
        start = 0 if padding == "right" else length - len(expected)
        for place, what in enumerate(expected, start):
            flat = number * length + place
            assert layout.attention_mask[number, place]
            assert layout.position_ids[number, place] == place - start
            if isinstance(what, int):
                assert layout.input_ids[number, place] == what
            elif what[1] == -1:
                assert flat in newlines
            else:
                assert cells[flat] == (first + what[0]) * SIDE**2 + what[1]
        assert layout.attention_mask[number].sum() == len(expected)
        first += len(shown)
    assert len(cells) + len(newlines) == sum(num_visual_tokens(size, SIDE) for size in SIZES)
    assert layout.picture_order == (0, 1, 2, 3)
    trained = [label for sample in samples for label in sample.labels if label != IGNORE_INDEX]
    assert layout.labels[layout.labels != IGNORE_INDEX].tolist() == trained
    assert layout.num_trained == len(trained)


def test_a_number_of_pictures_that_differs_is_named():
    with pytest.raises(ValueError, match="name 1 pictures, 2 are given"):
        lay_out([[_sample(1, PICTURE)]], SIZES[:2], SIDE, pad_token_id=PAD)


def test_static_rows_have_one_shape_and_hidden_stand_ins():
    static = StaticShape(num_tokens=60, pictures_per_row=2, stand_in_at=1)
    rows = [[_sample(1, PICTURE, 2, 3)], [_sample(4, 5, 6)], [_sample(PICTURE, 7, 8, PICTURE)]]
    layout = lay_out(rows, SIZES[:3], SIDE, pad_token_id=PAD, static=static)
    assert layout.input_ids.shape == (3, 60)
    assert layout.picture_order == (-1, 0, -1, -1, 1, 2)
    assert len(layout.cell_place) == 6 * SIDE**2
    assert layout.shows_all_cells
    assert len(layout.newline_place) == 6 * SIDE
    visible = [num_visual_tokens(size, SIDE) for size in SIZES[:3]]
    assert layout.attention_mask.sum(1).tolist() == [3 + visible[0], 3, 2 + sum(visible[1:])]
    text = layout.input_ids[1][layout.attention_mask[1]].tolist()
    assert text == [4, 5, 6]
    assert layout.position_ids[1][layout.attention_mask[1]].tolist() == [0, 1, 2]


def test_static_rows_are_cut_but_never_a_picture():
    static = StaticShape(num_tokens=22)
    layout = lay_out(
        [[_sample(1, PICTURE, 2, 3)]], SIZES[:1], SIDE, pad_token_id=PAD, static=static
    )
    assert layout.labels[0, -1] == 2
    with pytest.raises(ValueError, match="a picture would be cut in two"):
        lay_out([[_sample(1, 2, 3, PICTURE)]], SIZES[:1], SIDE, pad_token_id=PAD, static=static)
    with pytest.raises(ValueError, match="raise pictures_per_row"):
        lay_out([[_sample(PICTURE, PICTURE)]], SIZES[:2], SIDE, pad_token_id=PAD, static=static)


def test_packed_rows_start_anew_with_each_sample():
    packed = [_sample(1, 2, 3), _sample(4, PICTURE, 5)]
    layout = lay_out([packed, [_sample(6, 7)]], SIZES[1:2], SIDE, pad_token_id=PAD)
    assert layout.input_ids.shape == (2, 3 + 2 + 10)
    assert layout.segments[0].tolist() == [1] * 3 + [2] * 12
    assert layout.segments[1].tolist() == [1] * 2 + [0] * 13
    assert layout.position_ids[0].tolist() == [*range(3), *range(12)]
    assert layout.position_ids[1].tolist() == [*range(2), *range(13)]
    assert attention_of(layout) is None


def test_the_first_token_of_a_packed_sample_is_not_predicted():
    trained = Encoded([1, 2], [1, 2])
    layout = lay_out([[trained, trained]], [], SIDE, pad_token_id=PAD)
    assert layout.labels.tolist() == [[IGNORE_INDEX, 2, IGNORE_INDEX, 2]]
    assert layout.num_trained == 2


def test_static_masks_spell_out_what_a_token_sees():
    static = StaticShape(num_tokens=6)
    layout = lay_out([[_sample(1, 2), _sample(3, 4)]], [], 1, pad_token_id=PAD, static=static)
    # One slot of 1 cell and a newline stands hidden at the front.
    sees = attention_of(layout)[0, 0].int().tolist()
    assert sees == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_no_mask_where_every_token_counts():
    full = lay_out([[_sample(1, 2)], [_sample(3, 4)]], [], SIDE, pad_token_id=PAD)
    assert full.is_full
    assert attention_of(full) is None
    ragged = lay_out([[_sample(1, 2)], [_sample(3)]], [], SIDE, pad_token_id=PAD)
    assert torch.equal(attention_of(ragged), torch.tensor([[True, True], [True, False]]))
