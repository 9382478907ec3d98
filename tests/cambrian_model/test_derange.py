"""Dealing the pictures of samples out anew, so that none keeps its own."""

from __future__ import annotations

from collections import Counter

import pytest

from cambrian_model.batches import Example
from cambrian_model.conversation import IMAGE_TOKEN_INDEX, Encoded
from cambrian_model.training.evaluation import derange


def _example(name, *pictures):
    sizes = ((1, 1),) * len(pictures)
    return Example(
        name, Encoded([IMAGE_TOKEN_INDEX] * len(pictures) + [1], [1]), pictures, sizes, 1
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_sample_is_dealt_a_picture_of_its_own(seed):
    examples = [_example(f"s{n}", f"p{n % 7}") for n in range(30)]
    examples += [_example(f"m{n}", f"p{n}", f"p{n + 1}") for n in range(5)]
    dealt = derange(examples, seed)
    assert [len(row) for row in dealt] == [len(e.pictures) for e in examples]
    for example, row in zip(examples, dealt, strict=True):
        assert not set(row) & set(example.pictures)


def test_single_pictures_are_dealt_as_often_as_they_were():
    examples = [_example(f"s{n}", f"p{n % 7}") for n in range(30)]
    dealt = derange(examples, 3)
    assert Counter(row[0] for row in dealt) == Counter(e.pictures[0] for e in examples)
    assert derange(examples, 3) == dealt
    assert derange(examples, 4) != dealt


def test_one_picture_everywhere_cannot_be_dealt():
    assert derange([_example("a", "p"), _example("b", "p")], 0) is None
    assert derange([], 0) is None
