"""Answers that say no more than that the model cannot see the picture.

Such rows come from models that were asked about a picture that they were not shown; who trains on
them teaches a model to refuse. Answers of samples without pictures are left alone, for there the
sentence is true; so is an answer that describes the picture after all, or says that it is blurred
or that something is not in it. English only.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cambrian_data.curation.rules.text_counts import TextCounts
from cambrian_data.curation.turns import Turns, flags, numbers

MIN_WORDS, MAX_WORDS = 3, 60
"""A longer answer says something else too; a shorter one is no such sentence."""

# Written with ' for either apostrophe and _ for white space; see `_pattern`.
_PICTURE = (
    "(image|picture|photo|photograph|figure|diagram|chart|graph|screenshot|video|attachment|"
    "visual|file)s?"
)
_UNABLE = "('m|am|was)_(unable|not_able|not_capable|incapable)_(to|of)"
_CANNOT = (
    f"(can_?not|can't|could_?not|couldn't|{_UNABLE}|"
    "(do_not|don't)_(currently_)?have_the_(ability|capability|capabilities)_(to|of)|"
    "lack_the_(ability|capability)_(to|of))"
)
_SEE = (
    "(see|seeing|view|viewing|access|accessing|open|opening|display|displaying|look_at|"
    "analy[sz]e|analy[sz]ing|interpret|interpreting|process|processing|perceive|perceiving|"
    "visuali[sz]e|load)"
)
_FEW = (
    f"(_(the|an?|any|your|this|that|these|those|such|attached|uploaded|provided|actual|external|"
    f"or|and|visual|content|including|to|directly|specific|{_SEE}),?){{0,6}}_"
)
_SORRY = r"^\W*((I'm_|I_am_)?(sorry|unfortunately|apologies|I_apologi[sz]e)[,.]?_(but_)?)?"
_NOT_THERE = (
    "((did|does|was|has|is)_not|(did|does|was|has|is)n't|failed_to|is_no_longer|seems_not_to|"
    "is|seems_to_be)"
)
_THERE = (
    "(load|loaded|loading|upload|uploaded|attached|provided|visible|available|accessible|display|"
    "displayed|come_through|shared|included|open|viewed|opened|missing)"
)
_GIVEN = "(provided|attached|uploaded|included|shared|visible|available|given|shown|here)"
_END = (
    r"\W*($|[.,;!]|_(so|and|or|to_me|for_me|here|properly|correctly|successfully)\b|"
    "_(in|with|to)_(your|this|our|the)_(message|question|conversation|chat|request|prompt))"
)
_SENTENCES = (
    # I cannot (directly) see the image; I'm unable to view or analyse pictures
    rf"\bI\b[^.!?]{{0,40}}?{_CANNOT}(_(directly|actually|currently|physically))?_"
    rf"{_SEE}{_FEW}{_PICTURE}\b",
    # I don't see any image; I do not have access to the picture; I didn't receive a photo
    r"\bI_?(do_not|don't|did_not|didn't|have_not|haven't|'ve_not)_(see|have|receive|received|get|"
    rf"been_(given|provided|shown)|(currently_)?have_(direct_)?access_to){_FEW}{_PICTURE}\b",
    # There is no image provided; no picture was attached
    rf"{_SORRY}(there_(is|was|seems_to_be|appears_to_be)_|I_see_)?no_{_PICTURE}_"
    rf"((was|is|has_been|have_been|were|are)_)?{_GIVEN}{_END}",
    # The image did not load; it seems that the picture you mentioned was not attached
    rf"{_SORRY}(it_(seems|looks_like|appears)_(that_)?)?(the|your|this)_{_PICTURE}_"
    rf"(you_(\w+_){{1,3}})?{_NOT_THERE}_(been_|be_|able_to_)?{_THERE}{_END}",
    # As a text-based model I am unable to view anything
    r"\bas_an?_(text[- ]based_|text[- ]only_|large_)?(AI|artificial_intelligence|language|text)"
    rf"[^.!?]{{0,40}}?\b(model|assistant|AI)\b[^.!?]{{0,40}}?{_CANNOT}[^.!?]{{0,20}}?{_SEE}\b",
)
_BUT_SEES = (
    "clearly|well_enough|in_detail|the_(image|picture|photo|photograph)_(shows|depicts|features|"
    "contains|displays|captures)|I_can_(only_)?see|appears_to_(show|be|depict)|"
    "(is|are)_(too|very|quite)_(blurry|dark|small|blurred|low)"
)
"""Words of one who does see."""


def only_cannot_see(batch: pa.RecordBatch, turns: Turns, counts: TextCounts) -> np.ndarray:
    """Return for every turn whether it is such an answer, bool [turns].

    Args:
        batch: of samples; needs the column images.
        turns: of the batch.
        counts: of `turns.text`.
    """
    has_picture = numbers(pc.list_value_length(batch.column("images"))) > 0
    found = ~turns.is_human & (counts.words >= MIN_WORDS) & (counts.words <= MAX_WORDS)
    found &= has_picture[turns.row]
    for pattern, wanted in ((_pattern(*_SENTENCES), True), (_pattern(_BUT_SEES), False)):
        text = turns.text.filter(pa.array(found))
        found[found] = flags(pc.match_substring_regex(text, pattern)) == wanted
    return found


def _pattern(*choices: str) -> str:
    """Return a regular expression for any of some, in any case."""
    joined = "|".join(f"(?:{choice})" for choice in choices)
    return "(?i)" + joined.replace("_?", r"\s*").replace("_", r"\s+").replace("'", "['\u2019]")
