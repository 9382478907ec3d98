"""Does the model look at its pictures? The loss with the own ones beside that with others'.

On a bounded number of samples with pictures, those whose ids have the smallest hashes: the same
ones in every run on the same data, however large it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from cambrian_data.records import Progress, draw
from cambrian_model.batches import Batch, Example, ExampleSet
from cambrian_model.loading.samples import Samples
from cambrian_model.training.run import Run

_MAX_ROWS = 8


def compare_pictures(
    run: Run, *, seed: int, progress: Progress
) -> tuple[float, float] | tuple[None, None]:
    """Return the mean loss by token with the own pictures and with pictures of other samples.

    Every rank computes both, so that sharded weights are gathered by all. (None, None) where no
    sample has a picture, or one picture is in more than half of the places.
    """
    numbers = chosen_samples(run.samples, run.config.num_compared)
    if not len(numbers):
        return None, None
    chosen = ExampleSet(
        run.samples,
        numbers,
        run.model.tower_specs,
        pad_token_id=run.tokenizer.pad_token_id,
        features=run.features,
        static=run.loader.options.static,
        cache_bytes=run.loader.options.picture_cache_bytes,
    )
    others = derange(chosen.items, seed)
    if others is None:
        return None, None
    was_training = run.model.training
    run.model.eval()
    own = _mean_loss(run, chosen, None, progress, 0)
    shuffled = _mean_loss(run, chosen, others, progress, len(chosen.items))
    run.model.train(was_training)
    return own, shuffled


def chosen_samples(samples: Samples, most: int) -> list[int]:
    """Return the numbers of at most so many samples with pictures, drawn by the hash of their id.

    In the order of the shards.
    """
    columns = samples.index.columns
    with_pictures = np.flatnonzero(columns["num_pictures"] > 0)
    by_hash = np.argsort(columns["place"][with_pictures], kind="stable")
    return sorted(with_pictures[by_hash[:most]].tolist())


def _mean_loss(
    run: Run,
    chosen: ExampleSet,
    shown: Sequence[Sequence[str]] | None,
    progress: Progress,
    done: int,
) -> float:
    """Return the mean loss over the trained tokens of all chosen samples."""
    rows = min(run.config.micro_batch_size or run.config.batch_size, _MAX_ROWS)
    rows = -(-rows // run.runtime.num_devices) * run.runtime.num_devices
    total, tokens = 0.0, 0
    items = chosen.items
    for start in range(0, len(items), rows):
        part = items[start : start + rows]
        pictures = shown[start : start + rows] if shown is not None else None
        static_rows = rows if run.runtime.static_shapes else None
        batch = chosen.batch(part, pictures, static_rows)
        total += _loss_of(run, batch) * batch.num_trained
        tokens += batch.num_trained
        progress("evaluate", done + start + len(part), 2 * len(items))
    return total / max(1, tokens)


@torch.no_grad()
def _loss_of(run: Run, batch: Batch) -> float:
    placed = run.runtime.place(batch)
    with run.runtime.autocast():
        loss = run.model(layout=placed.layout, pictures=placed.pictures).loss
    run.runtime.step_boundary()
    return float(loss.item())


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
