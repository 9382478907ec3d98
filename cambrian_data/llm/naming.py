"""Questions for what is seen: what a figure shows, in which colour, under which label, where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cambrian_data.llm.clauses import (
    Clause,
    head_of,
    is_plural_noun,
    without_asides,
    without_brackets,
)
from cambrian_data.llm.drafts import Draft, agreeing, caption_clauses, predicate, subject_of
from cambrian_data.llm.lexicon import (
    BASE_OF,
    COLOURS,
    COUNTS,
    LABEL_HEADS,
    MARKS,
    MEDIA,
    MONTHS,
    PLACE,
    PLACES,
    QUANTITIES,
    VALUE,
    VERBS,
)
from cambrian_data.llm.phrases import (
    CONJUNCTIONS,
    FINITE,
    PREPOSITIONS,
    STOP_WORDS,
    has_finite_verb,
    is_noun_phrase,
    lower_first,
    noun_phrase_before,
    phrase_end,
    sentences,
    tokens,
    upper_first,
    with_article,
)


def identify(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for what the figure, a mark or a colour shows."""
    by_medium = list(_named_by_medium(caption))
    yield from by_medium or _subject(caption)
    yield from _series(caption)
    yield from _coloured(caption)


def _first(caption: str) -> str:
    first = without_asides((sentences(caption) or [""])[0]).rstrip(".")
    return first.replace(" vs. ", " vs ")


def _subject(caption: str) -> Iterator[Draft]:
    first = _first(caption)
    phrase = re.sub(r"\s\([A-Za-z0-9]\)$", "", _cut(first))
    verb = re.match(r"(.+?)\s(?:is|are|was|were|has|have|had|can|shows?|may|will)\s", phrase)
    if verb and not has_finite_verb(verb[1]) and len(verb[1].split()) <= 8:
        phrase = verb[1]
    relative = re.match(r"(.+?),?\s(?:which|who|whose|where|showing|that)\s", phrase)
    if relative:  # what is left must say enough, and nothing may go on behind the relative clause
        is_short = len(relative[1].split()) < 4 or re.search(r"\sand\s", phrase[relative.end() :])
        phrase = "" if is_short else relative[1]
    is_medium = re.fullmatch(rf"(?:\w+\s){{0,3}}(?:{MEDIA})", phrase, re.IGNORECASE)
    if not is_noun_phrase(phrase) or len(phrase.split()) < 2 or is_medium:
        return
    if re.search(r"\b(?:the same|this|these|when|after|before|because)\b", phrase, re.IGNORECASE):
        return
    is_plot = re.search(r"\s(?:against|versus|vs)\s", phrase)
    is_drawn = re.search(rf"\b(?:curves?|bars?|axes|axis|(?:{COLOURS}) lines?)\b", caption)
    is_plot = is_plot or (is_drawn and _QUANTITY.fullmatch(head_of(phrase)))
    family = "identify/plot" if is_plot else "identify/subject"
    yield Draft(family, upper_first(phrase), rank=0)


_QUANTITY = re.compile(
    rf"(?:{QUANTITIES}|share|gain|hours|\w+(?:ity|tion|ment|ergy|ergies|ence|radii))", re.IGNORECASE
)


def _cut(first: str) -> str:
    """Return the phrase that a caption begins with; longer ones with their place or material."""
    short = phrase_end(first)
    behind = first[len(short) :]
    if re.match(r",\s(?:at|in|on|from|for|with|to|seen|half)\b", behind):
        return first if len(first.split()) <= 16 and ":" not in first else ""
    if behind.startswith(" (") and re.match(r" \([\w, ]{1,12}\)[.,;:]?$", behind):
        return first.rstrip(".")
    return "" if behind.startswith(" (") and len(short.split()) > 3 else short


