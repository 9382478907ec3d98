"""Questions with a number for an answer: values with units, gaps, years, counts; and axes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cambrian_data.llm.clauses import (
    Clause,
    clauses,
    is_plural_noun,
    verb_phrases,
    without_brackets,
)
from cambrian_data.llm.drafts import (
    Draft,
    agreeing,
    caption_clauses,
    circumstance,
    subject_of,
)
from cambrian_data.llm.lexicon import COLOURS, COUNTS, DIMENSIONS, NUMBER, QUANTITIES, UNITS, VALUE
from cambrian_data.llm.phrases import (
    FINITE,
    STOP_WORDS,
    has_finite_verb,
    is_noun_phrase,
    lower_first,
    noun_phrase_before,
    phrase_end,
    related_sentences,
    sentences,
    stands_alone,
    tokens,
    upper_first,
)

_ABOUT = r"(?:about|around|approximately|roughly|nearly|only|some)\s"
_NO_RANGE = r"(?!,? (?:and|or|to) [\d\u2212-]|, \d)"
_NAMED = r"(?:the\s)?[A-Za-z][\w'-]*(?:\s(?!and\b|to\b|over\b|while\b|but\b|with\b)[\w'-]+){0,3}?"
_PAIR = re.compile(
    rf"(?<![\w.,])({VALUE}|{NUMBER}(?=\sfor\s)|\d+\.\d+(?=\sat\s)),?"
    rf"\s(at|for|after|near|in)\s({VALUE}|{_NAMED})"
    r"(?:\s\([^()]*\))?(?=[,;.:]|$|\s(?:and|to|over|but|while)\s)"
)
_HOLDING = frozenset(
    {"rises", "falls", "goes", "moves", "reaches", "drops", "decreases", "increases", "grows"}
    | {"climbs", "rise", "fall", "go", "move", "reach", "drop", "decrease", "increase", "grow"}
)


def value(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for values with units that stand in the caption."""
    once = [
        *_of_quantity(caption),
        *_of_clauses(caption),
        *_of_things(caption),
        *_extents(caption),
        *_parameters(caption),
    ]
    asked_of_clause = {draft.slots["at"] for draft in once if "at" in draft.slots}
    yield from once
    for found in _PAIR.finditer(caption):
        given, link, condition = found.groups()
        is_last = re.search(r"\d[^\s,]*(?:\s\S+)?,?\s(?:and|or|to)\s$", caption[: found.start()])
        is_last = is_last or re.search(r"\bthose\b[^.;]*$", caption[: found.start()])
        if condition in asked_of_clause or (is_last and link != "after"):
            continue
        if _is_condition(condition, link, caption):
            slots = {"what": dimension(given, caption), "link": link, "at": condition}
            several = link == "in" and len(re.findall(rf"\((?:{COLOURS})\)", caption)) > 1
            if several or (slots["what"] == "time" and link in ("at", "near")):
                continue
            yield Draft("value/pair", given, slots, 1)


def dimension(given: str, caption: str) -> str:
    """Return what a value measures, such as `temperature`; `value` where that is not sure."""
    unit = re.sub(rf"^{NUMBER}(?:\s?[\u2013-]\s?\d+(?:[.,]\d+)*)?[ \u00a0]?", "", given)
    if given.startswith("pH"):
        return "pH"
    if unit == "nm" and re.search(r"\b(?:light|rays?|spectr\w+|wave\w*|lines?)\b", caption):
        return "wavelength"
    for name, units in DIMENSIONS.items():
        if re.fullmatch(units, unit):
            return name
    return "value"


def _is_condition(condition: str, link: str, caption: str) -> bool:
    """Tell whether a value is told apart by what it is given for."""
    if caption.count(condition) != 1 or (link == "in" and not condition[0].isupper()):
        return False
    if condition[0].isdigit() or condition[0] in "-\u2212":
        return True
    words = condition.lower().split()
    return not (
        {*words} & (FINITE | {"each", "every", "it", "them", "this", "these", "both", "least"})
        or words[-1] in STOP_WORDS
        or (len(words) == 1 and (is_plural_noun(words[0]) or words[0] in ("first", "rest")))
    )


