"""Which language a sample is in, by its script and its function words.

Texts of samples -> a code each, "" where it cannot be told. The script decides where one language
has it to itself; otherwise the most frequent function words do, where they are frequent enough and
no other language has as many. Names, numbers, code, formulas and answers of a word give "": who
filters by it should let those pass. Made to keep or drop whole samples of a pool, not to label
sentences; about three microseconds a sample, no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from cambrian_data.curation.rules.text_counts import find_tokens, text_blocks, wide_characters
from cambrian_data.curation.turns import Turns
from cambrian_data.curation.words import Words, words_of
from cambrian_data.records import IMAGE_TOKEN

FUNCTION_WORDS: dict[str, str] = {
    "en": "the of and a to in is that it was for on are with as at be this have from or by not "
    "what which there has an its how does do can were these where who you your their",
    "de": "der die das und ist ein eine einen einem einer nicht mit auf für von zu den dem des "
    "im sich auch es an als bei nach wie was welche werden wird sind aus über kann hat",
    "fr": "le la les de des du un une et est dans que qui pour sur pas avec ce cette il elle en "
    "au aux par sont plus ou ne se nous vous quel quelle d'une d'un l'image c'est être",
    "es": "el la los las de del un una y es en que por para con se no su al como más pero está "
    "son hay qué cuál lo este esta entre sobre también o",
    "it": "il lo la i gli le di del della dei un una e è che in per con non si da sono nel nella "
    "alla come più ma quale quali questo questa al anche delle o ha",
    "pt": "o a os as de do da dos das um uma e é em no na que por para com não se ao mais como "
    "são está qual foi ou seu sua pelo pela esta este também",
    "nl": "de het een en van is in op te dat die voor met niet aan er om zijn bij ook wat welke "
    "wordt naar uit deze dit of maar als door hoe",
    "sv": "och att det en ett som är på av för med den till inte har om var kan de från vad vilken "
    "eller vid detta så han hon",
    "da": "og at det en et som er på af for med den til ikke har om var kan de fra hvad hvilken "
    "eller ved dette så jeg også efter",
    "no": "og at det en et som er på av for med den til ikke har om var kan de fra hva hvilken "
    "eller ved dette så jeg også etter",
    "fi": "ja on ei se että oli joka mutta myös kuin tai ovat sen hän ole mikä missä kuvassa "
    "tämä niin jos mitä",
    "pl": "i w na z się nie jest do to że jak o co po od za dla są ten przez przy tym był jego "
    "który która czy jaki oraz lub",
    "cs": "a v na se je že to s z do o jako za by ale který která pro od po jsou tak co jak bylo "
    "nebo při ve jeho není",
    "hu": "a az és hogy nem is egy van ez meg de volt csak mint milyen ki mi vagy ezt azt már "
    "kép képen szerint",
    "ro": "și în de la a cu pe nu un o este din care că mai ce sunt fost pentru se sau al ale "
    "lui prin după acest această",
    "tr": "ve bir bu da de için ile ne olan çok olarak gibi daha var mi mı ya ama değil nedir "
    "hangi kadar sonra ise",
    "vi": "là của và có một không các trong được cho những với này người đã để khi từ ở cái gì "
    "nào bức ảnh hình",
    "id": "yang dan di ini dengan untuk dari pada adalah itu dalam tidak akan ke ada oleh juga "
    "atau sebuah apa gambar bisa mereka",
    "ru": "и в не на что с по это как он к но за из у от так для бы же его все о то были был "
    "какой есть изображении",
    "uk": "і в не на що з це як до та у від для він за але його є про є так був який яка щоб "
    "також на зображенні",
    "bg": "и в на е да се не за от с че по са като това към или който която има си беше ще на "
    "какво",
    "ar": "في من على إلى أن هذا هذه التي الذي ما هو هي لا عن مع كان أو كل بعد ذلك",
    "fa": "در از به که این را با است برای آن یک تا بر می های هم بود شود چه",
    "ur": "میں کے کی ہے اور سے کا کو پر یہ نے کہ ہیں اس ایک نہیں بھی جو تھا",
    "hi": "के में है की और को से का एक यह पर ने कि हैं इस नहीं भी था जो क्या",
    "mr": "आणि आहे या ते हे एक तर नाही की च्या मध्ये होते आहेत काय",
}
"""Frequent short words of each language; those of one language alone weigh most."""

SCRIPTS: dict[str, tuple[tuple[tuple[int, int], ...], int, tuple[str, ...]]] = {
    "latin": (((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)), 1, ()),
    "cyrillic": (((0x400, 0x52F),), 1, ("ru", "uk", "bg")),
    "arabic": (((0x600, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFEFC)), 1, ("ar", "fa", "ur")),
    "devanagari": (((0x900, 0x97F),), 1, ("hi", "mr")),
    "han": (((0x3400, 0x4DBF), (0x4E00, 0x9FFF)), 4, ("zh",)),
    "kana": (((0x3040, 0x30FF),), 3, ("ja",)),
    "hangul": (((0x1100, 0x11FF), (0xAC00, 0xD7A3)), 3, ("ko",)),
    "greek": (((0x370, 0x3FF),), 1, ("el",)),
    "hebrew": (((0x590, 0x5FF),), 1, ("he",)),
    "thai": (((0xE00, 0xE7F),), 1, ("th",)),
    "bengali": (((0x980, 0x9FF),), 1, ("bn",)),
    "tamil": (((0xB80, 0xBFF),), 1, ("ta",)),
    "georgian": (((0x10A0, 0x10FF),), 1, ("ka",)),
    "armenian": (((0x530, 0x58F),), 1, ("hy",)),
}
"""Code points of each script, letters of Latin that a character stands for, and its languages."""

_NAMES = list(SCRIPTS)
_LATIN, _HAN, _KANA = (_NAMES.index(name) for name in ("latin", "han", "kana"))
_OF_SEVERAL = {
    _NAMES.index(name): codes for name, (_, _, codes) in SCRIPTS.items() if len(codes) > 1
}
_BY_WORDS = list(FUNCTION_WORDS)
_LATIN_CODES = [
    code for code in _BY_WORDS if not any(code in codes for codes in _OF_SEVERAL.values())
]
LANGUAGES = tuple(
    sorted({*_BY_WORDS, *(code for _, _, codes in SCRIPTS.values() for code in codes)})
)
"""All codes that can be told (ISO 639-1)."""

MIN_WORDS = 4
"""A text in Latin script with fewer words is too short to tell."""
MIN_LETTERS = 8
"""In other scripts one with fewer letters is, counted as letters of Latin: or a formula."""
MIN_SHARE = 0.1
"""Part of the words of a text in Latin script that must be function words of its language."""
KANA_SHARE = 0.1
"""Japanese is written in Han characters too; with fewer kana than this beside them it is zh."""
_WHOLE = 12
"""Weight of a function word that one language has alone; shared out where several have it."""
_SLOT_BITS = 14
_TOKEN_LETTERS = sum(sign.isalpha() for sign in IMAGE_TOKEN)


def languages_of(turns: Turns, words: Words) -> np.ndarray:
    """Return the language of every sample, all its turns together.

    Args:
        turns: of the samples.
        words: of `turns.text`, in lower case.
    Returns:
        Codes of `LANGUAGES`, "" where it cannot be told; object array [rows].
    """
    scripts = _script_letters(turns)
    script = scripts.argmax(axis=1)
    is_told = (script == _LATIN) | (scripts.max(axis=1) >= MIN_LETTERS)
    is_han = script == _HAN
    kana = scripts[:, _KANA] / SCRIPTS["kana"][1]
    script[is_han & (kana > KANA_SHARE * scripts[:, _HAN] / SCRIPTS["han"][1])] = _KANA
    lengths, hits = _function_words(turns, words)
    found = np.full(turns.num_rows, "", dtype=object)
    for number in np.unique(script[is_told]).tolist():
        rows = np.flatnonzero((script == number) & is_told)
        codes = SCRIPTS[_NAMES[number]][2]
        if number == _LATIN:
            found[rows] = _most_frequent(hits[rows], _LATIN_CODES, lengths[rows])
        elif len(codes) == 1:
            found[rows] = codes[0]
        else:
            best = _most_frequent(hits[rows], list(codes), lengths[rows])
            found[rows] = np.where(best == "", codes[0], best)
    return found


def _most_frequent(hits: np.ndarray, codes: list[str], lengths: np.ndarray) -> np.ndarray:
    """Return the code with the most function words; "" for a tie and for too few."""
    weights = hits[:, [_BY_WORDS.index(code) for code in codes]]
    best = weights.argmax(axis=1)
    top = weights[np.arange(len(weights)), best]
    is_clear = (weights == top[:, None]).sum(axis=1) == 1
    # A word that several languages share counts for a part of a word here.
    is_clear &= (lengths >= MIN_WORDS) & (top >= MIN_SHARE * _WHOLE / 2 * lengths)
    names = np.array(codes, dtype=object)[best]
    names[~is_clear] = ""
    return names


# --------------------------------------------------------------------------------- scripts


def _script_letters(turns: Turns) -> np.ndarray:
    """Return each sample's letters of every script, as letters of Latin: int64 [rows, scripts]."""
    letters = np.zeros((turns.num_rows, len(SCRIPTS)), dtype=np.int64)
    first = 0
    for data, ends in text_blocks(turns.text):
        row = turns.row[first : first + len(ends) - 1]
        first += len(ends) - 1
        if len(data) and data.max() >= 128:
            wide = wide_characters(data)
            script = _script_table()[np.minimum(wide.code, 0xFFFF)]
            is_letter = script < len(SCRIPTS)
            text = np.searchsorted(ends, wide.at[is_letter], side="right") - 1
            keys = row[text] * len(SCRIPTS) + script[is_letter]
            letters += np.bincount(keys, minlength=letters.size).reshape(letters.shape)
    letters *= np.array([weight for _, weight, _ in SCRIPTS.values()])
    # Letters of ASCII matter only where there are those of another script.
    is_mixed = letters.sum(axis=1) > letters[:, _LATIN]
    letters[~is_mixed, _LATIN] += 1
    is_of_mixed = is_mixed[turns.row]
    first, row = 0, turns.row[is_of_mixed]
    for data, ends in text_blocks(turns.text.filter(pa.array(is_of_mixed))):
        plain = np.searchsorted(np.flatnonzero(((data | 32) - 97) < 26), ends)
        tokens = np.searchsorted(find_tokens(data, ends), ends) * _TOKEN_LETTERS
        np.add.at(letters[:, _LATIN], row[first : first + len(ends) - 1], np.diff(plain - tokens))
        first += len(ends) - 1
    return letters


