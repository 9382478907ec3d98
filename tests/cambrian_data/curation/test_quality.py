"""Rules of quality: each one alone at its border, together in order, and n-grams against Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cambrian_data.curation.rules import quality as quality_module
from cambrian_data.curation.rules.quality import (
    QualityConfig,
    check_scores,
    quality,
    repeated_share,
)
from cambrian_data.curation.rules.scores import ScoreTable
from cambrian_data.curation.turns import turns_of
from cambrian_data.curation.words import words_of
from cambrian_data.records import DROP_REASONS, UserError, table_of
from tests.cambrian_data.curation.conftest import one_sample

LONG = "A red bus is parked on the street next to a tall building."
ALL_RULES = {
    "min_words": 3,
    "max_words": 60,
    "min_answer_words": 2,
    "max_answer_words": 40,
    "min_turns": 2,
    "max_turns": 4,
    "max_repeated_ngrams": 0.3,
    "languages": ["en"],
    "max_non_letters": 0.3,
    "cannot_see": True,
    "min_picture_px": 28,
    "max_picture_aspect": 4,
    "min_scores": {"relevance": 3},
    "on_missing_score": "drop",
}


def judged(table, scores=None, **rules):
    (batch,) = table.combine_chunks().to_batches()
    reasons, details = quality(batch, QualityConfig(**rules), scores)
    assert [detail is None for detail in details] == [reason == "" for reason in reasons]
    return list(zip(reasons.tolist(), details.tolist(), strict=True))


def pictured(*sizes, answer=LONG, **columns):
    row = one_sample("<image> " * len(sizes) + "What is it?", answer, **columns)
    row["images"] = [
        {"sha256": None, "path": f"{n}.png", "width": width, "height": height}
        for n, (width, height) in enumerate(sizes)
    ]
    return row


def test_all_rules_are_off_by_default(samples, sample):
    assert not QualityConfig().is_on
    assert judged(samples(sample("", ""), sample())) == [("", None)] * 2


@pytest.mark.parametrize("rule", [name for name in ALL_RULES if name != "on_missing_score"])
def test_each_rule_alone_is_on(rule):
    assert QualityConfig(**{rule: ALL_RULES[rule]}).is_on


@pytest.mark.parametrize("rule", ["max_repeated_ngrams", "max_non_letters"])
def test_a_share_of_nothing_is_a_rule_too(samples, sample, rule):
    table = samples(sample("Who?", "a b c d e a b c d e"))
    assert judged(table, **{rule: 0.0})[0][0] == rule.removeprefix("max_")


@pytest.mark.parametrize(
    ("rules", "turns", "reason", "detail"),
    [
        ({"min_words": 4}, ("<image>What is?", "A"), "few_words", "3 words, min_words = 4"),
        ({"min_words": 3}, ("<image>What is?", "A"), "", None),
        ({"max_words": 2}, ("What is?", "A"), "many_words", "3 words, max_words = 2"),
        ({"max_words": 3}, ("<image> What is?", "A"), "", None),
        ({"min_answer_words": 3}, ("What? " * 9, "a b"), "short_answer", "2 words, min_answer_w"),
        ({"min_answer_words": 3}, ("What?", "a", "And?", "a b c"), "", None),
        ({"max_answer_words": 2}, ("What?", "a", "?", "a b c"), "long_answer", "3 words, max_ans"),
        ({"max_answer_words": 3}, ("What? " * 9, "a b c", "?", "a b c"), "", None),
        ({"min_turns": 4}, ("What?", "a"), "few_turns", "2 turns, min_turns = 4"),
        ({"max_turns": 2}, ("What?", "a", "?", "b"), "many_turns", "4 turns, max_turns = 2"),
        ({"max_turns": 4, "min_turns": 4}, ("What?", "a", "?", "b"), "", None),
        ({"languages": ["de", "fr"]}, ("What is it?", LONG), "language", "en, allowed: de, fr"),
        ({"languages": ["de", "en"]}, ("What is it?", LONG), "", None),
        ({"languages": ["de"]}, ("x?", "42"), "", None),
        ({"max_non_letters": 0.2}, ("What", "$$ ab"), "non_letters", "0.222"),
        ({"max_non_letters": 0.23}, ("<image>What", "$$ ab"), "", None),
        ({"max_repeated_ngrams": 0.5}, ("?", "no " * 9), "repeated_ngrams", "1.000, max_repeated_"),
        ({"max_repeated_ngrams": 0.5}, ("no " * 9, LONG), "", None),
    ],
)
def test_rules_at_their_borders(samples, sample, rules, turns, reason, detail):
    ((found, told),) = judged(samples(sample(*turns)), **rules)
    assert found == reason
    assert (told or "").startswith(detail or "")


@pytest.mark.parametrize(
    ("rules", "sizes", "detail"),
    [
        ({"min_picture_px": 28}, [(28, 28), (200, 28)], None),
        ({"min_picture_px": 28}, [(99, 99), (200, 27), (1, 1)], "200 x 27 px, min_picture_px = 28"),
        ({"min_picture_px": 28}, [(27, 200)], "27 x 200 px, min_picture_px = 28"),
        ({"max_picture_aspect": 4}, [(400, 100), (100, 400)], None),
        ({"max_picture_aspect": 4}, [(100, 401)], "100 x 401 px, max_picture_aspect = 4"),
        ({"max_picture_aspect": 2.5}, [(251, 100)], "251 x 100 px, max_picture_aspect = 2.5"),
        ({"min_picture_px": 28, "max_picture_aspect": 2}, [(None, None)], None),
        ({"min_picture_px": 28, "max_picture_aspect": 2}, [], None),
    ],
)
def test_pictures(samples, rules, sizes, detail):
    table = samples(pictured((50, 50)), pictured(*sizes), pictured((50, 50), (50, 50)))
    found = judged(table, **rules)
    reason = "picture_size" if "min_picture_px" in rules else "picture_aspect"
    assert found == [("", None), (reason if detail else "", detail), ("", None)]


def test_answers_of_the_blind_are_shown(samples, sample):
    blind = "I cannot see the image. " + "Please send it. " * 10
    (found,) = judged(samples(pictured((9, 9), answer=blind)), cannot_see=True)
    assert found == ("cannot_see", blind[:120] + "...")
    assert judged(samples(sample("What?", blind)), cannot_see=True) == [("", None)]


def test_scores_of_the_sample_and_of_the_table(samples, sample, tmp_path):
    rows = [
        sample("What?", str(score), scores=None if score is None else [("relevance", score)])
        for score in (2.9, 3.3, None)
    ]
    table, rules = samples(*rows), {"min_scores": {"relevance": 3.3}}
    low = ("low_score", "relevance is 2.9, min_scores = 3.3")
    none = ("no_score", "no relevance")
    assert judged(table, **rules) == [low, ("", None), ("", None)]
    assert judged(table, **rules, on_missing_score="drop") == [low, ("", None), none]
    path = tmp_path / "scores.csv"
    path.write_text(f"id,relevance\n{rows[0]['id']},5\n{rows[2]['id']},1\n")
    joined = [("", None), ("", None), ("low_score", "relevance is 1, min_scores = 3.3")]
    assert judged(table, ScoreTable.load([path]), **rules) == joined


def test_scores_that_no_table_has_are_an_error(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(f"id,relevance\n{'a' * 64},5\n")
    scores = ScoreTable.load([path])
    check_scores(QualityConfig(min_scores={"relevance": 3}), scores)
    check_scores(QualityConfig(min_scores={"other": 3}), None)
    with pytest.raises(UserError, match="other, but the tables of scores have relevance"):
        check_scores(QualityConfig(min_scores={"other": 3, "relevance": 3}), scores)


def test_rules_are_tried_in_the_order_of_the_fields(samples, sample):
    everything = "no $$$ " * 70
    rows = [
        sample("a", "a"),
        sample(everything, everything),
        sample("What is that?", "a"),
        sample("What is that?", everything[: 7 * 25]),
        sample("What is it?"),
        sample(*["What is it?", "This it is."] * 3),
        sample("What is it?", "so it is and so it is and so it is and so it is and so it is"),
        sample("Was ist das?", "Das ist ein Bus und er ist nicht auf der Stra\u00dfe."),
        sample("What is it?", "It is a: {[()]} {[()]} {[()]}."),
        pictured((9, 90), answer="I cannot see the image."),
        pictured((9, 90)),
        pictured((50, 500)),
        sample("What is it?", LONG, scores=[("relevance", 2)]),
        sample("What is it?", LONG),
        sample("What is it?", LONG, scores=[("relevance", 3)]),
    ]
    reasons = [reason for reason, _ in judged(samples(*rows), **ALL_RULES)]
    assert reasons == [
        "few_words",
        "many_words",
        "short_answer",
        "long_answer",
        "short_answer",
        "many_turns",
        "repeated_ngrams",
        "language",
        "non_letters",
        "cannot_see",
        "picture_size",
        "picture_aspect",
        "low_score",
        "no_score",
        "",
    ]
    assert set(reasons) | {"few_turns"} == DROP_REASONS["quality"] | {""}


def test_a_rows_verdict_does_not_hang_on_the_others(samples, sample):
    rows = [sample(f"What is {n}?", LONG * (n % 7), source="s") for n in range(60)]
    rows += [sample("\u4f60\u597d", "\u6211\u5f88\u597d, \u4f60\u5462 " * n) for n in range(1, 9)]
    rules = {"max_repeated_ngrams": 0.4, "languages": ["en"], "max_non_letters": 0.05}
    alone = [judged(samples(row), **rules)[0] for row in rows]
    assert judged(samples(*rows), **rules) == alone
    assert judged(samples(*rows).slice(20), **rules) == alone[20:]
    assert len(set(alone)) > 4


def by_hand(turns: list[str], size: int) -> float:
    grams: Counter[tuple[str, ...]] = Counter()
    for answer in turns[1::2]:
        words = answer.lower().split()
        grams.update(tuple(words[n : n + size]) for n in range(len(words) - size + 1))
    repeated = sum(count for count in grams.values() if count > 1)
    return repeated / max(sum(grams.values()), 1)


@given(
    rows=st.lists(
        st.lists(st.lists(st.sampled_from(["a", "B", "b", "c"]), max_size=12).map(" ".join)),
        max_size=6,
    ),
    size=st.integers(1, 4),
    block=st.sampled_from([1, 5, 1 << 15]),
)
def test_repeated_ngrams_are_those_of_python(rows, size, block):
    table = table_of("samples", [one_sample(*turns) for turns in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_module, "_BLOCK_NGRAMS", block)
        for batch in table.combine_chunks().to_batches():
            turns = turns_of(batch)
            share = repeated_share(turns, words_of(turns.text, lower=True), size)
            assert np.allclose(share, [by_hand(row, size) for row in rows])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"languages": ["en", "xx"]}, "xx cannot be told apart; known are ar, bg"),
        ({"languages": []}, "at least 1"),
        ({"min_words": 5, "max_words": 4}, "min_words = 5 is more than max_words = 4"),
        ({"min_turns": 5, "max_turns": 4}, "min_turns = 5 is more than max_turns = 4"),
        ({"min_scores": {"a": float("nan")}}, "min_scores.a is nan"),
        ({"max_non_letters": 1.0}, "less than 1"),
        ({"max_picture_aspect": 0.5}, "greater than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(rules, message):
    with pytest.raises(ValidationError, match=message):
        QualityConfig(**rules)