def _of_quantity(caption: str) -> Iterator[Draft]:
    pattern = (
        rf"\b((?:an?|the|its)\s)?((?:(?!of|at|with|and|in|to|by)[a-z]+\s)?(?:{QUANTITIES}))\sof\s"
        rf"(?:{_ABOUT})?({VALUE}){_NO_RANGE}"
    )
    found = list(re.finditer(pattern, caption))
    names = [match[2] for match in found]
    for match in found:
        article, quantity, given = match.groups()
        before = caption[: match.start()]
        is_aside = before.endswith((" at ", " which is "))
        if is_aside or names.count(quantity) > 1 or caption.count(given) > 1:
            continue
        owner = noun_phrase_before(before[: -len("with ")]) if before.endswith("with ") else None
        if owner and not is_plural_noun(owner.split()[-1]):
            slots = {"quantity": quantity, "owner": f"the {lower_first(owner, owner.lower())}"}
            yield Draft("value/owned", given, slots)
        elif article or quantity in QUANTITIES:
            yield Draft("value/quantity", given, {"quantity": quantity})


def _of_clauses(caption: str) -> Iterator[Draft]:
    for _, whole in caption_clauses(caption):
        for clause in verb_phrases(whole):
            slots = agreeing(clause) | {
                "subject": subject_of(clause, caption),
                "when": circumstance(clause, caption),
            }
            if clause.lead and not slots["when"] and not clause.lead.startswith("From"):
                continue
            yield from _being(clause, caption, slots)
            yield from _at_value(clause, caption, slots)
            if clause.verb in _HOLDING:
                yield from _pairs_of(clause, caption, slots)


def _being(clause: Clause, caption: str, slots: dict[str, str]) -> Iterator[Draft]:
    """Yield drafts for `the barrier is 80 kJ/mol` and `the gap is 36 s at a distance of 300 km`."""
    when = r"(\s(?:at|for|after|in|with)\s[^,;()]+)?(?=[,;]|$)"
    found = re.match(rf"(?:{_ABOUT})?({VALUE}){when}", clause.rest)
    if found and clause.verb in ("is", "was") and caption.count(found[1]) == 1:
        when = (found[2] or "") + slots["when"]
        yield Draft("value/being", found[1], slots | {"when": when})


def _at_value(clause: Clause, caption: str, slots: dict[str, str]) -> Iterator[Draft]:
    """Yield drafts for `the ball lands at 92 m` and the like."""
    found = re.match(
        rf"((?:[a-z-]+\s){{0,3}}?)(at|by|after|near|through)\s(?:{_ABOUT})?({VALUE})(?=[\s,;.]|$)",
        without_brackets(clause.rest),
    )
    has_verb = clause.base or clause.verb in ("is", "are")
    if not found or caption.count(found[3]) != 1 or not has_verb:
        return
    what, way = dimension(found[3], caption), found[1].strip()
    is_vague = what == "value" or (what == "time" and found[2] == "at")
    if is_vague or {*way.split()} & (STOP_WORDS - {"off", "up", "down", "out"}):
        return
    do = slots["do"] if clause.base else slots["is"]
    verb = " ".join(word for word in (clause.base, way) if word)
    slots = slots | {"link": found[2], "Link": upper_first(found[2]), "what": what}
    yield Draft("value/at", found[3], slots | {"do": do, "verb": verb})


def _pairs_of(clause: Clause, caption: str, slots: dict[str, str]) -> Iterator[Draft]:
    """Yield drafts for `falls from 15 K at the ground to 9 K at 11 km`."""
    for found in _PAIR.finditer(clause.rest):
        given, link, condition = found.groups()
        if _is_condition(condition, link, caption) and link in ("at", "near", "after", "for"):
            yield Draft("value/course", given, slots | {"link": link, "at": condition})


_LENGTHS = "string|rod|pendulum|coil|wire|pipe|rope|tube|beam|bridge|river|cable|spring|chain|rail"


def _of_things(caption: str) -> Iterator[Draft]:
    """Yield drafts for `a 9 V battery` and `a resistor R of 10 Ohm`."""
    thing = r"\b(?:[Aa]n?|[Tt]he|[Oo]ne)\s((?:[a-z-]+\s){0,2}?[a-z-]+)(?:\s[A-Z])?"
    for found in re.finditer(rf"{thing}\sof\s({VALUE}){_NO_RANGE}", caption):
        yield from _measure(found[1], found[2], caption)
    for found in re.finditer(rf"\b(?:an?|the)\s({VALUE})\s([a-z-]+)(?=[\s,;.])", caption):
        yield from _measure(found[2], found[1], caption)


