"""Does the model look at its pictures? The loss with the own ones beside that with others'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cambrian_data.records import Progress, draw
from cambrian_model.batches import Example

BatchLoss = Callable[[Sequence[Example], Sequence[Sequence[str]]], Tensor]
"""Mean loss over the trained tokens of examples that are shown the given pictures."""


def picture_losses(
    examples: Sequence[Example],
    loss_of: BatchLoss,
    *,
    model: nn.Module,
    batch_size: int,
    seed: int,
    progress: Progress,
) -> tuple[float, float] | None:
    """Return the mean loss by token with the own pictures and with pictures of other samples.

    None where no sample has a picture, or one picture is in more than half of the places.
    """
    items = [example for example in examples if example.pictures]
    others = derange(items, seed)
    if others is None:
        return None
    was_training = model.training
    model.eval()
    total = 2 * len(items)

    def mean_loss(shown: Sequence[Sequence[str]], done: int) -> float:
        loss_sum, tokens = 0.0, 0
        for start in range(0, len(items), batch_size):
            part = items[start : start + batch_size]
            count = sum(example.num_trained for example in part)
            loss_sum += loss_of(part, shown[start : start + batch_size]).item() * count
            tokens += count
            progress("evaluate", done + start + len(part), total)
        return loss_sum / tokens

    with torch.no_grad():
        own = mean_loss([example.pictures for example in items], 0)
        shuffled = mean_loss(others, len(items))
    model.train(was_training)
    return own, shuffled


def derange(examples: Sequence[Example], seed: int) -> list[list[str]] | None:
    """Deal the samples' pictures out anew, so that none gets a picture that it has itself.

    Places are sorted by a hash of their picture and moved on by the size of the largest group,
    which leaves none in its own group; a sample with several pictures may still meet another of
    its own and then takes the next picture in order that it does not have.
    Returns:
        The pictures of each sample, or None where that cannot be.
    """
    places = [
        (draw(seed, "shuffle", key), key, sample, number)
        for sample, example in enumerate(examples)
        for number, key in enumerate(example.pictures)
    ]
    places.sort()
    groups = Counter(key for _, key, _, _ in places)
    shift = max(groups.values(), default=0)
    if not places or 2 * shift > len(places):
        return None
    dealt = [list(example.pictures) for example in examples]
    for at, (_, _, sample, number) in enumerate(places):
        own = examples[sample].pictures
        order = (places[(at + shift + step) % len(places)][1] for step in range(len(places)))
        other = next((key for key in order if key not in own), None)
        if other is None:
            return None
        dealt[sample][number] = other
    return dealt
