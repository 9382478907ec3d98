"""How many samples of every source make the mixture.

Counts per source -> a plan: caps per source, shares per category, a size, and a rule for when they
conflict. The arithmetic is exact (fractions, no floats); the plan says which category binds and
what size it would allow. docs/mixture.md has the definitions. Source of caps and shares: Cambrian-1
(arXiv 2406.16860), "Data Curation"; the published shares add up to 100.40 and are rescaled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cambrian_data.curation.mixing.planned import CategoryShare, MixturePlan, SourceShare, notes_of
from cambrian_data.curation.mixing.shares import apportion, fill, water_fill
from cambrian_data.recipes import Config
from cambrian_data.records import UserError

__all__ = [
    "PUBLISHED_RATIOS",
    "CategoryShare",
    "MixtureConfig",
    "MixturePlan",
    "SourceShare",
    "apportion",
    "fill",
    "is_named",
    "plan_mixture",
    "water_fill",
]

PUBLISHED_RATIOS = {
    "language": 21.00,
    "general": 34.52,
    "ocr": 27.22,
    "counting": 8.71,
    "math": 7.20,
    "code": 0.87,
    "science": 0.88,
}
"""Shares of the categories found best, in percent. Source: Cambrian-1, "Data Ratio"."""

Counts = Mapping[str, tuple[str, int]] | Mapping[tuple[str, str], int]
"""Samples in the pool: by source its category and its number, or, where a source stands in several
categories, by (source, category) the number."""

Pair = tuple[str, str]
"""A source and a category."""


class MixtureConfig(Config):
    """What the mixture should look like, what gives way, and which samples are chosen."""

    sources: list[str] = Field(default_factory=lambda: ["*"], min_length=1)
    """Sources that may give samples, by name; * stands for anything."""
    max_per_source: int | None = Field(default=350_000, ge=1)
    """Cap on the samples of one source; null: none. Source: Cambrian-1, "Data Balancing"."""
    caps: dict[str, int] = Field(default_factory=dict)
    """Caps of single sources, instead of `max_per_source`; 0 leaves a source out."""
    ratios: dict[str, float] | None = Field(default_factory=lambda: dict(PUBLISHED_RATIOS))
    """Shares of the categories, rescaled to 1; a category that is not named gets none. null:
    categories as they come, after the caps."""
    size: int | None = Field(default=None, ge=1)
    """Samples wanted; null: as many as caps and ratios allow."""
    on_conflict: Literal["shrink", "fill", "repeat"] = "shrink"
    """When the pool cannot give size and ratios both: shrink holds the ratios and gives fewer
    samples; fill holds the size and lets the ratios slip, by as little as can be; repeat is shrink
    on a pool that has every sample `repeat_limit` times."""
    repeat_limit: int = Field(default=2, ge=1)
    """How often one sample may stand in the mixture, under `repeat`. Caps hold all the same."""
    min_per_source: int = Field(default=0, ge=0)
    """A source that has fewer samples than this, after its cap, is left out. Every other one gives
    at least this many, unless its category is too small for that: then the ratios hold, all
    sources of the category give as evenly as they can, and the plan names them."""
    choice: Literal["random", "quality", "diverse"] = "random"
    """Which samples of a source are taken where not all are: by hash; those with the best score;
    or first one of every picture and of every opening of a question."""
    score: str = Field(default="quality", min_length=1)
    """Name of the score that `choice: quality` goes by, higher first; rows without it come last."""
    seed: int = 0
    """Which samples are chosen."""

    @field_validator("caps")
    @classmethod
    def _check_caps(cls, caps: dict[str, int]) -> dict[str, int]:
        if any(cap < 0 for cap in caps.values()):
            raise ValueError(f"a cap is >= 0, got {min(caps.values())}")
        return caps

    @field_validator("ratios")
    @classmethod
    def _check_ratios(cls, ratios: dict[str, float] | None) -> dict[str, float] | None:
        if ratios is not None and (
            any(not 0 <= share < float("inf") for share in ratios.values())
            or not any(ratios.values())
        ):
            raise ValueError("ratios are >= 0 and not all 0 (null: do not balance)")
        return ratios

    @model_validator(mode="after")
    def _check_size(self) -> MixtureConfig:
        if self.on_conflict == "fill" and self.size is None:
            raise ValueError("on_conflict: fill holds the size, so give mixture.size")
        return self


def plan_mixture(counts: Counts, config: MixtureConfig) -> MixturePlan:
    """Plan how many samples of every source the mixture takes.

    A source in several categories shares its cap out among them by what it has in each. Within a
    category all sources give the same number until one is exhausted, and the others go on.

    Raises:
        UserError: the pool is empty, or has nothing of a category that has a ratio (shrink,
            repeat).
    """
    pairs = _by_pair(counts)
    limit = config.repeat_limit if config.on_conflict == "repeat" else 1
    most = {pair: have * limit for pair, have in pairs.items()}
    caps = _caps(most, config)
    small = _too_small(pairs, config)
    usable = {pair: 0 if pair[0] in small else min(caps[pair], most[pair]) for pair in pairs}
    available = _sums((category, number) for (_, category), number in usable.items())
    ratios = _ratios(config, available)
    allows = {c: int(available.get(c, 0) / ratio) for c, ratio in ratios.items()}
    wanted = _per_category(ratios, available, allows, config)
    takes: dict[Pair, int] = {}
    for category, number in wanted.items():
        takes |= water_fill(number, {pair: usable[pair] for pair in usable if pair[1] == category})
    shares = [
        SourceShare(*pair, pairs[pair], caps[pair], takes.get(pair, 0))
        for pair in sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    ]
    binding = min(sorted(allows), key=lambda category: allows[category])
    is_bound = config.ratios is not None and (config.size is None or allows[binding] < config.size)
    no_ratio = available.keys() - ratios.keys() if config.ratios is not None else ()
    plan = MixturePlan(
        size=sum(wanted.values()),
        size_wanted=config.size,
        on_conflict=config.on_conflict,
        seed=config.seed,
        sources=tuple(shares),
        categories=_category_shares(shares, available, ratios, limit, config.ratios is not None),
        binding=binding if is_bound else None,
        binding_size=allows[binding] if is_bound else None,
        without_ratio=tuple(sorted(no_ratio)),
        too_small=small,
        unused_caps=tuple(sorted(config.caps.keys() - {source for source, _ in pairs})),
        below_minimum=_below_minimum(shares, ratios, small, config),
        binds=_binds(wanted, available, config, is_bound),
        slip=_slip(wanted, ratios),
        repeat_limit=limit,
    )
    return replace(plan, notes=notes_of(plan))


def is_named(source: str, config: MixtureConfig) -> bool:
    """Return whether `mixture.sources` lets a source give samples."""
    return any(fnmatchcase(source, pattern) for pattern in config.sources)


# ---------------------------------------------------------------------------------- pieces


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for name, number in pairs:
        sums[name] += number
    return dict(sums)


def _by_pair(counts: Counts) -> dict[Pair, int]:
    pairs = {}
    for key, value in counts.items():
        if isinstance(key, tuple) and isinstance(value, int):
            pairs[key] = value
        elif isinstance(key, str) and isinstance(value, tuple):
            pairs[key, value[0]] = value[1]
        else:
            raise TypeError(f"no count of a source: {key!r}: {value!r}")
    return pairs


def _cap_of(source: str, config: MixtureConfig) -> int | None:
    """Return a source's own cap, 0 where it may not give anything, None where nothing caps it."""
    if not is_named(source, config):
        return 0
    return config.caps.get(source, config.max_per_source)