def _measure(thing: str, given: str, caption: str) -> Iterator[Draft]:
    words, what = thing.split(), dimension(given, caption)
    is_quantity = re.fullmatch(rf".*\b(?:{QUANTITIES}|light|total|factor|share)", thing)
    if is_quantity or {*words} & STOP_WORDS:
        return
    if what == "distance":
        what = "length" if re.fullmatch(_LENGTHS, words[-1]) else "size"
    is_only = caption.count(given) == 1 and len(re.findall(rf"\b{words[-1]}", caption)) == 1
    if what in _MEASURES and is_only:
        yield Draft("value/owned", given, {"quantity": what, "owner": f"the {thing}"})


_MEASURES = frozenset(
    {"length", "size", "voltage", "resistance", "capacitance", "frequency", "power"}
)


def _extents(caption: str) -> Iterator[Draft]:
    """Yield drafts for `a coil, 10 cm long` and `two slits that are 0.2 mm apart`."""
    far = r"(long|wide|high|tall|deep|thick|apart)\b"
    pattern = rf",?(?:\s(?:that\s)?(is|are))?\s(?:{_ABOUT})?({VALUE})\s{far}"
    for found in re.finditer(pattern, caption):
        before = without_brackets(re.split(r"[;:.]\s", caption[: found.start()])[-1])
        if " of " in before and (inner := noun_phrase_before(before.rsplit(" of ", 1)[0])):
            thing: str | None = inner
        else:
            thing = noun_phrase_before(before)
        if not thing or caption.count(found[2]) != 1 or len(re.findall(found[3], caption)) > 1:
            continue
        many = is_plural_noun(thing.split()[-1])
        if many != (found[3] == "apart") and found[1] != ("are" if many else "is"):
            continue
        far = "far apart" if found[3] == "apart" else found[3]
        thing = lower_first(thing, thing.lower())
        slots = {"far": far, "is": "are" if many else "is", "thing": thing}
        yield Draft("value/extent", found[2], slots)


def _parameters(caption: str) -> Iterator[Draft]:
    """Yield drafts for `the blue curve (n = 2)`."""
    for found in re.finditer(r"\s\(([^\W\d_])\s?=\s?(\d+(?:\.\d+)?)\)", caption):
        thing = noun_phrase_before(caption[: found.start()])
        if thing and thing.split()[-1] not in ("one", "ones"):
            yield Draft("value/parameter", found[2], {"symbol": found[1], "thing": f"the {thing}"})


