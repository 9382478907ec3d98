"""Which duplicates a mixture is freed of, and which one of them stays.

Exact duplicates (`exact.py`) say the same about the same pictures. Near duplicates (`near.py`) say
almost the same about the same pictures. Of either kind the row stays that comes first by rank: the
one with the longer answers, then the one of the source that the recipe prefers, then the one with
the smaller id, then the source's name. So neither the order of the rows nor that of the files makes
a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pydantic import Field

from cambrian_data.curation.duplicates.near import NearConfig
from cambrian_data.recipes import Config


class DedupConfig(Config):
    """Which duplicates are looked for, and which one of them is kept."""

    exact: bool = True
    """Whether equal samples are dropped."""
    near: NearConfig = Field(default_factory=NearConfig)
    """Whether, and from which similarity, samples that are almost equal are dropped."""
    prefer_sources: list[str] = Field(default_factory=list)
    """Sources whose sample is kept before others', best first; * stands for anything. Decides
    between answers of equal length."""
    alarm_share: float = Field(default=0.3, gt=0, le=1)
    """A source that loses more than this share of its rows to exact and near duplicates is named
    in an alarm: it may be contained in another one, or be made from a template."""


def preference(source: str, preferred: Sequence[str]) -> int:
    """Return the place of the first pattern that fits a source: 0 best, behind all where none."""
    return next(
        (number for number, pattern in enumerate(preferred) if fnmatchcase(source, pattern)),
        len(preferred),
    )
