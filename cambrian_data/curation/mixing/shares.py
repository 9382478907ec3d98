"""Whole numbers shared out: in equal parts, by weights, and as near as can be to what is wanted.

Everything is exact (integers and fractions, no floats), depends on no order, and breaks ties by
name. Costs n log n in the number of names, whatever the numbers are.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any


def water_fill(wanted: int, have: Mapping[Any, int]) -> dict[Any, int]:
    """Take `wanted` in equal parts from all, and where one is exhausted more from the others.

    What equal parts leave over goes one by one to the first names that have more.
    """
    takes: dict[Any, int] = {}
    left = min(wanted, sum(have.values()))
    names = sorted(have, key=lambda name: (have[name], name))
    for number, name in enumerate(names):
        level, over = divmod(left, len(names) - number)
        if have[name] > level:  # and so have all that follow
            rest = sorted(names[number:])
            return takes | {other: level + (place < over) for place, other in enumerate(rest)}
        takes[name] = have[name]
        left -= have[name]
    return takes


def apportion(total: int, weights: Mapping[str, Fraction | int]) -> dict[str, int]:
    """Share a whole number out by weights, largest remainders first, ties by name.

    No part is a whole one away from its exact share. The weights' sum is above 0.
    """
    whole = sum(weights.values())
    quotas = {name: Fraction(weight) * total / whole for name, weight in weights.items()}
    parts = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: (parts[name] - quotas[name], name))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def fill(quotas: Mapping[str, Fraction], available: Mapping[str, int]) -> dict[str, int]:
    """Return whole numbers of the quotas' sum, none above what is available, as near as can be.

    The sum of the differences from the quotas is the least there is. Many answers reach it, since
    a sample more costs the same in every category that has its quota: those by name first get all
    that the others lack, as far as they have it. Where all quotas can be had, the numbers are
    those of largest remainders.

    Args:
        quotas: what is wanted, adding up to a whole number.
        available: what there is; a name that is missing has nothing.
    Returns:
        Numbers that add up to the quotas' sum, or to all there is where that is less.
    """
    have = {name: available.get(name, 0) for name in quotas}
    takes = {name: min(int(quota), have[name]) for name, quota in quotas.items()}
    left = min(int(sum(quotas.values())), sum(have.values())) - sum(takes.values())
    # One more costs 1 - 2 * remainder up to the quota's next whole number, and 1 from there on.
    for name in sorted(quotas, key=lambda name: (int(quotas[name]) - quotas[name], name)):
        if left and takes[name] < have[name] and takes[name] < quotas[name]:
            takes[name] += 1
            left -= 1
    for name in sorted(quotas):
        more = min(left, have[name] - takes[name])
        takes[name] += more
        left -= more
    return takes
