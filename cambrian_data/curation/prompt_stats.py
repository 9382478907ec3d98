"""What system prompts did to a mixture: kinds of samples, and lengths of answers before and after.

Counts of one part (`count_prompts`) are bounded whatever the part holds, add up in any order, and
become the report of the mixture (`merge_prompt_stats`). Lengths are counted in bins: exact up to
64 words, then sixteen bins for every doubling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa

PROMPTS_VERSION = "2"
PROMPTED = ("short", "choice", "chat")
"""Kinds of prompts."""
BINS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
"""Greatest number of words of each bar of a histogram; one more bar holds what is longer."""
GROUPS = ("all", "before", "after")
"""Answers that are counted: all, and those of samples that ask for no form, before and after."""

_EXACT = 64
_STEPS = 16


class Kinds(IntEnum):
    """What a sample is to system prompts."""

    GIVEN = 0
    """It has a system prompt already."""
    HINTED = 1
    """A question asks for a form of answer."""
    CHOICE = 2
    """It shows options, and all answers are a letter."""
    SHORT = 3
    """All answers are short."""
    MEDIUM = 4
    """An answer is neither short nor whole sentences."""
    LONG = 5
    """All answers are whole sentences."""


def count_prompts(
    sources: pa.Array,
    kinds: np.ndarray,
    is_new: np.ndarray,
    *,
    answer_row: np.ndarray,
    words: np.ndarray,
) -> dict[str, Any]:
    """Count one batch.

    Args:
        sources: of every sample, strings [rows].
        kinds: of every sample, `Kinds` [rows].
        is_new: whether it got a prompt, bool [rows].
        answer_row: the sample of every answer, int [answers].
        words: of every answer, int [answers].
    Returns:
        {source: {samples, kinds, assigned, lengths: {group: {bin: answers}}, most: {group:
        words}}} under `sources`; plain JSON data.
    """
    encoded = sources.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    source = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    found: dict[str, Any] = {
        name: {
            "samples": 0,
            "kinds": {},
            "assigned": {},
            "lengths": {group: {} for group in GROUPS},
            "most": {},
        }
        for name in names
    }
    for code, count in enumerate(np.bincount(source, minlength=len(names)).tolist()):
        found[names[code]]["samples"] = count
    for key, rows in (("kinds", slice(None)), ("assigned", is_new)):
        for code, kind, count in _pairs(source[rows], kinds[rows], len(Kinds)):
            name = Kinds(kind).name.lower()
            name = "chat" if key == "assigned" and kind == Kinds.LONG else name
            found[names[code]][key][name] = count
    asks_no_form = kinds > Kinds.HINTED
    is_in = {"all": np.ones(len(kinds), dtype=bool), "before": asks_no_form}
    is_in["after"] = asks_no_form & ~is_new
    bins = _bins(words)
    for group, rows in is_in.items():
        chosen = rows[answer_row]
        of_source, length = source[answer_row[chosen]], words[chosen]
        most = np.full(len(names), -1, dtype=np.int64)
        np.maximum.at(most, of_source, length)
        for code in np.flatnonzero(most >= 0).tolist():
            found[names[code]]["most"][group] = int(most[code])
        for code, place, count in _pairs(of_source, bins[chosen], _num_bins()):
            found[names[code]]["lengths"][group][str(place)] = count
    return {"version": PROMPTS_VERSION, "sources": found}


def add_counts(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of several parts as one, in the same shape."""
    sources: dict[str, Any] = {}
    for part in parts:
        for name, more in part["sources"].items():
            have = sources.setdefault(name, {"samples": 0, "kinds": {}, "assigned": {}, "most": {}})
            lengths = have.setdefault("lengths", {group: {} for group in GROUPS})
            have["samples"] += more["samples"]
            for key in ("kinds", "assigned"):
                have[key] = dict(Counter(have[key]) + Counter(more[key]))
            for group in GROUPS:
                lengths[group] = dict(Counter(lengths[group]) + Counter(more["lengths"][group]))
                most = [side["most"][group] for side in (have, more) if group in side["most"]]
                have["most"] |= {group: max(most)} if most else {}
    return {"version": PROMPTS_VERSION, "sources": dict(sorted(sources.items()))}