def _named_by_medium(caption: str) -> Iterator[Draft]:
    found = re.match(
        rf"(?:(?:An?|The|This)\s)?((?:[A-Za-z-]+\s){{0,2}}?(?:{MEDIA}))\s"
        r"(?:of|showing|shows|depicting|illustrating)\s+(.+)",
        _first(caption),
        re.IGNORECASE,
    )
    if not found:
        return
    medium = found[1]
    if re.match(rf"(?:{MEDIA}|\w+(?:able|al|ed|ing|ic|ive|ar))\b", medium, re.IGNORECASE):
        medium = medium[:1].lower() + medium[1:]  # not so where it begins with a name
    answer = re.split(r",?\s(?:showing|which|who|where|that)\s", _cut(found[2]))[0]
    if medium.split()[0] not in STOP_WORDS and is_noun_phrase(answer):
        yield Draft("identify/medium", upper_first(answer), {"medium": medium})


def _meaning(clause: Clause) -> str:
    """Return what a coloured mark stands for by its clause; empty where it is no mark."""
    is_mark = re.search(rf"\b(?:{COLOURS})\b.*\b(?:{MARKS})$", clause.subject, re.IGNORECASE)
    link = clause.verb in ("is", "are") or clause.base in _MEANS
    rest = re.sub(r"^for\s", "", predicate(clause, max_words=12)) if clause.base == "stand" else ""
    rest = rest or predicate(clause, max_words=12)
    is_thing = clause.base in _MEANS or re.match(r"(?:the|an?)\s", rest) or clause.verb == "are"
    if not (is_mark and link and is_thing and is_noun_phrase(rest)):
        return ""
    return "" if rest.split()[0].lower() in ("not", "half", "twice", "parallel") else rest


_MEANS = frozenset({"show", "mark", "represent", "indicate", "denote", "give", "stand", "depict"})


def _series(caption: str) -> Iterator[Draft]:
    for _, clause in caption_clauses(caption):
        answer = _meaning(clause)
        if answer and not re.match(r"\d", answer):
            slots = agreeing(clause) | {"mark": subject_of(clause, caption)}
            yield Draft("identify/series", upper_first(answer), slots, 1)


def _coloured(caption: str) -> Iterator[Draft]:
    """Yield drafts for `with air drag (red)`: what is shown in red."""
    for thing, colour in _in_brackets(caption):
        if len(re.findall(rf"\b{colour}\b", caption)) == 1:
            slots = {"colour": colour, "Colour": upper_first(colour)}
            yield Draft("identify/coloured", upper_first(thing), slots, 2)


def _in_brackets(caption: str) -> Iterator[tuple[str, str]]:
    """Yield what a caption names with its colour in brackets behind it."""
    behind = rf"(?: (?:line|dot|curve|box|area)s?|, {PLACE})?"
    pattern = rf"\s\((?:in |shown in |the )?({COLOURS}){behind}\)"
    for found in re.finditer(pattern, caption):
        before = caption[: found.start()]
        thing = noun_phrase_before(before)
        if not thing or re.search(r"\d", thing):
            continue
        if not re.search(r"[^)\s] (?:and|or) (?:the )?$", before[: -len(thing)]):  # a list's last
            named = with_article(thing, before)
            starts = re.search(r"(?:^|[.]\s)$", before[: -len(thing)])
            if re.match(rf"(?:{COUNTS})\s", named):
                named = f"the {named}"
            is_common = starts and named == thing
            yield lower_first(named, named.lower()) if is_common else named, found[1]


