"""Whether what a model wrote may become a sample: checks that do not take the model's word.

`find_fault` says why a pair is dropped: not grounded, or not a question and an answer at all (an
echo of the prompt, markup, addresses, talk about the task). Pure; some ten microseconds a pair.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from cambrian_data.engine.vqa.lengths import count_words
from cambrian_data.engine.vqa.numbers import unknown_numbers
from cambrian_data.engine.vqa.prompts import Pair
from cambrian_data.llm.extractive import FigureText
from cambrian_data.llm.phrases import tokens
from cambrian_data.llm.visible import is_seen

MAX_QUESTION_WORDS = 60
ECHO_WORDS = 8
"""So many words in a row that stand in the instructions too are an echo of them."""

Fault = tuple[str, str]
"""Reason, one of DROP_REASONS["vqa"], and detail."""

_LABEL = re.compile(r"^\s*(?:question|answer|q|a)\s*:\s*", re.IGNORECASE)
_PROMPT_WORDS = re.compile(
    r"<<<|>>>|picture_fits_caption|[\"'`](?:pairs|kind|question|answer|grounded)[\"'`]"
    r"|^(?:page title|section|caption|prose)\s*:",
    re.IGNORECASE,
)
_MARKUP = re.compile(
    r"<\||\|>|\[/?INST\]|```|</?(?:image|video|audio|img|br|p|div|span|script|style|iframe|table"
    r"|html|body|ref|math|think|s|a|b|i|sub|sup|svg)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+]{1,9}://|\bwww\.\w|\]\(|\b[\w.+-]+@\w+\.\w", re.IGNORECASE)
_SOURCE = r"(?:text|passage|article|section|paragraph|page|prose|description|source|context)"
_ABOUT_TASK = re.compile(
    r"\bas an? (?:ai\b|artificial intelligence|(?:large )?language model)"
    r"|\b(?:the|this|its|given|provided) caption\b"
    rf"|\b(?:according to|based on) (?:the|this) (?:\w+ )?{_SOURCE}\b"
    rf"|\b(?:the|this) {_SOURCE} (?:\w+ )?(?:says?|states?|mentions?|describes?|explains?|notes?)\b"
    rf"|\b(?:given|said|stated|mentioned|described|explained|discussed) in (?:the|this) {_SOURCE}\b"
    rf"|\bthe (?:provided|accompanying|given|above|surrounding) {_SOURCE}\b"
    r"|\bthese (?:instructions|rules)\b|\bsystem prompt\b|\bmy instructions\b"
    r"|\bignor(?:e|es|ed|ing) (?:\w+ ){0,3}instructions\b",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KNOWS_NOT = re.compile(
    r"\b(?:cannot|can ?not|can't|could not) be (?:determined|answered|identified|told|inferred)"
    r" (?:from|by|with|based|without)\b"
    r"|\b(?:is|are|was|were) not (?:specified|stated|mentioned)\b"
    r"|(?:^|[.!?,] )I(?:'m| am) (?:sorry|unable|not able)\b"
    r"|(?:^|[.!?,] )I (?:cannot|can't|do not|don't) \w+"
    r"|\bno information (?:is |was )?(?:given|provided|available)\b",
    re.IGNORECASE,
)


def tidy(pair: Pair) -> Pair:
    """Return the pair without white space and labels around question and answer.

    Marks of writing direction and others that nobody sees go. Controls stay: they stand for what
    is lost, or belong to a sequence that would be left as litter, and `find_fault` refuses them.
    """
    question, answer = (
        " ".join(_LABEL.sub("", unicodedata.normalize("NFC", _without_marks(text))).split())
        for text in (pair.question, pair.answer)
    )
    return pair.model_copy(update={"question": question, "answer": answer})


def _without_marks(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character for character in text if is_seen(character) or _CONTROL.match(character)
    )


def find_fault(
    pair: Pair, figure: FigureText, *, system: str, max_answer_words: int, has_seen: bool
) -> Fault | None:
    """Return why a tidy pair is dropped; None where nothing speaks against it.

    Args:
        figure: what the model was told.
        system: the instructions that it was given.
        has_seen: whether it was shown the picture, so that numbers may come from there.
    """
    if not pair.grounded:
        return "ungrounded", "the model says so itself"
    problem = _misshapen(pair, max_answer_words) or _foreign(pair, system)
    if problem:
        return "malformed", problem
    if found := _KNOWS_NOT.search(pair.answer):
        return "ungrounded", f"the answer says that it has none: {found[0]!r}"
    if not has_seen and (unknown := unknown_numbers(pair.answer, figure)):
        return "ungrounded", f"neither caption nor prose has {', '.join(unknown)}"
    return None


def _misshapen(pair: Pair, max_answer_words: int) -> str | None:
    """Say what is wrong with the shape of a pair."""
    limits = {"question": MAX_QUESTION_WORDS, "answer": max_answer_words}
    for name, most in limits.items():
        text = getattr(pair, name)
        if not any(character.isalnum() for character in text):
            return f"the {name} is empty"
        if (num_words := count_words(text)) > most:
            return f"the {name} has {num_words} words, at most {most}"
    if tokens(pair.question) == tokens(pair.answer):
        return "the answer is the question"
    return None


def _foreign(pair: Pair, system: str) -> str | None:
    """Say what in a pair comes from the prompt, from markup, or speaks about the task."""
    patterns = {
        "holds a control character": _CONTROL,
        "echoes the prompt": _PROMPT_WORDS,
        "holds markup": _MARKUP,
        "holds an address": _ADDRESS,
        "speaks about the task": _ABOUT_TASK,
    }
    for name in ("question", "answer"):
        text = getattr(pair, name)
        for problem, pattern in patterns.items():
            if found := pattern.search(text):
                return f"the {name} {problem}: {found[0]!r}"
        if echo := _runs(text) & _runs_of_system(system):
            return f"the {name} echoes the prompt: {min(echo)!r}"
    return None


def _runs(text: str) -> set[str]:
    words = tokens(text)
    return {
        " ".join(words[start : start + ECHO_WORDS]) for start in range(len(words) - ECHO_WORDS + 1)
    }


_runs_of_system = functools.lru_cache(maxsize=256)(_runs)