def _caps(most: Mapping[Pair, int], config: MixtureConfig) -> dict[Pair, int]:
    """Return the cap of every (source, category); a source's own cap is never passed.

    Categories without a ratio take no part in sharing a cap out, since they give nothing.
    """
    by_source: dict[str, dict[str, int]] = defaultdict(dict)
    for (source, category), number in most.items():
        by_source[source][category] = number
    caps: dict[Pair, int] = {}
    for source, numbers in by_source.items():
        cap = _cap_of(source, config)
        if cap is None:
            caps |= {(source, category): number for category, number in numbers.items()}
            continue
        asked = {c: n for c, n in numbers.items() if config.ratios is None or config.ratios.get(c)}
        is_shared = len(asked) > 1 and sum(asked.values()) > cap
        parts = apportion(cap, asked) if is_shared else {}
        caps |= {(source, category): parts.get(category, cap) for category in numbers}
    return caps


def _too_small(pairs: Mapping[Pair, int], config: MixtureConfig) -> tuple[str, ...]:
    have = _sums((source, number) for (source, _), number in pairs.items())
    small = []
    for source, number in have.items():
        cap = _cap_of(source, config)
        if cap != 0 and min(number, number if cap is None else cap) < config.min_per_source:
            small.append(source)
    return tuple(sorted(small))


