"""Clauses of a caption: who does what, and what stands in front of it.

`clauses` cuts a sentence where a new subject with its own verb begins and takes each piece apart
into lead, subject, verb and rest. Verbs come from a closed list, so much is not recognized; what
is recognized is nearly always right. Some ten microseconds a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cambrian_data.llm.lexicon import BASE_OF, COLOURS, COUNTS, NOUN_LIKE, PLACE, VERBS
from cambrian_data.llm.phrases import (
    CONJUNCTIONS,
    DETERMINERS,
    PREPOSITIONS,
    PRONOUNS,
    is_balanced,
    tokens,
)

_AUXILIARIES = frozenset({"is", "are", "was", "were", "has", "have", "had"})
_MODALS = frozenset({"can", "will", "must", "may", "should", "could", "would", "might"})
_RELATIVES = frozenset({"that", "which", "who", "whose", "where", "when", "while", "because"})
_OPENERS = frozenset(
    ["when", "while", "if", "after", "before", "as", "because", "although", "since"]
)
_PLURAL_WORDS = frozenset({"people", "men", "women", "children", "both", "nuclei", "feet", "axes"})
_SINGULAR = frozenset(
    {"lens", "gas", "canvas", "atlas", "bias", "chaos", "always", "perhaps", "towards", "across"}
)
_NOT_PLURAL = ("ss", "us", "is", "'s", "\u2019s")
_NO_SUBJECT_START = (CONJUNCTIONS | PRONOUNS | PREPOSITIONS) - {"both", "all"} | {"only", "drawn"}
_SURE = frozenset(
    {"has", "reaches", "stays", "goes", "lies", "becomes", "gives", "takes", "makes", "keeps"}
    | {"remains", "contains", "moves", "lets", "grows"}
)
"""No nouns, whatever follows."""
_BRACKET = re.compile(r"\s\([^()]*\)")


_PARTICIPLE = re.compile(
    r"(?:\w+ly\s)?(?:been|become|come|led|lost|made|\w+(?:ed|en|wn|one|ought|aught|ung))\b"
)


@dataclass(frozen=True, slots=True)
class Clause:
    """A main clause, taken apart; `text` is how it stands in its sentence."""

    text: str
    lead: str
    subject: str
    verb: str
    rest: str

    @property
    def is_plural(self) -> bool:
        """Tell whether the verb is that of a plural subject."""
        return self.verb in ("are", "were", "have") or self.verb in VERBS

    @property
    def base(self) -> str:
        """Return the verb as it stands after `does`; empty for forms of `be`."""
        if self.verb in ("has", "have") and _PARTICIPLE.match(self.rest):
            return ""
        if self.verb in VERBS or self.verb == "have":
            return self.verb
        return BASE_OF.get(self.verb, "")

    @property
    def head(self) -> str:
        """Return the noun of the subject, without what follows it."""
        return head_of(self.subject)


def clauses(sentence: str) -> Iterator[Clause]:
    """Yield the main clauses of a sentence that can be understood, in their order."""
    for piece in _pieces(sentence.rstrip(".!")):
        found = parse(piece)
        if found and is_subject(found):
            yield found


def verb_phrases(clause: Clause) -> Iterator[Clause]:
    """Yield a clause once for each verb of its subject: `passes A and ends at B` gives two."""
    many = (*VERBS, "are", "have", "were")
    forms = "|".join(many if clause.is_plural else (*BASE_OF, "is", "was"))
    edges = rf"(?:,\s(?:and\s|but\s)?|\s(?:and|but)\s)(?:then\s)?(?=(?:{forms})\s)"
    first, *others = re.split(edges, clause.rest)
    yield replace(clause, text=clause.text[: clause.text.find(first) + len(first)], rest=first)
    for other in others:
        verb, _, rest = other.partition(" ")
        yield replace(clause, text="", verb=verb, rest=rest)


def _pieces(sentence: str) -> Iterator[str]:
    for part in re.split(r"[;:]\s", sentence):
        start = 0
        edges = r",?\s(?:and|but|while|whereas|yet)\s(?:then\s)?|,\s(?=(?:the|a|an|[a-z]+ing)\s)"
        for edge in re.finditer(edges, part):
            behind = parse(part[edge.end() :])
            if behind and not behind.lead and parse(part[start : edge.start()]):
                yield part[start : edge.start()]
                start = edge.end()
        yield part[start:]


def parse(piece: str) -> Clause | None:
    """Take a clause apart; None where that is not sure."""
    text = piece.strip()
    if not text or not is_balanced(text) or '"' in text:
        return None
    lead, main = _split_lead(text)
    words = main.split()
    at = _verb_at(words)
    if at is None and lead:
        lead, words = "", text.split()
        at = _verb_at(words)
    if at is None:
        return None
    before = " ".join(words[:at])
    if not lead and words[0].lower() in PREPOSITIONS:
        lead, before = _inner_lead(before)
    subject = without_brackets(before)
    if subject.endswith(","):
        subject = subject.split(", ")[0].rstrip(",")
    clause = Clause(text, lead.rstrip(","), subject, words[at], " ".join(words[at + 1 :]))
    return clause if clause.rest and (is_subject(clause) or _stands_in(clause)) else None


def _stands_in(clause: Clause) -> bool:
    """Tell whether the subject is a pronoun, or `the red one`: a clause, but of nothing named."""
    is_other = re.fullmatch(rf"the (?:{COLOURS}) ones?|the same [a-z]+", clause.subject)
    return clause.subject in ("it", "they") or is_other is not None


def _split_lead(text: str) -> tuple[str, str]:
    """Split off an opening phrase or clause that a comma closes."""
    lead = ""
    while text.split(" ", 1)[0].lower() in _OPENERS | PREPOSITIONS:
        found = re.match(r"((?:[^,()]|\([^()]*\))+,)\s(.+)", text)
        if not found or (text.split(" ", 1)[0].lower() in PREPOSITIONS and parse(found[1][:-1])):
            break
        lead, text = f"{lead} {found[1]}".strip(), found[2]
    return lead, text


def _inner_lead(before: str) -> tuple[str, str]:
    """Split `On the Earth (blue) the period` before the last article that opens a phrase."""
    words = before.split()
    if words[-1:] in (["it"], ["they"]):
        return " ".join(words[:-1]), words[-1]
    for at in range(len(words) - 1, 0, -1):
        bare = words[at].lower()
        previous = words[at - 1].lower()
        opens = bare in ("the", "a", "an", "all", "both", "each") and previous not in ("of", "all")
        if opens and previous not in PREPOSITIONS | DETERMINERS | {"and", "or"}:
            return " ".join(words[:at]), " ".join(words[at:])
    return before, ""


def _verb_at(words: Sequence[str]) -> int | None:
    """Return where the first surely finite verb stands."""
    for at in range(1, len(words)):
        word, previous = words[at], words[at - 1]
        if word in _RELATIVES:
            return None
        if word in _MODALS:
            return None
        if word in _AUXILIARIES or _is_singular_verb(words, at) or _is_plural_verb(word, previous):
            return at
    return None


def _is_singular_verb(words: Sequence[str], at: int) -> bool:
    word, previous = words[at], words[at - 1].lower()
    behind = words[at + 1].rstrip(",") if at + 1 < len(words) else ""
    if word not in BASE_OF or (word in NOUN_LIKE and behind != "off"):
        return False
    first = words[0].lower()
    is_many = re.fullmatch(rf"(?:{COUNTS}|these|those|all|both|many|some|several)", first)
    return not (
        is_many
        or not behind
        or behind in _AUXILIARIES | _MODALS | {"of"}
        or (word not in _SURE and (behind in VERBS or behind in BASE_OF))
        or previous in DETERMINERS | PREPOSITIONS | CONJUNCTIONS
        or re.fullmatch(rf"(?:{COLOURS}|{COUNTS}|\w+(?:est|ed|ing|ous|al|ic))", previous)
        or is_plural_noun(previous)
    )


def _is_plural_verb(word: str, previous: str) -> bool:
    return word in VERBS and is_plural_noun(re.sub(r"[,)]+$", "", previous).lower())


def is_plural_noun(word: str) -> bool:
    """Tell whether a noun looks like a plural."""
    is_regular = len(word) > 3 and word.endswith("s") and not word.endswith(_NOT_PLURAL)
    return (is_regular and word not in _SINGULAR) or word in _PLURAL_WORDS


def is_subject(clause: Clause) -> bool:
    """Tell whether the subject of a clause is a phrase that a question can name."""
    words = clause.subject.split()
    if not 0 < len(words) <= 9 or "," in clause.subject or not is_balanced(clause.subject):
        return False
    first, last = words[0].lower(), words[-1].lower()
    is_many = is_plural_noun(clause.head.lower()) or " and " in clause.subject
    agrees = clause.verb in ("had",) or is_many == clause.is_plural
    return (
        agrees
        and first not in _NO_SUBJECT_START | {"its", "their", "his", "her", "our"}
        and words[0][0].isalpha()
        and last not in PREPOSITIONS | DETERMINERS | CONJUNCTIONS | {"one", "ones", "both", "then"}
        and not {*tokens(clause.subject)} & (_RELATIVES | {"not", "no", "them", "this", "same"})
        and not first.endswith(("ing", "ly"))
        and clause.head.lower() not in _EMPTY_HEADS
        and re.fullmatch(r"[\w\s'\u2019\u00b0%.,/\u2212\u2013-]+", clause.subject) is not None
    )


_EMPTY_HEADS = frozenset(
    {"one", "ones", "first", "second", "third", "longest", "shortest", "lowest", "highest"}
    | {"latter", "former", "others", "rest", "few", "most", "more", "less", "two", "three"}
    | {"four", "case", "value", "values"}
)


def head_of(phrase: str) -> str:
    """Return the noun that a noun phrase is about."""
    head = ""
    for word in phrase.split():
        if head and (word.lower() in PREPOSITIONS or word[-1:] == "," or word in ("and", "or")):
            break
        head = word
    return head


def without_brackets(text: str) -> str:
    """Return a text without what stands in round brackets."""
    return re.sub(r"\s+", " ", _BRACKET.sub("", f" {text}")).strip()


_ASIDE = re.compile(
    rf"\s\((?:(?:\w+\s)?(?:{COLOURS})(?: (?:line|dot|curve|box|area)s?)?|{PLACE}"
    rf"|(?:dashed|dotted|solid)(?: (?:line|curve|{COLOURS}))?|(?:{COLOURS}), (?:{PLACE}))\)"
)


def without_asides(text: str) -> str:
    """Return a text without brackets that name only a colour, a line or a place."""
    return _ASIDE.sub("", text)