def colour(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions with a colour for an answer."""
    has_several = len(set(re.findall(rf"\b({COLOURS})\b", caption.lower()))) > 1
    for draft in _colours(caption, text):
        named = draft.slots.get("thing") or draft.slots.get("noun") or ""
        # "What colour is the area?" has no answer where a blue and a red one are shown.
        if not has_several or re.sub(r"^(?:the|an?)\s", "", named.lower()) not in _SHAPES:
            yield draft


def _colours(caption: str, text: str) -> Iterator[Draft]:
    for thing, name in _in_brackets(caption):
        yield Draft("colour/marks", name, {"thing": lower_first(thing, text)})
    for found in re.finditer(
        rf"\s(?:shown |drawn |marked |coloured |colored )?in ({COLOURS})(?=[,;.]|$| and )", caption
    ):
        named = noun_phrase_before(caption[: found.start()], max_words=3)
        if named and named.split()[0][0].islower():
            thing = with_article(named, caption[: found.start()])
            yield Draft("colour/marks", found[1], {"thing": thing})
    yield from _colour_of_subjects(caption)
    yield from _colour_of_things(caption)


_SHAPE_NOUNS = (
    *("area", "piece", "box", "part", "region", "line", "curve", "dot", "point", "strip"),
    *("stripe", "bar", "circle", "arrow", "side", "half", "path", "band", "sector", "pole"),
)
_SHAPES = frozenset(f"{noun}{ending}" for noun in _SHAPE_NOUNS for ending in ("", "s", "es"))


def _colour_of_subjects(caption: str) -> Iterator[Draft]:
    """Yield drafts for `the red curve falls`: what colour is the curve that falls."""
    for _, clause in caption_clauses(caption):
        pattern = rf"((?:the|an?|all)\s)?((?:[a-z-]+\s){{0,2}}?)({COLOURS})\s(.+)"
        found = re.fullmatch(pattern, clause.subject, re.IGNORECASE)
        does = predicate(clause, max_words=8)
        if not found or not does:
            continue
        if re.search(rf"\b(?:{COLOURS}|and)\b", f"{found[2]} {found[4]} {does}"):
            continue
        noun = f"{found[2][:1].lower()}{found[2][1:]}{found[4]}"
        noun = re.sub(r"^(?:\w+er|all)\s", "", noun)
        if meaning := _meaning(clause):
            slots = agreeing(clause) | {"noun": f"{head_of(noun)} for {meaning}"}
        elif clause.lead or len(does.split()) < 2:
            continue
        else:
            slots = agreeing(clause) | {"noun": f"{noun} that {clause.verb} {does}"}
        yield Draft("colour/subject", found[3].lower(), slots, 1)


def _colour_of_things(caption: str) -> Iterator[Draft]:
    """Yield drafts for `the blue cathode`: what colour is the cathode."""
    found = [*re.finditer(rf"\b(?:the|an?|The|An?)\s(?:[a-z]+\s)?({COLOURS})\s", caption)]
    if re.search(rf"\b(?:{COLOURS}) ones?\b", caption):
        return
    for match in found:
        name, thing = match[1], _noun_phrase_at(caption[match.end() :])
        head = head_of(thing)
        repeated = len(re.findall(rf"\b{re.escape(head.rstrip('s'))}", caption)) > 1
        if thing and not repeated and not is_plural_noun(head) and len(head) > 2:
            noun = thing + _behind(caption[match.end() + len(thing) :])
            yield Draft("colour/subject", name, {"noun": noun, "is": "is"}, 1)


_ENDS = PREPOSITIONS | CONJUNCTIONS | FINITE | {"a", "an", "the", "only", "again", "upside", "one"}


def _noun_phrase_at(text: str) -> str:
    """Return the noun phrase that a text begins with, one `of` behind it included."""
    words: list[str] = []
    for word in text.split()[:6]:
        bare = word.rstrip(",;:.)")
        is_verb = bare in BASE_OF or (bare in VERBS and bool(words) and is_plural_noun(words[-1]))
        if bare in _ENDS or is_verb or bare.endswith(("ed", "ing")):
            break
        if not re.fullmatch(r"[a-z][a-z-]*", bare):
            return ""
        words.append(bare)
        if bare != word:
            break
    head = words[-1] if words else ""
    return " ".join(words) if head not in ("light", "white", "") and len(words) <= 3 else ""


def _behind(text: str) -> str:
    """Return `at 5 m` or `of potential energy` where a text begins so, with a space before."""
    found = re.match(rf"\s(?:at {VALUE}|of (?:the |an? )?[a-z]+(?:\s[a-z]+)?)(?=[\s,;.)]|$)", text)
    if not found:
        return ""
    *others, last = found[0].split()
    is_noun = last not in _ENDS and last not in BASE_OF and last not in VERBS and last[-2:] != "ed"
    if is_noun or last[-1:].isdigit():
        return found[0]
    return f" {' '.join(others)}" if len(others) > 1 and others[-1] not in STOP_WORDS else ""


def label(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for what a letter in the figure stands for."""
    bracketed = r"\s\(([A-Z]\d?|[A-Z]{2}|[a-z]|\d)\)"
    labels = re.findall(bracketed, caption)
    for found in re.finditer(bracketed, caption):
        thing = noun_phrase_before(caption[: found.start()], max_words=3)
        if thing and labels.count(found[1]) == 1:
            yield Draft("label/stands", thing, {"label": found[1]})
    pattern = (
        r"\b(the|an?|The|An?|in|of)\s((?:[a-z-]+\s){0,2}?[a-z-]+)\s([A-Z]\d?|[a-z]\d)"
        r"(?=[\s,;.)]|$)(?!\s[=\u00d7])"
    )
    for found in re.finditer(pattern, caption):
        words = found[2].split()
        is_name = words[-1] in LABEL_HEADS or words[-1] in PREPOSITIONS | FINITE | {"axis"}
        is_unit = re.match(r"\s?(?:waves?|rays?|lines?)\b", caption[found.end() :])
        is_free = found[1] not in ("in", "of")
        is_often = len(re.findall(rf"(?<![\w.]){found[3]}(?!\w)", caption)) > 2
        if not is_free or is_name or is_unit or is_often or {*words} & (STOP_WORDS | FINITE):
            continue
        yield Draft("label/stands", f"{found[1].lower()} {found[2]}", {"label": found[3]})


def position(caption: str, text: str, section: Sequence[str], title: str) -> Iterator[Draft]:
    """Yield questions for what is where."""
    yield from _before_place(caption)
    for found in re.finditer(rf"(?:^|(?<=[.;,]\s))({PLACE}):\s([^.;:]+)", caption, re.IGNORECASE):
        thing = phrase_end(found[2])
        if is_noun_phrase(thing) and len(thing.split()) <= 12:
            slots = {"place": PLACES[found[1].lower()]}
            yield Draft("position/what", upper_first(thing), slots)
    for found in re.finditer(rf"((?:at|on|in) the ({PLACE})),", caption):
        before = caption[: found.start()].rstrip()
        thing = noun_phrase_before(before.rstrip(",")) or ""
        if before.endswith(",") and thing and caption.count(found[2]) == 1:
            thing = with_article(thing, before.rstrip(","))
            yield Draft("position/what", upper_first(thing), {"place": found[1]})
    yield from _places(caption)


def _before_place(caption: str) -> Iterator[Draft]:
    """Yield drafts for `the open pipe (top)`."""
    things = []
    for found in re.finditer(rf"\s\((?:(?:{COLOURS}), )?({PLACE})\)", caption):
        edges = r"[,;:]\s|\sand\s|(?<!\b[A-Z])\.\s(?=[A-Z])"
        before = re.split(edges, caption[: found.start()])[-1]
        thing = re.sub(r"^(?:and|with|of|between|from)\s", "", before.strip())
        things.append((found[1], without_brackets(thing)))
    has_article = any(re.match(r"(?:the|an?)\s", thing, re.IGNORECASE) for _, thing in things)
    for place, thing in things:
        is_bare = has_article and not re.match(r"(?:the|an?)\s", thing, re.IGNORECASE)
        is_date = re.fullmatch(rf"(?:{MONTHS})|\d+", thing)
        is_thing = is_noun_phrase(thing) and len(thing.split()) <= 8
        if is_thing and not is_bare and not is_date and caption.count(f"{place})") == 1:
            yield Draft("position/what", upper_first(thing), {"place": PLACES[place]})


_STANDING = frozenset(
    {"lie", "stand", "sit", "hang", "start", "end", "meet", "begin", "cross", "join"}
)


def _places(caption: str) -> Iterator[Draft]:
    """Yield drafts for `the triple point lies above the line`: where does it lie."""
    for _, clause in caption_clauses(caption):
        rest = predicate(clause, max_words=10)
        pattern = r"(?:at|on|in|above|below|between|beside|under|behind|inside|outside|near)\s"
        starts = re.match(pattern, rest) and not re.match(r"\w+\s(?:time|turn|step|order)", rest)
        if clause.base in _STANDING and starts and not clause.lead and len(tokens(rest)) >= 2:
            slots = {"subject": subject_of(clause, caption), "verb": clause.base}
            yield Draft("position/where", upper_first(rest), agreeing(clause) | slots)
