"""System prompts: who gets one, and that turns stay as they are."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from cambrian_data.curation.system_prompts import SystemPromptsConfig, WeightedPrompt, assign
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
    prompted, stats = assign(table, CONFIG)
    assert prompted.schema == SAMPLE
    assert prompted.drop(["system"]).equals(table.drop(["system"]))
    assert stats["assigned"] == {"short": 1}
    assert stats["sources"] == {
        "s": {
            "answer_words": {"p10": 2, "p50": 2, "p90": 2, "max": 13},
            "samples": 2,
            "assigned": 1,
            "kinds": {"long": 1, "short": 1},
        },
        "t": {
            "answer_words": {"p10": 2, "p50": 2, "p90": 2, "max": 2},
            "samples": 1,
            "assigned": 0,
            "kinds": {"given": 1},
        },
    }


def test_longest_short_answer(samples, sample):
    assert prompt_of(samples, sample("What?", "one two three four five")) is not None
    assert prompt_of(samples, sample("What?", "one two three four five six")) is None


def test_share_of_long_answers_gets_the_chat_prompt(samples, sample):
    table = samples(*(sample(f"What is {n}?", LONG) for n in range(1000)))
    prompted, stats = assign(table, SystemPromptsConfig(chat_share=0.3))
    count = stats["assigned"]["chat"]
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
    assert (table.num_rows, stats["assigned"]) == (0, {})
