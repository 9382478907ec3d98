"""How many samples of every source make the mixture.

Counts per source -> a plan: caps per source, shares per category, a size, and a rule for when they
conflict. The arithmetic is exact (fractions, no floats); the plan says which category binds and
what size it would allow. Source of caps and shares: Cambrian-1 (arXiv 2406.16860), "Data Curation";
the published shares add up to 100.40 and are rescaled.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cambrian_data.recipes import Config
from cambrian_data.records import UserError

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

_Pairs = Mapping[tuple[str, str], int]


class MixtureConfig(Config):
    """What the mixture should look like, and what gives way."""

    max_per_source: int = Field(default=350_000, ge=1)
    """Cap on the samples of one source. Source: Cambrian-1, "Data Balancing"."""
    caps: dict[str, int] = Field(default_factory=dict)
    """Caps of single sources, instead of `max_per_source`; 0 leaves a source out."""
    ratios: dict[str, float] | None = Field(default_factory=lambda: dict(PUBLISHED_RATIOS))
    """Shares of the categories, rescaled to 1; a category that is not named gets none. null:
    categories as they come, after the caps."""
    size: int | None = Field(default=None, ge=1)
    """Samples wanted; null: as many as caps and ratios allow."""
    on_conflict: Literal["shrink", "fill"] = "shrink"
    """When the pool cannot give size and ratios both: shrink holds the ratios and gives fewer
    samples; fill holds the size and lets the ratios slip, by as little as can be."""
    min_per_source: int = Field(default=0, ge=0)
    """A source that has fewer samples than this, after its cap, is left out."""
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


@dataclass(frozen=True, slots=True)
class SourceShare:
    """What a source gives in one category; `cap` is its part of the source's cap."""

    source: str
    category: str
    have: int
    cap: int
    take: int


@dataclass(frozen=True, slots=True)
class CategoryShare:
    """What a category gives: `available` after caps, `allows` is the size it would allow."""

    category: str
    have: int
    available: int
    take: int
    ratio_wanted: float
    ratio_got: float
    allows: int | None