def gap(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield statements of caption and prose with one value left out."""
    for sentence in sentences(caption):
        whole = sentence if sentence[-1] in ".!?" else f"{sentence}."
        yield from _gaps(whole, 3, 0)
        for piece in sentence.split("; ") if "; " in sentence else ():
            if next(clauses(piece), None) is None:
                continue
            yield from _gaps(f"{upper_first(piece.rstrip('.'))}.", 3, 1)
    for sentence in related_sentences(caption, text):
        yield from _gaps(sentence, 1, 2)


def _gaps(sentence: str, max_values: int, rank: int) -> Iterator[Draft]:
    values = [found for found in re.finditer(VALUE, sentence) if _can_be_left_out(found, sentence)]
    if not 1 <= len(re.findall(VALUE, sentence)) <= max_values or not values:
        return
    if not 6 <= len(sentence.split()) <= 36 or not stands_alone(sentence):
        return
    if has_finite_verb(sentence):
        found = values[len(sentence) % len(values)]
        before, after = sentence[: found.start()], sentence[found.end() :]
        yield Draft("gap/value", found[0], {"gap": f'"{before}____{after}"'}, rank)


def _can_be_left_out(found: re.Match[str], sentence: str) -> bool:
    before, after = sentence[: found.start()], sentence[found.end() :]
    is_decade = re.fullmatch(r"\d{4}s", found[0])
    is_part = before[-1:].strip("(\u2212 ") or after[:1].isalnum() or after[:1] == "-"
    gives_away = after.startswith(" (") or re.search(r"\bor $", before)  # a conversion
    return not (is_decade or is_part or gives_away) and sentence.count(found[0]) == 1


def date(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield a question for the only year that a caption names."""
    no_unit = rf"(?![\w\u2013-]|[.,]\d|[ \u00a0]?{UNITS}\b)"
    years = re.findall(rf"(?<![\w.,\u2013-])(1[5-9]\d\d|20[0-4]\d){no_unit}", caption)
    if len(years) == 1 and re.search(
        rf"\b(?:in|from|of|since|by|circa|c\.)\s(?:\w+\s)?{years[0]}", caption
    ):
        yield Draft("date/year", years[0])


def count(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for how many of something the caption speaks of."""
    pattern = rf"\b({COUNTS})\s((?:[a-z]+(?:-[a-z]+)?\s){{0,2}}?[a-zA-Z]+s)\b(?![-'])"
    for number, sentence in enumerate(sentences(caption)):
        for found in re.finditer(pattern, sentence, re.IGNORECASE):
            things, before = found[2], sentence[: found.start()]
            words = things.lower().split()
            if not _is_countable(words, before, sentence[found.end() :]):
                continue
            shown = number == 0 and not has_finite_verb(before) and not before.strip().endswith(")")
            is_shown = shown and re.fullmatch(
                r"(?:.*\b(?:of|with|showing|shows|and)\s)?(?:the\s)?", before
            )
            family = "count/shown" if is_shown else "count/mentioned"
            things = things if re.search(r"[A-Z]{2}", things) else things.lower()
            if before.endswith(" at "):
                family = "count/covered"
            if each := re.match(r"\s((?:in|on) each\s[a-z]+)\b", sentence[found.end() :]):
                yield Draft("count/each", found[1], {"things": things, "each": each[1]})
                continue
            yield Draft(family, found[1].lower(), {"things": things}, 0 if is_shown else 1)


_NOT_COUNTED = frozenset(
    {"times", "others", "thirds", "parts", "hundreds", "thousands", "lengths", "wavelengths"}
    | {"diameters", "radii", "halves", "quarters", "elements", "moments", "fifths", "units"}
)


def _is_countable(words: Sequence[str], before: str, after: str) -> bool:
    if any(word in STOP_WORDS | FINITE or word.endswith("ly") for word in words):
        return False
    if re.fullmatch(UNITS, words[-1]) or words[-1].endswith(("ss", "us", "is", "ics")):
        return False
    if words[-1] in _NOT_COUNTED - {"elements"} or (words[0] in ("first", "last", "of")):
        return False
    last = tokens(before)[-1:] or [""]
    is_part = last[0] in ("than", "figure", "table", "step", "part", "type", "phase", "no")
    return (
        not is_part
        and not re.search(r"[\d.,/\u2013-]\s*$", before)
        and not re.search(r"\b(?:one|some|each|any|other|next|last) (?:of )?(?:the )?$", before)
        and not _NOT_THE_TOTAL.match(after)
    )


_NOT_THE_TOTAL = re.compile(
    r"\s(?:(?:of |at |for )?each\b|per\b|(?:and|or|to)\s\w+\s(?:times|years))"
)


def axis(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for what is drawn against what."""
    first = (sentences(caption) or [""])[0].rstrip(".")
    found = re.match(r"(.+?)\s(?:against|versus|vs\.?|as a function of)\s(.+)", first)
    if not found or ":" in found[1]:
        return
    upright = re.sub(r"^.*\b(?:drawn|plotted) as\s", "", found[1])
    upright = re.sub(r"^(?:Graph|Plot|Diagram) of (?:the )?", "", upright)
    ends = rf"\son\s[a-z-]+\s(?:axes|scales?)|\s(?:of|for|in)\s(?:an?\s|the (?:{COUNTS})\s)"
    level = re.split(ends, phrase_end(found[2]))[0]
    quantity = rf"\b(?:{QUANTITIES}|time|number|rate|share|gain|intensity|index|entropy)\b"
    if not re.search(quantity, f"{upright} {level}", re.IGNORECASE):
        return
    if is_noun_phrase(upright) and is_noun_phrase(level) and "," not in upright:
        level = re.sub(r"^the\s", "", level)
        article = "the " if " of " in upright else ""
        named = lower_first(upright, f"{text} {caption}")
        if re.match(r"[A-Z][a-z]+est\s[a-z]", named):
            named = named[:1].lower() + named[1:]
        slots = {"upright": article + named, "level": lower_first(level, text)}
        yield Draft("axis/upright", upper_first(upright), slots)
        yield Draft("axis/level", upper_first(level), slots)
