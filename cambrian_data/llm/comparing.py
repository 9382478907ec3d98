"""Questions that tell things apart or set them against each other: which is more, what differs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cambrian_data.llm.clauses import (
    Clause,
    clauses,
    is_plural_noun,
    parse,
    verb_phrases,
    without_brackets,
)
from cambrian_data.llm.drafts import (
    Draft,
    agreeing,
    caption_clauses,
    circumstance,
    predicate,
    subject_of,
)
from cambrian_data.llm.lexicon import COLOURS, COUNTS, MARKS
from cambrian_data.llm.phrases import (
    CONJUNCTIONS,
    PREPOSITIONS,
    PRONOUNS,
    has_finite_verb,
    is_balanced,
    lower_first,
    related_sentences,
    sentences,
    stands_alone,
    tokens,
    upper_first,
)

_DEGREE = (
    r"(?:(?:much|far|slightly|about [\w.]+ times|considerably|usually|often|generally)\s)*"
    r"(?:[a-z]+er|more [a-z]+|less [a-z]+|better|worse)"
)
_COMPARISON = re.compile(
    r"^((?:The|A|An|[A-Z][\w-]+)(?:\s[\w'-]+){0,5}?)\s(is|are|was|were)\s"
    rf"({_DEGREE})\sthan\s([^,;:()]+?)"
    r"(?=[,;:]|\.$|\s(?:because|when|while|and|but|so|since|as|if|at|due)\b)"
)


def compare(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions that set two things of a caption, or of the prose, against each other."""
    yield from _utmost(caption)
    yield from _times_as(caption)
    yield from _in_common(caption)
    yield from _contrast(caption)
    prose = (text, 1, related_sentences(caption, text, min_words=1))
    for source, rank, found in ((caption, 0, iter(sentences(caption))), prose):
        for sentence in found:
            yield from _which_is_more(sentence, source, rank)


def _which_is_more(sentence: str, source: str, rank: int) -> Iterator[Draft]:
    found = _COMPARISON.match(sentence)
    if not found or not stands_alone(sentence):
        return
    first, verb, degree, second = found.groups()
    vague = PRONOUNS | {"expected", "that", "usual", "before", "one", "half"}
    first_word = first.split()[0].lower()
    if {*tokens(second)} & vague or first_word in PRONOUNS | CONJUNCTIONS | PREPOSITIONS - {
        "a",
        "the",
    }:
        return
    if verb == "are" and is_plural_noun(first_word):
        first = first_word + first[len(first_word) :]  # a common noun, so no name
    if not has_finite_verb(f"{first} {second}") and len(second.split()) <= 6:
        slots = {"first": lower_first(first, source), "second": second}
        slots |= {"verb": verb, "degree": degree}
        yield Draft("compare/which", upper_first(first), slots, rank)


_UTMOST = re.compile(
    r"\b(?!rest\b|west\b|test\b|forest\b|interest\b|request\b)(?:[a-z]{2,}est"
    r"|most [a-z]+ly|least|by far)\b|(?<!at )\bfirst$|(?<!at )\blast$"
)


