"""Questions and answers out of a figure's caption and prose, without a language model.

Every answer is a span of the caption or of the section's prose, cut where the grammar is sure;
what is not sure gives no question. Pure and deterministic: choices are made by hash.
`write_questions` serves one figure, `balance_templates` bounds the share of each wording over a
whole run. English only. Costs a few milliseconds a figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from cambrian_data.llm.kinds import FIRST, KINDS, LAST, Draft
from cambrian_data.llm.phrases import STOP_WORDS, is_balanced, is_english, tokens
from cambrian_data.llm.wordings import WORDINGS
from cambrian_data.recipes import Config
from cambrian_data.records import draw

EXTRACTIVE_VERSION = "extractive-1"
"""Stands in the provenance of every sample; a change of wordings or rules changes it."""

MAX_CAPTION_SHARE = 0.8


class ExtractiveConfig(Config):
    """How many questions are written, and of which kinds."""

    kinds: list[str] = Field(default=list(KINDS))
    """Kinds of question, names of `KINDS`."""
    max_questions: int = Field(default=6, ge=1)
    """Most questions for one figure."""
    max_per_kind: int = Field(default=2, ge=1)
    """Most questions of one kind for one figure."""
    max_answer_words: int = Field(default=60, ge=1)
    """Longer answers are not given."""
    seed: int = 0
    """Chooses wordings, and questions where there are more than `max_questions`."""


@dataclass(frozen=True, slots=True)
class FigureText:
    """What is known of a figure in words."""

    figure_id: str
    caption: str
    text: str
    section: tuple[str, ...] = ()
    page_title: str = ""
    image_sha256: str = ""


@dataclass(frozen=True, slots=True)
class QA:
    """A question with its answer; `template` names the wording, such as `count/how_many_shown`."""

    kind: str
    template: str
    question: str
    answer: str


def write_questions(figure: FigureText, config: ExtractiveConfig) -> list[QA]:
    """Return grounded questions on a figure, at most `config.max_questions`; often fewer."""
    if not is_english(f"{figure.caption} {figure.text[:2000]}"):
        return []
    chosen: list[QA] = []
    asked: set[str] = set()
    for qa in _ordered(figure, config):
        key = " ".join(tokens(qa.question))
        if key in asked or _repeats(qa, chosen) or not is_sound(qa, figure, config):
            continue
        if sum(other.kind == qa.kind for other in chosen) >= config.max_per_kind:
            continue
        asked.add(key)
        chosen.append(qa)
        if len(chosen) == config.max_questions:
            break
    return chosen


def _repeats(qa: QA, chosen: Sequence[QA]) -> bool:
    """Tell whether an answer was given before: the same within a kind, or most of a long one."""
    answer = f" {' '.join(tokens(qa.answer))} "
    for other in chosen:
        before = f" {' '.join(tokens(other.answer))} "
        shorter, longer = sorted((answer, before), key=len)
        num_shorter, num_longer = len(shorter.split()), len(longer.split())
        is_most = num_shorter >= 4 and num_shorter > 0.6 * num_longer and shorter in longer
        if (qa.kind == other.kind and answer == before) or is_most:
            return True
    return False


def is_sound(qa: QA, figure: FigureText, config: ExtractiveConfig) -> bool:
    """Tell whether a question and its answer keep the rules: the last guard before a sample."""
    words = tokens(qa.answer)
    return (
        0 < len(words) <= config.max_answer_words
        and is_balanced(qa.answer)
        and is_balanced(qa.question)
        and "<" not in qa.question + qa.answer
        and caption_share(qa.answer, figure.caption) <= MAX_CAPTION_SHARE
        and not ungrounded_words(qa.answer, figure)
        and _says_something_new(qa)
    )


def ungrounded_words(answer: str, figure: FigureText) -> set[str]:
    """Return the content words and numbers of an answer that neither caption nor prose has."""
    known = set(tokens(f"{figure.caption}\n{figure.text}"))
    return {word for word in tokens(answer) if word not in known and word not in STOP_WORDS}


def caption_share(answer: str, caption: str) -> float:
    """Return the share of the caption's words that an answer repeats."""
    words = Counter(tokens(caption))
    repeated = words & Counter(tokens(answer))
    return repeated.total() / words.total() if words else 0.0


def balance_templates(
    qas_by_figure: Mapping[str, Sequence[QA]], *, max_share: float = 0.30, seed: int = 0
) -> dict[str, list[QA]]:
    """Drop questions, chosen by hash, until no template makes more than a share of the run.

    One question of a template is always left, so that a run of a few questions keeps some; a
    run of fewer than `1 / max_share` questions cannot hold the share. Figures keep their order.
    """
    ranked: dict[str, list[tuple[float, str, int]]] = {}
    for figure, qas in qas_by_figure.items():
        for number, qa in enumerate(qas):
            rank = draw(seed, "balance", figure, qa.template, qa.question)
            ranked.setdefault(qa.template, []).append((rank, figure, number))
    counts = _fitting_counts({name: len(rows) for name, rows in ranked.items()}, max_share)
    kept = {row[1:] for name, rows in ranked.items() for row in sorted(rows)[: counts[name]]}
    return {
        figure: [qa for number, qa in enumerate(qas) if (figure, number) in kept]
        for figure, qas in qas_by_figure.items()
    }


def _fitting_counts(counts: Mapping[str, int], max_share: float) -> dict[str, int]:
    fitting = dict(counts)
    while True:
        limit = max(1, int(max_share * sum(fitting.values()) + 1e-9))
        smaller = {name: min(count, limit) for name, count in fitting.items()}
        if smaller == fitting:
            return fitting
        fitting = smaller


def _ordered(figure: FigureText, config: ExtractiveConfig) -> list[QA]:
    """Return the candidates, worded; the first of every kind before the second of any."""
    rows: list[tuple[int, float, QA]] = []
    for kind in config.kinds:
        drafts = list(KINDS[kind](figure.caption, figure.text, figure.section, figure.page_title))
        drafts.sort(key=lambda d: (d.rank, draw(config.seed, figure.figure_id, kind, d.answer)))
        for number, draft in enumerate(drafts):
            order = draw(config.seed, figure.figure_id, "order", kind) - (kind in FIRST)
            number += 100 if kind in LAST else 0  # behind all others
            rows.append((number, order, _worded(draft, figure, config.seed)))
    return [qa for _, _, qa in sorted(rows, key=lambda row: row[:2])]


def _worded(draft: Draft, figure: FigureText, seed: int) -> QA:
    names = sorted(WORDINGS[draft.family])
    at = draw(seed, figure.figure_id, draft.family, draft.answer, *draft.slots.values())
    name = names[int(at * len(names))]
    question = WORDINGS[draft.family][name].format(**draft.slots)
    kind = draft.family.split("/")[0]
    return QA(kind, f"{draft.family}/{name}", question, draft.answer)


def _says_something_new(qa: QA) -> bool:
    """Tell whether the answer is more than what the question already says."""
    asked = set(tokens(qa.question.split("____")[0] if "____" in qa.question else qa.question))
    said: Iterable[str] = [word for word in tokens(qa.answer) if word not in STOP_WORDS]
    return qa.kind in ("compare", "topic") or any(word not in asked for word in said)
