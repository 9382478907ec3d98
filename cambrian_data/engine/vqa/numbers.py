"""Whether the numbers of an answer stand in the words that it is grounded in.

Figures in any of their spellings (1,000 and 1000, 2.50 and 2,5) and, in English, small numbers in
words. Lenient where a text says a number in another way (`both`, `a pair`): a sound answer that
is lost costs less than a rule nobody understands.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from decimal import Decimal

from cambrian_data.llm.extractive import FigureText
from cambrian_data.llm.phrases import tokens

_GROUPED = re.compile(r"(?<=\d)[,\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_FREE_NUMBER = re.compile(r"(?<![^\W_])\d+(?:[.,]\d+)*")
"""Not the one of CO2, which belongs to a name."""
_RAISED = "\u00b2\u00b3\u00b9\u2070\u2074\u2075\u2076\u2077\u2078\u2079" + "".join(
    map(chr, range(0x2080, 0x208A))
)
_APART = str.maketrans({raised: f" {unicodedata.normalize('NFKC', raised)} " for raised in _RAISED})
_AWAY = str.maketrans("", "", _RAISED)
_NAMES = {name: str(number) for number, name in enumerate((
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
))}  # fmt: skip
_ALSO = {
    **dict.fromkeys(("a", "an", "single"), "1"),
    **dict.fromkeys(("both", "pair", "twice", "double", "half", "second"), "2"),
    **dict.fromkeys(("third", "triple"), "3"),
    "dozen": "12",
}
"""Words of a text that are as good as the number."""


def unknown_numbers(answer: str, figure: FigureText) -> list[str]:
    """Return the numbers of an answer, in figures or in words, that the figure's words lack."""
    told = "\n".join((figure.caption, figure.text, figure.page_title, *figure.section))
    known = _numbers_known(told)
    return sorted({number for number in _numbers_said(answer) if number not in known})


def _numbers_said(answer: str) -> list[str]:
    text = _plain(answer.translate(_AWAY))
    words = [_NAMES[word] for word in tokens(text) if word in _NAMES and word != "one"]
    return [_canonical(number) for number in _FREE_NUMBER.findall(text)] + words


@functools.lru_cache(maxsize=8)
def _numbers_known(told: str) -> frozenset[str]:
    text = _plain(told.translate(_APART))
    found = _NUMBER.findall(text)
    parts = [part for number in found if _is_listed(number) for part in re.findall(r"\d+", number)]
    words = tokens(text)
    named = [table[word] for table in (_NAMES, _ALSO) for word in words if word in table]
    return frozenset([*map(_canonical, [*found, *parts]), *named])


def _is_listed(number: str) -> bool:
    """Tell whether digits between stops are several numbers, as in a date, and not one."""
    return sum(not character.isdigit() for character in number) > 1


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", _GROUPED.sub("", text))


def _canonical(number: str) -> str:
    """Return one spelling for 2.50, 2.5 and 2,5."""
    if _is_listed(number) or len(number) > 28:  # Decimal rounds what is longer
        return number
    return f"{Decimal(number.replace(',', '.')).normalize():f}"
