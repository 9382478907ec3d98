"""Samples of a global batch -> rows -> micro batches of ranks. Pure functions of numbers.

Every rank gets the same number of micro batches, every sample is in exactly one, and which samples
a step holds never depends on the ranks. Packing puts several samples into a row (first fit, the
longest first) within the global batch: the step stays the same, it only takes fewer rows.
"""

from __future__ import annotations

from collections.abc import Sequence


def pack_rows(
    lengths: Sequence[int],
    num_pictures: Sequence[int],
    room: int,
    max_pictures: int | None = None,
) -> list[list[int]]:
    """Return rows of samples, by their places in the arguments; each in the first row it fits.

    Args:
        lengths: tokens of each sample; one longer than `room` gets a row of its own.
        room: tokens of a row.
        max_pictures: most pictures of a row; None for any number.
    """
    rows: list[list[int]] = []
    left: list[list[int]] = []
    most = max_pictures if max_pictures is not None else sum(num_pictures)
    for sample in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        need, pictures = lengths[sample], num_pictures[sample]
        for number, (tokens, slots) in enumerate(left):
            if need <= tokens and pictures <= slots:
                rows[number].append(sample)
                left[number] = [tokens - need, slots - pictures]
                break
        else:
            rows.append([sample])
            left.append([room - need, most - pictures])
    return rows


def deal_rows(costs: Sequence[int], ranks: int, micro_batch: int | None) -> list[list[list[int]]]:
    """Return for each rank its micro batches of rows, by the rows' places in `costs`.

    Rows are sorted by cost and cut evenly, so that those of a micro batch are alike, and the ranks
    have about equal work at the same time. A micro batch may be empty where there are few rows.

    Args:
        micro_batch: most rows of a micro batch; None: a rank's whole share.
    """
    size = micro_batch or max(1, -(-len(costs) // ranks))
    count = max(1, -(-len(costs) // (ranks * size)))
    order = sorted(range(len(costs)), key=lambda at: (-costs[at], at))
    slots = ranks * count
    cuts = [len(order) * slot // slots for slot in range(slots + 1)]
    pieces = [order[cuts[slot] : cuts[slot + 1]] for slot in range(slots)]
    return [pieces[rank::ranks] for rank in range(ranks)]