@dataclass(frozen=True, slots=True)
class MixturePlan:
    """The numbers of a mixture; `binding` is the category that keeps it from being larger."""

    size: int
    size_wanted: int | None
    on_conflict: str
    seed: int
    sources: tuple[SourceShare, ...]
    categories: tuple[CategoryShare, ...]
    binding: str | None
    binding_size: int | None
    without_ratio: tuple[str, ...] = ()
    """Categories of the pool that the ratios do not name, or name with 0."""
    too_small: tuple[str, ...] = ()
    """Sources left out by `min_per_source`."""
    unused_caps: tuple[str, ...] = ()
    """Caps of sources that the pool does not have."""

    def to_json(self) -> dict[str, Any]:
        """Return the whole plan as JSON data, its lists in a fixed order."""
        return json.loads(json.dumps(asdict(self)))

    def explain(self) -> str:
        """Say in a sentence what was planned and what keeps it from being more."""
        wanted = "" if self.size_wanted is None else f" of {self.size_wanted:,} wanted"
        text = f"{self.size:,} samples{wanted}"
        if self.binding:
            text += (
                f"; {self.binding} binds: with its ratio held the pool allows "
                f"{self.binding_size:,} samples ({self.on_conflict})"
            )
        if self.without_ratio:
            text += f"; no ratio, so left out: {', '.join(self.without_ratio)}"
        return text

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for every category and below it one for every source of it."""
        rows: list[dict[str, Any]] = []
        for share in self.categories:
            below = [asdict(source) for source in self.sources if source.category == share.category]
            rows += [{**asdict(share), "source": None, "cap": None}, *below]
        return rows


def plan_mixture(counts: Counts, config: MixtureConfig) -> MixturePlan:
    """Plan how many samples of every source the mixture takes.

    A source in several categories shares its cap out among them by what it has in each. Within a
    category all sources give the same number until one is exhausted, and the others go on.

    Raises:
        UserError: the pool is empty, or has nothing of a category that has a ratio (shrink).
    """
    pairs = _by_pair(counts)
    caps = _caps(pairs, config)
    usable = {key: min(caps[key], have) for key, have in pairs.items()}
    per_source = _sums((source, number) for (source, _), number in usable.items())
    small = {source for source, number in per_source.items() if number < config.min_per_source}
    usable = {key: 0 if key[0] in small else number for key, number in usable.items()}
    available = _sums((category, number) for (_, category), number in usable.items())
    ratios = _ratios(config, available)
    allows = {
        category: int(available.get(category, 0) / ratio) for category, ratio in ratios.items()
    }
    wanted = _per_category(ratios, available, allows, config)
    takes: dict[tuple[str, str], int] = {}
    for category, number in wanted.items():
        takes |= water_fill(number, {key: usable[key] for key in usable if key[1] == category})
    shares = [
        SourceShare(*key, pairs[key], caps[key], takes.get(key, 0))
        for key in sorted(pairs, key=lambda key: (key[1], key[0]))
    ]
    binding = min(sorted(allows), key=lambda category: allows[category])
    is_bound = config.ratios is not None and (config.size is None or allows[binding] < config.size)
    return MixturePlan(
        size=sum(wanted.values()),
        size_wanted=config.size,
        on_conflict=config.on_conflict,
        seed=config.seed,
        sources=tuple(shares),
        categories=_category_shares(shares, available, ratios, allows),
        binding=binding if is_bound else None,
        binding_size=allows[binding] if is_bound else None,
        without_ratio=tuple(sorted(available.keys() - ratios.keys())),
        too_small=tuple(sorted(small)),
        unused_caps=tuple(sorted(config.caps.keys() - per_source.keys())),
    )


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
    """Share a whole number out by weights, largest remainders first, ties by name."""
    whole = sum(weights.values())
    quotas = {name: Fraction(weight) * total / whole for name, weight in weights.items()}
    parts = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: (parts[name] - quotas[name], name))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


# ---------------------------------------------------------------------------------- pieces


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for name, number in pairs:
        sums[name] += number
    return dict(sums)


def _by_pair(counts: Counts) -> dict[tuple[str, str], int]:
    pairs = {}
    for key, value in counts.items():
        if isinstance(key, tuple) and isinstance(value, int):
            pairs[key] = value
        elif isinstance(key, str) and isinstance(value, tuple):
            pairs[key, value[0]] = value[1]
        else:
            raise TypeError(f"no count of a source: {key!r}: {value!r}")
    return pairs


def _caps(pairs: _Pairs, config: MixtureConfig) -> dict[tuple[str, str], int]:
    """Return the cap of every (source, category); a source's own cap is never passed."""
    by_source: dict[str, dict[str, int]] = defaultdict(dict)
    for (source, category), have in pairs.items():
        by_source[source][category] = have
    caps: dict[tuple[str, str], int] = {}
    for source, have_by_category in by_source.items():
        cap = config.caps.get(source, config.max_per_source)
        is_shared = len(have_by_category) > 1 and sum(have_by_category.values()) > cap
        parts = apportion(cap, have_by_category) if is_shared else {}
        caps |= {(source, category): parts.get(category, cap) for category in have_by_category}
    return caps


def _ratios(config: MixtureConfig, available: Mapping[str, int]) -> dict[str, Fraction]:
    """Return the shares above 0, adding up to 1 exactly."""
    if not sum(available.values()):
        raise UserError("there is nothing to mix: the pool is empty after caps and minimum")
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
            f"mixture.ratios wants samples of {', '.join(empty)}, but the pool has none: take the "
            "category out of the ratios, add data, or use on_conflict: fill"
        )
    largest = min(allows.values())
    return apportion(min(largest, config.size or largest), ratios)


def fill(quotas: Mapping[str, Fraction], available: Mapping[str, int]) -> dict[str, int]:
    """Return whole numbers of the quotas' sum, none above what is available, as near as can be.

    The sum of the differences is the least there is. What some categories lack is shared out among
    those that have more, in proportion to their quotas: that costs the same as any other way.
    """
    have = {category: available.get(category, 0) for category in quotas}
    takes = {category: min(int(quota), have[category]) for category, quota in quotas.items()}
    left = min(int(sum(quotas.values())), sum(have.values())) - sum(takes.values())
    for category in sorted(quotas, key=lambda c: (int(quotas[c]) - quotas[c], c)):
        if left and takes[category] < have[category] and takes[category] < quotas[category]:
            takes[category] += 1
            left -= 1
    while left:
        open_quotas = {c: quotas[c] for c in quotas if takes[c] < have[c]}
        for category, more in apportion(left, open_quotas).items():
            given = min(more, have[category] - takes[category])
            takes[category] += given
            left -= given
    return takes


def _category_shares(
    shares: Iterable[SourceShare],
    available: Mapping[str, int],
    ratios: Mapping[str, Fraction],
    allows: Mapping[str, int],
) -> tuple[CategoryShare, ...]:
    shares = list(shares)
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
            allows=allows.get(category),
        )
        for category in sorted(have.keys() | ratios.keys())
    )
