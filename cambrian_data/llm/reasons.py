"""Questions for reasons and meanings: why something is so, what follows, what a word means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cambrian_data.llm.clauses import (
    clauses,
)
from cambrian_data.llm.drafts import (
    Draft,
    agreeing,
    circumstance,
    subject_of,
)
from cambrian_data.llm.phrases import (
    CONJUNCTIONS,
    PREPOSITIONS,
    PRONOUNS,
    content_words,
    has_finite_verb,
    is_balanced,
    lower_first,
    sentences,
    stands_alone,
    tokens,
    upper_first,
)


def explain(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for the reason or the effect of something."""
    for rank, named, whole in ((0, 0, caption), (1, 1, text)):
        before = ""
        for sentence in sentences(whole):
            about = content_words(caption) & content_words(sentence)
            if len(about) >= named and stands_alone(sentence) and 7 <= len(sentence.split()) <= 45:
                yield from _reasons(sentence, text + caption, rank)
                yield from _therefore(before, sentence, text + caption, rank)
            before = sentence


_BECAUSE = re.compile(
    r"(.+?),?\s(because(?: of)?|due to|owing to|since|so that|(?:and )?so)\s(.+?)\."
)
_BACK = frozenset({"it", "they", "he", "she", "them", "this", "these", "that", "there"})


def _reasons(sentence: str, source: str, rank: int) -> Iterator[Draft]:
    if found := re.fullmatch(r"(?:Since|Because|As)\s([^,;:]+),\s([^;:]+)\.", sentence):
        if len(found[1].split()) >= 4 and _is_clause(found[2]) and has_finite_verb(found[1]):
            yield _why(found[2], f"Because {found[1]}.", source, rank)
        return
    for part in re.split(r";\s", sentence):
        found = _BECAUSE.fullmatch(f"{part.rstrip('.')}.")
        if not found or (part is not sentence and not sentence.startswith(part)):
            continue
        told, link, other = found.groups()
        if len(other.split()) < 2 or ";" in other or ": " in told + other or not is_balanced(other):
            continue
        if link in ("so that", "so", "and so"):
            yield from _effects(told, link, re.sub(r",\s(?:and|but)\s.*", "", other), source, rank)
        elif has_finite_verb(told) and _is_clause(told) and (link != "since" or ", since" in part):
            if link in ("because", "since") and not (has_finite_verb(other) or clause_in(other)):
                continue
            link = "because" if link == "since" else link
            yield _why(told, upper_first(f"{link} {other}."), source, rank)


def clause_in(text: str) -> bool:
    """Tell whether a text can be read as a clause."""
    return next(clauses(text), None) is not None


def _effects(told: str, link: str, effect: str, source: str, rank: int) -> Iterator[Draft]:
    words = tokens(effect)
    slots = {"clause": lower_first(told, source)}
    if link == "so that" and _is_clause(told) and has_finite_verb(told):
        if not _BACK & {*words[:1]}:
            yield Draft("explain/purpose", f"{upper_first(effect)}.", slots, rank)
        return
    is_known = _is_clause(effect) and clause_in(effect) and not _BACK & {*words}
    if link != "so that" and is_known and _is_clause(told) and len(told.split()) <= 25:
        yield _why(effect, f"Because {lower_first(told, source)}.", source, rank + 1)


def _therefore(before: str, sentence: str, source: str, rank: int) -> Iterator[Draft]:
    """Yield a draft for a sentence with `therefore`: the sentence before it is the reason."""
    found = re.fullmatch(r"([^,;:]+?)\s(?:therefore|thus)\s([^;:]+?)\.", sentence)
    shared = content_words(before) & content_words(sentence)
    if found and shared and stands_alone(before) and not _BACK & {*tokens(before)}:
        told = re.sub(r",\s(?:and|but)\s.*", "", f"{found[1]} {found[2]}")
        if _is_clause(told) and clause_in(told) and "not" not in tokens(told):
            yield _why(told, before, source, rank + 1)


def _why(told: str, answer: str, source: str, rank: int) -> Draft:
    """Return a draft that asks `Why does A do B?` where that can be formed, else around `that`."""
    clause = next(clauses(told), None)
    whole = clause and clause.text.strip(" .,") == told.strip(" .,")
    if clause and whole and "," not in clause.rest:
        do = agreeing(clause)["do" if clause.base else "is"] if clause.base else clause.verb
        lead = circumstance(clause, source)
        if bool(lead) == bool(clause.lead):
            body = f"{do} {subject_of(clause, source)} {clause.base}".strip()
            return Draft("explain/why", answer, {"does": f"{body} {clause.rest}{lead}"}, rank)
    return Draft("explain/reason", answer, {"clause": lower_first(told, source)}, rank + 1)


_NO_END = frozenset(
    {"not", "partly", "mainly", "probably", "only", "largely", "and", "is", "mostly", "primarily"}
    | {"just", "perhaps", "simply", "possibly", "was", "are", "were", "be", "part", "also", "in"}
)


def _is_clause(clause: str) -> bool:
    """Tell whether a clause can stand after `that`: one clause, its subject first."""
    words = tokens(clause)
    if not words or {"it", "they", "he", "she"} & {*words[:6]}:
        return False
    return (
        not re.search(r"[;:()\u2013\u2014]|, (?:and|but|or|so|which|who)\s", clause)
        and not re.match(r"(?:For|In|On|At|By|With|As|After|Before|To)\s[^,]*,", clause)
        and clause.count(",") <= 1
        and words[0] not in {"because", "if", "when", "while", "although"} | _NO_END | {"one"}
        and words[-1] not in _NO_END
    )


_DEFINITION = re.compile(
    r"^((?:(?:A|An|The)\s)?[A-Z]?[\w-]+(?:\s[\w-]+){0,3}?)\s(is|are)\s"
    r"((?:(?:a|an|any)\s(?!few|lot)|the\s(?:\w+\s){1,2}?(?:of|that|between|at which)\s)[^;:()]+)\.$"
)


def define(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for what a thing is that the caption, or its heading, names."""
    named = content_words(caption)
    topic = named | content_words(" ".join([*section[-1:], title]))
    for sentence in sentences(text):
        found = _DEFINITION.match(sentence)
        if not found or not stands_alone(sentence) or has_finite_verb(found[1]):
            continue
        content = content_words(found[1])
        is_plain = 4 <= len(found[3].split()) <= 40 and _opens_a_name(found[1])
        if content & named and content <= topic and is_plain:
            slots = {"verb": found[2], "term": lower_first(found[1], f"{text} {caption}")}
            family = "define/name" if re.search(r"\b[A-Z][a-z]", slots["term"]) else "define/term"
            yield Draft(family, sentence, slots, 0 if content <= named else 1)
    yield from _called(named, text)


def _opens_a_name(term: str) -> bool:
    return term.split()[0].lower() not in PREPOSITIONS | CONJUNCTIONS | (PRONOUNS - {"most"})


def _called(named: set[str], text: str) -> Iterator[Draft]:
    """Yield drafts for `the curves of pressure at fixed temperature are called isotherms`."""
    for sentence in sentences(text):
        found = re.match(r"((?:The|A|An)\s[^,;:]+?)\s(?:is|are) called\s([^,;:]+)\.$", sentence)
        if not found or not stands_alone(sentence) or len(found[1].split()) < 3:
            continue
        if not has_finite_verb(found[1]) and content_words(found[2]) & named:
            verb = "are" if " are called " in sentence else "is"
            yield Draft("define/term", sentence, {"verb": verb, "term": found[2]})
