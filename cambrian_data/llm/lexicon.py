"""Closed lists of words and patterns that the extractive kinds of question look for."""

from __future__ import annotations

MEDIA = (
    "map|diagram|graph|plot|chart|photograph|photo|photomicrograph|micrograph|drawing|painting|"
    "illustration|simulation|animation|sketch|schematic|schema|image|picture|portrait|engraving|"
    "histogram|montage|view|cross[- ]section|reconstruction|engraving|woodcut|spectrum|"
    "screenshot|mosaic|model|rendering|phase diagram|scatter plot|bar chart|line chart"
)
COLOURS = (
    "(?:(?:light|dark|pale|bright|deep) )?(?:red|green|blue|yellow|orange|purple|violet|pink|brown|"
    "black|white|gr[ae]y|cyan|magenta|turquoise|beige|gold|golden|silver|teal)"
)
MARKS = (
    "curves?|lines?|dots?|points?|circles?|squares?|triangles?|arrows?|bars?|areas?|regions?|"
    "bands?|stars?|crosses|dashes|symbols?|segments?|shading|stripes?|boxes|box|rectangles?"
)
UNITS = (
    r"(?:[munkMGTcp\u00b5\u03bch]?(?:m|g|s|A|V|W|Hz|Pa|J|N|F|H|T|K|eV|l|L|mol)|%|\u00b0 ?[CF]"
    r"|\u00b0(?! ?[NSEW]\b)|[kM]?\u03a9|kWh|rpm|ppm|bar|atm|dB|AU|ly|pc|ha|k?J/(?:mol|kg)"
    r"|[mk]?g/[mk]?[lLg]"
    r"|(?:m|cm|km|mm)[\u00b2\u00b3]|m/s(?:\u00b2|\^2)?|km/h|km/s|g/cm\u00b3|kg/m\u00b3|N/m|rad/s"
    r"|mol/[lL]|k?W/m\u00b2"
    r"|percent|per cent|degrees?(?: Celsius| Fahrenheit)?|kelvins?|met(?:re|er)s?"
    r"|kilomet(?:re|er)s?|centimet(?:re|er)s?|millimet(?:re|er)s?|nanomet(?:re|er)s?|microns?|micromet(?:re|er)s?"
    r"|grams?|kilograms?|tonnes?|tons?|lit(?:re|er)s?|seconds?|minutes?|hours?|days?|weeks?|months?"
    r"|years?|volts?|amperes?|watts?|kilowatts?|megawatts?|joules?|newtons?|hertz|pascals?|feet"
    r"|foot|inch(?:es)?|miles?|pounds?|light-years?|electronvolts?|times|million|billion)"
)
NUMBER = r"(?:[-\u2212+]?\d+(?:[.,]\d+)*(?:\s?[\u00d7x]\s?10\^?[-\u2212]?\d+)?)"
VALUE = (
    rf"(?:pH \d+(?:\.\d+)?|{NUMBER}(?:\s?[\u2013-]\s?\d+(?:[.,]\d+)*)?[ \u00a0]?{UNITS}(?![\w/^]))"
)
QUANTITIES = (
    "length|mass|weight|temperature|height|depth|pressure|voltage|frequency|wavelength|period|speed|"
    "velocity|distance|diameter|radius|width|thickness|resolution|magnification|altitude|angle|"
    "energy|power|current|density|concentration|volume|area|resistance|capacitance|amplitude|"
    "duration|elevation|latitude|span|wingspan|efficiency|slope|acceleration|charge|force|age|"
    "half-life|interval|spacing|gap|scale|range|focal length|boiling point|melting point"
)
DIMENSIONS = {
    "temperature": r"K|\u00b0 ?[CF]|kelvins?|degrees (?:Celsius|Fahrenheit)",
    "frequency": r"[kMGT]?Hz|hertz",
    "pressure": r"[kMGh]?Pa|pascals?|bar|atm",
    "voltage": r"[mk\u00b5\u03bc]?V|volts?",
    "current": r"[munkp\u00b5\u03bc]?A|amperes?",
    "power": r"[mkMG]?W|(?:kilo|mega)?watts?",
    "energy": r"[kMG]?J|[kMG]?eV|kWh|joules?|electronvolts?|k?J/(?:mol|kg)",
    "force": r"[mkM]?N|newtons?",
    "resistance": r"[kM]?\u03a9",
    "capacitance": r"[munp\u00b5\u03bc]?F",
    "percentage": r"%|percent|per cent",
    "angle": r"\u00b0|degrees?",
    "time": r"[mun\u00b5\u03bc]?s|min|h|seconds?|minutes?|hours?|days?|weeks?|months?|years?",
    "speed": r"k?m/s|km/h",
    "mass": r"[mk\u00b5\u03bc]?g|(?:kilo)?grams?|tonnes?|pounds?",
    "volume": r"m?[lL]|lit(?:re|er)s?|[ck]?m\u00b3",
    "distance": r"[ckm]?m|AU|(?:kilo|centi|milli)?met(?:re|er)s?|feet|foot|inch(?:es)?|miles?"
    r"|light-years?",
}
"""What a value measures, by its unit."""
COUNTS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|"
    "[2-9]|[1-9][0-9]"
)
PLACES = {
    "left": "on the left", "right": "on the right", "top": "at the top",
    "bottom": "at the bottom", "centre": "in the centre", "center": "in the centre",
    "middle": "in the middle", "top left": "at the top left", "top right": "at the top right",
    "bottom left": "at the bottom left", "bottom right": "at the bottom right",
    "upper left": "at the upper left", "upper right": "at the upper right",
    "lower left": "at the lower left", "lower right": "at the lower right",
    "foreground": "in the foreground", "background": "in the background",
}  # fmt: skip
PLACE = "|".join(sorted(PLACES, key=len, reverse=True))
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
CONNECTIVES = frozenset(
    {"however", "therefore", "thus", "hence", "moreover", "furthermore", "also", "additionally"}
    | {"instead", "otherwise", "nevertheless", "consequently", "similarly", "finally", "then"}
    | {"nor", "yet", "still", "meanwhile", "likewise", "indeed", "besides", "rather", "again"}
    | {"first", "second", "third", "next", "later", "earlier", "today", "above", "below"}
)
GENERIC = frozenset(
    {"effect", "figure", "result", "number", "part", "case", "example", "system", "value", "method"}
    | {"process", "picture", "image", "group", "type", "area", "line", "point", "time", "people"}
)
VAGUE_HEADINGS = frozenset(
    {"overview", "introduction", "images", "gallery", "general", "other", "examples", "example"}
    | {"background", "details", "description", "notes", "summary", "conclusion", "results"}
    | {"discussion", "methods", "software", "applications", "uses", "types", "variants", "data"}
    | {"in use", "see also", "history", "facts and figures", "media", "pictures", "figures"}
)

