"""Sentences, noun phrases and grounding: what can be read off English prose without a model.

Small closed word lists and regular expressions; whatever they do not surely understand is left
alone. Pure and fast: some ten microseconds a sentence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from cambrian_data.llm.lexicon import CONNECTIVES, MONTHS

DETERMINERS = frozenset(
    {"a", "an", "the", "this", "that", "these", "those", "its", "their", "his", "her", "our"}
    | {"each", "every", "some", "any", "no", "all", "half"}
)
PREPOSITIONS = frozenset(
    {"about", "above", "across", "after", "against", "along", "among", "around", "as", "at"}
    | {"before", "behind", "below", "beneath", "beside", "between", "beyond", "by", "down"}
    | {"during", "for", "from", "in", "inside", "into", "near", "of", "off", "on", "onto", "out"}
    | {"outside", "over", "per", "since", "through", "throughout", "to", "toward", "towards"}
    | {"under", "until", "up", "upon", "via", "with", "within", "without", "than", "like", "versus"}
)
CONJUNCTIONS = frozenset(
    {"and", "or", "but", "nor", "so", "yet", "while", "whereas", "because", "although", "though"}
    | {"if", "when", "where", "which", "who", "whom", "whose", "that", "as", "then", "not", "both"}
)
PRONOUNS = frozenset(
    {"it", "they", "them", "he", "she", "we", "you", "i", "there", "here", "one", "this", "these"}
    | {"those", "that", "such", "both", "another", "other", "others", "many", "most", "some"}
)
FINITE = frozenset(
    {"is", "are", "was", "were", "has", "have", "had", "can", "could", "may", "might", "must"}
    | {"shall", "should", "will", "would", "does", "do", "did", "be", "been", "being", "am"}
    | {"shows", "show", "showed", "depicts", "illustrates", "represents", "represent", "marks"}
    | {"indicates", "indicate", "became", "becomes", "gives", "makes", "made", "takes", "took"}
    | {"occurs", "consists", "contains", "contain", "lies", "stands", "denotes", "lay", "lays"}
    | {"swings", "falls", "rises", "moves", "flows", "turns", "grows", "runs", "goes", "went"}
    | {"sits", "hangs", "carries", "holds", "keeps", "leaves", "meets", "uses", "follows", "cuts"}
)
STOP_WORDS = (
    DETERMINERS
    | PREPOSITIONS
    | CONJUNCTIONS
    | PRONOUNS
    | frozenset({"is", "are", "was", "were", "be", "been", "being", "has", "have", "had", "do"})
    | frozenset({"does", "did", "can", "will", "would", "due", "also", "only", "very", "more"})
)

_TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['\u2019-][^\W\d_]+)*|[^\W_]+")
_ABBREVIATIONS = frozenset(
    {"e.g", "i.e", "etc", "fig", "figs", "dr", "mr", "mrs", "ms", "prof", "st", "no", "vs", "ca"}
    | {"c", "approx", "cf", "al", "inc", "ltd", "jr", "sr", "vol", "pp", "p", "ed", "eq", "sect"}
    | {"circa", "b", "d", "r", "fl", "spp", "sp", "var", "u.s", "u.k"}
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]\u201d\u2019]*\s+(?=[\"'(\[\u201c]?[A-Z0-9])")


def tokens(text: str) -> list[str]:
    """Return words and numbers, lower-case; a number is one token as it is written."""
    return _TOKEN.findall(text.lower())


def sentences(text: str) -> list[str]:
    """Split prose into sentences; abbreviations and initials end none."""
    found: list[str] = []
    for paragraph in text.split("\n"):
        start = 0
        for edge in _SENTENCE_END.finditer(paragraph):
            if paragraph[edge.start() - 1] == "." and _is_abbreviated(
                paragraph[start : edge.start()]
            ):
                continue
            found.append(paragraph[start : edge.end()].strip())
            start = edge.end()
        found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def _is_abbreviated(text: str) -> bool:
    """Tell whether a text ends with an abbreviation or an initial, not with a unit as in 9 V."""
    words = [word.rstrip(".").lstrip("([\"'").lower() for word in text.split()[-2:]]
    is_unit = len(words) == 2 and words[0][-1:].isdigit()
    if not words or words[-1] in _ABBREVIATIONS:
        return bool(words) and not (is_unit and words[-1] in ("ms", "r", "c", "d"))
    return len(words[-1]) == 1 and words[-1].isalpha() and words[-1] != "i" and not is_unit


def is_english(text: str) -> bool:
    """Tell by its function words whether a text is English; short texts may be anything."""
    words = tokens(text)
    common = sum(word in _ENGLISH for word in words)
    return common >= 1 and common >= len(words) / 12


_ENGLISH = frozenset(
    {"the", "of", "and", "in", "to", "is", "are", "was", "with", "for", "by", "from", "as", "on"}
    | {"at", "which", "that", "an", "its", "showing", "has", "have", "this", "be", "a"}
)


def has_finite_verb(phrase: str) -> bool:
    """Tell whether a phrase surely holds a finite verb."""
    return any(word in FINITE for word in tokens(phrase))


def noun_phrase_before(text: str, *, max_words: int = 4) -> str | None:
    """Return the noun phrase that a text ends with, without its determiner.

    It reaches back to the last determiner, preposition, conjunction, verb or punctuation.
    Returns:
        None where there is none, or one longer than `max_words`.
    """
    words = text.rstrip().split()
    phrase: list[str] = []
    bare = ""
    while words:
        word = words.pop()
        bare = word.lower().strip("\"'")
        if (
            bare in DETERMINERS | PREPOSITIONS | CONJUNCTIONS | FINITE
            or (bare.endswith("ing") and (words[-1:] or [""])[0].lower() not in DETERMINERS)
            or word[-1] in ",;:.()!?/="
            or bare in PRONOUNS
        ):
            break
        phrase.insert(0, word)
        if len(phrase) > max_words:
            return None
    if {"without", "no", "not"} & {word.lower() for word in [*words[-2:], *tokens(bare)]}:
        return None
    while phrase and phrase[0].lower().endswith("ly"):
        phrase.pop(0)
    found = " ".join(phrase)
    return found if found and _is_clean(found) else None


def _is_clean(phrase: str) -> bool:
    return re.fullmatch(r"[^\W\d_][\w'\u2019.-]*(?: [^\W_][\w'\u2019.-]*)*", phrase) is not None


_LOWERED = STOP_WORDS | FINITE


_COMMON_NOUN = re.compile(
    r"\w{3,}(?:ium|gen|ide|ate|ine|ity|ment|ness|tion|ance|ence|ics|ism|age|sis|ings?|ers?|ies|ons)"
)


def lower_first(text: str, source: str = "") -> str:
    """Return a clause as it stands inside a sentence: its first word lower-case, names kept.

    A word that no list knows is lowered where `source` has it in lower-case too, or where its
    ending is that of a common noun and it is followed by no other name.
    """
    first, _, rest = text.partition(" ")
    low = first.lower()
    is_common = low in _LOWERED or (first[1:] == low[1:] and low in tokens_as_written(source))
    looks_common = first[1:] == low[1:] and not rest[:1].isupper()
    looks_common = looks_common and _COMMON_NOUN.fullmatch(low) is not None
    return low + text[len(first) :] if (is_common or looks_common) and first != "I" else text


def tokens_as_written(text: str) -> set[str]:
    """Return the words of a text with their capitals."""
    return set(re.findall(r"[^\W\d_]+", text))


def upper_first(text: str) -> str:
    """Return a phrase with its first letter upper-case."""
    return text[:1].upper() + text[1:]


def with_article(phrase: str, before: str) -> str:
    """Return a noun phrase with `the` where `before`, which ends with it, has an article there."""
    words = before.rstrip().removesuffix(phrase).split()[-1:]
    has_article = bool(words) and words[0].lower() in ("a", "an", "the")
    return f"the {phrase}" if has_article else phrase


def is_balanced(text: str) -> bool:
    """Tell whether brackets and quotation marks of a phrase are closed."""
    return (
        text.count("(") == text.count(")")
        and text.count("[") == text.count("]")
        and text.count('"') % 2 == 0
        and text.count("\u201c") == text.count("\u201d")
    )


def phrase_end(text: str) -> str:
    """Return the beginning of a text up to where its phrase ends; empty where that is not sure."""
    edge = re.search(r"[,;:.]\s|[,;:.]$|\s[\u2013\u2014-]\s|\s[(\[]", text)
    if edge is None:
        return text.strip()
    rest = text[edge.end() :]
    if edge[0].strip() in ("(", "["):  # "the linear (Ohmic) region" goes on behind the bracket
        behind = re.sub(r"^[^)\]]*[)\]]", "", rest)
        if re.match(r"\s[^\W\d_]", behind) and not re.match(r"\s(?:and|or|with)\s", behind):
            return ""
    if edge[0].strip() == "," and re.match(r"\d|[\w ]+,? (?:and|or) |(?:and|or) ", rest):
        return ""  # a date, or a list of which this would be the first part only
    return text[: edge.start()].strip()


def is_noun_phrase(phrase: str) -> bool:
    words = phrase.split()
    return (
        0 < len(words) <= 14
        and not has_finite_verb(phrase)
        and words[0].lower().strip("\"'")
        not in (PREPOSITIONS | CONJUNCTIONS | PRONOUNS) - DETERMINERS
        and words[-1].lower() not in STOP_WORDS
        and not words[0].lower().endswith(("ing", "ed", "ly"))
        and words[0][:1].isalpha()
        and is_balanced(phrase)
        and not _has_likely_verb(words)
        and not re.match(rf"(?:{MONTHS})\s\d", phrase)
    )


_AFTER_VERB = frozenset({"between", "from", "up", "down", "over", "into", "onto", "to", "out"})


def _has_likely_verb(words: Sequence[str]) -> bool:
    """Tell whether an article follows a word that is most likely a verb, as in `cuddles a dog`."""
    for before, word in itertools.pairwise(words):
        bare = before.lower()
        is_link = bare in PREPOSITIONS | CONJUNCTIONS or bare.endswith(("ing", "ed", "wn"))
        if word in _AFTER_VERB and bare.endswith("s") and words[0] in ("The", "A", "An"):
            return words.index(before) >= 2
        if word in ("a", "an", "the", "its", "their", "his", "her") and not is_link:
            return bare not in ("made", "built", "seen", "all", "half", "both", "cut")
    return False


def content_words(text: str) -> set[str]:
    """Return the words of a text that say what it is about, without the plural's s."""
    return {word.rstrip("s") for word in tokens(text) if len(word) > 3 and word not in STOP_WORDS}


def related_sentences(caption: str, text: str, *, min_words: int = 2) -> Iterator[str]:
    """Yield the sentences of the prose that speak of what the caption speaks of."""
    shown = content_words(caption)
    for sentence in sentences(text):
        if len(shown & content_words(sentence)) >= min_words:
            yield sentence


def stands_alone(sentence: str) -> bool:
    """Tell whether a sentence can be understood without the one before it."""
    words = tokens(sentence)
    starts = words[0] if words else ""
    return (
        sentence[:1].isupper()
        and sentence[-1:] in ".!"
        and starts
        not in PRONOUNS | CONNECTIVES | (CONJUNCTIONS - {"when", "if", "while", "because"})
        and is_balanced(sentence)
        and '"' not in sentence
        and not {"she", "he", "his", "her", "we", "our", "i", "you", "your"} & set(words[:8])
        and not {"them", "former", "latter"} & set(words)
        and not re.search(r"\b(?:this|these|those|such)\b", sentence[:60], re.IGNORECASE)
        and ":" not in sentence
    )
