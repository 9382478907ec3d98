"""Mixtures that differ in a setting or two: the plans of a study, side by side.

`--sweep cap=150000,250000` is one plan for every value; several of them one for every combination.
Only plans are made: no sample is chosen, so a study of a pool of any size takes milliseconds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from cambrian_data.curation.mixing.plan import MixtureConfig, MixturePlan
from cambrian_data.records import UserError

ALIASES = {"cap": "max_per_source", "min": "min_per_source"}
"""Short names of fields."""

MAPPINGS = ("caps", "ratios")
"""Fields that a sweep sets one entry of: `caps.SOURCE`, `ratios.CATEGORY`."""

LISTS = ("sources",)
"""Fields that a sweep cannot set, since commas stand between its values."""

MAX_VARIANTS = 1000
"""More plans than this are taken for a mistake."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One mixture of a sweep."""

    label: str
    """What it sets, as it was written: `cap=150000`, or several with spaces between."""
    slug: str
    """The label as a file name."""
    config: MixtureConfig


def parse_sweep(texts: str | Sequence[str], base: MixtureConfig) -> list[Variant]:
    """Return the mixtures of a sweep, in the order of their values.

    Args:
        texts: `FIELD=VALUE,VALUE,...`, one or several; of several, every combination is taken.
        base: what all of them share.
    Raises:
        UserError: no such field, a value that does not fit it, the same twice, or too many.
    """
    axes = [_axis(text) for text in ([texts] if isinstance(texts, str) else texts)]
    names = [field for field, _ in axes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"--sweep: {', '.join(sorted(twice))} is given twice: list all its values")
    count = 1
    for _, values in axes:
        count *= len(values)
    if count > MAX_VARIANTS:
        raise UserError(f"--sweep: that is {count:,} plans, and {MAX_VARIANTS:,} are allowed")
    variants = []
    for chosen in itertools.product(*(values for _, values in axes)):
        label = " ".join(written for written, _ in chosen)
        settings = dict(zip(names, (value for _, value in chosen), strict=True))
        variants.append(Variant(label, "", _config(base, settings, label)))
    return _with_slugs(variants)


def compare(plans: Iterable[tuple[str, MixturePlan]]) -> list[dict[str, Any]]:
    """Return one row for every plan: its size, what binds, how far ratios slip, and every category.

    Every row has the same keys, `take.CATEGORY` and `ratio.CATEGORY` of all plans' categories last.
    """
    plans = list(plans)
    names = sorted({share.category for _, plan in plans for share in plan.categories})
    return [_row(label, plan, names) for label, plan in plans]


# ---------------------------------------------------------------------------------- pieces


def _axis(text: str) -> tuple[str, list[tuple[str, Any]]]:
    """Return a field, and its values each with how it was written (`cap=150000`)."""
    written, equals, values = text.rpartition("=")  # a source's name may hold a =, no value does
    written = written.strip()
    items = [item.strip() for item in values.split(",")]
    if not equals or not written or not all(items):
        raise UserError(f"--sweep {text!r}: write it as cap=150000,250000")
    if twice := {item for item in items if items.count(item) > 1}:
        raise UserError(f"--sweep {text!r}: {', '.join(sorted(twice))} stands in it twice")
    return _field(written, text), [(f"{written}={item}", _value(item, text)) for item in items]


def _field(written: str, text: str) -> str:
    head, dot, entry = written.partition(".")
    head = ALIASES.get(head, head)
    single = [name for name in MixtureConfig.model_fields if name not in (*MAPPINGS, *LISTS)]
    if dot and head in MAPPINGS and entry:
        return f"{head}.{entry}"
    if not dot and head in single:
        return head
    raise UserError(
        f"--sweep {text!r}: {written!r} cannot be swept; these can: "
        f"{', '.join([*ALIASES, *single])}, caps.SOURCE, ratios.CATEGORY"
    )


def _value(item: str, text: str) -> Any:
    try:
        value = yaml.safe_load(item)
    except yaml.YAMLError:
        raise UserError(f"--sweep {text!r}: {item!r} is not a YAML value") from None
    if isinstance(value, list | dict):
        raise UserError(f"--sweep {text!r}: {item!r} is a {type(value).__name__}, not one value")
    return value


def _config(base: MixtureConfig, settings: Mapping[str, Any], label: str) -> MixtureConfig:
    data = base.model_dump()
    for field, value in settings.items():
        head, dot, entry = field.partition(".")
        data[head] = {**(data[head] or {}), entry: value} if dot else value
    try:
        return MixtureConfig.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(["mixture", *(str(part) for part in problem["loc"])])
        message = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"--sweep {label}: {where}: {message}") from None


def _with_slugs(variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants with names for files, numbered where two would have the same."""
    found: list[Variant] = []
    taken: set[str] = set()
    for variant in variants:
        short = re.sub(r"[^\w.=-]+", "_", variant.label, flags=re.ASCII)[:100]
        slug, number = short, 2
        while slug.casefold() in taken:  # not every file system tells cases apart
            slug, number = f"{short}-{number}", number + 1
        taken.add(slug.casefold())
        found.append(Variant(variant.label, slug, variant.config))
    return found


def _row(label: str, plan: MixturePlan, categories: Sequence[str]) -> dict[str, Any]:
    shares = {share.category: share for share in plan.categories}
    takes = {f"take.{name}": shares[name].take if name in shares else 0 for name in categories}
    ratios = {
        f"ratio.{name}": shares[name].ratio_got if name in shares else 0.0 for name in categories
    }
    given = [share for share in plan.sources if share.take]
    return {
        "label": label,
        "size": plan.size,
        "size_wanted": plan.size_wanted,
        "binds": plan.binds,
        "binding": plan.binding,
        "binding_size": plan.binding_size,
        "slip": plan.slip,
        "sources": len({share.source for share in given}),
        "sources_capped": len({s.source for s in given if s.take == s.cap < s.have}),
        "repeated": sum(max(0, share.take - share.have) for share in plan.sources),
        **takes,
        **ratios,
    }
