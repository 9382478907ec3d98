"""Prices: the shipped list, the user's over it, and errors with their line."""

from __future__ import annotations

import pytest

from cambrian_data.llm.prices import PictureRule, load_prices
from cambrian_data.records import UserError


def test_the_shipped_list():
    prices = load_prices()
    assert prices.cost("gpt-4o", 1_000_000, 100_000) == pytest.approx(3.5)
    assert prices.cost("gpt-4o", 1_000_000, 0, cached_tokens=400_000) == pytest.approx(2.0)
    assert prices.cost("gpt-4o", 1_000_000, 0, is_batch=True) == pytest.approx(1.25)
    assert prices.cost("nobody-knows", 1, 1) is None and not prices.has_price("nobody-knows")


@pytest.mark.parametrize(
    ("model", "input_usd"),
    [
        ("gpt-4o-2024-08-06", 2.5),
        ("gpt-4o-2024-05-13", 5.0),
        ("gpt-4o-mini-2024-07-18", 0.15),
        ("gpt-4.1-mini", 0.4),
        ("gpt-4-0613", 30.0),
        ("gpt-4o-audio-preview", None),
        ("gpt-4o-mini-tts", None),
        ("my/gpt-4o", None),
    ],
)
def test_models_are_found_by_name_and_date(model, input_usd):
    assert load_prices().cost(model, 1_000_000, 0) == input_usd


@pytest.mark.parametrize(
    ("model", "sees"),
    [
        ("gpt-4o", True),
        ("o3-mini", False),
        ("gpt-3.5-turbo-0125", False),
        ("Qwen/Qwen2.5-VL-7B-Instruct", True),
        ("llava-hf/llava-1.5-7b-hf", True),
        ("mistral-7b", None),
        ("marvlous", None),
    ],
)
def test_who_sees(model, sees):
    assert load_prices().can_see(model) is sees


def test_the_users_list_goes_over_the_shipped_one(tmp_path):
    (tmp_path / "prices.yaml").write_text(
        "as_of: 2030-01-01\nmodels:\n  gpt-4o: {output: 1.0}\n  mine: {input: 0, output: 0}\n"
    )
    own = tmp_path / "contract.yaml"
    own.write_text("models: {mine: {input: 2, output: 4, vision: false}}")
    prices = load_prices(tmp_path)
    assert prices.cost("gpt-4o", 1_000_000, 1_000_000) == pytest.approx(3.5)
    assert prices.cost("mine", 5, 5) == 0.0
    assert str(tmp_path / "prices.yaml") == prices.where_to_add()
    prices = load_prices(tmp_path, str(own))
    assert prices.cost("mine", 1_000_000, 0) == 2.0 and prices.can_see("mine") is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models:\n  a: {input: 1, output: 2}\n  b: {input: -1, output: 2}", "line 3: b.input"),
        ("models:\n  a:\n    input: 1\n    outputs: 2", "line 4: a.outputs"),
        ("models:\n  a:\n    input: 1", "line 2: a has a price for only one"),
        ("models:\n  a: 3", "line 2: 'a' must be"),
        ("models:\n  a: [", "line 2"),
        ("prices: {}", "must hold `models:`"),
        ("", "must hold `models:`"),
    ],
)
def test_errors_say_where(tmp_path, text, said):
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(UserError) as failure:
        load_prices(tmp_path)
    assert said in str(failure.value) and str(tmp_path) in str(failure.value)


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_prices(own=str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [  # the examples and bills that are published
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4o", (128, 64), "auto", 255),
        ("gpt-4o-mini", (128, 64), "auto", 8500),
        ("o3", (128, 64), "auto", 225),
        ("o4-mini", (128, 64), "auto", 14),
        ("gpt-4.1-mini", (1024, 1024), "auto", 1659),
        ("gpt-4.1-mini", (4000, 1474), "auto", 2489),
    ],
)
def test_tokens_of_pictures(model, size, detail, tokens):
    assert load_prices().picture_rule(model).tokens(size, detail=detail) == tokens


def test_pictures_of_unknown_size_count_as_large():
    rule = PictureRule(kind="tiles", base=85, per_tile=170)
    assert rule.tokens(None) == 85 + 8 * 170 >= rule.tokens((4000, 3000))