def which(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for the subject of a statement: which ray leaves the water."""
    for clause, slots in _told_apart(caption):
        if not _UTMOST.search(slots["does"]) and len(slots["does"].split()) >= 3:
            several = len(re.findall(rf"\b{re.escape(clause.head.rstrip('s'))}", caption)) > 1
            is_mark = re.search(rf"\b(?:{COLOURS})\s(?:{MARKS})\b", clause.subject)
            is_plain = clause.verb in ("is", "are", "has", "have")
            if (several or is_mark) and not is_plain and not _NO_CHOICE.match(clause.subject):
                yield Draft("which/does", upper_first(clause.subject), slots)


_NO_CHOICE = re.compile(rf"(?:an?|each|every|all|both|(?:the )?(?:{COUNTS}))\s", re.IGNORECASE)


def _utmost(caption: str) -> Iterator[Draft]:
    """Yield drafts for `the red throw goes farthest`: which throw goes farthest."""
    for clause, slots in _told_apart(caption):
        most = _UTMOST.search(slots["does"])
        if most and most[0][:-3] not in tokens(clause.subject):
            yield Draft("compare/utmost", upper_first(clause.subject), slots)


_ARTICLE = re.compile(r"(?:the|an?)\s", re.IGNORECASE)


def _told_apart(caption: str) -> Iterator[tuple[Clause, dict[str, str]]]:
    """Yield clauses whose subject can be asked for, with what asks for it."""
    for _, whole in caption_clauses(caption):
        for clause in verb_phrases(whole):
            rest = predicate(clause)
            tells_apart = clause.subject.lower() not in (f"the {clause.head}", clause.head.lower())
            is_name = clause.subject[0].isupper() and clause.subject == clause.head
            is_name = is_name or not (clause.is_plural or _ARTICLE.match(clause.subject))
            if not rest or clause.lead or re.search(r"\bthe \w+est$", rest):
                continue
            what = f"Which {clause.head}" if tells_apart and not is_name else "What"
            if tells_apart or is_name:
                lower = what[:1].lower() + what[1:]
                yield clause, {"what": what, "lower": lower, "does": f"{clause.verb} {rest}"}


def _times_as(caption: str) -> Iterator[Draft]:
    """Yield drafts for `the red line falls twice as steeply as the blue one`."""
    pattern = (
        r"((?:about )?(?:twice|half|[\w.]+ times) as ([a-z]+))(?: as ((?:the|at|in|for)\s[^,;]+))?$"
    )
    for _, clause in caption_clauses(caption):
        found = re.match(pattern, re.sub(r"[,;]\s.*", "", without_brackets(clause.rest)))
        if not found or found[2] in ("many", "much") or clause.lead:
            continue
        if not found[3]:
            continue
        than = f" compared with {found[3]}"
        do = agreeing(clause)["do" if clause.base else "is"]
        does = f"{do} {subject_of(clause, caption)} {clause.base}".strip()
        slots = {"how": found[2], "does": does, "than": than}
        yield Draft("compare/times", upper_first(found[1]), slots)


def _in_common(caption: str) -> Iterator[Draft]:
    for sentence, clause in caption_clauses(caption):
        rest = clause.rest
        if clause.is_plural and re.match(r"(?:parallel$|the same\b|equally\b|all \w+ at\b)", rest):
            things = re.sub(r"^(?:all|both)\s(?:the\s)?", "the ", subject_of(clause, caption))
            answer = f"{clause.text.rstrip('.')}."
            if sentence.startswith(clause.text) and is_balanced(answer):
                yield Draft("compare/common", answer, {"things": things})


def _contrast(caption: str) -> Iterator[Draft]:
    """Yield drafts for a sentence that tells of two things of one sort, one after the other."""
    for sentence in sentences(caption):
        yield from _cases(sentence, caption)
        found = list(clauses(sentence))
        if len(found) < 2 or not sentence.endswith("."):
            continue
        one, other = found[:2]
        is_set_off = re.search(r",\s(?:while|whereas|but|the)\s|;\s", sentence)
        alike = one.head.lower() == other.head.lower()
        alike = alike and one.subject.lower() != other.subject.lower()
        alike = alike or bool(re.search(r",\s(?:while|whereas)\s", sentence))
        is_whole = sentence.startswith(one.text)
        if is_set_off and is_whole and alike and not one.lead and not other.lead:
            slots = {"first": subject_of(one, caption), "second": subject_of(other, caption)}
            yield Draft("compare/contrast", sentence, slots)


def _cases(sentence: str, caption: str) -> Iterator[Draft]:
    """Yield drafts for `Without air the ball lands at 92 m; with air it lands at 42 m.`"""
    parts = re.split(r";\s(?:and\s)?|,\s(?:but|while|whereas)\s", sentence.rstrip("."))
    if len(parts) != 2 or not sentence.endswith("."):
        return
    one, other = (parse(part) for part in parts)
    if one and other and one.lead and other.lead:
        cases = [circumstance(clause, caption).split() for clause in (one, other)]
        if all(words and words[0] in PREPOSITIONS for words in cases):
            first, second = (" ".join(words) for words in cases)
            yield Draft("compare/cases", sentence, {"first": first, "second": second})
