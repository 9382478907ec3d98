"""Questions with a whole sentence for an answer, of caption or prose; and the heading above."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cambrian_data.llm.clauses import (
    Clause,
    clauses,
    without_brackets,
)
from cambrian_data.llm.drafts import (
    Draft,
    agreeing,
    circumstance,
    subject_of,
)
from cambrian_data.llm.lexicon import COLOURS, GENERIC, VAGUE_HEADINGS
from cambrian_data.llm.phrases import (
    FINITE,
    STOP_WORDS,
    content_words,
    is_balanced,
    is_noun_phrase,
    lower_first,
    sentences,
    stands_alone,
    tokens,
    upper_first,
)


def describe(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions that a whole statement of the caption answers."""
    return (draft for draft in _statements(caption) if draft.family == "describe/statement")


def behave(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for how something runs or changes, answered by a statement of the caption."""
    return (draft for draft in _statements(caption) if draft.family == "behave/course")


def _statements(caption: str) -> Iterator[Draft]:
    for sentence in sentences(caption):
        found = list(clauses(sentence))
        if not sentence.endswith(".") or not stands_alone(f"{sentence[:1].upper()}{sentence[1:]}"):
            continue
        for number, clause in enumerate(found):
            text_of = clause.text.strip()
            answer = f"{upper_first(text_of.rstrip('.'))}."
            if len(answer.split()) < 6 or not is_balanced(answer) or _points_back(answer, clause):
                continue
            slots = {"thing": subject_of(clause, caption), "when": circumstance(clause, caption)}
            slots |= agreeing(clause)
            family = "behave/course" if clause.base in _HAPPENS else "describe/statement"
            yield Draft(family, answer, slots, number)


_HAPPENS = frozenset(
    [
        "rise",
        "fall",
        "grow",
        "shrink",
        "move",
        "drop",
        "climb",
        "increase",
        "decrease",
        "widen",
        "narrow",
        "bend",
        "turn",
        "swing",
        "leap",
        "vary",
        "change",
        "fade",
        "stretch",
    ]
)


def _points_back(answer: str, clause: Clause) -> bool:
    """Tell whether an answer speaks of something that only another sentence names."""
    words = tokens(answer)
    starts_back = bool({*words[:3]} & _BACK)
    names_other = bool({*words} & {"them", "former", "latter", "those"})
    return starts_back or names_other or _TWO_COLOURS.match(clause.subject) is not None


_BACK = frozenset({"it", "they", "he", "she", "them", "this", "these", "that", "there"})
_TWO_COLOURS = re.compile(rf"(?:{COLOURS}) and", re.IGNORECASE)


def context(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions that a sentence of the prose on a thing in the caption answers."""
    shown = content_words(caption)
    for sentence in sentences(text):
        if not stands_alone(sentence) or not 8 <= len(sentence.split()) <= 40:
            continue
        words = sentence.split()
        parsed = next(clauses(sentence), None)
        verb = next((at for at, word in enumerate(words) if word.lower() in FINITE), 0)
        subject = " ".join(words[:verb])
        if parsed and not parsed.lead and sentence.startswith(parsed.subject):
            subject = parsed.subject
        about = content_words(subject) - GENERIC
        topic_words = shown | content_words(" ".join([*section[-1:], title]))
        is_known = bool(about & shown) and content_words(subject) <= topic_words
        is_known = is_known and not _ADDS & {*tokens(sentence)}
        is_known = is_known and words[0] not in _NO_THING and len(subject.split()) <= 6
        if is_known and is_noun_phrase(subject) and not re.search("[,;(]", subject):
            shared = len(shown & content_words(sentence))
            thing = lower_first(subject, f"{text} {caption}")
            yield Draft("context/about", sentence, {"thing": thing}, -shared)


_ADDS = frozenset(
    {"again", "too", "also", "either", "likewise", "instead", "therefore", "thus", "however"}
)
_NO_THING = frozenset({"Each", "Every", "Some", "Any", "No", "All", "Its", "Their", "Our", "Few"})


def topic(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield a question for the heading that the figure stands under."""
    heading = section[-1] if section else title
    words = [word for word in tokens(heading) if word not in STOP_WORDS]
    if not words or heading.strip().lower() in VAGUE_HEADINGS or len(heading.split()) > 8:
        return
    is_shown = bool(content_words(heading) & content_words(caption))
    if is_shown and heading[:1].isalpha() and re.fullmatch(r"[\w\s'\u2019,-]+", heading):
        yield Draft("topic/section", without_brackets(heading.strip()))
