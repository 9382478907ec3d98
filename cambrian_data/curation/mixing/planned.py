"""What a plan of a mixture says: its numbers by source and category, in JSON and in words.

`plan.plan_mixture` makes it; `plan.json` of a mixture holds it, and `MixturePlan.from_json` reads
that again. Only numbers and names: no rows of the pool.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

_NAMED = 3
"""Sources or categories that a sentence names, of those that matter most."""


@dataclass(frozen=True, slots=True)
class SourceShare:
    """What a source gives in one category.

    `cap` is the most that it may give: its part of the source's cap, or all it has (times the
    limit under `repeat`) where it has none. A `take` above `have` repeats samples.
    """

    source: str
    category: str
    have: int
    cap: int
    take: int


@dataclass(frozen=True, slots=True)
class CategoryShare:
    """What a category gives: `available` after caps, `allows` is the size it would allow.

    `allows_uncapped` is the size it would allow if no source had a cap. Both are null where no
    ratio is held.
    """

    category: str
    have: int
    available: int
    take: int
    ratio_wanted: float
    ratio_got: float
    allows: int | None
    allows_uncapped: int | None = None


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
    below_minimum: tuple[str, ...] = ()
    """Sources that give fewer than `min_per_source`, since their category is too small."""
    binds: str = ""
    """What keeps it from being larger: size (there would be more), ratio (of `binding`), or pool
    (all is taken that the caps leave)."""
    slip: float = 0.0
    """How far the ratios got are from those wanted: the sum of the differences, 0 to 2."""
    repeat_limit: int = 1
    """How often a sample may stand in the mixture."""
    notes: tuple[str, ...] = ()
    """What a reader should know, in sentences."""

    def to_json(self) -> dict[str, Any]:
        """Return the whole plan as JSON data, its lists in a fixed order."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MixturePlan:
        """Return the plan that `to_json` gave."""
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        shares = {
            "sources": tuple(SourceShare(**row) for row in data["sources"]),
            "categories": tuple(CategoryShare(**row) for row in data["categories"]),
        }
        return cls(**{**data, **lists, **shares})

    def explain(self) -> str:
        """Say what was planned and what keeps it from being more."""
        wanted = "" if self.size_wanted is None else f" of {self.size_wanted:,} wanted"
        return "; ".join([f"{self.size:,} samples{wanted}", *self.notes])

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for every category and below it one for every source of it."""
        rows: list[dict[str, Any]] = []
        for share in self.categories:
            below = [asdict(source) for source in self.sources if source.category == share.category]
            binds = share.category == self.binding
            rows += [{**asdict(share), "source": None, "cap": None, "binds": binds}, *below]
        return rows


# ----------------------------------------------------------------------------------- words


def notes_of(plan: MixturePlan) -> tuple[str, ...]:
    """Return in sentences what keeps a plan from being larger, and what is not as it was wanted."""
    return tuple(_notes(plan))


def _notes(plan: MixturePlan) -> Iterator[str]:
    if plan.binding:
        yield (
            f"{plan.binding} binds: with its ratio held the pool allows "
            f"{plan.binding_size:,} samples ({plan.on_conflict})"
        )
        yield from _held_back(plan)
        yield from _next(plan)
    if plan.binds == "pool":
        yield "that is all that the caps leave"
    if plan.on_conflict == "fill" and plan.binding:
        yield f"the ratios slip by {100 * plan.slip:.2f} points in all: {_slipped(plan)}"
    again = sum(max(0, share.take - share.have) for share in plan.sources)
    if again:
        yield (
            f"{again:,} of them repeat a sample (repeat: each stands in it at most "
            f"{plan.repeat_limit} times)"
        )
    if plan.without_ratio:
        yield f"no ratio, so left out: {', '.join(plan.without_ratio)}"
    if plan.too_small:
        yield f"fewer than min_per_source, so left out: {_some(plan.too_small)}"
    if plan.below_minimum:
        yield (
            "give fewer than min_per_source, since their category is too small for more: "
            f"{_some(plan.below_minimum)}"
        )
    if plan.unused_caps:
        yield f"caps of sources that the pool does not have: {_some(plan.unused_caps)}"


def _held_back(plan: MixturePlan) -> Iterator[str]:
    """Yield what the caps take away from the category that binds."""
    shares = [share for share in plan.sources if share.category == plan.binding]
    over = {s.source: s.have * plan.repeat_limit - s.cap for s in shares}
    capped = sorted((s for s in shares if over[s.source] > 0), key=lambda s: -over[s.source])
    category = next(row for row in plan.categories if row.category == plan.binding)
    if capped and category.allows_uncapped is not None:
        named = [f"{s.source} has {s.have:,}, its cap is {s.cap:,}" for s in capped[:_NAMED]]
        yield (
            f"without caps {plan.binding} would allow {category.allows_uncapped:,} "
            f"({', '.join(named)}{_more(len(capped))})"
        )


def _next(plan: MixturePlan) -> Iterator[str]:
    """Yield what would bind if the category that binds had more."""
    allows = {c.category: c.allows for c in plan.categories if c.category != plan.binding}
    others = sorted((size, category) for category, size in allows.items() if size is not None)
    if others and (plan.size_wanted is None or others[0][0] < plan.size_wanted):
        yield f"{others[0][1]} would bind next, at {others[0][0]:,}"


def _slipped(plan: MixturePlan) -> str:
    rows = [row for row in plan.categories if row.ratio_got != row.ratio_wanted]
    rows.sort(key=lambda row: -abs(row.ratio_got - row.ratio_wanted))
    named = [
        f"{row.category} {100 * row.ratio_got:.2f} % for {100 * row.ratio_wanted:.2f} %"
        for row in rows[:_NAMED]
    ]
    return ", ".join(named) + _more(len(rows))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_NAMED]) + _more(len(names))


def _more(count: int) -> str:
    return f" and {count - _NAMED} more" if count > _NAMED else ""
