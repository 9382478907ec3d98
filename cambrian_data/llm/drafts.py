"""What every kind of question yields: drafts, and the small things that all kinds need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cambrian_data.llm.clauses import Clause, clauses, is_plural_noun, without_brackets
from cambrian_data.llm.lexicon import COLOURS, COUNTS
from cambrian_data.llm.phrases import PRONOUNS, is_balanced, lower_first, sentences, tokens


@dataclass(frozen=True, slots=True)
class Draft:
    """A question that is not worded yet; of two, the one of lower rank is the surer."""

    family: str
    answer: str
    slots: dict[str, str] = field(default_factory=dict)
    rank: int = 0


Kind = Callable[[str, str, Sequence[str], str], Iterator[Draft]]
"""(caption, prose, section, page title) to drafts."""

_TAIL = re.compile(
    r"(?:[,;:]\s|[,;:]$|\s[\u2013\u2014-]\s"
    r"|,?\s(?:which|where|who|whose|that|because|while|when)\s).*"
)
_POINTS_BACK = PRONOUNS | {"its", "their", "his", "her", "same", "then", "again"}


def caption_clauses(caption: str) -> Iterator[tuple[str, Clause]]:
    """Yield the clauses of a caption, each with its sentence."""
    for sentence in sentences(caption):
        for clause in clauses(sentence):
            yield sentence, clause


def predicate(clause: Clause, *, max_words: int = 9) -> str:
    """Return what follows the verb as far as it is sure to belong there; empty if unclear."""
    whole = without_brackets(clause.rest)
    rest = _TAIL.sub("", whole)
    behind = whole[len(rest) :]
    is_cut = bool(behind and re.search(r"\s(?:and|or|but)\s", rest))
    if re.match(r",\s\d", behind) and re.search(r"\d", rest):
        return ""  # the first of a list
    goes_on = re.match(r"\s(?:that|which|who)\s|,\s[\w\s%]+,?\s(?:and|or)\s", behind)
    words = rest.split()
    if is_cut or goes_on or not 0 < len(words) <= max_words or not is_balanced(rest):
        return ""
    return "" if {*tokens(rest)} & _POINTS_BACK else rest


def circumstance(clause: Clause, caption: str) -> str:
    """Return the lead of a clause as it stands at the end of a question, with a space before."""
    lead = without_brackets(clause.lead)
    is_odd = "," in lead or lead.startswith("From") or len(lead.split()) > 6
    if not lead or is_odd or {*tokens(lead)} & _POINTS_BACK:
        return ""
    return f" {lower_first(lead, caption)}"


def subject_of(clause: Clause, caption: str) -> str:
    """Return the subject of a clause as it stands inside a question, a bare plural with `the`."""
    subject = lower_first(clause.subject, caption)
    first = subject.split()[0]
    if clause.is_plural and is_plural_noun(first.lower()) and not first.endswith(("ans", "ars")):
        subject = subject[:1].lower() + subject[1:]
    is_bare = clause.is_plural and first.lower() not in ("the", "all", "both", "these")
    marked = rf"(?:\w+\s)?(?:{COLOURS}|{COUNTS}|pale|faint|dashed|thin)\s"
    if is_bare and re.match(marked, subject, re.IGNORECASE):
        return f"the {subject[:1].lower()}{subject[1:]}"
    return re.sub(r"^(?:all|both)\s(?:the\s)?", "the ", subject)


def agreeing(clause: Clause) -> dict[str, str]:
    """Return the forms of `be` and `do` that fit a clause, as slots of a question."""
    many = clause.is_plural
    return {"is": "are" if many else "is", "do": "do" if many else "does"}