_VERBS = (
    "show mark represent indicate denote give stand lie rise fall grow shrink swing move run go "
    "pass reach start begin end stop meet touch leave enter strike hit bend turn point lead join "
    "connect separate divide cover fill hold keep stay remain become make take carry bring "
    "follow repeat leap jump drop climb increase decrease vary range lean spread fan widen "
    "narrow level reflect emit absorb travel arrive depart cut form stretch extend surround "
    "contain consist include support drive drip flow pour float sink hang rest sit land fly "
    "orbit rotate spin oscillate vibrate break split merge collide combine act push pull press "
    "attract repel balance equal exceed belong depend agree differ serve work use provide "
    "produce create generate need require help allow let cause prevent protect store release "
    "transfer convert transmit receive detect measure record observe see look appear seem "
    "resemble depict illustrate describe display demonstrate feature dominate define limit bound "
    "enclose feed eat live sleep hunt breed lay wear play ride swim crawl dig build face open "
    "close creep crowd gather attach fold wrap melt boil freeze evaporate condense dissolve "
    "react burn decay double halve shift align overlap intersect converge diverge glow shine "
    "radiate cool warm heat expand contract compress weigh come draw drag exchange slow lengthen "
    "sound graze curve cross match change explain correspond occur mirror sweep return speed "
    "approach fade die lose gain add"
)
VERBS = frozenset(_VERBS.split())
"""Common verbs of captions, as they stand after `does`."""
NOUN_LIKE = frozenset(
    {"curves", "levels", "crosses", "forms", "changes", "sounds", "speeds", "forces", "heats"}
)
"""Looks like the singular of a verb, but is nearly always a plural noun."""


def third_person(verb: str) -> str:
    """Return a verb as it follows `it`."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else f"{verb}s"


BASE_OF = {third_person(verb): verb for verb in VERBS} | {"has": "have", "does": "do"}
"""From `rises` to `rise`."""
LABEL_HEADS = frozenset(
    {"type", "vitamin", "class", "group", "grade", "plan", "hepatitis", "war", "part", "figure"}
    | {"panel", "phase", "level", "note", "factor", "mode", "model", "number", "period", "case"}
    | {"option", "section", "appendix", "chapter", "letter", "word", "mass", "value", "amount"}
)
"""A letter behind these is a name or a quantity, not a label in the picture."""
