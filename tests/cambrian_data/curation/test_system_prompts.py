"""System prompts: who gets one, and that turns stay as they are."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from cambrian_data.curation import turns as turns_module
from cambrian_data.curation.system_prompts import (
    SystemPromptsConfig,
    WeightedPrompt,
    assign,
    merge_prompt_stats,
)
from cambrian_data.export import llava_row
from cambrian_data.records import SAMPLE

CONFIG = SystemPromptsConfig()
LONG = "It shows a cat that sleeps on a red sofa beside a window."
OPTIONS = "Which is it?\nA. A cat\nB. A dog\nC. A bird"


def texts(prompts: list[WeightedPrompt]) -> set[str]:
    return {prompt.text for prompt in prompts}


def prompt_of(samples, row, config=CONFIG):
    table, _ = assign(samples(row), config)
    return table["system"].to_pylist()[0]


@pytest.mark.parametrize(
    ("turns", "kind"),
    [
        (("What is it?", "A cat."), "short"),
        (("What is it?", "A cat.", "Where?", "On the sofa."), "short"),
        (("What is it?", "A cat.", "Describe it.", LONG), None),
        (("What is it?", LONG), None),
        ((OPTIONS, "B"), "choice"),
        ((OPTIONS, "(B)."), "choice"),
        (("Which? (A) a cat (B) a dog", "A."), "choice"),
        ((OPTIONS, "A dog"), "short"),
        (("What letter is it?", "B"), "short"),
        (("What is it?", "A cat.", OPTIONS, "B"), "short"),
        ((OPTIONS, "B", OPTIONS, "(C)"), "choice"),
        ((OPTIONS, "B or C"), "short"),
        ((OPTIONS, f"B, since {LONG}"), None),
        (("\u732b\u5728\u54ea\u91cc\uff1f", "\u6c99\u53d1"), "short"),
        (
            ("\u732b\u5728\u54ea\u91cc\uff1f", "\u732b\u5728\u6c99\u53d1\u4e0a\u7761\u89c9" * 3),
            None,
        ),
        (("What?\nProvide a one-sentence\ncaption.", "A cat."), None),
        (("Which?\nAnswer with the option\u2019s letter.", "B"), None),
        ((f"{OPTIONS}\nAnswer with the option's letter from the given choices.", "B"), None),
        (("What is it?\nAnswer the question using a SINGLE WORD or phrase.", "Cat"), None),
    ],
)
def test_kinds(samples, sample, turns, kind):
    prompt = prompt_of(samples, sample(*turns))
    if kind is None:
        assert prompt is None
    else:
        assert prompt in texts(getattr(CONFIG, kind))


@pytest.mark.parametrize(
    ("answer", "is_chat"),
    [
        (LONG, True),
        (f'{LONG[:-1]}."', True),
        (f"{LONG[:-1]}!**  \n", True),
        ("\u5b83\u662f\u4e00\u53ea\u732b\u7684\u7167\u7247" * 4 + "\u3002", True),
        (
            "Refractive index of crown glass against the wavelength of light in air, in colour",
            False,
        ),
        ("It shows a cat that sleeps there.", False),
    ],
)
def test_only_whole_long_sentences_follow_the_prompt_that_asks_for_them(
    samples, sample, answer, is_chat
):
    prompt = prompt_of(samples, sample("What?", answer), SystemPromptsConfig(chat_share=1))
    assert (prompt in texts(CONFIG.chat)) == is_chat


def test_existing_prompt_is_kept(samples, sample):
    assert prompt_of(samples, sample("What?", "A cat.", system="Mine.")) == "Mine."


def test_nothing_else_changes_and_numbers_are_given(samples, sample):
    table = samples(
        sample("What?", "A cat.", source="s"),
        sample("What?", LONG, source="s"),
        sample("Who?", "A cat.", system="Mine.", source="t"),
    )
    prompted, part = assign(table, CONFIG)
    assert prompted.schema == SAMPLE
    assert prompted.drop(["system"]).equals(table.drop(["system"]))
    stats = merge_prompt_stats([part])
    assert stats["assigned"] == {"short": 1}
    assert list(stats["sources"]) == ["s", "t"]
    of_s, of_t = stats["sources"].values()
    assert of_s["answer_words"] == {"p10": 2, "p50": 2, "p90": 2, "max": 13}
    assert (of_s["samples"], of_s["assigned"]) == (2, 1)
    assert of_s["kinds"] == {"long": 1, "short": 1}
    assert of_s["unprompted_before"]["answers"] == 2
    assert of_s["unprompted_after"]["p10"] == 13
    assert (of_t["samples"], of_t["assigned"], of_t["kinds"]) == (1, 0, {"given": 1})
    assert of_t["unprompted_before"]["p50"] is None


def test_longest_short_answer(samples, sample):
    assert prompt_of(samples, sample("What?", "one two three four five")) is not None
    assert prompt_of(samples, sample("What?", "one two three four five six")) is None


def test_share_of_long_answers_gets_the_chat_prompt(samples, sample):
    table = samples(*(sample(f"What is {n}?", LONG) for n in range(1000)))
    prompted, stats = assign(table, SystemPromptsConfig(chat_share=0.3))
    count = merge_prompt_stats([stats])["assigned"]["chat"]
    assert 250 < count < 350
    assert prompted["system"].to_pylist().count(CONFIG.chat[0].text) == count


def test_weights_and_seed_decide_and_order_does_not(samples, sample):
    prompts = [WeightedPrompt(text="one", weight=3), WeightedPrompt(text="two")]
    config = SystemPromptsConfig(short=prompts)
    rows = [sample(f"What is {n}?", "A cat.") for n in range(1000)]
    table, _ = assign(samples(*rows), config)
    drawn = dict(zip(table["id"].to_pylist(), table["system"].to_pylist(), strict=True))
    assert 700 < Counter(drawn.values())["one"] < 800
    backwards, _ = assign(samples(*rows[::-1]), config)
    assert backwards["system"].to_pylist() == table["system"].to_pylist()[::-1]
    other, _ = assign(samples(*rows), config.model_copy(update={"seed": 1}))
    assert other["system"].to_pylist() != table["system"].to_pylist()


def test_no_prompts_and_no_hints(samples, sample):
    config = SystemPromptsConfig(short=[], format_hints=[])
    assert prompt_of(samples, sample("What? In a single word.", "Cat."), config) is None


def test_hint_of_special_signs_is_taken_literally(samples, sample):
    config = SystemPromptsConfig(format_hints=["(a+b)?"])
    assert prompt_of(samples, sample("(A+B)? What?", "Cat."), config) is None
    assert prompt_of(samples, sample("aab What?", "Cat."), config) is not None


def test_empty_hint_is_refused():
    with pytest.raises(ValidationError, match="every question"):
        SystemPromptsConfig(format_hints=[" "])


def test_nothing_stays_nothing(samples):
    table, stats = assign(samples(), CONFIG)
    assert table.equals(samples())
    merged = merge_prompt_stats([stats])
    assert (merged["assigned"], merged["sources"]) == ({}, {})


@pytest.mark.parametrize("form", ["key", "question"])
def test_a_prompt_that_was_exported_is_not_given_again(samples, sample, form):
    config = SystemPromptsConfig(chat_share=1)
    rows = [
        sample(question, answer)
        for n in range(40)
        for question, answer in ((f"What is {n}?", "Cat"), (f"{n} {OPTIONS}", "B"), ("Who?", LONG))
    ]
    prompted, _ = assign(samples(*rows), config)
    assert set(prompted["system"].to_pylist()) == {
        prompt.text for prompt in [*config.short, *config.choice, *config.chat]
    }
    exported = [llava_row(row, form) for row in prompted.to_pylist()]
    back = samples(
        *(
            sample(*(turn["value"] for turn in row["conversations"]), system=row.get("system"))
            for row in exported
        )
    )
    again, stats = assign(back, config)
    assert again.equals(back)
    assert merge_prompt_stats([stats])["assigned"] == {}


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_neither_batches_nor_parts_make_a_difference(samples, sample, monkeypatch, batch_rows):
    answers = ["Cat", LONG, "B", "a few more words than five of them"]
    rows = [
        sample(
            f"{n} {OPTIONS}", answers[n % 4], source=f"s{n % 3}", system="x" if n % 9 == 0 else None
        )
        for n in range(60)
    ]
    config = SystemPromptsConfig(chat_share=0.5)
    whole, stats = assign(samples(*rows), config)
    monkeypatch.setattr(turns_module, "BATCH_ROWS", batch_rows)
    pieces = [assign(samples(*rows[n : n + 13]), config) for n in range(0, 60, 13)]
    systems = [text for table, _ in pieces for text in table["system"].to_pylist()]
    assert systems == whole["system"].to_pylist()
    assert merge_prompt_stats(part for _, part in pieces[::-1]) == merge_prompt_stats([stats])
    batches = assign(samples(*rows).combine_chunks().to_batches()[0], config)
    assert batches[0].equals(whole)