@cache
def _script_table() -> np.ndarray:
    """Return the script of every code point of the basic plane; the number of scripts for none."""
    table = np.full(1 << 16, len(SCRIPTS), dtype=np.int64)
    for number, (ranges, _, _) in enumerate(SCRIPTS.values()):
        for low, high in ranges:
            table[low : high + 1] = number
    table[[0xD7, 0xF7]] = len(SCRIPTS)  # the signs for times and divided by
    return table


# -------------------------------------------------------------------------- function words


@dataclass(frozen=True, slots=True)
class _Table:
    """Function words by hash."""

    slots: np.ndarray
    """int64 [2**14 + 1]: where the words of each slot begin in `hashes`."""
    hashes: np.ndarray
    """uint64 [words], sorted."""
    weights: np.ndarray
    """int64 [words + 1, languages]; the last row is that of all other words."""
    depth: int
    """Most words in one slot."""


def _function_words(turns: Turns, words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Return words of every sample [rows], and the weight of those of each language [rows, L]."""
    table = _table()
    slot = (words.hashes >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)
    place = table.slots[slot]
    candidates = np.flatnonzero(table.slots[slot + 1] > place)
    known = np.full(len(candidates), -1, dtype=np.int64)
    for step in range(table.depth):
        at = np.minimum(place[candidates] + step, len(table.hashes) - 1)
        is_it = table.hashes[at] == words.hashes[candidates]
        known[is_it] = at[is_it]
    is_known = known >= 0
    upto = np.cumsum(table.weights[known[is_known]], axis=0)
    upto = np.concatenate([np.zeros((1, len(_BY_WORDS)), dtype=np.int64), upto])
    ends = np.concatenate([[0], words.ends])[np.concatenate([[0], np.cumsum(turns.lengths)])]
    hits = upto[np.searchsorted(candidates[is_known], ends)]
    return np.diff(ends), np.diff(hits, axis=0)


@cache
def _table() -> _Table:
    languages: dict[str, set[str]] = {}
    for code, text in FUNCTION_WORDS.items():
        for word in text.split():
            languages.setdefault(word, set()).add(code)
    hashes = words_of(pa.array(list(languages)), lower=True).hashes
    weights = np.zeros((len(languages), len(_BY_WORDS)), dtype=np.int64)
    for row, codes in enumerate(languages.values()):
        for code in codes:
            weights[row, _BY_WORDS.index(code)] = _WHOLE // len(codes) or 1
    order = np.argsort(hashes)
    slot = (hashes[order] >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)
    counts = np.bincount(slot, minlength=1 << _SLOT_BITS)
    slots = np.concatenate([[0], np.cumsum(counts)])
    return _Table(slots, hashes[order], weights[order], int(counts.max()))