def merge_prompt_stats(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is reported of a mixture, from the counts of all its parts in any order.

    Returns:
        version, assigned (samples by kind of prompt), bins (labels of the histograms' bars) and
        sources: for each its samples, those assigned, kinds, and the lengths in words of all its
        answers, and of those of samples that ask for no form, before and after the prompts.
    """
    total = add_counts(parts)
    assigned: Counter[str] = Counter()
    sources = {}
    for name, counts in total["sources"].items():
        assigned.update(counts["assigned"])
        lengths = {
            group: _lengths(counts["lengths"][group], counts["most"].get(group)) for group in GROUPS
        }
        quantiles = {key: lengths["all"][key] for key in ("p10", "p50", "p90", "max")}
        sources[name] = {
            "answer_words": quantiles,
            "unprompted_before": lengths["before"],
            "unprompted_after": lengths["after"],
            "samples": counts["samples"],
            "assigned": sum(counts["assigned"].values()),
            "kinds": dict(sorted(counts["kinds"].items())),
        }
    return {
        "version": PROMPTS_VERSION,
        "assigned": dict(sorted(assigned.items())),
        "bins": bin_labels(),
        "sources": sources,
    }


def bin_labels() -> list[str]:
    """Return the labels of a histogram's bars, in words."""
    lows = [0, *(most + 1 for most in BINS)]
    labels = [
        str(most) if low in (0, most) else f"{low}-{most}"
        for low, most in zip(lows, BINS, strict=False)
    ]
    return [*labels, f"> {BINS[-1]}"]


def _pairs(first: np.ndarray, second: np.ndarray, size: int) -> list[tuple[int, int, int]]:
    """Return every pair of numbers that there is, and how often; the second is below `size`."""
    keys, counts = np.unique(first * size + second, return_counts=True)
    pairs = zip((keys // size).tolist(), (keys % size).tolist(), counts.tolist(), strict=True)
    return list(pairs)


def _bins(words: np.ndarray) -> np.ndarray:
    """Return the bin of every length: itself, or counted on by sixteenths of a doubling."""
    exponent = np.frexp(np.maximum(words, _EXACT).astype(np.float64))[1].astype(np.int64) - 1
    step = (words >> np.maximum(exponent - 4, 0)) - _STEPS
    coarse = _EXACT + (exponent - 6) * _STEPS + step
    return np.where(words < _EXACT, words, np.minimum(coarse, _num_bins() - 1))


def _num_bins() -> int:
    return _EXACT + 26 * _STEPS


def _low(place: int) -> int:
    """Return the smallest number of words of a bin."""
    if place < _EXACT:
        return place
    exponent, step = divmod(place - _EXACT, _STEPS)
    return (_STEPS + step) << (exponent + 2)


def _lengths(bins: Mapping[str, int], most: int | None) -> dict[str, Any]:
    """Return quantiles (the low end of a bin; None of no answers) and a histogram."""
    lows = np.array([_low(int(place)) for place in bins], dtype=np.int64)
    counts = np.array(list(bins.values()), dtype=np.int64)
    order = np.argsort(lows)
    lows, upto = lows[order], np.cumsum(counts[order])
    total = int(counts.sum())
    bars = np.zeros(len(BINS) + 1, dtype=np.int64)
    np.add.at(bars, np.searchsorted(BINS, lows), counts[order])
    return {
        "answers": total,
        **_quantiles(lows, upto, total),
        "max": most,
        "histogram": bars.tolist(),
    }


def _quantiles(lows: np.ndarray, upto: np.ndarray, total: int) -> dict[str, int | None]:
    shares: Sequence[tuple[str, float]] = (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))
    if not total:
        return {name: None for name, _ in shares}
    places = {name: int(share * (total - 1)) for name, share in shares}
    return {
        name: int(lows[np.searchsorted(upto, place, side="right")])
        for name, place in places.items()
    }