def _ratios(config: MixtureConfig, available: Mapping[str, int]) -> dict[str, Fraction]:
    """Return the shares above 0, adding up to 1 exactly."""
    if not sum(available.values()):
        raise UserError(
            "there is nothing to mix: the pool is empty after mixture.sources, caps and "
            f"min_per_source = {config.min_per_source}"
        )
    given: Mapping[str, Any] = available if config.ratios is None else config.ratios
    shares = {category: Fraction(str(share)) for category, share in given.items() if share > 0}
    whole = sum(shares.values())
    return {category: share / whole for category, share in sorted(shares.items())}


def _per_category(
    ratios: Mapping[str, Fraction],
    available: Mapping[str, int],
    allows: Mapping[str, int],
    config: MixtureConfig,
) -> dict[str, int]:
    """Return the samples of every category, by the config's rule for conflicts."""
    if config.on_conflict == "fill" and config.size is not None:
        return fill({c: ratio * config.size for c, ratio in ratios.items()}, available)
    empty = [category for category, size in allows.items() if not size]
    if empty:
        raise UserError(
            f"mixture.ratios wants samples of {', '.join(empty)}, but the pool has none (after "
            "caps and minimum): take the category out of the ratios, add data, or use "
            "on_conflict: fill"
        )
    # r_c N <= available_c for all of them, so that rounding up never asks for more than there is.
    largest = min(allows.values())
    return apportion(min(largest, config.size or largest), ratios)


def _binds(
    wanted: Mapping[str, int],
    available: Mapping[str, int],
    config: MixtureConfig,
    is_bound: bool,
) -> str:
    size = sum(wanted.values())
    if not is_bound and size == config.size:
        return "size"
    is_all = size == sum(available.get(category, 0) for category in wanted)
    return "pool" if is_all and (config.on_conflict == "fill" or not is_bound) else "ratio"


def _slip(wanted: Mapping[str, int], ratios: Mapping[str, Fraction]) -> float:
    size = sum(wanted.values())
    if not size:
        return 0.0
    return round(float(sum(abs(Fraction(n, size) - ratios[c]) for c, n in wanted.items())), 6)


def _below_minimum(
    shares: Iterable[SourceShare],
    ratios: Mapping[str, Fraction],
    small: tuple[str, ...],
    config: MixtureConfig,
) -> tuple[str, ...]:
    shares = [share for share in shares if share.category in ratios and share.cap]
    gives = _sums((share.source, share.take) for share in shares)
    return tuple(
        sorted(s for s, take in gives.items() if take < config.min_per_source and s not in small)
    )


def _allows(number: int, ratio: Fraction | None) -> int | None:
    return int(number / ratio) if ratio else None


def _category_shares(
    shares: Iterable[SourceShare],
    available: Mapping[str, int],
    ratios: Mapping[str, Fraction],
    limit: int,
    is_balanced: bool,
) -> tuple[CategoryShare, ...]:
    shares = list(shares)
    holds = ratios if is_balanced else {}
    have = _sums((share.category, share.have) for share in shares)
    take = _sums((share.category, share.take) for share in shares)
    size = sum(take.values())
    return tuple(
        CategoryShare(
            category=category,
            have=have.get(category, 0),
            available=available.get(category, 0),
            take=take.get(category, 0),
            ratio_wanted=round(float(ratios.get(category, 0)), 6),
            ratio_got=round(take.get(category, 0) / size, 6) if size else 0.0,
            allows=_allows(available.get(category, 0), holds.get(category)),
            allows_uncapped=_allows(have.get(category, 0) * limit, holds.get(category)),
        )
        for category in sorted(have.keys() | ratios.keys())
    )
