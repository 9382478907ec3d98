"""Budgets are never passed, and a later run goes on where they stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cambrian_data.llm.budget import Budget
from cambrian_data.llm.prices import load_prices
from cambrian_data.records import UserError
from tests.cambrian_data.llm.servers import GOOD, ask_for, said


@pytest.fixture
def prices(tmp_path: Path):
    """A list on which the fake model has a price: 1 USD a thousand tokens."""
    (tmp_path / "prices.yaml").write_text(
        "models: {fake-vision: {input: 1000, output: 1000, cached_input: 500}}"
    )
    return load_prices(tmp_path)


def test_a_run_stops_before_its_budget_and_the_next_goes_on(tiny, client, prices):
    server = tiny(lambda call, number: (200, said(GOOD)))  # 15 tokens, 0.015 USD
    requests = [ask_for(f"request {i}", max_tokens=20) for i in range(40)]
    first = client(server.url, prices=prices, budget_usd=0.5)
    answers = first.ask(requests)
    spend = first.spend()
    paid = [answer for answer in answers if answer.outcome == "ok"]
    left = [answer for answer in answers if answer.outcome == "over_budget"]
    assert len(paid) + len(left) == 40 and len(paid) == len(server.calls)
    assert all(answer.is_passing for answer in left)
    assert spend.over_budget == len(left)
    assert spend.cost_usd == pytest.approx(0.015 * len(paid)) and spend.cost_usd <= 0.5
    # Open calls are waited for: what is left over is less than one call may cost.
    most = prices.cost("fake-vision", 2 * first.encode(requests[0]).prompt_tokens, 20)
    assert 0.5 - spend.cost_usd < most

    plan = first.plan(requests)
    assert (plan.calls, plan.in_ledger) == (len(left), len(paid))
    second = client(server.url, prices=prices, budget_usd=5)
    assert {answer.outcome for answer in second.ask(requests)} == {"ok"}
    assert second.spend().sent == len(left)
    assert len(server.calls) == 40


def test_cached_tokens_cost_less(tiny, client, prices):
    answer = said(GOOD)
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 8}
    server = tiny(lambda call, number: (200, answer))
    given = client(server.url, prices=prices).ask([ask_for("a")])[0]
    assert given.cost_usd == pytest.approx((2 * 1000 + 8 * 500 + 5 * 1000) / 1e6)


def test_a_budget_without_a_price_is_an_error(client):
    with pytest.raises(UserError, match=r"'unknown' is not known.*prices\.yaml"):
        client("http://127.0.0.1:9/v1", model="unknown", budget_usd=1.0)
    assert client("http://127.0.0.1:9/v1", model="unknown").spend().cost_usd is None


def test_a_plan_shows_cost_and_sends_nothing(tiny, client, prices):
    server = tiny(lambda call, number: (200, said(GOOD)))
    asked = client(server.url, prices=prices, settings={"expected_completion_tokens": 10})
    plan = asked.plan([ask_for("a"), ask_for("b"), ask_for("a")])
    assert (plan.calls, plan.in_ledger) == (2, 1)
    assert (plan.completion_tokens, plan.completion_tokens_at_most) == (20, 100)
    assert plan.cost_usd == pytest.approx((plan.prompt_tokens + 20) / 1e3)
    assert plan.cost_usd_at_most > plan.cost_usd + 0.08
    unknown = client(server.url, model="unknown").plan([ask_for("a")])
    assert unknown.cost_usd is None and unknown.cost_usd_at_most is None
    assert server.calls == []


def test_what_open_calls_give_back_is_used():
    async def run() -> list[bool]:
        budget = Budget(1.0)
        first = await budget.reserve(0.6)
        waiting = asyncio.ensure_future(budget.reserve(0.6))
        await asyncio.sleep(0)
        assert not waiting.done()
        await budget.settle(0.6, 0.3)
        second = await waiting
        await budget.settle(0.6, 0.6)
        return [first, second, await budget.reserve(0.2)]

    assert asyncio.run(run()) == [True, True, False]


def test_servers_that_count_more_get_a_wider_margin():
    budget = Budget(1.0)
    assert budget.safe_tokens(100) == 126
    budget.learn(100, 300)
    assert budget.safe_tokens(100) >= 330
    budget.learn(100, 50)
    assert budget.safe_tokens(100) >= 330
